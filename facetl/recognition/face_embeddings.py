"""Embeddings of many photos' faces, and how the photos are read and put into batches. No TensorFlow here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.data.walk import walk
from facetl.errors import DataError, PhotoError
from facetl.images.decode import read_batches, read_photo
from facetl.io.files import digests
from facetl.io.vector_file import vector_file

_BATCH_BYTES = 128 * 2**20  # of pixels that wait for the net; a phone's photo has 36 MB

Box = tuple[float, float, float, float]
Photos = Path | str | Sequence[Path | str | bytes | NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class FaceEmbeddings:
    """Faces of photos with their embeddings, a row a face.

    Attributes:
        embeddings: [faces, width] float32 unit vectors.
        paths: of each face's photo; None where the photo was given as bytes or an array.
        boxes: [faces, 4] float32, left, top, right and bottom edge in pixels; of a cropped face those of the photo, NaN
            where the net finds the face by itself.
        photos: [faces] int64, the place of each face's photo among those that were given or found in the folder.
        skipped: reason → how many photos have no row.
    """

    embeddings: NDArray[np.float32]
    paths: tuple[Path | None, ...]
    boxes: NDArray[np.float32]
    photos: NDArray[np.int64]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: NDArray[np.integer]) -> FaceEmbeddings:
        """Return the faces of these rows, by integers, in their order."""
        paths = tuple(self.paths[row] for row in rows)
        return FaceEmbeddings(self.embeddings[rows], paths, self.boxes[rows], self.photos[rows], self.skipped)

    @classmethod
    def joined(cls, parts: Sequence[FaceEmbeddings], *, width: int, skipped: Mapping[str, int]) -> FaceEmbeddings:
        """Return the rows of all parts; `width` counts where there are none."""
        return cls(
            np.concatenate([np.zeros((0, width), np.float32), *(part.embeddings for part in parts)]),
            tuple(path for part in parts for path in part.paths),
            np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(part.photos for part in parts)]),
            dict(skipped),
        )


@dataclass(frozen=True, eq=False)
class OpenPhoto:
    """A photo [height, width, 3] uint8 RGB, the places at which it was given, and its path at each."""

    image: NDArray[np.uint8]
    places: Sequence[int]
    paths: Sequence[Path | None]


@dataclass
class FaceBatch:
    """Faces that wait to be embedded together: what the extractor is shown of each, and where it comes from."""

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    _sources: list[tuple[list[tuple[int, Path | None]], Box]] = field(default_factory=list)

    def is_full(self, size: int) -> bool:
        """Return whether `size` faces wait, or fewer that are as large as a batch may be."""
        return len(self.images) >= size or sum(image.nbytes for image in self.images) >= _BATCH_BYTES

    def add(self, photo: OpenPhoto, faces: Sequence[tuple[Box, NDArray[np.uint8]]]) -> None:
        """Add the faces of a photo."""
        given = list(zip(photo.places, photo.paths, strict=True))
        for box, image in faces:
            self.images.append(image)
            self._sources.append((given, box))

    def embedded(
        self, embed: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]], size: int
    ) -> FaceEmbeddings:
        """Embed the first `size` faces and drop them from the batch; a photo given twice has each face twice."""
        vectors = embed(self.images[:size])
        rows = [
            (row, place, path, box) for row, (given, box) in enumerate(self._sources[:size]) for place, path in given
        ]
        del self.images[:size], self._sources[:size]
        which, places, paths, boxes = zip(*rows, strict=True)
        return FaceEmbeddings(vectors[list(which)], paths, np.array(boxes, np.float32), np.array(places, np.int64))


def write_embeddings(path: Path, batches: Iterable[FaceEmbeddings], *, skipped: Mapping[str, int]) -> int:
    """Write faces to a `.npy`, `.parquet` or `.csv` file, for its owner alone; return how many there were.

    Beside the embedding a row has the photo's path and the edges of the face's box.

    Raises DataError, and writes nothing, for another ending and where no photo could be embedded.
    """
    faces = 0
    with vector_file(path) as file:
        for batch in batches:
            edges = dict(zip(("left", "top", "right", "bottom"), batch.boxes.round(1).T, strict=True))
            file.append({"path": [one or "" for one in batch.paths], **edges}, batch.embeddings)
            faces += len(batch)
        if not faces:
            reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no photo found"
            raise DataError(f"embeddings need photos that can be read and show a face, got none ({reasons}).")
    return faces


def read_photos(
    photos: Photos,
    skipped: Counter[str],
    *,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[OpenPhoto]:
    """Read photos ahead of what is done with them; those that cannot be read are counted in `skipped`.

    Raises DataError for a folder that cannot be listed.
    """
    given: Sequence[Path | str | bytes | NDArray[np.uint8]]
    if isinstance(photos, (str, os.PathLike)):
        album = walk([Path(photos)])
        skipped.update(album.skipped)
        given = album.paths
    else:
        given = photos
    on_disk = {place: Path(one) for place, one in enumerate(given) if isinstance(one, (str, os.PathLike))}
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress(done, len(given))

    for place, one in enumerate(given):
        if isinstance(one, (str, os.PathLike)):
            continue
        try:
            yield OpenPhoto(one if isinstance(one, np.ndarray) else read_photo(one), [place], [None])
        except PhotoError as error:
            skipped[error.reason] += 1
        advance(1)
    places: dict[str, list[int]] = {}
    for place, sha in zip(on_disk, digests(list(on_disk.values())), strict=True):
        if sha is None:
            skipped["unreadable"] += 1
            advance(1)
        else:
            places.setdefault(sha, []).append(place)
    waiting = {sha: [on_disk[place] for place in alike] for sha, alike in places.items()}
    with closing(read_batches(waiting, read_photo, batch_size=batch_size)) as batches:
        for batch in batches:
            for photo in batch:
                if photo.image is None:
                    skipped[photo.reason] += len(places[photo.sha])
                else:
                    yield OpenPhoto(photo.image, places[photo.sha], waiting[photo.sha])
                advance(len(places[photo.sha]))
