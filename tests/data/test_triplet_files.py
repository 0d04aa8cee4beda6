"""Triplet files come back as they were, and what is odd in them is named with its line."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from facetl.data.manifest import Manifest
from facetl.data.triplet_files import read_triplets, triplet_manifest, triplet_people, triplet_rows, write_triplets
from facetl.data.triplets import Triplet
from facetl.errors import DataError

ROWS = [Triplet("Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg"), Triplet('Bob/"a, b".jpg', "Bob/1.jpg", "Ann/2.jpg")]


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    return root


def test_what_is_written_is_read(tmp_path: Path) -> None:
    odd = [*ROWS, Triplet("José/1.jpg", "José/ 2.jpg", "王小明/照片.jpg")]
    write_triplets(tmp_path / "new" / "t.csv", odd)
    assert read_triplets(tmp_path / "new" / "t.csv") == odd
    text = (tmp_path / "new" / "t.csv").read_bytes()
    assert text.startswith(b'Anchor,Positive,Negative\nAnn/1.jpg,Ann/2.jpg,Bob/1.jpg\n"Bob/""a, b"".jpg"')
    assert os.listdir(tmp_path / "new") == ["t.csv"]


def test_a_test_set_is_not_written_over(tmp_path: Path) -> None:
    write_triplets(tmp_path / "t.csv", ROWS)
    write_triplets(tmp_path / "t.csv", ROWS)  # the same once more
    with pytest.raises(DataError, match=r"t\.csv exists"):
        write_triplets(tmp_path / "t.csv", ROWS[:1])
    assert read_triplets(tmp_path / "t.csv") == ROWS
    with pytest.raises(DataError, match="cannot be written"):
        write_triplets(tmp_path / "t.csv" / "below.csv", ROWS)
    with pytest.raises(DataError, match="cannot be written"):
        write_triplets(tmp_path / ("x" * 300), ROWS)


@pytest.mark.parametrize("name", ["Jos\udce9/1.jpg", "Ann/1\n.jpg"])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"plain UTF-8 text, got '(Jos|Ann).*' *\. Rename"):
        write_triplets(tmp_path / "t.csv", [*ROWS, Triplet("Ann/1.jpg", "Ann/2.jpg", name)])
    assert os.listdir(tmp_path) == []


def test_what_other_programs_write(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(b"\xef\xbb\xbf,negative,ANCHOR, Positive\r\n0,Bob\\1.jpg, ./Ann/1.jpg,Ann//2.jpg\r\n\r\n,,,\r\n")
    assert read_triplets(file) == ROWS[:1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: expected a header with one column anchor \(anchor,positive,negative\), got ''"),
        ("anchor,positive\n", "line 1: expected a header"),
        ("Anchor,Anchor,Positive,Negative\n", "line 1: expected a header"),
        ("Anchor,Positive,Negative\n", "line 2: expected anchor,positive,negative, got the end"),
        ("Anchor,Positive,Negative\na/1,a/2,b/1\na/1,a/2\n", "line 3: expected 3 fields, got 2"),
        ("Anchor,Positive,Negative\na/1,a/2,\n", "line 2: expected a path below the folder of photos, got ''"),
        ("Anchor,Positive,Negative\na/1,a/2,/etc/passwd\n", "line 2: expected a path below"),
        ("Anchor,Positive,Negative\na/1,a/2,b/../../c\n", "line 2: expected a path below"),
        ("Anchor,Positive,Negative\na/1,a/2,..\\c\n", "line 2: expected a path below"),
        ("Anchor,Positive,Negative\na/1,a/2,b/\0\n", "line 2: expected"),
        ("Anchor,Positive,Negative\na/1,./a/1,b/1\n", "line 2: expected three photos, got 'a/1', 'a/1', 'b/1'"),
        ('Anchor,Positive,Negative\n"a/1"x,a/2,b/1\n', "line 2: expected comma-separated values"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=message) as raised:
        read_triplets(tmp_path / "t.csv")
    assert str(raised.value).startswith("t.csv, line ")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_triplets(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="got the folder"):
        read_triplets(tmp_path)


def test_photos_are_found_and_known_by_their_folder(tmp_path: Path) -> None:
    put(tmp_path, "Ann/1.jpg", "Ann/2.jpg", "Ann/not_named.jpg", "Bob/1.jpg", 'Bob/"a, b".jpg')
    manifest = triplet_manifest(tmp_path, ROWS)
    assert [path.relative_to(tmp_path).as_posix() for path in manifest.paths] == [
        "Ann/1.jpg",
        "Ann/2.jpg",
        'Bob/"a, b".jpg',
        "Bob/1.jpg",
    ]
    rows = triplet_rows(manifest, ROWS)
    np.testing.assert_array_equal(rows, [[0, 1, 3], [2, 3, 1]])
    np.testing.assert_array_equal(triplet_people(manifest, rows), [[0, 1], [1, 0]])
    whole = Manifest.from_folder(tmp_path)
    assert [[whole.paths[r].name for r in row] for row in triplet_rows(whole, ROWS)] == [
        ["1.jpg", "2.jpg", "1.jpg"],
        ['"a, b".jpg', "1.jpg", "2.jpg"],
    ]


def test_people_lie_below_what_all_paths_share(tmp_path: Path) -> None:
    rows = [Triplet("images/Ann/2019/1.jpg", "images/Ann/2.jpg", "images/Bob/1.jpg")]
    put(tmp_path, *rows[0])
    assert triplet_manifest(tmp_path, rows).identities == ("Ann", "Bob")


def test_photos_in_one_folder_are_nobodys(tmp_path: Path) -> None:
    rows = [Triplet("all/1.jpg", "all/2.jpg", "all/3.jpg")]
    manifest = triplet_manifest(put(tmp_path, *rows[0]), rows)
    assert triplet_people(manifest, triplet_rows(manifest, rows)) is None


def test_a_composed_name_finds_a_decomposed_folder(tmp_path: Path) -> None:
    composed = [Triplet("Zoë/1.jpg", "Zoë/2.jpg", "Bob/1.jpg")]
    put(tmp_path, *(unicodedata.normalize("NFD", name) for name in composed[0]))
    manifest = triplet_manifest(tmp_path, composed)
    assert manifest.identities == ("Bob", "Zoë")
    np.testing.assert_array_equal(triplet_rows(manifest, composed), [[1, 2, 0]])


def test_photos_that_are_not_there(tmp_path: Path) -> None:
    put(tmp_path, "Ann/1.jpg", "Ann/2.jpg", 'Bob/"a, b".jpg')
    with pytest.raises(DataError, match=r"names the photo 'Bob/1\.jpg', which .* does not hold"):
        triplet_manifest(tmp_path, ROWS)
    with pytest.raises(DataError, match=r"triplet 1 names 'Bob/1\.jpg', which is not among the 3 photos"):
        triplet_rows(Manifest.from_folder(tmp_path), ROWS)


@pytest.mark.parametrize(
    "row", [Triplet("Ann/1.jpg", "Bob/1.jpg", "Bob/2.jpg"), Triplet("Ann/1.jpg", "Ann/2.jpg", "Ann/3.jpg")]
)
def test_a_row_that_contradicts_the_folders(tmp_path: Path, row: Triplet) -> None:
    put(tmp_path, *row, "Bob/9.jpg")
    with pytest.raises(DataError, match="triplet 1 must show one person twice, then another"):
        triplet_rows(Manifest.from_folder(tmp_path), [row])
