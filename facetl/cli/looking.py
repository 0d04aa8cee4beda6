"""How a verb that looks at photos with a run gets the run, the detector and the photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetl.cli.screen import photo_progress

if TYPE_CHECKING:
    from facetl.features.detecting import DetectorSpec
    from facetl.recognition.recognizer import Recognizer
    from facetl.recognition.seen_faces import SeenPhoto

Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photos, or folders of them.")]
DetectorName = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="How faces are found: mtcnn, yunet, or none where each photo is one cropped face. Default: as the run "
        "was trained, so none for a run without --align.",
    ),
]
DetectorWeights = Annotated[Path | None, typer.Option("--detector-weights", help="Weights file of yunet.")]


def chosen_detector(name: str | None, weights: Path | None) -> DetectorSpec | None:
    """Return the detector of the options, None for the run's own; wrong usage where they do not fit."""
    from facetl.imaging.detection import detector_spec

    if name is None:
        if weights is not None:
            raise typer.BadParameter("--detector-weights belongs to --detector yunet.")
        return None
    return detector_spec(name, weights)


def open_recognizer(folder: Path, detector: DetectorSpec | None, *, verbose: bool) -> Recognizer:
    """Load a run, with another detector than its own where one is given."""
    from dataclasses import replace

    from facetl.startup import set_verbose, start_tensorflow

    set_verbose(verbose)
    start_tensorflow()
    from facetl.recognition.recognizer import Recognizer

    recognizer = Recognizer.load(folder)
    return recognizer if detector is None else replace(recognizer, detector=detector)


def look(recognizer: Recognizer, photos: Sequence[Path], skipped: Counter[str]) -> Iterator[SeenPhoto]:
    """Look at photos and at all photos in folders, with a progress bar; what cannot be read is counted."""
    from facetl.data.album import walk
    from facetl.recognition.seen_faces import see_photos

    album = walk(photos)
    skipped.update(album.skipped)
    with photo_progress("finding faces") as progress:
        yield from see_photos(recognizer, album.paths, skipped=skipped, on_progress=progress)
