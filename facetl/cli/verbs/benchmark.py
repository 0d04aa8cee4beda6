"""`facetl benchmark`: published protocols, from photos to a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl._tensorflow import start_tensorflow
from facetl.backbones.spec import family_of, spelt_out
from facetl.cli import options
from facetl.cli.inputs import open_collection, open_transfer_report
from facetl.cli.output import counted, notify, put, put_json, put_table
from facetl.cli.settings_options import Given, takes_options, training_settings
from facetl.data.pair_lists import read_lfw_pairs
from facetl.report.tables import results_table
from facetl.training.settings import TrainingSettings

app = typer.Typer(help="Measure on a published protocol.", no_args_is_help=True)


@app.command()
@takes_options(TrainingSettings, defaults=False)
def lfw(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Name/Name_0001.jpg.")],
    given: Given,
    pairs: Annotated[Path, typer.Option(help="pairs.txt of View 2, any number of folds.")],
    preset: options.Preset = "balanced",
    extractor: options.ExtractorName = "inception_v3",
    tap: options.Tap = None,
    grid: options.Grid = None,
    crop: options.Crop = None,
    align: options.Align = None,
    mirror: options.Mirror = None,
    grey: options.Grey = False,
    weights: options.WeightsFile = None,
    seed: options.Seed = 0,
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Verify the pairs of Labeled Faces in the Wild, View 2, with a head per fold trained outside it."""
    protocol = read_lfw_pairs(pairs)
    settings = training_settings(given, preset)
    collection = open_collection(
        folder,
        options.extractor_spec(extractor, tap, grid, crop, mirror, preset, align=align, whole_photos=True, grey=grey),
        weights=weights,
        cache=cache,
    )
    start_tensorflow()
    from facetl.runs.lfw import FoldReport, benchmark_lfw

    def print_fold(fold: FoldReport) -> None:
        notify(
            f"fold {fold.fold} of {protocol.folds}: accuracy {fold.accuracy:.3f}, "
            f"trained on {fold.train_people:,} people, "
            f"best epoch {fold.best_epoch} of {fold.epochs}, {fold.seconds:.0f} s"
            + (f"; {fold.choice.sentence}" if fold.choice is not None and fold.choice.fallback else "")
        )

    report = benchmark_lfw(collection, protocol, settings, on_fold=print_fold)
    if json:
        put_json(report.to_json())
        return
    put_table(results_table(report.verifications), title=f"LFW View 2, {protocol.folds} folds, a head per fold")
    if report.missing:
        put(f"{report.missing:,} pairs could not be scored: a photo is absent or unreadable")
    put(f"{report.seconds:.0f} s")


@app.command()
def transfer(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg.")],
    extractor: options.ExtractorName = "inception_v3",
    crop: Annotated[str, typer.Option(help="Crops to compare.")] = "0.4,0.5,0.7,1.0",
    align: options.Align = None,
    mirror: options.Mirror = None,
    grey: options.Grey = False,
    people: Annotated[int, typer.Option(min=4, help="At most so many, with 2 to 4 photos each.")] = 150,
    seed: options.Seed = 0,
    weights: options.WeightsFile = None,
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare the taps, grids and crops of an extractor on the people of a folder, by a closed-form probe."""
    # An extractor that finds the face itself takes the whole photo.
    crops = None if family_of(spelt_out(extractor)).finds_faces else crop
    report = open_transfer_report(
        folder,
        options.extractor_spec(extractor, None, None, crops, mirror, align=align, grey=grey),
        people=people,
        seed=seed,
        weights=weights,
        cache=cache,
    )
    if json:
        put_json(report.to_json())
        return
    heading = ["Tap", "Grid", "Crop", "Length", "AUC", "Accuracy", "ms a photo"]
    cells = [
        [
            row.tap,
            f"{row.grid}×{row.grid}",
            f"{row.crop:g}",
            f"{row.dim:,}",
            f"{row.score.auc:.3f} ± {row.score.auc_stderr:.3f}",
            f"{row.score.accuracy:.3f} ± {row.score.accuracy_stderr:.3f}",
            f"{row.ms_per_photo:.1f}",
        ]
        for row in report.rows
    ]
    put_table([heading, *cells], title=f"PCA → LDA on {report.people:,} people, {report.photos:,} photos")
    put(f"picked     {options.picked_text(report, report.spec)}")
    if report.hair_and_background:
        put(f"crops      {report.hair_and_background}")
    put(f"skipped    {counted(report.skipped)}")
    put(f"seconds    {report.seconds:.0f}")
