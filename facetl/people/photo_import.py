"""Photos into a library: their faces are found, judged and cut out once, whatever they are called, wherever they lie.

A batch of photos is in the library as a whole when its transaction is committed: an import that was killed at any
moment goes on where it stopped. Photos are read and never written.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facetl.data.metadata.header import PhotoHeader, read_header, taken_at
from facetl.data.metadata.regions import Region, read_regions, same_face
from facetl.data.metadata.xmp import sidecars_of
from facetl.data.walk import walk
from facetl.embeddings.face_features import face_key
from facetl.errors import DataError, LibraryError, PhotoError
from facetl.faces.alignment import align
from facetl.faces.detectors import Detector, DetectorSpec, Face
from facetl.faces.landmark_store import LandmarkStore
from facetl.faces.quality import QualityRule, face_quality
from facetl.images.decode import read_batches, read_photo
from facetl.images.perceptual_hash import perceptual_hash
from facetl.io.files import digests, write_atomic
from facetl.io.json import JsonFields
from facetl.people import ingest
from facetl.people.ingest import SearchedPhoto
from facetl.people.library import Library
from facetl.people.missing_photos import missing_photos
from facetl.people.store import photos as photos_module
from facetl.people.store.models import LibraryPhoto, NewFace, NewPhoto

_AT_ONCE = 256  # paths hashed and looked up together
_SIDE = 160
# Of the template: the face with hair and chin.
_ZOOM = 0.62
_QUALITY = 88


@dataclass(frozen=True)
class ImportReport(JsonFields):
    """Counts of an import.

    `photos` were found: `added` now, `known` before (of which `moved` were seen elsewhere then, and `searched_again`
    by another detector), `changed` in their metadata alone, `duplicates` of the bytes of others in these folders, the
    rest in `skipped` (reason → count, with what the walk passed over). The photos added, changed and searched again
    show `faces`, `poor` ones among them, and in `without_face` of them there was none. `near_duplicates` were found to
    be nearly another photo. `named_from_regions` faces have a name by their photo's metadata since now; some of that
    of `damaged_metadata` photos could not be read, and the copies of `contradictory_names` photos give a face different
    names. `replaced` photos of the library were edited and saved over
    themselves: `carried` of their faces are in the new version and keep their answers. No file is left of `missing`
    photos of the library, `absent` of them below folders that are not there (folder → count). `seconds` is all of it.
    """

    photos: int
    added: int
    known: int
    moved: int
    searched_again: int
    changed: int
    faces: int
    poor: int
    without_face: int
    duplicates: int
    near_duplicates: int
    skipped: dict[str, int]
    named_from_regions: int
    damaged_metadata: int
    contradictory_names: int
    replaced: int
    carried: int
    missing: int
    absent: dict[str, int]
    seconds: float


def import_photos(
    library: Library,
    folders: Sequence[Path],
    *,
    detector: DetectorSpec,
    rule: QualityRule | None = None,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
    on_photo: Callable[[LibraryPhoto], None] | None = None,
    on_damaged: Callable[[DataError], None] | None = None,
) -> ImportReport:
    """Bring the photos of some folders and their faces into a library.

    A photo is known by its bytes: moved, renamed or copied, it is the same one. Another detector than before looks at
    all photos again, and faces that both found stay who they are. Names in the photos' metadata are taken over; answers
    of the user win over them.

    Args:
        folders: where the photos are, at any depth; single photos, too.
        detector: the settings of the detector, which is made only if a photo has to be searched.
        rule: which faces are poor.
        batch_size: photos that become durable together.
        on_progress: called with photos done and photos in all.
        on_photo: called with each photo whose faces are new, once it is durable.
        on_damaged: called with the first error of each photo with damaged metadata.

    Raises DataError where a folder cannot be listed, LibraryError, CacheError, CacheFullError.
    """
    began = time.perf_counter()
    album = walk(folders, leave_out=[library.folder])
    coming = _Import(
        library,
        detector,
        rule or QualityRule(),
        batch_size,
        len(album.paths),
        on_progress or (lambda done, total: None),
        on_photo or (lambda photo: None),
        on_damaged or (lambda error: None),
        Counter(album.skipped),
        Counter(photos=len(album.paths)),
    )
    coming.run(album.paths)
    missing = missing_photos(library)
    coming.counted["missing"] = len(missing.deleted) + sum(missing.absent.values())
    return ImportReport(
        skipped=dict(sorted((+coming.skipped).items())),
        absent=missing.absent,
        seconds=time.perf_counter() - began,
        **{one.name: coming.counted[one.name] for one in fields(ImportReport) if one.type == "int"},
    )


@dataclass
class _Import:
    """An import under way."""

    library: Library
    detector: DetectorSpec
    rule: QualityRule
    batch_size: int
    total: int
    on_progress: Callable[[int, int], None]
    on_photo: Callable[[LibraryPhoto], None]
    on_damaged: Callable[[DataError], None]
    skipped: Counter[str]
    counted: Counter[str]
    seen: set[str] = field(default_factory=set)
    copies: dict[str, list[Path]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    done: int = 0
    net: Detector | None = None

    def run(self, paths: Sequence[Path]) -> None:
        """Import all."""
        self.on_progress(0, self.total)
        with LandmarkStore.open(self.library.cache_folder, write=True) as store:
            for start in range(0, len(paths), _AT_ONCE):
                self._some(store, paths[start : start + _AT_ONCE])
        with self.library.database.write() as sql:
            carried = ingest.carry_replaced(sql, self.library)
            self.counted["near_duplicates"] = ingest.mark_near_duplicates(sql)
        self.counted["replaced"], self.counted["carried"] = carried.photos, carried.faces
        for key in carried.stale:
            self.library.thumb(key).unlink(missing_ok=True)

    def _some(self, store: LandmarkStore, paths: Sequence[Path]) -> None:
        found: dict[str, list[Path]] = {}
        unreadable = 0
        for path, sha in zip(paths, digests(paths), strict=True):
            if sha is None:
                unreadable += 1
            else:
                found.setdefault(sha, []).append(path)
        self.skipped["unreadable"] += unreadable
        self.counted["duplicates"] += len(paths) - unreadable - len(found.keys() - self.seen)
        self.copies = ingest.copies(self.library, found)
        finished = ingest.finished(self.library, self.detector.fingerprint(), list(found))
        self._touch({sha: found[sha] for sha in found if sha in finished})
        self._advance(unreadable + sum(len(found[sha]) for sha in finished))
        waiting = {sha: places for sha, places in found.items() if sha not in finished}
        if waiting:
            self._search(store, waiting)
        self.seen.update(found.keys() - self.failed)

    def _touch(self, known: Mapping[str, list[Path]]) -> None:
        """Record where known photos lie, and the names in their sidecars."""
        regions = {sha: self._regions(sha) for sha in known if any(map(sidecars_of, self.copies[sha]))}
        with self.library.database.write() as sql:
            for sha, paths in known.items():
                moved, named = ingest.touch_known(sql, self.library, sha, paths, regions.get(sha, ()))
                self.counted["known"] += sha not in self.seen
                self.counted["moved"] += moved
                self.counted["named_from_regions"] += named

    def _search(self, store: LandmarkStore, waiting: Mapping[str, list[Path]]) -> None:
        fingerprint = self.detector.fingerprint()
        with closing(read_batches(waiting, read_photo, batch_size=self.batch_size)) as batches:
            for batch in batches:
                images = {photo.sha: photo.image for photo in batch if photo.image is not None}
                faces = dict(store.find(fingerprint, images, doubt=self.detector.doubt))
                strange = {sha: image for sha, image in images.items() if sha not in faces}
                if strange:
                    self.net = self.net or self.detector.make()
                    fresh = dict(zip(strange, map(tuple, self.net.detect(list(strange.values()))), strict=True))
                    store.put(fingerprint, self.detector.to_json(), fresh)
                    faces |= fresh
                found = [self._searched(sha, waiting[sha], image, faces[sha]) for sha, image in images.items()]
                self._add(found)
                for photo in batch:
                    if photo.image is None:
                        self.skipped[photo.reason] += len(waiting[photo.sha])
                        self.counted["duplicates"] -= len(waiting[photo.sha]) - 1
                        self.failed.add(photo.sha)
                self._advance(sum(len(waiting[photo.sha]) for photo in batch))

    def _searched(self, sha: str, paths: list[Path], image: NDArray[np.uint8], faces: Sequence[Face]) -> SearchedPhoto:
        """Judge and cut out a photo's faces; their pictures are on the disk when this returns."""
        found: dict[str, NewFace] = {}
        for face in faces:
            key = face_key(sha, self.detector.fingerprint(), face)
            found[key] = self._judged(key, image, face)
            if not ingest.is_there(self.library.thumb(key)):
                write_thumbnail(self.library.thumb(key), thumbnail(image, face))
        header = _header(paths[0])
        height, width = image.shape[:2]
        taken = None if header is None else taken_at(header)
        photo = NewPhoto(sha, width, height, taken, perceptual_hash(image))
        return SearchedPhoto(photo, tuple(paths), tuple(found.values()), tuple(self._regions(sha)))

    def _judged(self, key: str, image: NDArray[np.uint8], face: Face) -> NewFace:
        try:
            quality = face_quality(image, face)
        except DataError:
            # Landmarks that span no face: nobody can be recognised by it, but it can be looked at.
            return NewFace(key, face, min(face.width, face.height), 0.0, 0.0, 0.0, 0.0, "poor")
        pose = quality.pose
        kind = self.rule.kind(quality)
        return NewFace(key, face, quality.size, quality.sharpness, pose.yaw, pose.pitch, pose.roll, kind)

    def _regions(self, sha: str) -> list[Region]:
        """Read the named faces by the metadata of a photo and its copies, each of which may have a sidecar.

        Where copies give a face different names, that of the first path holds, in whatever order they are imported.
        """
        found: list[Region] = []
        damaged: list[DataError] = []
        contradicted = False
        for path in self.copies[sha]:
            try:
                regions = read_regions(path, on_damaged=damaged.append)
            except PhotoError:
                continue  # gone or replaced since its bytes were read: the next import sees it
            named = [region for region in regions if region.name and region.kind == "face"]
            contradicted |= any(
                found[place].name != region.name for region in named for place in same_face(region, found)
            )
            found += [region for region in named if not same_face(region, found)]
        self.counted["contradictory_names"] += contradicted
        if damaged:
            self.counted["damaged_metadata"] += 1
            self.on_damaged(damaged[0])
        return found

    def _add(self, photos: Sequence[SearchedPhoto]) -> None:
        with self.library.database.write() as sql:
            detector = photos_module.put_detector(sql, self.detector.fingerprint(), self.detector.to_json())
            done = [ingest.add_photo(sql, self.library, searched, detector) for searched in photos]
            names = {face: name for one in done for face, name in one.names.items()}
            self.counted["named_from_regions"] += self.library.assign_by_metadata(sql, names)
        for searched, added in zip(photos, done, strict=True):
            self.counted[added.how] += 1
            self.counted["known"] += added.how == "searched_again"
            self.counted["moved"] += added.moved
            if added.how != "known":
                self.counted["faces"] += len(searched.faces)
                self.counted["poor"] += sum(face.kind == "poor" for face in searched.faces)
                self.counted["without_face"] += not searched.faces
            for key in added.stale:
                self.library.thumb(key).unlink(missing_ok=True)
            self.on_photo(self.library.photo(added.photo))

    def _advance(self, photos: int) -> None:
        self.done += photos
        self.on_progress(self.done, self.total)


def _header(path: Path) -> PhotoHeader | None:
    try:
        return read_header(path)
    except PhotoError:
        return None  # gone or replaced since its bytes were read: the next import sees it


def thumbnail(image: NDArray[np.uint8], face: Face) -> bytes:
    """Return a face as a square JPEG, upright with some room around it; its box where landmarks span no face.

    image: the photo, [height, width, 3] uint8 RGB.
    """
    try:
        picture = align(image, face.landmarks, size=_SIDE, zoom=_ZOOM)
    except DataError:
        left, top, right, bottom = (round(edge) for edge in face.box)
        crop = image[max(0, top) : max(0, bottom) + 1, max(0, left) : max(0, right) + 1]
        picture = np.asarray(cv2.resize(crop if crop.size else image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return encoded.tobytes()


def write_thumbnail(path: Path, data: bytes) -> None:
    """Put a picture in place as a whole, readable for its owner alone; LibraryError where the disk takes none."""
    try:
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(path, data, sync="none")
    except OSError as error:
        raise LibraryError(
            f"{path}: a picture of a face cannot be written ({error.strerror}). Make room and run the same command "
            "again: it goes on from there."
        ) from error
