"""Settings of a library: its run and the one before, the folders of its photos, its detector."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from facetl.errors import LibraryError
from facetl.faces.detectors import DetectorSpec, detector_spec
from facetl.io.json import parse_json
from facetl.people.library import Library
from facetl.recognition.run_folder import CONFIG, RunFolder

_IN_USE, _BEFORE = "run", "run_before"
_FOLDERS, _DETECTOR, _WEIGHTS = "folders", "detector", "detector_weights"
_USUAL = "mtcnn"


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
    if not RunFolder(folder).is_run:
        raise LibraryError(
            f"{folder}: the run that this library uses is gone. Restore it, or choose one by facetl people import "
            "--run."
        )
    return folder


def _written(library: Library, folder: Path) -> str:
    whole = folder.absolute()
    return str(whole.relative_to(library.folder)) if whole.is_relative_to(library.folder) else str(whole)


def remember_folders(library: Library, folders: Sequence[Path]) -> None:
    """Keep folders in mind that photos were imported from; those inside another one are known with it."""
    every = sorted({folder.absolute() for folder in (*source_folders(library), *folders)})
    apart = [one for one in every if not any(one != other and one.is_relative_to(other) for other in every)]
    library.set_setting(_FOLDERS, json.dumps([str(folder) for folder in apart]))


def source_folders(library: Library) -> list[Path]:
    """Return the folders that photos were imported from."""
    try:
        return [Path(folder) for folder in parse_json(library.setting(_FOLDERS) or "[]")]
    except (ValueError, TypeError) as error:
        raise LibraryError(
            f"{library.folder}: the folders that photos were imported from cannot be read ({error}). Restore the "
            "library from a copy."
        ) from error


def use_detector(library: Library, name: str | None, weights: Path | None) -> DetectorSpec:
    """Choose how faces are found, `mtcnn`, `yunet` or `none`, from now on, and return it; None keeps what is chosen.

    Raises DataError for another name or weights that do not fit.
    """
    if name is None and weights is None:
        return library_detector(library)
    spec = detector_spec(name or _USUAL, weights)
    library.set_setting(_DETECTOR, name or _USUAL)
    library.set_setting(_WEIGHTS, None if weights is None else str(weights.absolute()))
    return spec


def library_detector(library: Library) -> DetectorSpec:
    """Return how faces are found in this library; LibraryError where its weights are gone."""
    weights = library.setting(_WEIGHTS)
    if weights is not None and not os.path.isfile(weights):
        raise LibraryError(
            f"{weights}: the weights of this library's detector are gone. Restore them, or choose another one by "
            "facetl people import --detector."
        )
    return detector_spec(library.setting(_DETECTOR) or _USUAL, None if weights is None else Path(weights))
