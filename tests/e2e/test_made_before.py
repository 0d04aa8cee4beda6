"""A run, a cache and a library that an earlier facetl made open with this one and give what they gave."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from facetl.cli.app import app

ARCHIVE = Path(__file__).with_name("made_before") / "facetl-0.1.0.tar.xz"
# Where the archive's content was made.
MADE_IN = "/old"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return the folder of what was made, its run's paths pointing into it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    config = tmp_path / "made" / "models" / "first" / "config.json"
    config.write_text(config.read_text().replace(f'"{MADE_IN}/', f'"{tmp_path / "made"}/'))
    return tmp_path / "made"


def printed(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_run_identifies_as_it_did(made: Path) -> None:
    before = json.loads((made / "identify.json").read_text())["faces"]
    assert [face["name"] for face in before] == ["Person_00", None]
    photos = [str(made / Path(face["path"]).relative_to(MADE_IN)) for face in before]
    faces = printed("identify", made / "models" / "first", *photos)["faces"]
    for face, old in zip(faces, before, strict=True):
        assert face["name"] == old["name"]
        for number in ("distance", "probability", "threshold"):
            assert face[number] == pytest.approx(old[number], rel=1e-3)


def test_a_cache_computes_nothing_again(made: Path) -> None:
    filled = printed("cache", made / "faces", "--extractor", made / "net.keras", "--cache", made / "cache")
    assert (filled["computed"], filled["reused"]) == (0, 10)


def test_a_library_has_its_stacks_and_names(made: Path) -> None:
    before = json.loads((made / "stacks.json").read_text())
    assert before["stacks"][0]["name"] == "Ada"
    assert printed("people", "stacks", made / "library") == before
