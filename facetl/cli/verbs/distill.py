"""`facetl distill`: teach a small net what a run knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetl.cli import options
from facetl.cli.inputs import Models, cache_folder, run_folder
from facetl.cli.output import EpochTable, photo_progress, put, put_json, put_table, say

if TYPE_CHECKING:
    from facetl.methods.distillation.distillation_settings import DistillationSettings
    from facetl.methods.distillation.teacher import Teacher


def distill(
    teacher: Annotated[
        str, typer.Argument(metavar="RUN", help="The teacher: a run, or an extractor as --extractor takes it.")
    ],
    run: Annotated[str, typer.Option("--run", help="Name of the student's run; it is written to MODELS/NAME.")],
    student: Annotated[
        str,
        typer.Option("--student", help="mobilenet_v3_small, mobilenet_v3_large, mobilenet_v2, or a Keras file."),
    ] = "mobilenet_v3_small",
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Photos, a folder per person. Default: the run's. People whom the run does not know are for training.",
        ),
    ] = None,
    size: Annotated[int, typer.Option("--size", min=32, help="Side of the student's input, pixels.")] = 112,
    width: Annotated[float, typer.Option("--width", help="Multiplies the channels of its layers (alpha).")] = 1.0,
    tap: Annotated[str | None, typer.Option("--tap", help="Layer behind which it is cut. Default: its end.")] = None,
    initial: Annotated[
        str, typer.Option("--initial", help="auto: ImageNet's weights where they can be had; scratch: random.")
    ] = "auto",
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Keep the student's net as it is; train a projection of its features.")
    ] = False,
    components: Annotated[int, typer.Option("--components", min=2, help="Seen by that projection, at most.")] = 400,
    hint_epochs: Annotated[
        int, typer.Option("--hint-epochs", min=0, help="Epochs in which its maps learn the teacher's, at first.")
    ] = 30,
    hint_learning_rate: Annotated[
        float, typer.Option("--hint-learning-rate", help="At its height, in these epochs.")
    ] = 3e-3,
    cosine: Annotated[float, typer.Option("--cosine", min=0, help="Weight of the cosine to the teacher's.")] = 1.0,
    l2: Annotated[float, typer.Option("--l2", min=0, help="Weight of the distance to the teacher's.")] = 0.0,
    distances: Annotated[float, typer.Option("--distances", min=0, help="Weight of distances of pairs (RKD).")] = 1.0,
    angles: Annotated[float, typer.Option("--angles", min=0, help="Weight of angles of triplets (RKD).")] = 0.0,
    soft: Annotated[float, typer.Option("--soft", min=0, help="Weight of soft targets, training people.")] = 0.0,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the soft targets.")] = 2.0,
    dropout: Annotated[float, typer.Option("--dropout", help="Share of the projection's inputs dropped.")] = 0.0,
    augment: Annotated[str, typer.Option("--augment", help="none, mirror or full.")] = "full",
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Photos a step.")] = 64,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most, behind those.")] = 20,
    patience: Annotated[int, typer.Option("--patience", min=1, help="Epochs without a better validation AUC.")] = 20,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of the first epoch.")] = 1e-3,
    schedule: Annotated[str, typer.Option("--schedule", help="decay or cosine.")] = "cosine",
    weight_decay: Annotated[float, typer.Option("--weight-decay", min=0, help="Decoupled, of Adam.")] = 1e-4,
    validation: Annotated[
        float, typer.Option("--validation", help="Share of people to choose by, where the teacher knows nobody.")
    ] = 0.2,
    test: Annotated[
        float, typer.Option("--test", help="Share of people to measure on, where the teacher knows nobody.")
    ] = 0.2,
    crop: options.Crop = None,
    align: options.Align = None,
    weights: options.WeightsFile = None,
    costs: Annotated[
        bool, typer.Option("--costs/--no-costs", help="Measure sizes, time and memory of teacher and student.")
    ] = True,
    seed: options.Seed = 0,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Teach a small net a run's embeddings, from its cached features, and write MODELS/NAME."""
    from facetl.errors import RunError
    from facetl.methods.distillation.distillation_settings import DistillationSettings

    if not run or Path(run).name != run or run.startswith("."):
        raise RunError(f"--run: expected a plain name, got {run!r}. The folder above it is --models.")
    settings = DistillationSettings(
        student=student,
        size=size,
        alpha=width,
        tap=tap,
        initial=initial,
        frozen=frozen,
        components=components,
        hint_epochs=hint_epochs,
        hint_learning_rate=hint_learning_rate,
        cosine=cosine,
        l2=l2,
        distances=distances,
        angles=angles,
        soft=soft,
        temperature=temperature,
        dropout=dropout,
        augment=augment,
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        learning_rate=learning_rate,
        schedule=schedule,
        weight_decay=weight_decay,
        seed=seed,
    )
    place = cache_folder(cache)
    from facetl._tensorflow import set_verbose, start_tensorflow

    set_verbose(verbose)
    start_tensorflow()
    from facetl.methods.distillation.teacher import Teacher, is_run

    with photo_progress("teacher") as progress:
        if is_run(teacher, models):
            if (crop, align, weights) != (None, None, None):
                raise RunError("--crop, --align, --weights: a run has its own. Leave them out.")
            folder: Path | None = run_folder(teacher, models)
            assert folder is not None
            if folder.resolve() == (models / run).resolve():
                raise RunError(f"--run: {run} is the teacher itself. Choose another name.")
            taught = Teacher.of_run(
                folder, cache=place, images=images, validation=validation, test=test, seed=seed, on_progress=progress
            )
        else:
            folder = None
            if images is None:
                raise RunError(
                    f"RUN: expected a run's folder, or its name below {models}, got {teacher!r}. For an extractor give "
                    "--images, too."
                )
            taught = Teacher.of_extractor(
                options.extractor_spec(teacher, None, None, crop, None, align=align),
                images,
                cache=place,
                weights=weights,
                validation=validation,
                test=test,
                seed=seed,
                on_progress=progress,
                on_faces=progress,
                say=say,
            )
    _teach(taught, settings, models / run, folder, place, costs=costs, json=json)


def _teach(
    teacher: Teacher,
    settings: DistillationSettings,
    out: Path,
    folder: Path | None,
    cache: Path,
    *,
    costs: bool,
    json: bool,
) -> None:
    from facetl.methods.distillation.distilled_run import distill as teach
    from facetl.methods.distillation.student_comparison import compare_run, table

    counts = {side: teacher.manifest.subset(side) for side in ("train", "validation", "test")}
    say(
        "people (photos): "
        + ", ".join(f"{side} {len(one.identities):,} ({len(one):,})" for side, one in counts.items())
        + f"; features of {teacher.computed:,} photos were computed for the teacher, the others are cached"
    )
    report = teach(teacher, settings, out, cache=cache, say=say, on_epoch=EpochTable())
    contenders = compare_run(teacher, out, cache=cache, teacher_run=folder, costs=costs, seed=settings.seed, say=say)
    told = [one.to_json() for one in contenders]
    if json:
        put_json({**report.to_json(), "teacher": told[0], "student": told[1]})
        return
    put_table(table(contenders), title=f"On {len(counts['test'].identities):,} test people")
    start = " (the start: no epoch was better on validation people)" if report.best_epoch == 0 else ""
    put(f"best epoch {report.best_epoch} of {report.epochs}{start}, {report.seconds:.0f} s")
    put(f"run        {report.folder}")
    put(f"report     {report.folder / 'report.html'}")
