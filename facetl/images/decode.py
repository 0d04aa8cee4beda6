"""Reads photos: any common format and mode in, upright 8-bit RGB out. No TensorFlow here."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facetl.data.metadata.header import FORMATS, MAX_BYTES, is_heif, readable_formats
from facetl.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image


# Larger than any camera of today; a forged header that claims more would only fill the memory.
MAX_PIXELS = 80_000_000
# A file that begins so was a photo once, however little of it is left.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"II*\0", b"MM\0*")


def read_photo(source: Path | str | bytes) -> np.ndarray:
    """Decode a photo to upright RGB, [height, width, 3] uint8.

    The format is found by the content, never by the file's name. The EXIF orientation is applied; grey, palette
    and CMYK become RGB; 16 bits become 8; transparency is dropped. Raises PhotoError with the reason
    `unreadable`, `empty-file`, `too-large`, `not-an-image`, `broken`, or, for a HEIC photo where the extra that reads
    it is missing, `needs-facetl[heic]`.
    """
    data, name = _load(source)
    if not data:
        raise PhotoError("empty-file", f"{name}: a photo must hold pixels, the file is empty.")
    with _opened(data, name) as image:
        try:
            # OpenCV is silent about damage in TIFF, Pillow in all else; otherwise their C libraries write to file
            # descriptor 2, past every log level. But OpenCV would blend a TIFF's transparency with black.
            opaque_tiff = image.format == "TIFF" and not image.mode.endswith("A")
            return _by_opencv(data) if opaque_tiff else _by_pillow(image)
        except Exception as error:  # on forged files Pillow's readers raise whatever they meet
            reason = " ".join(str(error).split())
            raise PhotoError(
                "broken", f"{name}: the photo is truncated or damaged ({reason}). Restore it from a copy."
            ) from error


def _load(source: Path | str | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "photo"
    try:
        if os.path.getsize(source) > MAX_BYTES:
            raise PhotoError("too-large", f"{source}: a photo may have at most {MAX_BYTES >> 20} MiB.")
        return Path(source).read_bytes(), str(source)
    except OSError as error:
        raise PhotoError("unreadable", f"{source}: cannot be read ({error.strerror}).") from error


def _opened(data: bytes, name: str) -> Image.Image:
    """Read the header; refuse what is no photo, or claims more pixels than MAX_PIXELS, before anything is decoded."""
    from PIL import Image

    formats = readable_formats(data[:12], name)
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise PhotoError("too-large", f"{name}: {error}") from error
    except Exception as error:
        if data.startswith(_BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or is_heif(data[:12]):
            raise PhotoError(
                "broken", f"{name}: the photo is truncated, damaged or of a rare kind. Restore it, or save it as PNG."
            ) from error
        raise PhotoError("not-an-image", f"{name}: expected one of {', '.join(FORMATS)}.") from error
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise PhotoError("not-an-image", f"{name}: a photo has 8 or 16 bits a colour, got 32. Save it as PNG.")
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(
            "too-large", f"{name}: a photo may have at most {MAX_PIXELS:,} pixels, got {image.width}×{image.height}."
        )
    return image


def _by_opencv(data: bytes) -> np.ndarray:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError("no pixels")
    return np.ascontiguousarray(image)


def _by_pillow(image: Image.Image) -> np.ndarray:
    image.load()
    upright = _upright(image)
    if upright.mode.startswith("I"):
        # Pillow would clip 16 bits to 8 instead of scaling them.
        grey = (np.asarray(upright) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - a photo with damaged EXIF is still a photo
        return image
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)
