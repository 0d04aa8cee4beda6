"""How a verb names a trained run, and finds it and its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run below --models, or its folder.")]
Models = Annotated[Path, typer.Option("--models", help="Folder of the runs.")]


def run_folder(run: str, models: Path) -> Path:
    """Find a run by its folder, or by its name below `models`."""
    from facetl.errors import RunError

    for folder in (Path(run).expanduser(), models / run):
        if (folder / "config.json").is_file():
            return folder
    raise RunError(f"RUN: expected a run's folder, or its name below {models}, got {run!r}. Run facetl train first.")


def cache_folder(cache: Path | None) -> Path:
    """Return the folder of the cache that was asked for, or the user's."""
    from facetl.features.collection import default_cache_folder

    return cache or default_cache_folder()
