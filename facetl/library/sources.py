"""Where a library's photos come from, and how their faces are found: kept with it, so that it can look again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from facetl.errors import LibraryError
from facetl.features.detecting import DetectorSpec
from facetl.imaging.detection import detector_spec
from facetl.library.library import Library

_FOLDERS, _DETECTOR, _WEIGHTS = "folders", "detector", "detector_weights"
_USUAL = "mtcnn"


def remember_folders(library: Library, folders: Sequence[Path]) -> None:
    """Keep folders in mind that photos were imported from; those inside another one are known with it."""
    every = sorted({folder.absolute() for folder in (*source_folders(library), *folders)})
    apart = [one for one in every if not any(one != other and one.is_relative_to(other) for other in every)]
    library.set_setting(_FOLDERS, json.dumps([str(folder) for folder in apart]))


def source_folders(library: Library) -> list[Path]:
    """Return the folders that photos were imported from."""
    return [Path(folder) for folder in json.loads(library.setting(_FOLDERS) or "[]")]


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
    if weights is not None and not Path(weights).is_file():
        raise LibraryError(f"{weights}: the weights of this library's detector are gone. Restore them, or name others.")
    return detector_spec(library.setting(_DETECTOR) or _USUAL, None if weights is None else Path(weights))
