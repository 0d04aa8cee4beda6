"""`facetl runs`: the versions of a run that was updated, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from facetl.cli import options
from facetl.cli.runs import Models, Run, run_folder
from facetl.cli.screen import put, put_json, put_table

app = typer.Typer(help="The versions of a run: what updates made of it, and the way back.", no_args_is_help=True)


@app.command()
def history(run: Run, models: Models = Path("models"), json: options.Json = False) -> None:
    """List the versions of a run and what each update brought."""
    folder = _folder(run, models)
    from facetl.methods.continual.versions import history as versions_of

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
    to: Annotated[int | None, typer.Option("--to", min=1, help="Version to use. Default: the one before.")] = None,
    models: Models = Path("models"),
    json: options.Json = False,
) -> None:
    """Use another version of a run; the one in use until now is kept, and so are the people enrolled.

    People stay enrolled as long as the version's head answers for the gallery; else their gallery waits with the
    version that made it.
    """
    folder = _folder(run, models)
    from facetl.methods.continual.versions import roll_back

    done = roll_back(folder, to)
    if json:
        put_json({"run": str(folder), **done.to_json()})
        return
    put(f"version      {done.number} in use")
    put(f"run          {folder}")


def _folder(run: str, models: Path) -> Path:
    from facetl.methods.continual.versions import recover

    for folder in (Path(run).expanduser(), models / run):
        recover(folder)
    return run_folder(run, models)


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
