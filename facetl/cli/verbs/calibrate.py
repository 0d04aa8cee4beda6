"""`facetl calibrate`: another threshold for a trained run, with the evidence for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import Models, Run, cache_folder, find_run
from facetl.cli.output import notify, photo_progress, put, put_json
from facetl.metrics.bootstrap import Interval

if TYPE_CHECKING:
    from facetl.runs.recalibration import Recalibrated


def calibrate(
    run: Run,
    far: Annotated[float | None, typer.Option(help="Loosest threshold with this false accept rate, as 1e-3.")] = None,
    fpir: Annotated[float | None, typer.Option(help="Loosest one that names this share of strangers, as 0.1.")] = None,
    f1: Annotated[bool, typer.Option("--f1", help="The threshold of best F1.")] = False,
    prior: Annotated[float, typer.Option(help="How likely two photos are of one person beforehand.")] = 0.5,
    data: Annotated[Path | None, typer.Option(help="Folder of the run's photos, if they have moved.")] = None,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Choose a run's threshold on its validation people; without a target, for the highest accuracy."""
    if (far is not None) + (fpir is not None) + f1 > 1:
        raise typer.BadParameter("give one of --far, --fpir and --f1")
    from facetl.calibration.calibration import Target

    folder = find_run(run, models, change=True)
    kind = "far" if far is not None else "fpir" if fpir is not None else "f1" if f1 else "accuracy"
    target = Target(kind, fpir if far is None else far)
    start_tensorflow()
    from facetl.runs.recalibration import recalibrate

    with photo_progress("embedding") as progress:
        done = recalibrate(
            folder, target, cache=cache_folder(cache), data=data, prior=prior, on_progress=progress, notify=notify
        )
    if done.gone:
        notify(f"warning: {done.gone:,} of the run's validation people have no photo any more")
    if json:
        put_json(done.to_json())
    else:
        _put(done)


def _put(done: Recalibrated) -> None:
    calibration = done.calibration
    put(f"threshold    {calibration.threshold:.4f}{_within(calibration.threshold_interval)}")
    put(f"chosen       {calibration.reached_by}")
    put(f"FAR          {calibration.far.value:.4f}{_within(calibration.far.interval)}")
    put(f"FRR          {calibration.frr.value:.4f}{_within(calibration.frr.interval)}")
    if calibration.target.kind not in ("far", "accuracy"):
        put(f"{calibration.target.kind.upper():12s}{_within(calibration.interval)}")
    put(
        f"behind it    {calibration.people:,} people, {calibration.positives:,} pairs of one person, "
        f"{calibration.negatives:,} of different people"
        + ("" if calibration.effective_negatives is None else f", worth {calibration.effective_negatives:,.0f}")
    )
    error = "too few people to measure" if calibration.ece is None else f"{calibration.ece:.3f}"
    method = calibration.same_person.to_json()["method"]
    put(f"probability  {method}, prior {calibration.prior:g}, expected calibration error {error}")
    naming = calibration.identification
    if naming is not None:
        put(
            f"naming       {naming.method}, threshold {naming.threshold:.4f}, margin {naming.margin:.4f}: "
            f"FPIR {naming.fpir:.3f}, DIR {naming.dir:.3f} with {naming.enrolled:,} people enrolled"
        )
    if calibration.seen:
        put("intervals    none for other people: the run was trained on these, and other photos of them were held out")
    else:
        put("intervals    95%: where a rate will be found on as many other people")
    put(f"run          {done.folder}")


def _within(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval.low:.4f}, {interval.high:.4f}]"
