"""Which run a library uses, and the one it used before."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from facetl.errors import LibraryError
from facetl.library.library import Library
from facetl.recognition.run_folder import CONFIG

_IN_USE, _BEFORE = "run", "run_before"


def run_in_use(library: Library) -> Path | None:
    """Return the folder of the run in use, None before one was chosen; LibraryError where it is gone."""
    return _found(library, _IN_USE)


def run_before(library: Library) -> Path | None:
    """Return the folder of the run that was in use before, None where there was none; LibraryError where it is gone."""
    return _found(library, _BEFORE)


def use_run(library: Library, folder: Path) -> None:
    """Use a run from now on; the one in use until now is kept in mind."""
    new, old = _written(library, folder), library.setting(_IN_USE)
    if new != old:
        library.set_setting(_BEFORE, old)
        library.set_setting(_IN_USE, new)


def own_runs(library: Library) -> list[Path]:
    """Return the folders of the runs that lie in the library itself, in order of their names."""
    return sorted(path.parent for path in library.models_folder.glob(f"*/{CONFIG}"))


def next_run(library: Library) -> Path:
    """Return a folder for a new run in the library, whose number none had before."""
    numbers = [int(path.name) for path in library.models_folder.glob("*") if path.name.isdecimal()]
    return library.models_folder / str(max(numbers, default=0) + 1)


def drop_run(library: Library, folder: Path) -> None:
    """Delete a run of the library's own that is not in use; LibraryError for any other."""
    if folder.parent != library.models_folder or _written(library, folder) == library.setting(_IN_USE):
        raise LibraryError(f"{folder}: only a run that was learnt here and is not in use can be deleted.")
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _found(library: Library, setting: str) -> Path | None:
    stored = library.setting(setting)
    if stored is None:
        return None
    # A run of the library's own is written as seen from there, so that the library can be moved.
    folder = library.folder / stored
    if not (folder / CONFIG).is_file():
        raise LibraryError(f"{folder}: the run that this library uses is gone. Restore it, or choose one by --run.")
    return folder


def _written(library: Library, folder: Path) -> str:
    whole = folder.absolute()
    return str(whole.relative_to(library.folder)) if whole.is_relative_to(library.folder) else str(whole)
