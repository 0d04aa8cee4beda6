"""Reads photos: any common format and mode in, upright 8-bit RGB out. No TensorFlow here."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np

from facetl.errors import PhotoError

# Larger than any camera of today; a forged header that claims more would only fill the memory.
MAX_PIXELS = 80_000_000
MAX_BYTES = 512 * 1024 * 1024
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")


def read_photo(source: Path | bytes) -> np.ndarray:
    """Decode a photo to upright RGB, [height, width, 3] uint8.

    The format is told by the content, never by the file's name. The EXIF orientation is applied; grey, palette
    and CMYK become RGB; 16 bits become 8; transparency is dropped. Raises PhotoError with the reason
    `unreadable`, `empty-file`, `too-large`, `not-an-image` or `broken`.
    """
    data, name = _load(source)
    if not data:
        raise PhotoError("empty-file", f"{name}: a photo must hold pixels, the file is empty.")
    _check_header(data, name)

    import cv2

    # A damaged file is ours to report, once; OpenCV would also write a line of its own to the screen.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise PhotoError("broken", f"{name}: the photo cannot be decoded ({error.err}).") from error
    if image is None:
        raise PhotoError("broken", f"{name}: the photo is truncated or damaged. Restore it from a copy.")
    return np.ascontiguousarray(image)


def _load(source: Path | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "photo"
    try:
        if os.path.getsize(source) > MAX_BYTES:
            raise PhotoError("too-large", f"{source}: a photo may have at most {MAX_BYTES >> 20} MiB.")
        return Path(source).read_bytes(), str(source)
    except OSError as error:
        raise PhotoError("unreadable", f"{source}: cannot be read ({error.strerror}).") from error


def _check_header(data: bytes, name: str) -> None:
    """Refuse what is no photo, or claims more pixels than MAX_PIXELS, before anything is decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as header:
                width, height = header.size
    except Image.DecompressionBombError as error:
        raise PhotoError("too-large", f"{name}: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise PhotoError("not-an-image", f"{name}: expected one of {', '.join(FORMATS)}.") from error
    if width * height > MAX_PIXELS:
        raise PhotoError(
            "too-large", f"{name}: a photo may have at most {MAX_PIXELS:,} pixels, got {width}×{height}."
        )
