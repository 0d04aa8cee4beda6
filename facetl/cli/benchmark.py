"""`facetl benchmark`: published protocols, from photos to a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.cache import open_collection
from facetl.cli.screen import put, put_json, put_table, say

app = typer.Typer(help="Measure on a published protocol.", no_args_is_help=True)

# Deep-funneled LFW shows the head in the middle 128 of 250 pixels.
LFW_CROP = 0.512


@app.callback()
def _benchmark() -> None:
    pass


@app.command()
def lfw(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Name/Name_0001.jpg.")],
    pairs: Annotated[Path, typer.Option("--pairs", help="pairs.txt of View 2, any number of folds.")],
    extractor: options.ExtractorName = "inception_v3",
    tap: options.Tap = None,
    grid: options.Grid = None,
    crop: options.Crop = LFW_CROP,
    mirror: options.Mirror = None,
    weights: options.WeightsFile = None,
    cache: options.Cache = None,
    preset: options.Preset = "balanced",
    sampler: options.Sampler = None,
    temperature: options.Temperature = None,
    candidates: options.Candidates = None,
    uniform_share: options.UniformShare = None,
    warmup: options.Warmup = None,
    mining: options.Mining = None,
    standardise: options.Standardise = None,
    components: options.Components = None,
    margin: options.Margin = None,
    learning_rate: options.LearningRate = None,
    epochs: options.Epochs = None,
    patience: options.Patience = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Verify the pairs of Labeled Faces in the Wild, View 2, with a head per fold trained outside it."""
    from facetl.data.protocols import read_lfw_pairs
    from facetl.training.settings import preset as settings_of

    protocol = read_lfw_pairs(pairs)
    settings = settings_of(
        preset,
        sampler=sampler,
        temperature=temperature,
        candidates=candidates,
        uniform_share=uniform_share,
        warmup=warmup,
        mining=mining,
        standardise=standardise,
        components=components,
        margin=margin,
        learning_rate=learning_rate,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )
    collection = open_collection(
        folder,
        options.extractor_spec(extractor, tap, grid, crop, mirror, preset),
        weights=weights,
        cache=cache,
        verbose=verbose,
    )
    from facetl.startup import start_tensorflow

    start_tensorflow()
    from facetl.training.benchmark import FoldReport, benchmark_lfw

    def tell(fold: FoldReport) -> None:
        say(
            f"fold {fold.fold} of {protocol.folds}: accuracy {fold.accuracy:.3f}, "
            f"trained on {fold.train_people:,} people, "
            f"best epoch {fold.best_epoch} of {fold.epochs}, {fold.seconds:.0f} s"
        )

    report = benchmark_lfw(collection, protocol, settings, on_fold=tell)
    if json:
        put_json(report.to_json())
        return
    from facetl.evaluation.results_table import results_table

    put_table(results_table(report.verifications), title=f"LFW View 2, {protocol.folds} folds, a head per fold")
    if report.missing:
        put(f"{report.missing:,} pairs could not be scored: a photo is absent or unreadable")
    put(f"{report.seconds:.0f} s")
