"""Opens what verbs work on: runs and libraries, photos and their detector, people with cached features."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetl._tensorflow import start_tensorflow
from facetl.backbones.backbone import Backbone
from facetl.backbones.spec import ExtractorSpec
from facetl.cli.output import counted, notify, photo_progress
from facetl.data.layouts import read_layout
from facetl.data.walk import walk
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection, default_cache_folder
from facetl.errors import LibraryError, RunError
from facetl.faces.alignment import CroppedSpec
from facetl.faces.detectors import DetectorSpec, detector_spec
from facetl.images.decode import read_photo
from facetl.io.text import LONGEST_NAME
from facetl.people.library import Library
from facetl.people.library_settings import library_detector, run_in_use, use_run
from facetl.recognition.embedded_face import EmbeddedPhoto, own_detector, shows_more_than_one_face
from facetl.recognition.run_folder import CONFIG, RunFolder
from facetl.runs.transfer import TransferReport, transfer_report

if TYPE_CHECKING:
    from facetl.recognition.identifier import Identifier
    from facetl.recognition.recognizer import Recognizer

# Of photos that are taken for cropped faces, so many with a side of so many pixels are looked at for faces: whole
# photos are large, and looking at all would take as long as a detector.
_LOOKED_AT, _LARGE = 3, 1000


def run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a run below --models."""
    models = Path(ctx.params.get("models") or "models")
    names = sorted(config.parent.name for config in models.glob(f"*/{CONFIG}"))
    return [name for name in names if name.startswith(incomplete) and not name.startswith(".")]


Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of a run below --models, or its folder.", autocompletion=run_names)
]
Models = Annotated[Path, typer.Option(help="Folder of the runs.")]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photos, or folders of them.")]
DetectorName = Annotated[
    str | None,
    typer.Option(
        help="How faces are found: mtcnn, yunet, or none where each photo is one cropped face. Default: as the run "
        "was trained, so none for a run without --align."
    ),
]
DetectorWeights = Annotated[Path | None, typer.Option(help="face_detection_yunet_*.onnx of OpenCV's model zoo.")]


def chosen_detector(name: str | None, weights: Path | None) -> DetectorSpec | None:
    """Return the detector of the options, None for the run's own; wrong usage where they do not fit."""
    if name is None:
        if weights is not None:
            raise typer.BadParameter("--detector-weights belongs to --detector yunet.")
        return None
    return detector_spec(name, weights)


def open_recognizer(folder: Path, detector: DetectorSpec | None) -> Recognizer:
    """Load a run, with another detector than its own where one is given."""
    start_tensorflow()
    from facetl.recognition.recognizer import Recognizer

    recognizer = Recognizer.load(folder)
    return recognizer if detector is None else replace(recognizer, detector=detector)


def embedded_photos(recognizer: Recognizer, photos: Sequence[Path], skipped: Counter[str]) -> Iterator[EmbeddedPhoto]:
    """Yield photos, and all those in folders, with their faces and a progress bar; what cannot be read is counted.

    A line tells where they seem to be whole photos and are taken for cropped faces, or the other way round.
    """
    album = walk(photos)
    skipped.update(album.skipped)
    cropped = isinstance(recognizer.detector or own_detector(recognizer.backbone.spec), CroppedSpec)
    seen = faces = large = 0
    with photo_progress("finding faces") as progress:
        for photo in recognizer.embed_photos(album.paths, skipped=skipped, on_progress=progress):
            seen, faces = seen + 1, faces + len(photo.faces)
            if cropped and large < _LOOKED_AT and photo.faces and max(photo.shape) >= _LARGE:
                large += 1
                if shows_more_than_one_face(read_photo(photo.path)):
                    large = _LOOKED_AT
                    notify(
                        f"{photo.path} is taken for one cropped face and shows more: to have faces looked for, "
                        "pass --detector mtcnn"
                    )
            yield photo
    if seen and not faces and not cropped:
        notify("no photo shows a face; if each is cropped to one, pass --detector none")


def choose_run(library: Library, run: str | None, extractor: str | None, models: Path) -> Path:
    """Return the folder of the run that a library uses from now on.

    In this order: the run that is named; the net without training that is named; the run in use; the only one below
    `models`. Raises RunError where there is none, or more than one; LibraryError, WeightsError.
    """
    if run is not None and extractor is not None:
        raise RunError(f"--run, --extractor: a library uses one net, got {run} and {extractor}. Leave one out.")
    if run is not None:
        folder = find_run(run, models)
    elif extractor is not None:
        folder = _untrained(library, extractor)
    else:
        folder = run_in_use(library) or _only_run(models)
    use_run(library, folder)
    return folder


def open_run(library: Library) -> Recognizer:
    """Load the run that a library uses, finding faces as the library does; LibraryError where none is chosen."""
    folder = run_in_use(library)
    if folder is None:
        raise LibraryError(f"{library.folder}: no run is chosen yet. Run facetl people import with --run first.")
    return open_recognizer(folder, library_detector(library))


