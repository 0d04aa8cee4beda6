"""Find the faces of an album and write each one aligned: upright, of one size, the poor ones apart.

OUT/Folder/photo.png        the faces of ALBUM/Folder/photo.jpg, further ones photo_2.png, …
OUT/_poor/Folder/photo.png  those too small, blurred or turned away to tell who it is
OUT/faces.csv               a line a face: where it was found, and its quality
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facetl.data.walk import Album, walk
from facetl.errors import DataError
from facetl.faces.align_journal import FILE_NAME, POOR, SUFFIX, AlignedFace, DonePhoto, Journal, Names
from facetl.faces.alignment import VERSION, align, template
from facetl.faces.detectors import DetectorSpec, Face, choose
from facetl.faces.quality import QualityRule, face_quality
from facetl.images.decode import read_batches, read_photo
from facetl.io.files import WriterLock, csv_bytes, digests, holder_of, remove_partial, sync_folder, write_atomic
from facetl.io.json import JsonFields
from facetl.io.setting import setting

TABLE = "faces.csv"
_LOCK = ".facetl-align.lock"
_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COLUMNS = (
    *("path", "file", "face", "left", "top", "right", "bottom"),
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    *("confidence", "size", "sharpness", "yaw", "pitch", "roll", "kind", "reasons"),
)


@dataclass(frozen=True, kw_only=True)
class AlignSettings(JsonFields):
    """The form in which faces are written.

    Attributes:
        size: side of an aligned face, pixels.
        zoom: of the template; 1 is ArcFace's crop, less takes in more around it, see `alignment.template`.
        one_face: write only the face that a photo is about, as in folders of one person each.
        rule: which faces are poor.
    """

    size: int = setting(112, "Side of an aligned face, pixels.", min=16, max=1024)
    zoom: float = setting(1.0, "1 shows brow to chin, as ArcFace's template; 0.5 twice as much each way.")
    one_face: bool = False
    rule: QualityRule = field(default_factory=QualityRule)

    def __post_init__(self) -> None:
        template(self.size, zoom=self.zoom)


@dataclass(frozen=True)
class AlignReport(JsonFields):
    """The result of an alignment.

    `photos` were found: `aligned` now, `known` from an earlier run, `copies` of the bytes of others, the rest in
    `skipped` (reason → count, with what the walk passed over). They show `faces` good ones and `poor` ones; in
    `without_face` photos there was none. `unusable` faces of those searched now had landmarks that span no face.
    `seconds` is all of it, `rate` the photos aligned per second once the detector stood.
    """

    out: str
    photos: int
    aligned: int
    known: int
    copies: int
    faces: int
    poor: int
    without_face: int
    unusable: int
    skipped: dict[str, int]
    seconds: float
    rate: float


def align_album(
    album: Path,
    out: Path,
    *,
    detector: DetectorSpec,
    settings: AlignSettings | None = None,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> AlignReport:
    """Align the faces of all photos below a folder into another one; photos are never written to.

    Photos with the same bytes are done once, under the first of their paths. Each batch is durable when it is done:
    an interrupted run (Ctrl-C, kill, full disk) goes on where it stopped, and a later one takes what is new. A picture
    that was deleted is not made again. The detector is made only if a photo has to be searched.

    Args:
        album: where the photos are, at any depth.
        out: a new folder, or one that an earlier run has begun with the same settings.
        detector: the settings of the detector.
        batch_size: photos that become durable together.
        on_progress: called with photos done and photos in all.

    Raises DataError when a folder cannot serve, CacheLockedError when another process writes to `out`.
    """
    began = time.perf_counter()
    album, out = (Path(os.path.abspath(path.expanduser())) for path in (album, out))
    _check(album, out)
    # In the folder itself the results of an earlier run would be photos.
    found = walk([album], leave_out=[out])
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = WriterLock(out / _LOCK)
    lock.acquire()
    try:
        run = _Run(album, out, detector, settings or AlignSettings(), found, on_progress or (lambda done, total: None))
        run.search(batch_size)
        _write_table(out, run.journal.done.values(), run.settings.rule)
        return run.report(time.perf_counter() - began)
    finally:
        lock.release()


class _Run:
    """An alignment under way."""

    def __init__(
        self,
        album: Path,
        out: Path,
        detector: DetectorSpec,
        settings: AlignSettings,
        found: Album,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.album, self.out, self.detector, self.settings = album, out, detector, settings
        self.on_progress = on_progress
        self.skipped = Counter(found.skipped)
        self.photos: dict[str, list[Path]] = {}
        for path, sha in zip(found.paths, digests(found.paths), strict=True):
            if sha is None:
                self.skipped["unreadable"] += 1
            else:
                self.photos.setdefault(sha, []).append(path)
        self.total = len(found.paths)
        described = {"detector": detector.fingerprint(), "alignment": VERSION, **settings.to_json()}
        self.journal = Journal.open(out, described)
        self.known = len(self.photos.keys() & self.journal.done.keys())
        self.aligned = self.unusable = self.advanced = 0
        self.rate = 0.0

    def search(self, batch_size: int) -> None:
        waiting = {sha: paths for sha, paths in self.photos.items() if sha not in self.journal.done}
        self._advance(self.total - sum(map(len, waiting.values())))
        if not waiting:
            return
        bases = self._bases(waiting)
        remove_partial(self.out)
        net = self.detector.make()
        started = time.perf_counter()
        with closing(read_batches(waiting, read_photo, batch_size=batch_size)) as batches:
            for batch in batches:
                images = {photo.sha: photo.image for photo in batch if photo.image is not None}
                faces = net.detect(list(images.values()))
                done = [
                    self._done(sha, bases[sha], image, found)
                    for (sha, image), found in zip(images.items(), faces, strict=True)
                ]
                for folder in {(self.out / face.file).parent for photo in done for face in photo.faces}:
                    sync_folder(folder)
                self.journal.append(done)
                self.aligned += len(done)
                for photo in batch:
                    if photo.image is None:
                        self.skipped[photo.reason] += len(waiting[photo.sha])
                self._advance(sum(len(waiting[photo.sha]) for photo in batch))
        self.rate = self.aligned / max(time.perf_counter() - started, 1e-9)

    def _bases(self, waiting: Mapping[str, Sequence[Path]]) -> dict[str, str]:
        """Give each photo that is to be done the name its faces go by; what is done keeps its own."""
        names = Names()
        relative = {sha: self._relative(paths[0]) for sha, paths in waiting.items()}
        for photo in self.journal.done.values():
            names.keep(photo.base)
        for path in relative.values():
            for parent in Path(path).parents:
                names.keep_folder(str(parent))
        return {sha: names.claim(path, sha) for sha, path in relative.items()}

    def _done(self, sha: str, base: str, image: NDArray[np.uint8], faces: list[Face]) -> DonePhoto:
        """Write a photo's faces."""
        if self.settings.one_face:
            main = choose(faces, image.shape)
            faces = [] if main is None else [main]
        written: list[AlignedFace] = []
        for face in faces:
            try:
                quality = face_quality(image, face)
                picture = align(image, face.landmarks, size=self.settings.size, zoom=self.settings.zoom)
            except DataError:
                self.unusable += 1
                continue
            kind = self.settings.rule.kind(quality)
            name = f"{base}_{len(written) + 1}{SUFFIX}" if written else f"{base}{SUFFIX}"
            file = name if kind == "good" else f"{POOR}/{name}"
            _write_picture(self.out / file, picture)
            written.append(AlignedFace(file, face, quality, kind))
        return DonePhoto(sha, self._relative(self.photos[sha][0]), base, tuple(written))

    def report(self, seconds: float) -> AlignReport:
        done = [self.journal.done[sha] for sha in self.photos if sha in self.journal.done]
        kinds = Counter(face.kind for photo in done for face in photo.faces)
        return AlignReport(
            out=str(self.out),
            photos=self.total,
            aligned=self.aligned,
            known=self.known,
            copies=sum(len(self.photos[photo.sha]) - 1 for photo in done),
            faces=kinds["good"],
            poor=kinds["poor"],
            without_face=sum(not photo.faces for photo in done),
            unusable=self.unusable,
            skipped=dict(sorted(self.skipped.items())),
            seconds=seconds,
            rate=self.rate,
        )

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.album).as_posix()

    def _advance(self, photos: int) -> None:
        self.advanced += photos
        self.on_progress(self.advanced, self.total)


