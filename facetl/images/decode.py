"""Photos of any common format and mode to upright 8-bit RGB: one, or many ahead of the net that takes them.

No TensorFlow here.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from facetl.data.metadata.header import FORMATS, MAX_BYTES, readable_formats
from facetl.errors import PhotoError
from facetl.io.files import sha256_of
from facetl.io.system import usable_processors

Decode = Callable[[bytes], NDArray[np.uint8]]

# Larger than any camera of today; a forged header that claims more would only fill the memory.
MAX_PIXELS = 80_000_000
# A file that begins so was a photo once, however little of it is left.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")
# Of a JPEG that ends too early, as downloads and cards that filled up leave it: the share of the picture that may lack,
# grey then. Of a progressive one that share is nothing or all of it: see `_nearly_known`.
_MAY_LACK = 0.05
_END = b"\xff\xd9"
_DECODED_BYTES = 256 * 2**20  # decoded photos held at a time; phone photos take 36 MB each


def read_photo(source: Path | str | bytes) -> np.ndarray:
    """Decode a photo to upright RGB, [height, width, 3] uint8.

    The format is found by the content, never by the file's name. The EXIF orientation is applied; grey, palette
    and CMYK become RGB; 16 bits become 8; transparency is dropped; of several pictures the first is taken. Colour
    profiles are not applied, as they were not to what nets are trained on. A JPEG that ends too early is decoded where
    at most 5% of the picture lacks, or, of a progressive one, no more than the last bit of its coefficients.

    Raises PhotoError with the reason `unreadable`, `empty-file`, `too-large`, `not-an-image`, `truncated`, `broken`,
    or, for HEIC and AVIF where what reads them is missing, `needs-facetl[heic]` and `needs-pillow>=11.3`.
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
            if isinstance(error, OSError) and image.format in ("JPEG", "MPO") and _is_truncated(data, error):
                return _without_end(data, name)
            raise _damaged(data, name, error) from error


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
            raise _damaged(data, name, error) from error
        raise PhotoError("not-an-image", f"{name}: expected one of {', '.join(FORMATS)}.") from error
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise PhotoError("not-an-image", f"{name}: a photo has 8 or 16 bits a colour, got 32. Save it as PNG.")
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(
            "too-large", f"{name}: a photo may have at most {MAX_PIXELS:,} pixels, got {image.width}×{image.height}."
        )
    return image


def _damaged(data: bytes, name: str, error: Exception) -> PhotoError:
    if _is_truncated(data, error):
        return PhotoError("truncated", f"{name}: the photo ends too early. Restore it from a copy.")
    # Pillow's own message names an object in the memory.
    reason = "" if isinstance(error, UnidentifiedImageError) else f" ({' '.join(str(error).split())})"
    return PhotoError(
        "broken", f"{name}: the photo is damaged or of a rare kind{reason}. Restore it from a copy, or save it as PNG."
    )


def _is_truncated(data: bytes, error: Exception) -> bool:
    if data[:4] == b"RIFF":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data[:4] in (b"II*\0", b"MM\0*"):
        # Where its directory or its pixels lie.
        order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
        return int.from_bytes(data[4:8], order) + 2 > len(data) or _tiff_end(data) > len(data)
    if data[4:8] == b"ftyp":
        at, size = 0, 8
        while at < len(data) and size >= 8:  # 0 and 1 are those of a last and of a very long box
            size = int.from_bytes(data[at : at + 4], "big")
            at += size
        return at > len(data)
    return any(word in str(error).casefold() for word in ("truncated", "end of file", "too short", "unexpected end"))


def _tiff_end(data: bytes) -> int:
    """Return where the last strip or tile of a TIFF's first picture ends; 0 where that cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            tags = image.tag_v2
            places = zip(tags.get(273) or tags[324], tags.get(279) or tags[325], strict=True)
            return max(int(offset) + int(count) for offset, count in places)
    except Exception:  # noqa: BLE001 - as above: whatever they meet
        return 0


def _without_end(data: bytes, name: str) -> np.ndarray:
    """Decode a JPEG that ends too early; PhotoError where too much of it lacks."""
    try:
        with Image.open(io.BytesIO(data + _END), formats=("JPEG",)) as image:
            pixels = _by_pillow(image)
            lacking = _lacking(image, data)
    except Exception as error:  # as above
        raise _damaged(data, name, OSError("truncated")) from error
    if lacking > _MAY_LACK:
        raise PhotoError(
            "truncated",
            f"{name}: of a photo that ends too early {_MAY_LACK:.0%} at most may lack, got more. Restore it from a "
            "copy.",
        )
    return pixels


def _lacking(image: Image.Image, data: bytes) -> float:
    """Return the share of a JPEG's picture that its data ends before, in [0, 1]."""
    if "progressive" in image.info:
        return float(not (_scan_ends(image, data) or _nearly_known(image, data)))
    # libjpeg leaves blocks without data at zero, which is the middle of the range.
    planes = np.asarray(image).reshape(image.height, image.width, -1)
    grey = ((planes == 127) | (planes == 128)).all(axis=2)
    whole = np.flatnonzero(~grey[:, -8:].all(axis=1))
    below = int(whole[-1]) + 1 if whole.size else 0
    return float(grey[below:].sum() / grey.size)


def _scan_ends(image: Image.Image, data: bytes) -> bool:
    """Return whether the last scan is whole: more data changes no pixel then."""
    more = bytes(range(1, 255)) * 16
    with Image.open(io.BytesIO(data + more + _END), formats=("JPEG",)) as other:
        return np.array_equal(np.asarray(other), np.asarray(image))


def _nearly_known(image: Image.Image, data: bytes) -> bool:
    """Return whether the scans before the last one give all coefficients but for their last bit (ITU-T T.81, G.1.1)."""
    left = {layer[0]: np.full(64, 99) for layer in image.layer}
    for scan in list(_scans(data))[:-1]:
        count = scan[0]
        first, last, bits = scan[1 + 2 * count : 4 + 2 * count]
        for component in scan[1 : 1 + 2 * count : 2]:
            left[component][first : last + 1] = bits & 15
    return all(int(bits.max()) <= 1 for bits in left.values())


def _scans(data: bytes) -> Iterator[bytes]:
    """Give the headers of a JPEG's scans."""
    at = 2
    while 0 <= at < len(data) - 4:
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF) or 0xD0 <= marker <= 0xD7:
            at = data.find(b"\xff", at + 1)
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            yield data[at + 4 : end]
        at = end


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
