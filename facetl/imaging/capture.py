"""When a photo was taken, by what its camera wrote."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

from facetl.data.header import PhotoHeader, read_header

# EXIF 2.32, section 4.6.5: "YYYY:MM:DD HH:MM:SS", where some programs write other marks between the numbers.
_TIME = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d):(\d\d)(?!\d)", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)


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
    found = _TIME.match(text.strip())
    if found is None:
        return None
    try:
        return datetime(*map(int, found.groups()), tzinfo=_zone(offset.strip()))  # type: ignore[misc,arg-type]
    except ValueError:  # a camera whose clock was never set says 0000:00:00
        return None


def _zone(text: str) -> timezone | None:
    found = _OFFSET.match(text)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    try:
        return timezone(timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1))
    except ValueError:
        return None
