"""When a photo was taken: EXIF's dates as they are and as they should not be."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetl.data.metadata.header import taken_at
from facetl.errors import PhotoError

ORIGINAL, DIGITIZED, CHANGED, OFFSET, OFFSET_DIGITIZED = 0x9003, 0x9004, 0x0132, 0x9011, 0x9012


def photo(kind: str = "JPEG", **tags: str) -> bytes:
    exif = Image.Exif()
    inner = exif.get_ifd(0x8769)
    for name, text in tags.items():
        tag = {
            "original": ORIGINAL,
            "digitized": DIGITIZED,
            "changed": CHANGED,
            "offset": OFFSET,
            "offset_digitized": OFFSET_DIGITIZED,
        }[name]
        (exif if tag == CHANGED else inner)[tag] = text
    room = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(room, kind, exif=exif.tobytes())
    return room.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
def test_the_date_of_every_format(kind: str, tmp_path: Path) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = photo(kind, original="2019:12:31 23:59:58")
    assert taken_at(data) == "2019-12-31T23:59:58"
    (tmp_path / "a").write_bytes(data)
    assert taken_at(tmp_path / "a") == "2019-12-31T23:59:58"


def test_the_offset_belongs_to_its_own_date() -> None:
    told = taken_at(photo(original="2019:07:01 10:20:30", offset="-03:30", digitized="2020:01:01 00:00:00"))
    assert told == "2019-07-01T10:20:30-03:30"
    assert told is not None
    assert datetime.fromisoformat(told).utcoffset() is not None
    told = taken_at(photo(original="0000:00:00 00:00:00", offset="+02:00", digitized="2020:01:01 00:00:00"))
    assert told == "2020-01-01T00:00:00"
    told = taken_at(photo(digitized="2020:01:01 00:00:00", offset_digitized="+05:45"))
    assert told == "2020-01-01T00:00:00+05:45"


@pytest.mark.parametrize("offset", ["", "+99:00", "Z", "two hours", "+2:00"])
def test_an_offset_that_is_none_is_left_out(offset: str) -> None:
    assert taken_at(photo(original="2019:07:01 10:20:30", offset=offset)) == "2019-07-01T10:20:30"


@pytest.mark.parametrize(
    "text", ["2019-07-01 10:20:30", "2019/07/01 10:20:30", " 2019:07:01 10:20:30.25", "2019:07:01T10:20:30Z"]
)
def test_dates_as_some_programs_write_them(text: str) -> None:
    assert taken_at(photo(original=text)) == "2019-07-01T10:20:30"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "    :  :     :  :  ",
        "0000:00:00 00:00:00",
        "2019:13:01 00:00:00",
        "2019:02:30 00:00:00",
        "2019:01:01 25:00:00",
        "yesterday",
        "١٩٩٩:01:01 00:00:00",
    ],
)
def test_no_date(text: str) -> None:
    assert taken_at(photo(original=text)) is None


def test_the_date_of_the_last_change_is_none_of_taking() -> None:
    assert taken_at(photo(changed="2019:07:01 10:20:30")) is None


@pytest.mark.filterwarnings("ignore:::PIL")  # pytest sets the filters anew for every test, ours with them
def test_damaged_exif_is_no_date() -> None:
    whole = photo(original="2019:07:01 10:20:30")
    place = whole.index(b"Exif\0\0") + 6
    end = whole.index(b"10:20:30") + 8
    rng = np.random.default_rng(2)
    outcomes = set()
    for turn in range(300):
        mutated = bytearray(whole)
        for at in rng.integers(place, end, 1 + turn % 12):
            mutated[at] = rng.integers(256)
        told = taken_at(bytes(mutated))
        assert told is None or datetime.fromisoformat(told)
        outcomes.add(told)
    assert {None, "2019-07-01T10:20:30"} <= outcomes


def test_no_photo() -> None:
    with pytest.raises(PhotoError):
        taken_at(b"no photo")
