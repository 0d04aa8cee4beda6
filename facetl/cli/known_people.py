"""Whom `facetl identify` can name: those enrolled with a run, or those named in a library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facetl.cli.library_runs import open_run
from facetl.cli.looking import open_recognizer
from facetl.cli.runs import run_folder
from facetl.cli.screen import photo_progress

if TYPE_CHECKING:
    from facetl.features.detecting import DetectorSpec
    from facetl.recognition.identifier import Identifier
    from facetl.recognition.recognizer import Recognizer


def is_library(folder: Path) -> bool:
    """Whether a folder is a library."""
    return (folder / "people.sqlite").is_file()


def open_known(
    run: str, models: Path, detector: DetectorSpec | None, *, verbose: bool
) -> tuple[Recognizer, Identifier]:
    """Load a run, or the one that a library uses, and whom it can name; RunError or LibraryError for nobody."""
    library = Path(run).expanduser()
    if is_library(library):
        return _open_library(library, detector, verbose=verbose)
    folder = run_folder(run, models)
    recognizer = open_recognizer(folder, detector, verbose=verbose)
    from facetl.recognition.gallery_file import GalleryFile
    from facetl.recognition.identifier import Identifier

    gallery = GalleryFile.read(folder)
    identifier = Identifier(
        gallery.embeddings, gallery.names, threshold=recognizer.threshold, calibration=recognizer.calibration
    )
    return recognizer, identifier


def _open_library(folder: Path, detector: DetectorSpec | None, *, verbose: bool) -> tuple[Recognizer, Identifier]:
    from dataclasses import replace

    from facetl.library.library import Library

    with Library.open(folder) as library:
        recognizer = open_run(library, verbose=verbose)
        from facetl.library.known import known_people
        from facetl.library.vectors import library_vectors

        with photo_progress("features", unit="faces") as progress:
            ids, rows = library_vectors(library, recognizer, sorted(library.named()), on_progress=progress)
        identifier = known_people(library, recognizer, ids, rows)
    return recognizer if detector is None else replace(recognizer, detector=detector), identifier
