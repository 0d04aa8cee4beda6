"""`facetl forget`: erase a person from a run, or from a library and the runs that were learnt in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import Models, cache_folder, find_run, is_library
from facetl.cli.output import put, put_json
from facetl.data.layouts import FOLDERS
from facetl.errors import RunError
from facetl.people.library import Library
from facetl.people.library_erasure import forget as forget_in_library
from facetl.people.library_settings import own_runs
from facetl.recognition.run_folder import RunFolder


def forget(
    run: Annotated[
        str, typer.Argument(metavar="RUN|LIBRARY", help="Name of a run below --models, or its folder; or a library.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person's name, as it is spelled there.")],
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
) -> None:
    """Erase a person: faces, pictures, features, names; then search every file for what might be left.

    Photos are not touched. What a trained head has learnt from somebody cannot be taken out of it: the advice says when
    to train anew.
    """
    folder = Path(run).expanduser()
    content = (
        _in_library(folder, name) if is_library(folder) else _in_run(find_run(run, models, change=True), name, cache)
    )
    if json:
        put_json(content)
        return
    for key in ("faces", "photos", "thumbnails", "rows", "answers"):
        if key in content:
            put(f"{key:12s}{content[key]:,}")
    for file in content.get("deleted", ()):
        put(f"deleted     {file}")
    for one in content["remains"]:
        put(f"left        {one['what']} in {one['file']}, {one['times']:,} times")
    if not content["remains"]:
        put("left        nothing was found in any file")
    for advice in content["advice"]:
        put(f"advice      {advice}")


def _in_run(folder: Path, name: str, cache: Path | None) -> dict[str, Any]:
    start_tensorflow()
    from facetl.people.run_erasure import forget_in_run

    config = RunFolder(folder).config()
    photos = Path(config["data"]) if config.get("data") else None
    layout = config.get("layout", FOLDERS)
    done = forget_in_run(folder, name, photos=photos, cache=cache_folder(cache), layout=layout)
    if done is None:
        raise RunError(
            f"{folder}: somebody is forgotten by a name that is there, got {name!r}, whom this run lacks. Check its "
            "spelling."
        )
    return done.to_json()


def _in_library(folder: Path, name: str) -> dict[str, Any]:
    start_tensorflow()
    from facetl.people.run_erasure import forget_in_run

    with Library.open(folder) as library:
        # First, so that the search of all files at the end covers these runs, too.
        runs = [forget_in_run(run, name, photos=None, cache=None) for run in own_runs(library)]
        content = forget_in_library(library, name).to_json()
    advice = [advice for run in runs if run is not None for advice in run.advice]
    return {**content, "advice": [*content["advice"], *advice]}
