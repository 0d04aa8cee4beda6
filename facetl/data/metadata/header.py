"""A photo's header: size, orientation, date and the packets before the pixels. Nothing is decoded."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from facetl.errors import PhotoError

# Pillow gives several pictures in one JPEG (MPO) under the name of JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
HEIF, _AVIF = "HEIF", "AVIF"
MAX_BYTES = 512 * 1024 * 1024
# The reasons under which photos are counted that something else must be installed for.
NEEDS_HEIC, NEEDS_AVIF = "needs-facetl[heic]", "needs-pillow>=11.3"

# By their brand: HEIC and HEIF, and AVIF, in the same container another codec (ISO/IEC 23008-12, annexes B and E).
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_ORIENTATION, _EXIF = 0x0112, 0x8769
_TAKEN = {
    0x9003: "DateTimeOriginal",
    0x9004: "DateTimeDigitized",
    0x9011: "OffsetTimeOriginal",
    0x9012: "OffsetTimeDigitized",
}
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_SIDEWAYS = (5, 6, 7, 8)
# EXIF 2.32, section 4.6.5: "YYYY:MM:DD HH:MM:SS", where some programs write other marks between the numbers.
_TIME = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d:\d\d:\d\d)(?!\d)", re.ASCII)
_OFFSET = re.compile(r"[+-]\d\d:\d\d", re.ASCII)

# A damaged photo is ours to report, once. Photos are read in several threads, where catch_warnings is not safe.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class PhotoHeader:
    """A photo before it is decoded.

    Attributes:
        width, height: of the stored pixels, before the orientation is applied.
        orientation: EXIF's, 1 to 8; 1 where none, or none that exists, is given.
        xmp: the XMP packet inside the file, None without one.
        taken: EXIF's texts of when the photo was taken, by their tag's name; those that are there.
        extended_xmp: the rest of the XMP inside a JPEG, a packet of its own where all takes more than 64 KiB.
    """

    width: int
    height: int
    orientation: int
    xmp: bytes | None
    taken: Mapping[str, str]
    extended_xmp: bytes | None = None

    @property
    def upright(self) -> tuple[int, int]:
        """The width and height of the photo as it is to be seen."""
        return (self.height, self.width) if self.orientation in _SIDEWAYS else (self.width, self.height)


def read_header(source: Path | bytes) -> PhotoHeader:
    """Read the header of a photo, a path or a file's bytes.

    Raises PhotoError with the reason `unreadable`, `too-large`, `not-an-image`, NEEDS_HEIC or NEEDS_AVIF.
    """
    name = "photo" if isinstance(source, bytes) else str(source)
    try:
        if not isinstance(source, bytes) and os.path.getsize(source) > MAX_BYTES:
            raise PhotoError("too-large", f"{name}: a photo may have at most {MAX_BYTES >> 20} MiB.")
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            formats = readable_formats(file.read(12), name)
            file.seek(0)
            return _header(file, formats, name)
    except OSError as error:
        raise PhotoError("unreadable", f"{name}: cannot be read ({error.strerror or error}).") from error


def readable_formats(beginning: bytes, name: str) -> tuple[str, ...]:
    """Return the formats that a file with these first 12 bytes may have; PhotoError where none of its readers is there.

    The reason is NEEDS_HEIC or NEEDS_AVIF.
    """
    brand = beginning[8:12] if beginning[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS:
        if not _heif_registered():
            raise PhotoError(
                NEEDS_HEIC, f"{name}: a HEIC photo needs a reader of its own. Run pip install facetl[heic]."
            )
        return (HEIF,)
    if brand in _AVIF_BRANDS:
        if not can_read_avif():
            raise PhotoError(NEEDS_AVIF, f"{name}: an AVIF photo needs Pillow 11.3. Run pip install --upgrade pillow.")
        return (_AVIF,)
    return FORMATS


def can_read_heif() -> bool:
    """Return whether the extra that reads HEIC is installed, without loading it."""
    return find_spec("pillow_heif") is not None


def can_read_avif() -> bool:
    """Return whether Pillow reads AVIF, without loading the reader."""
    return find_spec("PIL._avif") is not None


@cache
def _heif_registered() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    # Of a file with several pictures the main one is all that is wanted.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def _header(file: io.BufferedIOBase, formats: tuple[str, ...], name: str) -> PhotoHeader:
    try:
        with Image.open(file, formats=formats) as image:
            orientation = _orientation(image)
            width, height = image.size
            if image.format in (HEIF, "TIFF") and orientation in _SIDEWAYS:
                # Their readers give the size of the upright photo.
                width, height = height, width
            return PhotoHeader(width, height, orientation, _packet(image), _taken(image), _extension(image))
    except Exception as error:  # on forged files Pillow's readers raise whatever they meet
        raise PhotoError("not-an-image", f"{name}: expected a photo ({' '.join(str(error).split())}).") from error


def _orientation(image: Image.Image) -> int:
    try:
        # The reader of HEIC applies it and takes it out of the EXIF.
        heif = image.format == HEIF
        stored = image.info.get("original_orientation") if heif else image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - a photo with damaged EXIF is still a photo
        return 1
    return stored if isinstance(stored, int) and 1 <= stored <= 8 else 1


def _taken(image: Image.Image) -> dict[str, str]:
    try:
        found = image.getexif().get_ifd(_EXIF)
        texts = {name: found.get(tag) for tag, name in _TAKEN.items()}
    except Exception:  # noqa: BLE001 - as above
        return {}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _packet(image: Image.Image) -> bytes | None:
    # A TIFF keeps it under a tag of its own (XMP specification, part 3).
    found = image.info.get("xmp") or (getattr(image, "tag_v2", {}).get(700) if image.format == "TIFF" else None)
    return found if isinstance(found, bytes) else None


def _extension(image: Image.Image) -> bytes | None:
    """Put together the parts of extended XMP (XMP specification, part 3, section 1.1.3.1); None where some are missing.

    Each names the packet that it belongs to in 32 bytes, then the length of that and its own place in it.
    """
    found = [data[len(_EXTENSION) :] for _, data in getattr(image, "applist", ()) if data.startswith(_EXTENSION)]
    parts = {int.from_bytes(part[36:40], "big"): part[40:] for part in found if part[:36] == found[0][:36]}
    whole = b"".join(part for _, part in sorted(parts.items()))
    return whole if whole and len(whole) == int.from_bytes(found[0][32:36], "big") else None


def taken_at(photo: Path | bytes | PhotoHeader) -> str | None:
    """Return when a photo was taken as an ISO 8601 date and time, with the offset from UTC where it is known.

    It is EXIF's DateTimeOriginal, or else DateTimeDigitized; the date of the last change is none. None where there is
    no such date, or none that is one. Raises PhotoError where there is no photo.
    """
    header = photo if isinstance(photo, PhotoHeader) else read_header(photo)
    for kind in ("Original", "Digitized"):
        time = _time(header.taken.get(f"DateTime{kind}", ""), header.taken.get(f"OffsetTime{kind}", ""))
        if time is not None:
            return time.isoformat()
    return None


def _time(text: str, offset: str) -> datetime | None:
    found, zone = _TIME.match(text.strip()), _OFFSET.match(offset.strip())
    if found is None:
        return None
    time = "{}-{}-{}T{}".format(*found.groups())
    # A camera whose clock was never set writes 0000:00:00; a date keeps without an offset that is none.
    for iso in (time + zone[0], time) if zone else (time,):
        with suppress(ValueError):
            return datetime.fromisoformat(iso)
    return None