def _untrained(library: Library, extractor: str) -> Path:
    """Return a run of a net as its authors left it, made in the library unless it is there."""
    start_tensorflow()
    from facetl.runs.pretrained import NETS, write_pretrained_run

    if extractor not in NETS:
        raise RunError(
            f"--extractor: without training only a net that was trained on faces can tell people apart: "
            f"{', '.join(NETS)}; got {extractor!r}. For any other, run facetl train and give --run."
        )
    folder = library.models_folder / extractor
    if not RunFolder(folder).is_run:
        write_pretrained_run(folder, extractor)
    return folder


def _only_run(models: Path) -> Path:
    found = sorted(path.parent for path in models.glob(f"*/{CONFIG}") if not path.parent.name.startswith("."))
    if not found:
        raise RunError(
            f"--run: telling people apart needs a run, found none below {models}. Two ways: --extractor dlib (after "
            "pip install facetl[dlib]), trained on millions of faces and needing no labelled photo; or facetl train on "
            "photos sorted by person, then --run NAME (make train makes a small one of sample faces, to try things)."
        )
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:6])
        raise RunError(f"--run: {len(found)} runs lie below {models} ({names}). Name one of them.")
    notify(f"run {found[0]} is used, the only one below {models}; --run names another")
    return found[0]


def is_library(folder: Path) -> bool:
    """Return whether a folder is a library."""
    return (folder / "people.sqlite").is_file()


def open_known(run: str, models: Path, detector: DetectorSpec | None) -> tuple[Recognizer, Identifier]:
    """Load a run, or the one that a library uses, and whom it can name; RunError or LibraryError for nobody."""
    library = Path(run).expanduser()
    if not is_library(library):
        folder = find_run(run, models)
        recognizer = open_recognizer(folder, detector)
        return recognizer, recognizer.identifier(RunFolder(folder).gallery())
    with Library.open(library) as opened:
        recognizer = open_run(opened)
        from facetl.people.library_embeddings import known_people, library_vectors

        with photo_progress("features", unit="faces") as progress:
            ids, rows = library_vectors(opened, recognizer, sorted(opened.named()), on_progress=progress)
        identifier = known_people(opened, recognizer, ids, rows)
    return recognizer if detector is None else replace(recognizer, detector=detector), identifier


def find_run(run: str, models: Path, *, change: bool = False) -> Path:
    """Find a run by its folder, or by its name below `models`.

    change: whether it is to be changed; RunError, before any work, where its folder cannot be written.
    """
    places = [RunFolder(Path(run).expanduser()), RunFolder(models / run)]
    if not any(place.is_run for place in places):
        for place in places:
            place.recover()
    for place in places:
        if place.is_run:
            if change:
                _check_writable(place.path)
                _check_writable(place.path.resolve().parent)  # where the lock lies
            return place.path
    raise RunError(f"RUN: expected a run's folder, or its name below {models}, got {run!r}. Run facetl train first.")


def new_run(run: str, models: Path) -> Path:
    """Return the folder of a run that is to be made; RunError for what is no plain name."""
    if not run or Path(run).name != run or run.startswith(".") or len(os.fsencode(run)) > LONGEST_NAME:
        raise RunError(
            f"--run: expected a plain name, at most {LONGEST_NAME} bytes, got {run!r}. The folder above it is --models."
        )
    _check_writable(models)
    return models / run


def _check_writable(folder: Path) -> None:
    """Raise RunError unless files can be made in a folder, or in that in which it would be made."""
    there = next((one for one in (folder, *folder.absolute().parents) if one.exists()), folder)
    if not os.access(there, os.W_OK):
        raise RunError(f"{there}: a run is written here, but the folder cannot be. Check its permissions and the disk.")


def cache_folder(cache: Path | None) -> Path:
    """Return the folder of the cache that was asked for, or the user's."""
    return cache or default_cache_folder()


def open_collection(
    folder: Path,
    spec: ExtractorSpec,
    *,
    weights: Path | None,
    cache: Path | None,
    batch_size: int = 32,
    layout: str = "folders",
) -> Collection:
    """List a folder, fill the cache with a progress bar, and return the Collection."""
    manifest = read_layout(folder, layout)
    with photo_progress("finding faces") as faces, photo_progress("caching features") as progress:
        collection = dataset.embed(
            manifest,
            Backbone.from_spec(spec, weights, on_notice=notify),
            cache=cache_folder(cache),
            batch_size=batch_size,
            on_progress=progress,
            on_faces=faces,
        )
    if collection.report.flagged:
        notify(f"of the photos computed now: {counted(collection.report.flagged)}; their centre was taken instead")
    return collection


def open_transfer_report(
    folder: Path,
    spec: ExtractorSpec,
    *,
    people: int,
    seed: int,
    weights: Path | None,
    cache: Path | None,
    layout: str = "folders",
) -> TransferReport:
    """List a folder and compare the taps and grids of an extractor in each of its crops, with a progress bar."""
    manifest = read_layout(folder, layout)
    backbone = Backbone.from_spec(spec, weights, on_notice=notify)
    with photo_progress("finding faces") as faces, photo_progress("measuring taps") as progress:
        return transfer_report(
            manifest,
            spec,
            backbone.weights,
            crops=spec.crops,
            people=people,
            seed=seed,
            make_net=backbone.view,
            cache=cache_folder(cache),
            on_progress=progress,
            on_faces=faces,
        )
