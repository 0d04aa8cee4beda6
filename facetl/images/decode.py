"""Photos of any common format and mode to upright 8-bit RGB: one, or many ahead of the net that takes them.

No TensorFlow here.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facetl.data.metadata.header import FORMATS, MAX_BYTES, readable_formats
from facetl.errors import PhotoError
from facetl.io.files import sha256_of
from facetl.io.system import usable_processors

Decode = Callable[[bytes], NDArray[np.uint8]]

# Larger than any camera of today; a forged header that claims more would only fill the memory.
MAX_PIXELS = 80_000_000
# A file that begins so was a photo once, however little of it is left.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")
_DECODED_BYTES = 256 * 2**20  # decoded photos held at a time; phone photos take 36 MB each


def read_photo(source: Path | str | bytes) -> np.ndarray:
    """Decode a photo to upright RGB, [height, width, 3] uint8.

    The format is found by the content, never by the file's name. The EXIF orientation is applied; grey, palette
    and CMYK become RGB; 16 bits become 8; transparency is dropped. Raises PhotoError with the reason
    `unreadable`, `empty-file`, `too-large`, `not-an-image`, `broken`, or, for HEIC and AVIF where what reads them is
    missing, `needs-facetl[heic]` and `needs-pillow>=11.3`.
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
    formats = readable_formats(data[:12], name)
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise PhotoError("too-large", f"{name}: {error}") from error
    except Exception as error:
        if data.startswith(_BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or formats != FORMATS:
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


@dataclass(frozen=True)
class ReadPhoto:
    """A photo read: its sha256, and its pixels uint8 [h, w, 3] or the reason for none."""

    sha: str
    image: NDArray[np.uint8] | None
    reason: str = ""


def read_batches(
    waiting: Mapping[str, Sequence[Path]], decode: Decode, *, batch_size: int
) -> Generator[list[ReadPhoto], None, None]:
    """Give the photos in batches, those that cannot be read among them.

    Args:
        waiting: sha256 of each photo, and the paths at which it may be read.
        decode: a photo's bytes to its pixels, or PhotoError, whose reason is counted.
        batch_size: readable photos in a batch; fewer where they are large.
    """
    batch: list[ReadPhoto] = []
    readable = held = 0
    with closing(_read_ahead(waiting, decode, batch_size)) as photos:
        for photo in photos:
            batch.append(photo)
            if photo.image is not None:
                readable += 1
                held += photo.image.nbytes
            if readable >= batch_size or held >= _DECODED_BYTES:
                yield batch
                batch, readable, held = [], 0, 0
    if batch:
        yield batch


def _read_ahead(
    waiting: Mapping[str, Sequence[Path]], decode: Decode, batch_size: int
) -> Generator[ReadPhoto, None, None]:
    workers = min(8, max(2, usable_processors()))
    ahead: deque[Future[ReadPhoto]] = deque()
    largest = 1
    pool = ThreadPoolExecutor(workers)
    try:
        for sha, paths in waiting.items():
            ahead.append(pool.submit(_read, sha, paths, decode))
            while len(ahead) >= max(workers, min(batch_size, _DECODED_BYTES // largest)):
                photo = ahead.popleft().result()
                largest = max(largest, photo.image.nbytes if photo.image is not None else 0)
                yield photo
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(sha: str, paths: Sequence[Path], decode: Decode) -> ReadPhoto:
    reason = "unreadable"
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError:
            continue
        # A photo may change between hashing and decoding: then these bytes are not those that name it.
        if sha256_of(data) != sha:
            reason = "changed-meanwhile"
            continue
        try:
            return ReadPhoto(sha, decode(data))
        except PhotoError as error:
            return ReadPhoto(sha, None, error.reason)
    return ReadPhoto(sha, None, reason)
