"""Small pictures of faces, made once, for their owner alone, and never half written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError, LibraryError
from facetl.faces.alignment import align
from facetl.faces.detectors import Face
from facetl.io.files import write_atomic

SIDE = 160
# Of the template: the face with hair and chin.
_ZOOM = 0.62
_QUALITY = 88


def thumbnail(image: NDArray[np.uint8], face: Face) -> bytes:
    """Return a face as a JPEG, upright with some room around it, [SIDE, SIDE]; its box where landmarks span no face.

    image: the photo, [height, width, 3] uint8 RGB.
    """
    try:
        picture = align(image, face.landmarks, size=SIDE, zoom=_ZOOM)
    except DataError:
        left, top, right, bottom = (round(edge) for edge in face.box)
        crop = image[max(0, top) : max(0, bottom) + 1, max(0, left) : max(0, right) + 1]
        picture = np.asarray(cv2.resize(crop if crop.size else image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
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
