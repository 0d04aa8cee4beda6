"""`facetl data triplets` and `facetl data openset`: what they print and leave behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.data.manifest import Manifest
from facetl.data.triplets import read_triplets
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


def test_check(photo_folder: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    shutil.copytree(photo_folder, faces)
    shutil.copy(faces / "Person_03" / "00.png", faces / "Person_03" / "copy.png")
    (faces / "Person_04" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (faces / "Person_05" / "notes.txt").write_text("no photo")
    told = json.loads(run("data", "check", faces, "--json"))
    assert (told["layout"], told["people"], told["photos"], told["single"], told["small"]) == ("folders", 12, 72, 0, 0)
    assert told["skipped"] == {"not-an-image": 2, "repeated": 1}
    assert told["sides"] == {}
    assert "72 of 12 people" in run("data", "check", faces)


def test_check_of_a_set_with_sides_of_its_own(photo_folder: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    photos = sorted(photo_folder.rglob("*.png"))
    for number, (side, person) in enumerate([("train", 1), ("train", 1), ("train", 2), ("test", 3)]):
        target = tmp_path / side / f"n{person:06d}" / f"{number:04d}_01.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos[number], target)
    cv2.imwrite(str(tmp_path / "test" / "n000003" / "0009_01.jpg"), np.zeros((40, 31, 3), np.uint8))
    told = json.loads(run("data", "check", tmp_path, "--layout", "auto", "--json"))
    assert (told["layout"], told["people"], told["single"], told["small"]) == ("vggface2", 3, 1, 1)
    assert told["sides"] == {"train": {"people": 2, "photos": 3}, "test": {"people": 1, "photos": 2}}
    assert "by the set's own lists" in run("data", "check", tmp_path, "--layout", "vggface2")
    with pytest.raises(DataError, match="agedb is expected to hold N_Name_age_gender"):
        run("data", "check", tmp_path, "--layout", "agedb")


def test_triplets_by_side_with_their_classes(photo_folder: Path, tmp_path: Path) -> None:
    out, classes = tmp_path / "faces.csv", tmp_path / "classes.csv"
    arguments = ("data", "triplets", photo_folder, "--count", 40, "--out", out, "--test", 0.25, "--classes", classes)
    told = json.loads(run(*arguments, "--json"))
    assert (told["triplets"], told["test"]["triplets"]) == (30, 10)
    assert told["people_in_set"] + told["test"]["people_in_set"] == 12
    assert told["test"]["out"] == str(tmp_path / "faces.test.csv")
    people = [
        {photo.split("/")[0] for row in read_triplets(path) for photo in row}
        for path in (out, tmp_path / "faces.test.csv")
    ]
    assert not people[0] & people[1]
    assert told["classes"]["people"] == len(people[0] | people[1])
    assert "Photo,Person,Class,Side" in classes.read_text()
    assert "photos in 12 classes" in run(*arguments)
