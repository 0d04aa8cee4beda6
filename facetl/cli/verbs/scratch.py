"""`facetl scratch`: train a net from scratch and write its run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from facetl._tensorflow import start_tensorflow
from facetl.backbones.spec import ALIGNED_CROP
from facetl.cli import options
from facetl.cli.inputs import Models, cache_folder, new_run
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
from facetl.cli.settings_options import Config, Given, RunConfig, shares_of, takes_options
from facetl.data.layouts import read_layout
from facetl.methods.scratch.scratch_settings import ScratchSettings

# How the table calls the methods of a run whose features are its own.
_TITLES = {
    "raw": "Raw pixels",
    "whitened": "Pixels, PCA-whitened",
    "lda": "Pixels, PCA → LDA",
    "untrained": "The net, untrained",
    "trained": "The net, trained",
}


@takes_options(ScratchSettings)
def scratch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg, or see --layout.")],
    given: Given,
    run: Annotated[str, typer.Option(help="Name of the run; it is written to MODELS/NAME.")],
    models: Models = Path("models"),
    config: Config = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Epochs without a better validation AUC. Default: all.")
    ] = None,
    align: options.Align = None,
    layout: options.Layout = "folders",
    crop: Annotated[
        float | None,
        typer.Option(
            help="Central square as a fraction of the shorter side. Default: the whole photo; 0.5 of aligned."
        ),
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of people to choose by.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of people held out to measure.")] = 0.2,
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a net from random weights on the people of a folder, measure it on people held out, write MODELS/NAME."""
    out = new_run(run, models)
    repeated = RunConfig.read(config, ScratchSettings)
    settings = _settings(given, None if repeated is None else repeated.settings)
    layout = layout if repeated is None or "layout" in given.options else repeated.layout
    shares = shares_of(repeated, given, validation=validation, test=test)
    manifest = read_layout(folder, layout).split_for_training(seed=settings.seed, **shares)
    put_held_out(manifest)
    start_tensorflow()
    from facetl.methods.scratch.scratch_training import train_from_scratch

    notify(
        f"{settings.net} is trained from scratch, its first weights random by intent; "
        f"skipped {counted(manifest.skipped)}"
    )
    with photo_progress("finding faces") as faces, photo_progress("reading photos") as progress:
        report = train_from_scratch(
            manifest,
            settings,
            out,
            cache=cache_folder(cache),
            on_epoch=EpochTable(),
            on_progress=progress,
            on_faces=faces,
        )
    if json:
        put_json(report.to_json())
        return
    put_verification(report, _TITLES)
    put_run(report)


def _settings(given: Given, base: ScratchSettings | None) -> ScratchSettings:
    """Return the settings of a run with what is given, or the defaults, some of which follow from what is given."""
    base, changes = base or ScratchSettings(), dict(given.settings)
    if changes.get("align", base.align) != base.align:
        changes = {"crop": 1.0 if changes["align"] == "none" else ALIGNED_CROP, **changes}
    if changes.get("objective", base.objective) != base.objective:
        changes = {"margin": None, "loss_scale": None, **changes}
    if "epochs" in changes and base.patience == base.epochs:
        changes = {"patience": changes["epochs"], **changes}
    return replace(base, **changes)
