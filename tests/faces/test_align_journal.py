"""The journal of an alignment: what was noted is read back, what was torn does not count; names never clash."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from facetl.errors import DataError
from facetl.faces.align_journal import FILE_NAME, AlignedFace, DonePhoto, Journal, Names
from facetl.faces.detectors import Face
from facetl.faces.quality import FaceQuality, Pose

SETTINGS = {"size": 112, "detector": "ab"}


def done(number: int) -> DonePhoto:
    rng = np.random.default_rng(number)
    left, top, right, bottom, *points, confidence = rng.normal(100, 40, 15).astype(np.float32).tolist()
    landmarks = np.array(points, np.float32).reshape(5, 2)
    face = Face((left, top, right, bottom), landmarks, confidence)
    quality = FaceQuality(31.5, confidence, 20.25, Pose(1.5, -2.5, 3.5))
    name = f"photo {number}\n\udce9.jpg"
    faces = tuple(AlignedFace(f"{number}_{place}.png", face, quality, "poor") for place in range(number))
    return DonePhoto(f"{number:064x}", name, str(number), faces)


def as_json(photos: list[DonePhoto]) -> list[dict[str, object]]:
    return [photo.to_json() for photo in photos]


def test_what_was_noted_is_read_back(tmp_path: Path) -> None:
    photos = [done(number) for number in range(4)]
    journal = Journal.open(tmp_path, SETTINGS)
    journal.append(photos[:3])
    journal.append(photos[3:])
    again = Journal.open(tmp_path, SETTINGS)
    assert list(again.done) == [photo.sha for photo in photos]
    assert as_json(list(again.done.values())) == as_json(list(journal.done.values())) == as_json(photos)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_line_torn_anywhere_costs_its_own_photo_alone(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, SETTINGS)
    journal.append([done(1)])
    whole = (tmp_path / FILE_NAME).read_bytes()
    journal.append([done(2)])
    longer = (tmp_path / FILE_NAME).read_bytes()
    for length in [*range(len(whole), len(longer), 97), len(longer) - 1]:
        (tmp_path / FILE_NAME).write_bytes(longer[:length])
        torn = Journal.open(tmp_path, SETTINGS)
        assert list(torn.done) == [done(1).sha], length
        # Shorter than what was torn, of which nothing must be left.
        torn.append([done(0)])
        assert list(Journal.open(tmp_path, SETTINGS).done) == [done(1).sha, done(0).sha], length
        written = json.dumps(done(0).to_json()).encode() + b"\n"
        assert (tmp_path / FILE_NAME).read_bytes() == whole + written, length


def test_a_journal_killed_at_its_first_line_begins_anew(tmp_path: Path) -> None:
    Journal.open(tmp_path, SETTINGS)
    head = (tmp_path / FILE_NAME).read_bytes()
    for length in range(len(head)):
        (tmp_path / FILE_NAME).write_bytes(head[:length])
        assert Journal.open(tmp_path, SETTINGS).done == {}
        assert (tmp_path / FILE_NAME).read_bytes() == head


@pytest.mark.parametrize("damage", [b"{}\n", b"[1]\n", b"null\n", b'{"sha": 1}\n', b"\xff\n", b"\n", b"7\n"])
def test_a_damaged_line_does_not_count(tmp_path: Path, damage: bytes) -> None:
    journal = Journal.open(tmp_path, SETTINGS)
    journal.append([done(1)])
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(damage)
    again = Journal.open(tmp_path, SETTINGS)
    again.append([done(2)])
    assert list(Journal.open(tmp_path, SETTINGS).done) == [done(1).sha, done(2).sha]


def test_other_settings_are_reported(tmp_path: Path) -> None:
    Journal.open(tmp_path, SETTINGS)
    with pytest.raises(DataError, match="Choose another folder"):
        Journal.open(tmp_path, {**SETTINGS, "size": 160})


class TestNames:
    def claims(self, *paths: str) -> list[str]:
        names = Names()
        return [names.claim(path, f"{number:x}" * 64) for number, path in enumerate(paths, 1)]

    def test_its_own_name(self) -> None:
        assert self.claims("a.jpg", "b/a.jpg", "b/c.d.jpg", "IMG_0001.jpg", "IMG_0002.jpg") == [
            "a",
            "b/a",
            "b/c.d",
            "IMG_0001",
            "IMG_0002",
        ]

    def test_one_name_with_two_endings(self) -> None:
        assert self.claims("a.heic", "a.jpg", "A.PNG") == ["a", "a-22222222", "A-33333333"]

    def test_two_spellings_of_one_name(self) -> None:
        composed, decomposed = "Zo\u00eb.jpg", "Zoe\u0308.jpg"
        assert self.claims(composed, decomposed)[1].endswith("-22222222")

    def test_the_numbers_of_further_faces(self) -> None:
        assert self.claims("a.jpg", "a_2.jpg") == ["a", "a_2-22222222"]
        assert self.claims("a_2.jpg", "a.jpg") == ["a_2", "a-22222222"]
        assert self.claims("a.jpg", "a_1.jpg", "a_02.jpg") == ["a", "a_1", "a_02"]

    def test_an_album_with_a_folder_of_the_name_of_the_poor(self) -> None:
        assert self.claims("_poor/a.jpg", "a.jpg") == ["_poor/a", "a-22222222"]

    def test_a_folder_that_is_called_as_a_picture(self) -> None:
        names = Names()
        names.keep_folder("x/a.png")
        names.keep_folder("x/b")
        assert names.claim("x/a.jpg", "1" * 64) == "x/a-11111111"
        assert names.claim("x/b.jpg", "2" * 64) == "x/b"

    def test_a_name_as_long_as_the_disk_takes(self, tmp_path: Path) -> None:
        long = "ü" * 125 + ".jpg"
        first, second = self.claims(long, "x" * 250 + ".jpg")
        for base in (first, second):
            assert len(os.fsencode(base)) <= 255 - len("_999.png.partial-")
        assert self.claims(long, long[:-5] + "y.jpg")[1].endswith("-22222222")

    def test_what_is_kept_is_not_given_again(self) -> None:
        names = Names()
        names.keep("b/a")
        assert names.claim("b/a.jpg", "1" * 64) == "b/a-11111111"
        assert names.claim("b/a.jpg", "1" * 64) == "b/a-" + "1" * 64
