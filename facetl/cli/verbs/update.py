"""`facetl update`: a run takes up people who arrive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import Models, Run, cache_folder, find_run
from facetl.cli.output import counted, notify, photo_progress, put, put_json, put_json_or_line, put_table
from facetl.cli.settings_options import Given, takes_options
from facetl.methods.continual.update_settings import DEFAULT, UpdateSettings
from facetl.runs.versions import history as versions_of
from facetl.runs.versions import roll_back

if TYPE_CHECKING:
    from facetl.methods.continual.update_report import UpdateReport


@takes_options(UpdateSettings)
def update(
    run: Run,
    photos: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with a folder per person: new people, or new photos of known.")
    ],
    given: Given,
    method: Annotated[
        str,
        typer.Option(
            help="none: enrol only; naive: fine-tune on the new people alone; replay, distillation, ewc, also joined "
            "by +; joint: train anew on everybody."
        ),
    ] = DEFAULT,
    force: Annotated[
        bool, typer.Option("--force", help="Put a head in place that is worse, or that leaves the gallery behind.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of the run's photos, if they have moved.")] = None,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Enrol people who arrive, and learn them from cached features without forgetting those before.

    They can be named at once. The new head takes the old one's place only if it is no worse on people whom neither was
    trained on; the old one is kept, see `facetl runs`. People enrolled before stay enrolled.
    """
    folder = find_run(run, models, change=True)
    start_tensorflow()
    from facetl.methods.continual.run_update import WITHOUT_SETTINGS, update_run

    own = DEFAULT if method in WITHOUT_SETTINGS else method
    settings = UpdateSettings(**{**given.settings, "method": own})
    with photo_progress("features") as progress:
        report = update_run(
            folder,
            photos,
            method=method,
            update=settings,
            cache=cache_folder(cache),
            data=data,
            force=force,
            on_progress=progress,
            notify=notify,
        )
    if json:
        put_json(report.to_json())
    else:
        _put(report)


def _put(report: UpdateReport) -> None:
    enrolled = report.enrolment
    put(
        f"enrolled     {enrolled.people:,} people, {enrolled.faces:,} faces; {enrolled.total:,} people can be named; "
        f"skipped {counted(enrolled.skipped)}"
    )
    if report.seen:
        put(f"left out     {report.seen:,} photos that the run has seen")
    if report.way is not None:
        _put_learnt(report)
    put(f"version      {report.version} in use")
    if report.why_not is not None:
        put(f"not in place {report.why_not}; --force puts it in place all the same")
    if report.in_place and not report.gallery_kept:
        put(
            "gallery      waits with the version before: its people must be enrolled again, or that version rolled back"
        )
    put(f"run          {report.folder}")


def _put_learnt(report: UpdateReport) -> None:
    rows: list[tuple[str, ...]] = [
        ("", "people", "accuracy before", "after", "AUC before", "after", "on the old gallery")
    ]
    for name, part in (("test people of the run", report.old), ("new test people", report.new)):
        if part is not None:
            before_after = (part.accuracy_before, part.accuracy_after, part.auc_before, part.auc_after)
            figures = (f"{figure:.4f}" for figure in (*before_after, part.compatibility.cross))
            rows.append((name, f"{part.people:,}", *figures))
    put_table(rows, title=f"{report.method}: learnt {report.people:,} people, {report.photos:,} photos")
    if report.old is not None:
        put(f"forgetting   {report.old.forgetting:+.4f} accuracy on the run's test people")
    found = report.found
    if found is not None:
        put(
            f"found        {found.before:.1%} → {found.after:.1%} of {found.photos:,} held-out photos of "
            f"{found.people:,} new people, among {found.among:,}"
        )
    if report.memory_bytes_per_person is not None:
        put(f"memory       {report.memory_bytes_per_person:,.0f} bytes a person")
    put(f"learnt in    {report.seconds:.1f} s, {report.way}")


app = typer.Typer(help="The versions of a run: what updates made of it, and the way back.", no_args_is_help=True)


@app.command()
def history(run: Run, models: Models = Path("models"), json: options.Json = False) -> None:
    """List the versions of a run and what each update brought."""
    folder = find_run(run, models)
    versions = versions_of(folder)
    if json:
        put_json({"run": str(folder), "versions": [version.to_json() for version in versions]})
        return
    heading = ("version", "in use", "made", "from", "method", "people", "photos", "accuracy before", "after")
    rows = [
        (str(version.number), "yes" if version.in_use else "", *_made(version.update or {})) for version in versions
    ]
    put_table([heading, *rows], title=str(folder))


@app.command()
def rollback(
    run: Run,
    to: Annotated[int | None, typer.Option(min=1, help="Version to use. Default: the one before.")] = None,
    models: Models = Path("models"),
    json: options.Json = False,
) -> None:
    """Use another version of a run; the one in use until now is kept, and so are the people enrolled.

    People stay enrolled as long as the version's head answers for the gallery; else their gallery waits with the
    version that made it.
    """
    folder = find_run(run, models, change=True)
    done = roll_back(folder, to)
    put_json_or_line(json, {"run": str(folder), **done.to_json()}, f"version      {done.number} in use")
    if not json:
        put(f"run          {folder}")


def _made(update: dict[str, Any]) -> tuple[str, ...]:
    if not update:
        return ("trained", "", "", "", "", "", "")
    old = update.get("old") or {}
    return (
        str(update.get("made", "")),
        str(update.get("from", "")),
        str(update.get("method", "")),
        f"{update.get('people', 0):,}",
        f"{update.get('photos', 0):,}",
        *(f"{old[key]:.4f}" if key in old else "" for key in ("accuracy_before", "accuracy_after")),
    )
