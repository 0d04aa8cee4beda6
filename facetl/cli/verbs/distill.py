"""`facetl distill`: teach a small net what a run knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import Models, cache_folder, find_run, new_run
from facetl.cli.output import (
    EpochTable,
    measured_on,
    notify,
    photo_progress,
    put_held_out,
    put_json,
    put_run,
    put_table,
)
from facetl.cli.settings_options import Config, Given, RunConfig, shares_of, takes_options
from facetl.errors import RunError
from facetl.methods.distillation.distillation_settings import DistillationSettings


@takes_options(DistillationSettings)
def distill(
    teacher: Annotated[
        str, typer.Argument(metavar="RUN", help="The teacher: a run, or an extractor as --extractor takes it.")
    ],
    given: Given,
    run: Annotated[str, typer.Option(help="Name of the student's run; it is written to MODELS/NAME.")],
    config: Config = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Photos, a folder per person. Default: the run's. People whom the run does not know are for training."
        ),
    ] = None,
    validation: Annotated[
        float, typer.Option(help="Share of people to choose by, where the teacher knows nobody.")
    ] = 0.2,
    test: Annotated[float, typer.Option(help="Share of people to measure on, where the teacher knows nobody.")] = 0.2,
    crop: options.Crop = None,
    align: options.Align = None,
    weights: options.WeightsFile = None,
    costs: Annotated[
        bool, typer.Option("--costs/--no-costs", help="Measure sizes, time and memory of teacher and student.")
    ] = True,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Teach a small net a run's embeddings, from its cached features, and write MODELS/NAME."""
    out = new_run(run, models)
    repeated = RunConfig.read(config, DistillationSettings)
    settings = replace(DistillationSettings() if repeated is None else repeated.settings, **given.settings)
    shares = shares_of(repeated, given, validation=validation, test=test)
    place = cache_folder(cache)
    start_tensorflow()
    from facetl.methods.distillation.distilled_run import distill as teach
    from facetl.methods.distillation.student_comparison import compare_run, table
    from facetl.methods.distillation.teacher import Teacher, is_run

    with photo_progress("teacher") as progress:
        if is_run(teacher, models):
            if (crop, align, weights) != (None, None, None):
                raise RunError("--crop, --align, --weights: a run has its own. Leave them out.")
            own = find_run(teacher, models)
            if own.resolve() == out.resolve():
                raise RunError(f"--run: {run} is the teacher itself. Choose another name.")
            taught = Teacher.of_run(own, cache=place, images=images, **shares, seed=settings.seed, on_progress=progress)
        else:
            own = None
            if images is None:
                raise RunError(
                    f"RUN: expected a run's folder, or its name below {models}, got {teacher!r}. For an extractor give "
                    "--images, too."
                )
            if repeated is not None and (crop, align) == (None, None):
                stored = repeated.content["settings"]
                crop, align = str(stored.get("crop", "1")), stored.get("align")
            taught = Teacher.of_extractor(
                options.extractor_spec(teacher, None, None, crop, None, align=align),
                images,
                cache=place,
                weights=weights,
                **shares,
                seed=settings.seed,
                on_progress=progress,
                on_faces=progress,
                notify=notify,
            )
    put_held_out(taught.manifest)
    counts = {side: taught.manifest.subset(side) for side in ("train", "validation", "test")}
    notify(
        "people (photos): "
        + ", ".join(f"{side} {len(one.identities):,} ({len(one):,})" for side, one in counts.items())
        + f"; features of {taught.computed:,} photos were computed for the teacher, the others are cached"
    )
    report = teach(taught, settings, out, cache=place, notify=notify, on_epoch=EpochTable())
    compared = compare_run(taught, out, cache=place, teacher_run=own, costs=costs, seed=settings.seed, notify=notify)
    teacher_json, student_json = (one.to_json() for one in compared)
    if json:
        put_json({**report.to_json(), "teacher": teacher_json, "student": student_json})
        return
    side = counts["test"]
    measured = measured_on(taught.manifest.held_out["test"], len(side.identities), len(side))
    put_table(table(compared), title=f"On {measured}")
    put_run(report)
