"""A library filled without nets: photos of black, faces at given boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np

from facetl.faces.alignment import template
from facetl.faces.detectors import Face
from facetl.people.library import Library
from facetl.people.store import photos as photos_module
from facetl.people.store.models import NewFace, NewPhoto

SIDE = 64


def enter_photo(
    library: Library,
    sha: str,
    *,
    width: int,
    height: int,
    paths: Collection[Path] = (),
    taken_at: str | None = None,
    phash: int | None = None,
) -> int:
    """Enter a photo and where it lies; one with the same bytes is there once. Return its id."""
    with library.database.write() as sql:
        photo = photos_module.put_photo(sql, NewPhoto(sha, width, height, taken_at, phash))
        photos_module.put_paths(sql, photo, paths)
        return photo


def enter_faces(library: Library, photo: int, faces: Sequence[NewFace]) -> list[int]:
    """Enter faces of a photo; one with the same key is there once. Return their ids."""
    with library.database.write() as sql:
        return photos_module.put_faces(sql, photo, faces)


def put_photo(library: Library, path: Path, *, faces: int = 1, taken_at: str | None = None) -> tuple[int, list[int]]:
    """Write a photo like no other, enter it and so many faces side by side; return its id and theirs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((SIDE, max(1, faces) * SIDE, 3), np.uint8)
    image[0, :8] = np.frombuffer(hashlib.sha256(str(path).encode()).digest()[:24], np.uint8).reshape(8, 3)
    cv2.imwrite(str(path), image)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    photo = enter_photo(library, sha, width=faces * SIDE, height=SIDE, paths=[path], taken_at=taken_at)
    new = [new_face(f"{sha} {place}", place) for place in range(faces)]
    return photo, enter_faces(library, photo, new)


def new_face(seed: str, place: int) -> NewFace:
    """Return a face in the middle of the place-th square of a photo."""
    left = place * SIDE + 12.0
    landmarks = (template(40) + np.array([left, 12.0])).astype(np.float32)
    key = hashlib.sha256(seed.encode()).hexdigest()
    return NewFace(key, Face((left, 12.0, left + 39, 51.0), landmarks, 0.9), 40.0, 90.0, 0.0, 0.0, 0.0)
