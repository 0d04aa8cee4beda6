"""Who was on which side of a run's split is kept with it, privately."""

from __future__ import annotations

import stat
import unicodedata
from pathlib import Path

import pytest

from facetl.data.manifest import Manifest, Photo
from facetl.errors import RunError
from facetl.recognition import sides


def test_the_people_of_each_side_come_back(tmp_path: Path) -> None:
    jose = unicodedata.normalize("NFC", "José")
    photos = [("Ann", "train"), ("Ann", "train"), (jose, "validation"), ("Cas", "test"), ("Dan", "train")]
    manifest = Manifest(tmp_path, tuple(Photo(tmp_path / str(i), *photo) for i, photo in enumerate(photos)))
    sides.write(tmp_path, manifest)
    assert sides.read(tmp_path) == {
        "train": frozenset({"Ann", "Dan"}),
        "validation": frozenset({jose}),
        "test": frozenset({"Cas"}),
    }
    assert stat.S_IMODE((tmp_path / sides.PEOPLE).stat().st_mode) == 0o600


def test_an_older_run_has_none(tmp_path: Path) -> None:
    assert sides.read(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"train": 1, "validation": [], "test": []}', b"\xff\xfe"])
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / sides.PEOPLE).write_bytes(content)
    with pytest.raises(RunError, match="expected the people of train, validation, test"):
        sides.read(tmp_path)
