"""`facetl evaluate`: a trained run on protocols, its baselines beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import Models, Run, cache_folder, find_run
from facetl.cli.output import counted, notify, photo_progress, put, put_json, put_table
from facetl.data.pair_lists import read_groups, read_pairs
from facetl.metrics.bootstrap import Interval
from facetl.metrics.groups import GroupReport
from facetl.report.tables import method_title, results_table

if TYPE_CHECKING:
    from facetl.runs.evaluated_run import EvaluatedRun


app = typer.Typer(help="Measure a trained run by a protocol, its baselines beside it.", no_args_is_help=True)

_Result = TypeVar("_Result")

Images = Annotated[Path, typer.Option(help="Folder that the photos' paths or names are relative to.")]
Unseen = Annotated[bool, typer.Option("--unseen", help="Leave out people who took part in the run's training.")]


@app.command()
def pairs(
    run: Run,
    file: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="LFW's pairs.txt, or a CSV with first,second,same[,fold].")
    ],
    images: Images,
    groups: Annotated[Path | None, typer.Option(help="CSV with person,group: error rates by group.")] = None,
    ceiling: Annotated[str | None, typer.Option(help="dlib: its face ResNet on the same pairs (facetl[dlib]).")] = None,
    unseen: Unseen = False,
    models: Models = Path("models"),
    cache: options.Cache = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Verify pairs: accuracy by folds and at the run's threshold, with intervals by person."""
    protocol = read_pairs(file)
    grouping = None if groups is None else read_groups(groups)
    evaluated = _load(run, models)
    from facetl.runs.pair_evaluation import evaluate_pairs
    from facetl.runs.pretrained import ReferenceNet

    above = None if ceiling is None else ReferenceNet.open(ceiling)
    with photo_progress("embedding") as progress:
        result = evaluate_pairs(
            evaluated,
            protocol,
            images,
            cache=cache_folder(cache),
            groups=grouping,
            ceiling=above,
            unseen=unseen,
            seed=seed,
            on_progress=progress,
        )
    if result.shared:
        notify(
            "warning: a fold's threshold comes from the other folds, and people in more than one fold: "
            f"{len(result.shared):,}. Give folds that share nobody."
        )
    for warning in () if result.groups is None else result.groups.warnings:
        notify(f"warning: {warning}")
    if _is_shown(result, json):
        return
    trained, at, intervals = result.trained, result.at_threshold, result.intervals_at_threshold
    where = f"{trained.folds} folds" if trained.folds > 1 else "one fold, at each method's own threshold"
    shown = {**result.verifications, **result.ceiling}
    put_table(results_table(shown), title=f"Verification of {trained.pairs:,} pairs in {where}")
    _put_if_no_baselines(evaluated)
    put(f"threshold   {at.threshold:.3f}, the run's own: {evaluated.threshold_chosen}")
    put(f"            accuracy {at.accuracy:.3f}{_within(intervals['accuracy'])}")
    put(f"            FAR {at.far_at_threshold:.4f}{_within(intervals['far_at_threshold'])}")
    put(f"            FRR {at.frr_at_threshold:.4f}{_within(intervals['frr_at_threshold'])}")
    own = result.intervals
    named = {"accuracy": own["accuracy"], "AUC": own["auc"], "EER": own["eer"]}
    by_person = ", ".join(f"{name}{_within(interval)}" for name, interval in named.items())
    people = result.overlap_with_training.people
    put(f"by person   {by_person}: {result.intervals['level']:.0%} intervals, {people:,} people")
    if result.missing:
        put(f"missing     {result.missing:,} pairs: a photo is absent or unreadable")
    if result.left_out:
        put(f"left out    {result.left_out:,} pairs with people of the run's training")
    if result.groups is not None:
        _put_groups(result.groups)


