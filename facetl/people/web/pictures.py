"""Pictures for the page: small, without what a camera writes beside the pixels, and of the library's photos alone."""

from __future__ import annotations

import hashlib
import re
import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facetl.data.metadata.header import MAX_BYTES
from facetl.errors import PhotoError
from facetl.images.decode import read_photo
from facetl.people.library import Library

SMALL: Final = 480
LARGE: Final = 1800
FACE: Final = 560
# Of a face's larger side: hair and shoulders make a face a person.
ROOM: Final = 1.7

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_KEPT_BYTES: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 2


class Pictures:
    """Makes JPEGs of photos and faces, and keeps those made last; all methods may be called from any thread."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()
        # A photo may fill a quarter of a gigabyte once it is decoded.
        self._decoding = threading.BoundedSemaphore(_AT_ONCE)

    def thumbnail(self, key: str) -> bytes | None:
        """Return the stored thumbnail of a face; None for no key, or one without a thumbnail."""
        if not _KEY.fullmatch(key):
            return None
        try:
            return self._library.thumb(key).read_bytes()
        except OSError:
            return None

    def inlined(self, key: str) -> str:
        """Return a thumbnail as an address that holds the picture itself; its own address where there is none."""
        picture = self.thumbnail(key)
        return f"data:image/jpeg;base64,{b64encode(picture).decode()}" if picture else f"/thumbs/{key}.jpg"

    def photo(self, photo: int, side: int) -> bytes:
        """Return a photo, its longer side at most `side` pixels. PhotoError where it is gone or damaged."""
        return self._keep(("photo", photo, side), lambda: as_jpeg(shrunk(self._read(photo), side)))

    def face(self, face: int) -> bytes:
        """Return a face with some room around it, at most FACE pixels a side, cut from its photo.

        Where the photo is gone or damaged it is the face's thumbnail; PhotoError where there is none either.
        """
        found = self._library.face(face)
        try:
            return self._keep(
                ("face", face, FACE), lambda: as_jpeg(shrunk(around(self._read(found.photo), found.face.box), FACE))
            )
        except PhotoError:
            picture = self.thumbnail(found.key)
            if picture is None:
                raise
            return picture

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Return a photo that the user dropped, [height, width, 3] uint8 RGB. PhotoError as in `read_photo`."""
        with self._decoding:
            return read_photo(data)

    def _keep(self, key: tuple[str, int, int], make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._decoding:
            made = make()
        with self._lock:
            self._kept[key] = made
            while sum(map(len, self._kept.values())) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return made

    def _read(self, photo: int) -> NDArray[np.uint8]:
        """Read the very photo that was imported: another file that now lies at its path is none of ours to show."""
        known = self._library.photo(photo)
        for path in known.paths:
            data = _bytes_of(path)
            if data is not None and hashlib.sha256(data).hexdigest() == known.sha:
                return read_photo(data)
        raise PhotoError("unreadable", "The photo has moved or changed. Import its folder again.")


def as_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return the JPEG of an image [height, width, 3] uint8 RGB, nothing beside its pixels."""
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 86])
    if not encoded:
        raise PhotoError("broken", f"A picture has two sides, got {image.shape}.")
    return data.tobytes()


def shrunk(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image [h, w, 3] uint8 with its longer side at most `side` pixels; never enlarged."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def around(image: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Return the square around a box, ROOM times its larger side, moved into the image where it sticks out."""
    height, width = image.shape[:2]
    left, top, right, bottom = box
    side = min(height, width, max(1, round(ROOM * max(right - left, bottom - top))))
    across = int(np.clip(round((left + right - side) / 2), 0, width - side))
    down = int(np.clip(round((top + bottom - side) / 2), 0, height - side))
    return np.ascontiguousarray(image[down : down + side, across : across + side])


def _bytes_of(path: Path) -> bytes | None:
    try:
        # A pipe or a device at a photo's old path would be read for ever.
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None
