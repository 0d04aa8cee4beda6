"""A run's gallery on disk: the people it can name, as embeddings of their faces. For the run's owner alone; no pickle.

    gallery.npz     version, head (digest), names [n], photos [n] (sha256), boxes float64 [n, 4], embeddings float32
                    [n, width]

A gallery belongs to the head that made it: another head's distances to it would mean nothing, so it is refused,
unless that head was measured to answer for it (`compatible_heads` in its run's config; see facetl update). Rows of
several such heads may stand in one gallery, under the digest of the first.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.data.names import person_name
from facetl.errors import CacheLockedError, DataError, RunError
from facetl.io.files import write_atomic
from facetl.io.lock import WriterLock
from facetl.metrics.ranking import checked_embeddings
from facetl.recognition.embedded_face import SeenFace
from facetl.recognition.run_folder import CONFIG, HEAD

GALLERY = "gallery.npz"
LOCK = "gallery.lock"
VERSION = 1

_SAME_FACE = 0.5  # overlap of two boxes of one photo, intersection over union


@dataclass(frozen=True)
class Enrolled:
    """What enrolling some faces did.

    `faces` are new, `known` were the person's already, `moved` stood under other names (name → faces) until now.
    """

    name: str
    faces: int
    known: int
    moved: dict[str, int]


@dataclass(frozen=True, eq=False)
class GalleryFile:
    """Faces of named people, one a row.

    Attributes:
        head: digest of the head and extractor that made the embeddings; see `head_digest`.
        names: whose face each is, NFC-normalised.
        photos: sha256 of the bytes of the photo that each is in.
        boxes: float64 [faces, 4], left, top, right and bottom edge in that photo.
        embeddings: float32 [faces, width] of unit norm.
    """

    head: str
    names: tuple[str, ...]
    photos: tuple[str, ...]
    boxes: NDArray[np.float64]
    embeddings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def empty(cls, head: str) -> GalleryFile:
        """Return a gallery of nobody."""
        return cls(head, (), (), np.zeros((0, 4)), np.zeros((0, 0), np.float32))

    @classmethod
    def read(cls, folder: Path) -> GalleryFile:
        """Read the gallery of a run folder, an empty one where nobody is enrolled yet.

        Raises RunError where it is damaged, of a newer facetl, or made by another head.
        """
        head = head_digest(folder)
        found = _load(folder / GALLERY)
        if found is None:
            return cls.empty(head)
        if found.head != head and found.head not in compatible_heads(folder):
            raise RunError(
                f"{folder / GALLERY}: a gallery belongs to the head that made it, this run has another one. Delete "
                "the file and run facetl enroll again."
            )
        return found

    def counts(self) -> dict[str, int]:
        """Return how many faces each person has, people sorted."""
        return dict(sorted(Counter(self.names).items()))

    def with_faces(self, name: str, faces: Sequence[tuple[str, SeenFace]]) -> tuple[GalleryFile, Enrolled]:
        """Return a gallery in which these faces, each with its photo's sha256, are this person's; and what changed.

        A face that stood under another name moves: what was said last counts. Raises DataError for a name that
        cannot be one.
        """
        name = person_name(name)
        now, known, moved = self, 0, Counter[str]()
        for sha, seen in faces:
            row = now._row(sha, seen.face.box)
            if row is not None and now.names[row] == name:
                known += 1
                continue
            if row is not None:
                moved[now.names[row]] += 1
                now = now._select([place for place in range(len(now)) if place != row])
            now = replace(
                now,
                names=(*now.names, name),
                photos=(*now.photos, sha),
                boxes=np.concatenate([now.boxes, [seen.face.box]]),
                embeddings=np.concatenate([now.embeddings.reshape(-1, len(seen.embedding)), seen.embedding[None]]),
            )
        return now, Enrolled(name, len(faces) - known - sum(moved.values()), known, dict(moved))

    def without(self, name: str) -> GalleryFile:
        """Return a gallery without a person."""
        gone = person_name(name)
        return self._select([row for row, own in enumerate(self.names) if own != gone])

    def with_rows_of(self, other: GalleryFile) -> GalleryFile:
        """Return a gallery that holds another one's faces, too; a face that both hold stands under its name here."""
        new = [row for row in range(len(other)) if self._row(other.photos[row], other.boxes[row]) is None]
        if not new:
            return self
        added = other._select(new)
        return replace(
            self,
            names=self.names + added.names,
            photos=self.photos + added.photos,
            boxes=np.concatenate([self.boxes, added.boxes]),
            embeddings=np.concatenate([self.embeddings.reshape(-1, added.embeddings.shape[1]), added.embeddings]),
        )

    def write(self, folder: Path) -> None:
        """Write the gallery into a run folder, whole or not at all; one of nobody is no file."""
        path = folder / GALLERY
        if not self.names:
            path.unlink(missing_ok=True)
            return
        content = io.BytesIO()
        np.savez(
            content,
            version=np.int64(VERSION),
            head=np.str_(self.head),
            names=np.array(self.names, np.str_),
            photos=np.array(self.photos, np.str_),
            boxes=self.boxes,
            embeddings=self.embeddings,
        )
        write_atomic(path, content.getvalue())

    def _row(self, sha: str, box: tuple[float, float, float, float] | NDArray[np.float64]) -> int | None:
        """Return the row of a face of that photo, whose box may have moved by a little since."""
        for row, photo in enumerate(self.photos):
            if photo == sha and _overlap(self.boxes[row], np.asarray(box)) > _SAME_FACE:
                return row
        return None

    def _select(self, rows: Sequence[int]) -> GalleryFile:
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            photos=tuple(self.photos[row] for row in rows),
            boxes=self.boxes[list(rows)],
            embeddings=self.embeddings[list(rows)],
        )


