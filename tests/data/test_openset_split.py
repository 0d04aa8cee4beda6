"""Known people are split by photo, strangers by person; nothing is written over."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from facetl.data import openset_split
from facetl.data.manifest import Manifest
from facetl.data.openset_split import split_openset, write_openset
from facetl.errors import DataError


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Ten people: P0 with one photo, P1 with two, up to P9 with ten."""
    for person in range(10):
        (tmp_path / "faces" / f"P{person}").mkdir(parents=True)
        for photo in range(person + 1):
            (tmp_path / "faces" / f"P{person}" / f"{photo}.jpg").write_bytes(b"%d of %d" % (photo, person))
    return tmp_path / "faces"


def names(photos: tuple[object, ...]) -> set[str]:
    return {photo.identity for photo in photos}  # type: ignore[attr-defined]


def test_the_parts_share_nothing_they_must_not(faces: Path) -> None:
    manifest = Manifest.from_folder(faces)
    split = split_openset(manifest, strangers=3, gallery_photos=4, seed=5)
    assert names(split.gallery) == names(split.probe) == set(split.known)
    assert not names(split.unknown) & set(split.known)
    assert len(split.strangers) == 3
    assert not set(split.gallery) & set(split.probe)
    everyone = manifest.counts()
    assert len(split.known) + 3 + split.left_out == 10
    for person in split.known:
        photos = sum(photo.identity == person for photo in split.gallery)
        assert photos == min(4, everyone[person] - 1)
        assert photos + sum(photo.identity == person for photo in split.probe) == everyone[person]
    assert len(split.unknown) == sum(everyone[person] for person in split.strangers)


def test_by_default_a_quarter_are_strangers(faces: Path) -> None:
    split = split_openset(Manifest.from_folder(faces), seed=0)
    assert len(split.strangers) == 2  # 2.5 to the even number
    assert len(split.known) in (7, 8)  # P0 can be a stranger or left out


def test_known_people_are_picked_before_strangers(faces: Path) -> None:
    # Nine have two photos: with nine known, only P0 can be the stranger, whatever the lot says.
    for seed in range(5):
        split = split_openset(Manifest.from_folder(faces), known=9, strangers=1, seed=seed)
        assert split.strangers == ("P0",)
        assert split.left_out == 0
    assert split_openset(Manifest.from_folder(faces), known=4, strangers=2, seed=1).left_out == 4


def test_the_seed_decides(faces: Path) -> None:
    manifest = Manifest.from_folder(faces)
    splits = [split_openset(manifest, strangers=4, seed=seed) for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]
    galleries = {split_openset(manifest, known=9, strangers=1, seed=seed).gallery for seed in range(4)}
    assert len(galleries) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"known": 10}, r"10 known people or more, with 2 photos each, and 2 strangers are needed, got 10 people, 9"),
        ({"strangers": 11}, "11 strangers are needed"),
        ({"strangers": 10}, "1 known people or more"),
        ({"known": 9, "strangers": 2}, "2 strangers are needed"),
        ({"gallery_photos": 0}, "got 0, None and 2"),
        ({"strangers": -1}, "got 5, None and -1"),
        ({"known": 0}, "got 5, 0 and 2"),
    ],
)
def test_too_few_people(faces: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_openset(Manifest.from_folder(faces), seed=0, **options)


@pytest.mark.parametrize("link", [False, True])
def test_folders_and_listing_agree(faces: Path, tmp_path: Path, link: bool) -> None:
    (faces / "TERMS.txt").write_text("be kind")
    split = split_openset(Manifest.from_folder(faces), strangers=3, seed=5)
    done: list[tuple[int, int]] = []
    out = write_openset(split, tmp_path / "new" / "out", link=link, progress=lambda *at: done.append(at))
    gallery, probe = Manifest.from_folder(out / "gallery"), Manifest.from_folder(out / "probe")
    assert gallery.identities == split.known
    assert set(probe.identities) == {*split.known, *split.strangers}
    total = len(split.gallery) + len(split.probe) + len(split.unknown)
    assert len(gallery) + len(probe) == total
    assert done[-1] == (total, total)
    with (out / "openset.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert {row["Photo"] for row in listed} == {
        path.relative_to(out).as_posix() for path in (*gallery.paths, *probe.paths)
    }
    for row in listed:
        assert row["Photo"].split("/")[1] == row["Person"]
        assert (row["Part"] == "unknown") == (row["Person"] in split.strangers)
        written = out / row["Photo"]
        assert written.is_symlink() == link
        assert written.read_bytes() == (faces / row["Photo"].split("/", 1)[1]).read_bytes()
    assert json.loads((out / "openset.json").read_text()) == split.to_json()
    assert (out / "TERMS.txt").read_text() == "be kind"
    assert os.listdir(out.parent) == ["out"]


def test_nothing_is_written_over(faces: Path, tmp_path: Path) -> None:
    split = split_openset(Manifest.from_folder(faces), seed=0)
    (tmp_path / "out").mkdir()
    out = write_openset(split, tmp_path / "out")  # an empty folder is as good as none
    before = sorted(out.rglob("*"))
    with pytest.raises(DataError, match="exists"):
        write_openset(split, out)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="exists"):
        write_openset(split, tmp_path / "file")
    assert sorted(out.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_not_among_the_people(faces: Path, tmp_path: Path) -> None:
    split = split_openset(Manifest.from_folder(faces), seed=0)
    (tmp_path / "alias").symlink_to(faces)
    for inside in (faces / "out", tmp_path / "alias" / "out"):
        with pytest.raises(DataError, match="inside the folder of people"):
            write_openset(split, inside)
    assert not (faces / "out").exists()


def test_what_fails_leaves_nothing(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_openset(Manifest.from_folder(faces), seed=0)

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openset_split.shutil, "copy2", full)
    with pytest.raises(DataError, match="cannot be written: No space left"):
        write_openset(split, tmp_path / "rest" / "out")
    assert os.listdir(tmp_path / "rest") == []
