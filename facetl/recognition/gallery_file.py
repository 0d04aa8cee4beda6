"""A run's gallery on disk: the people it can name, as embeddings of their faces. For the run's owner alone; no pickle.

    gallery.npz     version, head (digest), names [n], photos [n] (sha256), boxes float64 [n, 4], embeddings float32
                    [n, width]

A gallery belongs to the head that made it: another head's distances to it would mean nothing, so it is refused,
unless that head was measured to answer for it (`compatible_heads` in its run's config; see facetl update). Rows of
several such heads may stand in one gallery, under the digest of the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.data.boxes import overlaps
from facetl.data.manifest import person_name
from facetl.errors import RunError
from facetl.io.files import stored_arrays, write_arrays
from facetl.metrics.ranking import checked_embeddings
from facetl.recognition.embedded_face import EmbeddedFace

VERSION = 1

_SAME_FACE = 0.5  # overlap of two boxes of one photo, intersection over union


@dataclass(frozen=True)
class Enrolled:
    """The outcome of enrolling faces.

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
        head: digest of the head and extractor that made the embeddings; see `RunFolder.head_digest`.
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
    def empty(cls, head: str = "") -> GalleryFile:
        """Return a gallery of nobody."""
        return cls(head, (), (), np.zeros((0, 4)), np.zeros((0, 0), np.float32))

    @classmethod
    def read(cls, path: Path) -> GalleryFile | None:
        """Read a gallery file, None where there is none; RunError where it is damaged or of a newer facetl."""
        remedy = "Restore it, or delete it and run facetl enroll again."
        try:
            with stored_arrays(path, "the gallery", remedy) as stored:
                version = int(stored["version"])
                if version > VERSION:
                    raise RunError(
                        f"{path}: this facetl reads galleries up to version {VERSION}, got {version}. Upgrade."
                    )
                names, photos = (tuple(stored[field].astype(np.str_).tolist()) for field in ("names", "photos"))
                boxes, embeddings = stored["boxes"].astype(np.float64), stored["embeddings"].astype(np.float32)
                if len(photos) != len(names) or boxes.shape != (len(names), 4) or embeddings.shape[:1] != (len(names),):
                    raise ValueError("its rows do not belong together")
                checked_embeddings(embeddings, "gallery")
                return cls(str(stored["head"]), names, photos, boxes, embeddings)
        except FileNotFoundError:
            return None

    def counts(self) -> dict[str, int]:
        """Return how many faces each person has, people sorted."""
        return dict(sorted(Counter(self.names).items()))

    def with_faces(self, name: str, faces: Sequence[tuple[str, EmbeddedFace]]) -> tuple[GalleryFile, Enrolled]:
        """Return a gallery in which these faces, each with its photo's sha256, are this person's; and what changed.

        A face that stood under another name moves: the last name counts. Raises DataError for a name that
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
            now = now._joined(GalleryFile(self.head, (name,), (sha,), np.array([seen.face.box]), seen.embedding[None]))
        return now, Enrolled(name, len(faces) - known - sum(moved.values()), known, dict(moved))

    def without(self, name: str) -> GalleryFile:
        """Return a gallery without a person."""
        gone = person_name(name)
        return self._select([row for row, own in enumerate(self.names) if own != gone])

    def with_rows_of(self, other: GalleryFile) -> GalleryFile:
        """Return a gallery that holds another one's faces, too; a face that both hold stands under its name here."""
        new = [row for row in range(len(other)) if self._row(other.photos[row], other.boxes[row]) is None]
        return self._joined(other._select(new)) if new else self

    def write(self, path: Path) -> None:
        """Write the gallery, whole or not at all; one of nobody is no file."""
        if not self.names:
            path.unlink(missing_ok=True)
            return
        write_arrays(
            path,
            version=np.int64(VERSION),
            head=np.str_(self.head),
            names=np.array(self.names, np.str_),
            photos=np.array(self.photos, np.str_),
            boxes=self.boxes,
            embeddings=self.embeddings,
        )

    def _row(self, sha: str, box: tuple[float, float, float, float] | NDArray[np.float64]) -> int | None:
        """Return the row of a face of that photo, whose box may have moved by a little since."""
        rows = [row for row, photo in enumerate(self.photos) if photo == sha]
        shares = overlaps(np.asarray(box), self.boxes[rows])[0].tolist()
        return next((row for row, share in zip(rows, shares, strict=True) if share > _SAME_FACE), None)

    def _joined(self, other: GalleryFile) -> GalleryFile:
        return replace(
            self,
            names=self.names + other.names,
            photos=self.photos + other.photos,
            boxes=np.concatenate([self.boxes, other.boxes]),
            # A gallery of nobody has no width yet.
            embeddings=np.concatenate([self.embeddings.reshape(-1, other.embeddings.shape[1]), other.embeddings]),
        )

    def _select(self, rows: Sequence[int]) -> GalleryFile:
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            photos=tuple(self.photos[row] for row in rows),
            boxes=self.boxes[list(rows)],
            embeddings=self.embeddings[list(rows)],
        )
