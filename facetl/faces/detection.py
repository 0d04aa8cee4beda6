"""Look for the faces of many photos: each is searched once, whatever it is called and wherever it lies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from facetl.errors import CacheError
from facetl.faces.detectors import DetectorSpec
from facetl.faces.landmark_store import Faces, LandmarkStore, MissingLandmarksError
from facetl.images.decode import Decode, read_batches
from facetl.io.json import JsonFields


@dataclass(frozen=True)
class DetectionReport(JsonFields):
    """The result of a search for faces.

    `photos` were asked for: `searched` now, `reused` from an earlier search (or as another photo with the same
    bytes), the rest in `skipped` (reason → count). In photos of different bytes, `faces` were found in all, and none
    in `without_face` of them.
    `seconds` is all of it, `rate` the photos searched per second once the detector stood.
    """

    photos: int
    searched: int
    reused: int
    faces: int
    without_face: int
    skipped: dict[str, int]
    seconds: float
    rate: float


@dataclass(frozen=True)
class Detection:
    """The faces of each photo, best first and perhaps none, by the sha256 of its bytes; and the report."""

    faces: dict[str, Faces]
    report: DetectionReport


def detect_all(
    shas: Mapping[Path, str],
    *,
    cache_folder: Path,
    detector: DetectorSpec,
    decode: Decode,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Detection:
    """Find the faces of photos, looking only at those that this detector has not searched yet.

    Each batch is durable when it is done: an interrupted search (Ctrl-C, kill, full disk) goes on where it stopped.
    The detector is made only if a photo has to be searched, and nothing is written if none has. Where nothing can be
    written, what an earlier facetl found in photos upright alone is used.

    Args:
        shas: the photos, and the sha256 of the bytes of each.
        cache_folder: where the faces are kept, in `landmarks.sqlite`.
        detector: the settings of the detector.
        decode: a photo's bytes to uint8 RGB [h, w, 3], or PhotoError, whose reason is counted; such photos have no
            entry in the result, and are tried again by the next search.
        batch_size: photos that become durable together.
        on_progress: called with photos done and photos in all; first with those that need no work.
        on_notice: called with a line where faces that would be searched again are used as they are stored.

    Raises CacheFullError where the disk takes no more, CacheError.
    """
    began = time.perf_counter()
    search = _Search(shas, on_progress or (lambda done, total: None))
    known = _known(cache_folder, detector, shas)
    if known is None:
        try:
            store = LandmarkStore.open(cache_folder, write=True)
        except CacheError:
            known = _stored(cache_folder, detector, shas, on_notice or (lambda line: None))
            if known is None:
                raise
        else:
            with store:
                search.run(store, detector, decode, batch_size)
    if known is not None:
        search.faces = known
        search.advance(len(shas))
    return Detection(search.faces, search.report(time.perf_counter() - began))


@dataclass
class _Search:
    """A search under way."""

    shas: Mapping[Path, str]
    on_progress: Callable[[int, int], None]
    faces: dict[str, Faces] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    searched: int = 0
    done: int = 0
    rate: float = 0.0

    def run(self, store: LandmarkStore, detector: DetectorSpec, decode: Decode, batch_size: int) -> None:
        store.remember(self.shas)
        self.faces = store.find(detector.fingerprint(), self.shas.values(), doubt=detector.doubt)
        waiting: dict[str, list[Path]] = {}
        for path, sha in self.shas.items():
            if sha not in self.faces:
                waiting.setdefault(sha, []).append(path)
        self.advance(len(self.shas) - sum(map(len, waiting.values())))
        if not waiting:
            return
        net = detector.make()
        started = time.perf_counter()
        with closing(read_batches(waiting, decode, batch_size=batch_size)) as batches:
            for batch in batches:
                images = {photo.sha: photo.image for photo in batch if photo.image is not None}
                found = dict(zip(images, map(tuple, net.detect(list(images.values()))), strict=True))
                store.put(detector.fingerprint(), detector.to_json(), found)
                self.faces.update(found)
                self.searched += len(found)
                for photo in batch:
                    if photo.image is None:
                        self.skipped[photo.reason] += len(waiting[photo.sha])
                self.advance(sum(len(waiting[photo.sha]) for photo in batch))
        self.rate = self.searched / max(time.perf_counter() - started, 1e-9)

    def advance(self, photos: int) -> None:
        self.done += photos
        self.on_progress(self.done, len(self.shas))

    def report(self, seconds: float) -> DetectionReport:
        return DetectionReport(
            photos=len(self.shas),
            searched=self.searched,
            reused=len(self.shas) - self.searched - self.skipped.total(),
            faces=sum(map(len, self.faces.values())),
            without_face=sum(not found for found in self.faces.values()),
            skipped=dict(sorted(self.skipped.items())),
            seconds=seconds,
            rate=self.rate,
        )


def _known(cache_folder: Path, detector: DetectorSpec, shas: Mapping[Path, str]) -> dict[str, Faces] | None:
    """Return all photos' faces when nothing has to be written; that works on a read-only disk, too."""
    try:
        store = LandmarkStore.open(cache_folder, write=False)
    except MissingLandmarksError:
        return None
    with store:
        faces = store.find(detector.fingerprint(), shas.values(), doubt=detector.doubt)
        complete = len(faces) == len(set(shas.values())) and store.remembers(shas)
    return faces if complete else None


def _stored(
    cache_folder: Path, detector: DetectorSpec, shas: Mapping[Path, str], notify: Callable[[str], None]
) -> dict[str, Faces] | None:
    """Return all photos' faces as they are stored, those that would be searched again too, None where some lack."""
    try:
        store = LandmarkStore.open(cache_folder, write=False)
    except CacheError:
        return None
    with store:
        faces = store.find(detector.fingerprint(), shas.values())
        old = len(faces) - len(store.find(detector.fingerprint(), shas.values(), doubt=detector.doubt))
    if len(faces) < len(set(shas.values())):
        return None
    if old:
        notify(
            f"{cache_folder} cannot be written: {old:,} photos that an earlier facetl searched upright alone keep what "
            "it found. To have their other ways up searched, copy the folder to a disk that can, and name it by "
            "--cache."
        )
    return faces
