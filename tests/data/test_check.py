"""A content stands once, and never under two people."""

from __future__ import annotations

from pathlib import Path

import pytest

from facetl.data.check import without_copies
from facetl.data.manifest import Manifest
from facetl.errors import DataError


def people(root: Path, contents: dict[str, bytes]) -> Manifest:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return Manifest.from_folder(root)


def test_copies_are_left_out_and_counted(tmp_path: Path) -> None:
    manifest = people(
        tmp_path,
        {
            "Ann/1.jpg": b"aa",
            "Ann/2.jpg": b"ab",  # of the same size
            "Ann/3.jpg": b"aa",
            "Ann/4.jpg": b"aa",
            "Ann/5.jpg": b"both",
            "Bob/1.jpg": b"both",
            "Bob/2.jpg": b"bbb",
            "Bob/zero.jpg": b"",
        },
    )
    kept = without_copies(manifest)
    assert [path.relative_to(tmp_path).as_posix() for path in kept.paths] == ["Ann/1.jpg", "Ann/2.jpg", "Bob/2.jpg"]
    assert kept.skipped == {"empty-file": 1, "repeated": 2, "mislabelled": 2}


def test_a_set_without_copies_stays_as_it_is(tmp_path: Path) -> None:
    manifest = people(tmp_path, {"Ann/1.jpg": b"aa", "Bob/1.jpg": b"ab"})
    assert without_copies(manifest) is manifest


def test_a_photo_that_has_gone_is_named(tmp_path: Path) -> None:
    manifest = people(tmp_path, {"Ann/1.jpg": b"aa", "Bob/1.jpg": b"ab"})
    (tmp_path / "Bob/1.jpg").unlink()
    with pytest.raises(DataError, match=r"Bob/1\.jpg cannot be read"):
        without_copies(manifest)