@app.command()
def triplets(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="CSV", help="Columns Anchor,Positive,Negative, relative paths.")],
    images: Images,
    unseen: Unseen = False,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Judge triplets: same/different decisions, triplet loss, order."""
    evaluated = _load(run, models)
    from facetl.runs.evaluation import evaluate_triplets

    result = _measured(evaluate_triplets, evaluated, file, images, cache=cache, json=json, unseen=unseen)
    if result is None:
        return
    first = next(iter(result.scores.values()))
    rows = [["Method", "Accuracy", "by folds", "Loss", "Right order", "Threshold"]]
    for name, scores in result.scores.items():
        kfold, error = scores.accuracy_kfold, scores.accuracy_kfold_stderr
        by_folds = "–" if kfold is None else f"{kfold:.3f} ± {error:.3f}"
        others = (f"{value:.3f}" for value in (scores.loss, scores.order, scores.threshold))
        rows.append([method_title(name), f"{scores.accuracy:.3f}", by_folds, *others])
    put_table(rows, title=f"{first.triplets:,} triplets, {2 * first.triplets:,} same/different decisions")
    _put_if_no_baselines(evaluated)
    if result.missing:
        put(f"missing     {result.missing:,} triplets: a photo is unreadable")
    if result.left_out:
        put(f"left out    {result.left_out:,} triplets with people of the run's training")
    put(f"margin      {evaluated.margin:g}, of the loss")


@app.command()
def openset(
    run: Run,
    gallery: Annotated[Path, typer.Option(help="Known people's photos, DIR/Person/photo.jpg.")],
    probe: Annotated[Path, typer.Option(help="Photos to name; people without a gallery are strangers.")],
    method: Annotated[str, typer.Option(help="centroid, nearest or personal.")] = "centroid",
    k: Annotated[int, typer.Option(min=1, help="Nearest photos that vote, with --method nearest.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables as CSV, and a plot.")] = None,
    unseen: Unseen = False,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Name the people of a gallery, and strangers as unknown."""
    evaluated = _load(run, models)
    from facetl.runs.evaluation import evaluate_openset

    asked = {"method": method, "k": k, "unseen": unseen}
    result = _measured(evaluate_openset, evaluated, gallery, probe, cache=cache, json=json, out=out, **asked)
    if result is None:
        return
    trained = result.trained
    rows = [["Method", "Top 1", "Top 6", "with unknown", *(f"DIR@FPIR {name}" for name in trained.dir_at_fpir)]]
    for name, report in result.reports.items():
        cells = [_share(report.top1), _share(report.top6), _share(report.accuracy_with_unknown)]
        rows.append([method_title(name), *cells, *report.dir_cells().values()])
    put_table(
        rows,
        title=f"{trained.known_probes:,} photos of {trained.people:,} known people, {trained.stranger_probes:,} of "
        f"{trained.strangers:,} strangers, by {trained.method}",
    )
    _put_if_no_baselines(evaluated)
    put(f"threshold   {trained.threshold:.3f}, {trained.threshold_from}")
    if result.copies:
        put(f"left out    {result.copies:,} probe photos that the gallery holds, too")
    put(f"skipped     {counted(result.skipped)}")


@app.command()
def clusters(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg: who is who.")],
    elbow: Annotated[bool, typer.Option("--elbow", help="Also k-means for many k, and where its error bends.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the clusters as CSV, and the elbow.")] = None,
    unseen: Unseen = False,
    models: Models = Path("models"),
    cache: options.Cache = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Group photos by person, and compare with the folders. At most 10,000 photos."""
    evaluated = _load(run, models)
    from facetl.runs.evaluation import evaluate_clusters

    asked = {"unseen": unseen, "with_elbow": elbow, "seed": seed}
    result = _measured(evaluate_clusters, evaluated, folder, cache=cache, json=json, out=out, **asked)
    if result is None:
        return
    people = result.overlap_with_training.people
    rows = [["Method", "BCubed P", "R", "F", "Pairs P", "R", "F", "ARI", "Clusters"]]
    for name, scores in result.scores.items():
        shares = [*_prf(scores.bcubed), *_prf(scores.pairwise), f"{scores.ari:.3f}"]
        rows.append([method_title(name), *shares, f"{scores.clusters:,}"])
    put_table(rows, title=f"{len(result.photos):,} photos of {people:,} people, average linkage at each threshold")
    _put_if_no_baselines(evaluated)
    if result.elbow is not None:
        points = zip(result.elbow.ks, result.elbow.sse, strict=True)
        put_table([["k", "SSE"], *([f"{k:,}", f"{sse:.1f}"] for k, sse in points)])
        put(f"elbow       {result.elbow.elbow or 'none'}")
    put(f"skipped     {counted(result.skipped)}")


def _load(run: str, models: Path) -> EvaluatedRun:
    folder = find_run(run, models)
    start_tensorflow()
    from facetl.runs.evaluated_run import EvaluatedRun

    return EvaluatedRun.load(folder)


def _measured(
    evaluate: Callable[..., _Result],
    run: EvaluatedRun,
    *given: Path,
    cache: Path | None,
    json: bool,
    out: Path | None = None,
    **asked: Any,
) -> _Result | None:
    """Evaluate a run with a progress bar; None where nothing is left to print, see `_is_shown`."""
    with photo_progress("embedding") as progress:
        result = evaluate(run, *given, cache=cache_folder(cache), on_progress=progress, **asked)
    return None if _is_shown(result, json, out) else result


def _is_shown(result: Any, json: bool, out: Path | None = None) -> bool:
    """Warn, write the tables and print JSON, each where it is asked for; return whether nothing is left to print."""
    if result.overlap_with_training.warning:
        notify(result.overlap_with_training.warning)
    for path in () if out is None else result.write(out):
        notify(f"written {path}")
    if json:
        put_json(result.to_json())
    return json


def _put_if_no_baselines(evaluated: EvaluatedRun) -> None:
    if evaluated.baselines is None:
        put("baselines   the run keeps none for other photos: those of its test people stand in its metrics.json")


def _within(interval: Interval | None) -> str:
    return " [too few people]" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]"


def _put_groups(groups: GroupReport) -> None:
    rows = [["Group", "FAR", "interval", "pairs", "FRR", "interval", "pairs", "people"]]
    for each in groups.groups:
        cells = [
            [_share(rate.value), _within(rate.interval).strip(), f"{rate.pairs:,}"] for rate in (each.far, each.frr)
        ]
        rows.append([each.group, *cells[0], *cells[1], f"{max(each.far.people, each.frr.people):,}"])
    put_table(rows, title=f"By group, at the run's threshold; {groups.pairs_left_out:,} pairs across or without groups")
    for line in groups.too_small:
        put(line)


def _share(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.3f}"


def _prf(scores: Any) -> list[str]:
    return [f"{value:.3f}" for value in (scores.precision, scores.recall, scores.f)]