def _check(album: Path, out: Path) -> None:
    """Refuse folders where a picture could be written over a photo, or over what is somebody else's."""
    if Path(os.path.realpath(album)).is_relative_to(os.path.realpath(out)):
        raise DataError(f"aligned faces go into a folder of their own, got {out}, which holds the photos.")
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise DataError(f"aligned faces go into a folder, got the file {out}. Choose another folder.")
    # A kill may have come between the lock and the first line of the journal.
    others = [entry.name for entry in os.scandir(out) if entry.name not in (_LOCK, holder_of(Path(_LOCK)).name)]
    if others and FILE_NAME not in others:
        raise DataError(f"aligned faces go into a new folder, but {out} holds something else. Choose another folder.")


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    encoded = cv2.imencode(SUFFIX, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    write_atomic(path, encoded, sync="file")


def _write_table(out: Path, photos: Iterable[DonePhoto], rule: QualityRule) -> None:
    rows = [
        [photo.path, aligned.file, number, *_cells(aligned, rule)]
        for photo in sorted(photos, key=lambda photo: photo.path)
        for number, aligned in enumerate(photo.faces, 1)
        if (out / aligned.file).exists()
    ]
    write_atomic(out / TABLE, csv_bytes([COLUMNS, *rows]))


def _cells(aligned: AlignedFace, rule: QualityRule) -> list[str]:
    quality, pose = aligned.quality, aligned.quality.pose
    numbers = [*aligned.face.box, *aligned.face.landmarks.ravel().tolist()]
    cells = [f"{number:.2f}" for number in numbers] + [f"{quality.confidence:.4f}"]
    cells += [f"{number:.1f}" for number in (quality.size, quality.sharpness, pose.yaw, pose.pitch, pose.roll)]
    return [*cells, aligned.kind, " ".join(rule.reasons(quality))]
