"""`facetl scratch`: train a net from scratch and write its run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.output import EpochTable, counted, photo_progress, put, put_json, put_table, say

# How the table calls the methods of a run whose features are its own.
_TITLES = {
    "raw": "Raw pixels",
    "whitened": "Pixels, PCA-whitened",
    "lda": "Pixels, PCA → LDA",
    "untrained": "The net, untrained",
    "trained": "The net, trained",
}


def scratch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg, or see --layout.")],
    run: Annotated[str, typer.Option("--run", help="Name of the run; it is written to MODELS/NAME.")],
    models: Annotated[Path, typer.Option("--models", help="Folder of the runs.")] = Path("models"),
    net: Annotated[
        str, typer.Option("--net", help="small, or FaceNet's nn1, nn1-relu, nn2, nns1, nns2: docs/nets.md.")
    ] = "small",
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            help="softmax, a classifier that is chopped off in the end; arcface; triplet, with semi-hard negatives; or "
            "contrastive, a Siamese net.",
        ),
    ] = "softmax",
    size: Annotated[int | None, typer.Option("--size", help="Side of the net's input, pixels. Default: its own.")] = (
        None
    ),
    width: Annotated[int, typer.Option("--width", help="Length of the embedding.")] = 128,
    grey: Annotated[bool, typer.Option("--grey", help="Let the net see grey alone.")] = False,
    margin: Annotated[
        float | None, typer.Option("--margin", help="Of arcface (radians) and triplet. Default: their own.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most.")] = 60,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Epochs without a better validation AUC. Default: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Photos a step; not with triplet.")] = 32,
    people_per_batch: Annotated[int, typer.Option("--people-per-batch", min=2, help="Of a step, with triplet.")] = 16,
    photos_per_person: Annotated[
        int, typer.Option("--photos-per-person", min=2, help="At most, of a step with triplet.")
    ] = 4,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of the first epoch.")] = 1e-3,
    schedule: Annotated[str, typer.Option("--schedule", help="cosine or decay.")] = "cosine",
    augment: Annotated[
        bool, typer.Option("--augment/--no-augment", help="Mirror, shift, scale, brighten and darken training photos.")
    ] = True,
    align: options.Align = None,
    layout: options.Layout = "folders",
    crop: Annotated[
        float | None,
        typer.Option(
            "--crop", help="Central square as a fraction of the shorter side. Default: the whole photo; 0.5 of aligned."
        ),
    ] = None,
    mirror: Annotated[bool, typer.Option("--mirror/--no-mirror", help="Average a photo and its mirror.")] = True,
    validation: Annotated[float, typer.Option("--validation", help="Share of people to choose by.")] = 0.2,
    test: Annotated[float, typer.Option("--test", help="Share of people held out to measure.")] = 0.2,
    cache: options.Cache = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a net from random weights on the people of a folder, measure it on people held out, write MODELS/NAME."""
    from facetl._tensorflow import set_verbose, start_tensorflow
    from facetl.backbones.spec import ALIGNED_CROP
    from facetl.data.published_layouts import read_layout
    from facetl.errors import RunError
    from facetl.methods.scratch.scratch_settings import ScratchSettings

    if not run or Path(run).name != run or run.startswith("."):
        raise RunError(f"--run: expected a plain name, got {run!r}. The folder above it is --models.")
    align = align or "none"
    settings = ScratchSettings(
        net=net,
        size=size,
        width=width,
        grey=grey,
        objective=objective,
        margin=margin,
        align=align,
        crop=crop if crop is not None else 1.0 if align == "none" else ALIGNED_CROP,
        mirror=mirror,
        augment=augment,
        batch_size=batch_size,
        people_per_batch=people_per_batch,
        photos_per_person=photos_per_person,
        epochs=epochs,
        patience=patience or epochs,
        learning_rate=learning_rate,
        schedule=schedule,
        seed=seed,
    )
    manifest = read_layout(folder, layout).with_splits(seed=seed, validation=validation, test=test)
    set_verbose(verbose)
    start_tensorflow()
    from facetl.embeddings.dataset import default_cache_folder
    from facetl.methods.scratch.scratch_training import train_from_scratch

    say(f"{net} is trained from scratch, its first weights random by intent; skipped {counted(manifest.skipped)}")
    with photo_progress("finding faces") as faces, photo_progress("reading photos") as progress:
        report = train_from_scratch(
            manifest,
            settings,
            models / run,
            cache=cache or default_cache_folder(),
            on_epoch=EpochTable(),
            on_progress=progress,
            on_faces=faces,
        )
    if json:
        put_json(report.to_json())
        return
    from facetl.report.tables import results_table

    trained = report.verifications["trained"]
    heading, *rows = results_table(report.verifications)
    put_table(
        [heading, *([_TITLES[name], *row[1:]] for name, row in zip(report.verifications, rows, strict=True))],
        title=f"Verification of {report.split['test']['people']} test people, {trained.pairs:,} pairs in "
        + (f"{trained.folds} folds" if trained.folds > 1 else "one fold"),
    )
    start = " (the start: no epoch was better on validation people)" if report.best_epoch == 0 else ""
    put(f"best epoch {report.best_epoch} of {report.epochs}{start}, {report.seconds:.0f} s")
    put(f"run        {report.folder}")
    put(f"report     {report.folder / 'report.html'}")
