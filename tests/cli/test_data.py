"""`facetl data triplets` and `facetl data openset`: what they print and leave behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.data.manifest import Manifest
from facetl.data.triplet_files import read_triplets
from facetl.errors import DataError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_triplets(photo_folder: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    shutil.copytree(photo_folder, faces)
    shutil.copy(faces / "Person_03" / "00.png", faces / "Person_03" / "copy.png")
    told = json.loads(run("data", "triplets", faces, "--count", 40, "--out", tmp_path / "a.csv", "--seed", 5, "--json"))
    assert (told["triplets"], told["people"], told["people_in_set"], told["photos_in_set"]) == (40, 12, 12, 72)
    assert told["skipped"] == {"repeated": 1}
    assert told["per_person"]["min"] >= 9  # of 10 on average
    rows = read_triplets(tmp_path / "a.csv")
    assert len(set(rows)) == 40
    assert all((faces / photo).is_file() for row in rows for photo in row)
    spoken = run("data", "triplets", faces, "--count", 40, "--out", tmp_path / "b.csv", "--seed", 5)
    assert "40 triplets, 80 decisions" in spoken
    assert "people" in spoken
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_openset(photo_folder: Path, tmp_path: Path) -> None:
    options = ("--strangers", 4, "--known", 5, "--gallery-photos", 2, "--seed", 1)
    told = json.loads(run("data", "openset", photo_folder, "--out", tmp_path / "split", *options, "--json"))
    assert (told["known"], told["strangers"], told["left_out_people"]) == (5, 4, 3)
    assert (told["gallery_photos"], told["probe_photos"], told["unknown_photos"]) == (10, 20, 24)
    assert Manifest.from_folder(tmp_path / "split" / "gallery").identities == tuple(told["known_people"])
    spoken = run("data", "openset", photo_folder, "--out", tmp_path / "linked", *options, "--link")
    assert [line.split()[-2:] for line in spoken.splitlines() if "probe" in line] == [["5", "20"], ["4", "24"]]
    links = [path for path in (tmp_path / "linked").rglob("*.png") if path.is_symlink()]
    assert len(links) == 54
    with pytest.raises(DataError, match="exists"):
        run("data", "openset", photo_folder, "--out", tmp_path / "linked")
