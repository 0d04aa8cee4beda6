"""Which run a library starts with, when it is not said: the family that begins has no labelled photo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facetl.cli.runs import run_folder
from facetl.cli.screen import say

if TYPE_CHECKING:
    from facetl.library.library import Library
    from facetl.recognition.recognizer import Recognizer


def choose_run(library: Library, run: str | None, extractor: str | None, models: Path) -> Path:
    """Return the folder of the run that a library uses from now on.

    In this order: the run that is named; the net without training that is named; the run in use; the only one below
    `models`. Raises RunError where there is none, or more than one; LibraryError, WeightsError.
    """
    from facetl.library.runs import run_in_use, use_run

    if run is not None:
        folder = run_folder(run, models)
    elif extractor is not None:
        folder = _untrained(library, extractor)
    else:
        folder = run_in_use(library) or _only_run(models)
    use_run(library, folder)
    return folder


def open_run(library: Library, *, verbose: bool = False) -> Recognizer:
    """Load the run that a library uses, finding faces as the library does; LibraryError where none is chosen."""
    from dataclasses import replace

    from facetl.errors import LibraryError
    from facetl.library.runs import run_in_use
    from facetl.library.sources import library_detector
    from facetl.startup import set_verbose, start_tensorflow

    folder = run_in_use(library)
    if folder is None:
        raise LibraryError(f"{library.folder}: no run is chosen yet. Run facetl people import with --run first.")
    set_verbose(verbose)
    start_tensorflow()
    from facetl.recognition.recognizer import Recognizer

    return replace(Recognizer.load(folder), detector=library_detector(library))


def _untrained(library: Library, extractor: str) -> Path:
    """Return a run of a net as its authors left it, made in the library unless it is there."""
    from facetl.errors import RunError
    from facetl.startup import start_tensorflow

    start_tensorflow()
    from facetl.recognition.raw_run import NETS, write_raw_run

    if extractor not in NETS:
        raise RunError(
            f"--extractor: without training only a net that was trained on faces can tell people apart: "
            f"{', '.join(NETS)}; got {extractor!r}. For any other, run facetl train and give --run."
        )
    folder = library.models_folder / extractor
    if not (folder / "config.json").is_file():
        write_raw_run(folder, extractor)
    return folder


def _only_run(models: Path) -> Path:
    from facetl.errors import RunError

    found = sorted(path.parent for path in models.glob("*/config.json") if not path.parent.name.startswith("."))
    if not found:
        raise RunError(
            f"--run: telling people apart needs a run, found none below {models}. Two ways: --extractor dlib (after "
            "pip install facetl[dlib]), trained on millions of faces and needing no labelled photo; or facetl train on "
            "photos sorted by person, then --run NAME (make train makes a small one of sample faces, to try things)."
        )
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:6])
        raise RunError(f"--run: {len(found)} runs lie below {models} ({names}). Say which.")
    say(f"run {found[0]} is used, the only one below {models}; --run names another")
    return found[0]
