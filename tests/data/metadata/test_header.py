"""A photo's header: the stored size whatever the reader tells, the packets, and nothing decoded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetl.data.metadata import header as header_module
from facetl.data.metadata.header import MAX_BYTES, read_header
from facetl.errors import PhotoError


def photo(kind: str, orientation: int | None = None) -> bytes:
    exif, room = Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(room, kind, exif=exif.tobytes())
    return room.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_the_stored_size_and_the_upright_one(kind: str, orientation: int) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    header = read_header(photo(kind, orientation))
    assert (header.width, header.height, header.orientation) == (50, 30, orientation)
    assert header.upright == ((30, 50) if orientation >= 5 else (50, 30))


@pytest.mark.parametrize("orientation", [None, 0, 9])
def test_an_orientation_that_does_not_exist_is_none(orientation: int | None) -> None:
    assert read_header(photo("JPEG", orientation)).orientation == 1


def test_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    (tmp_path / "half.jpg").write_bytes(photo("JPEG")[:-3])
    assert read_header(tmp_path / "half.jpg").width == 50


def test_what_is_refused(tmp_path: Path) -> None:
    def reason(source: Path | bytes) -> str:
        with pytest.raises(PhotoError) as raised:
            read_header(source)
        assert "\n" not in str(raised.value)
        return raised.value.reason

    assert reason(tmp_path / "nowhere.jpg") == "unreadable"
    assert reason(tmp_path) == "unreadable"
    assert reason(b"") == reason(b"Dear diary") == reason(photo("PNG")[:20]) == "not-an-image"
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    assert reason(tmp_path / "huge.png") == "too-large"


def test_heic_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_module, "_heif_registered", lambda: False)
    with pytest.raises(PhotoError, match=r"pip install facetl\[heic\]") as raised:
        read_header(b"\0\0\0\x1cftypheic" + bytes(100))
    assert raised.value.reason == "needs-facetl[heic]"


def test_a_broken_avif() -> None:
    with pytest.raises(PhotoError) as raised:
        read_header(b"\0\0\0\x1cftypavif" + bytes(100))
    assert raised.value.reason == "not-an-image"