def stored_gallery(folder: Path) -> GalleryFile | None:
    """Read the gallery of a run folder whatever head made it, None where there is none; RunError where damaged."""
    return _load(folder / GALLERY)


def head_digest(folder: Path) -> str:
    """Return the hex digest of a run's head and extractor, by which its embeddings are told from any other run's.

    Raises RunError where the folder is no complete run.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        digest = hashlib.sha256(str(config["extractor"]["fingerprint"]).encode())
        digest.update((folder / HEAD).read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: expected a complete run folder ({error}). Run facetl train.") from error
    return digest.hexdigest()


def compatible_heads(folder: Path) -> frozenset[str]:
    """Return the digests of other heads whose galleries a run's head answers for; RunError where it is no run."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return frozenset(map(str, config.get("compatible_heads", ())))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RunError(f"{folder}: expected a complete run folder ({error}). Run facetl train.") from error


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Keep other processes from changing a run's gallery meanwhile; RunError where one does."""
    lock = WriterLock(folder / LOCK)
    try:
        lock.acquire()
    except CacheLockedError as error:
        raise RunError(
            f"{folder / GALLERY}: one process at a time may change a gallery, another one does now. Wait until it ends."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _load(path: Path) -> GalleryFile | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            version = int(stored["version"])
            if version > VERSION:
                raise RunError(f"{path}: this facetl reads galleries up to version {VERSION}, got {version}. Upgrade.")
            names, photos = (tuple(stored[field].astype(np.str_).tolist()) for field in ("names", "photos"))
            boxes, embeddings = stored["boxes"].astype(np.float64), stored["embeddings"].astype(np.float32)
            gallery = GalleryFile(str(stored["head"]), names, photos, boxes, embeddings)
        if len(photos) != len(names) or boxes.shape != (len(names), 4) or embeddings.shape[:1] != (len(names),):
            raise ValueError("its rows do not belong together")
        checked_embeddings(embeddings, "gallery")
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, DataError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: the gallery cannot be read ({error}). Restore it, or delete it and run facetl enroll again."
        ) from error
    return gallery


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = float(np.prod(np.maximum(sides, 0.0)))
    areas = float(np.prod(first[2:] - first[:2])) + float(np.prod(second[2:] - second[:2]))
    return common / (areas - common) if areas > common else 0.0
