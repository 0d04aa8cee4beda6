"""Triplets show everyone evenly and come back from a file as they were; what is odd or too few is named."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from facetl.data.manifest import Manifest, Photo
from facetl.data.triplets import (
    Coverage,
    Spread,
    Triplet,
    coverage,
    examples,
    file_of_test,
    make_triplet_sets,
    make_triplets,
    read_triplets,
    triplet_manifest,
    triplet_people,
    triplet_rows,
    write_examples,
    write_triplets,
)
from facetl.errors import DataError

ROOT = Path("/faces")


def people(photos: Mapping[str, int]) -> Manifest:
    return Manifest(ROOT, tuple(Photo(ROOT / n / f"{i}.jpg", n) for n in sorted(photos) for i in range(photos[n])))


def person(photo: str) -> str:
    return photo.split("/")[0]


LOPSIDED = people({"Ann": 7, "Bob": 2, "Cy": 3, "Dee": 1, "Eve": 4, "Flo": 1})


@pytest.mark.parametrize("count", [1, 5, 40, 300])
def test_each_row_shows_two_photos_of_one_person_and_one_of_another(count: int) -> None:
    made = make_triplets(LOPSIDED, count=count, seed=3)
    assert len(set(made)) == count
    for anchor, positive, negative in made:
        assert person(anchor) == person(positive) != person(negative)
        assert anchor != positive


def test_anchors_and_negatives_are_dealt_evenly() -> None:
    made = make_triplets(LOPSIDED, count=42, seed=0)
    anchors = Counter(person(triplet.anchor) for triplet in made)
    assert set(anchors) == {"Ann", "Bob", "Cy", "Eve"}  # those with one photo are negatives only
    assert sorted(anchors.values()) == [10, 10, 11, 11]
    negatives = Counter(person(triplet.negative) for triplet in made)
    assert set(negatives) == set(LOPSIDED.identities)
    assert set(negatives.values()) <= {6, 7, 8}  # 7 each, but for a last row whose turn is its anchor's own


def test_a_cap_that_a_person_cannot_reach_is_made_up_by_the_others() -> None:
    # Bob has 2 · 1 ordered pairs × 5 others = 10 triplets; the others have more than enough.
    made = make_triplets(people({"Ann": 4, "Bob": 2, "Eve": 1}), count=40, seed=1)
    assert Counter(person(triplet.anchor) for triplet in made) == {"Ann": 30, "Bob": 10}


def test_photos_take_turns() -> None:
    made = make_triplets(people({"Ann": 6, "Bob": 6}), count=12, seed=4)
    times = Counter(photo for triplet in made for photo in triplet)
    assert len(times) == 12
    assert set(times.values()) == {3}
    lopsided = Counter(photo for triplet in make_triplets(LOPSIDED, count=60, seed=4) for photo in triplet)
    for person_ in ("Ann", "Cy", "Eve"):  # whatever anchors and positives left uneven, negatives make up for
        own = [times for photo, times in lopsided.items() if person(photo) == person_]
        assert max(own) - min(own) <= 1
    few = make_triplets(people({"Ann": 6, "Bob": 1}), count=3, seed=4)
    assert len({photo for triplet in few for photo in (triplet.anchor, triplet.positive)}) == 6


def test_pairs_are_all_used_before_one_is_swapped() -> None:
    for photos in (4, 5):
        possible = photos * (photos - 1) // 2
        made = make_triplets(people({"Ann": photos, "Bob": 1}), count=possible, seed=2)
        assert len({frozenset((triplet.anchor, triplet.positive)) for triplet in made}) == possible


def test_everything_that_exists_can_be_had_and_no_more() -> None:
    few = people({"Ann": 3, "Bob": 2, "Cy": 1})
    possible = 3 * 2 * 3 + 2 * 1 * 4
    assert len(set(make_triplets(few, count=possible, seed=5))) == possible
    with pytest.raises(DataError, match=rf"make {possible} different triplets, got a count of {possible + 1}"):
        make_triplets(few, count=possible + 1, seed=5)


@pytest.mark.parametrize("photos", [{"Ann": 5}, {"Ann": 1, "Bob": 1}])
def test_people_who_make_no_triplet(photos: Mapping[str, int]) -> None:
    with pytest.raises(DataError, match="make 0 different triplets"):
        make_triplets(people(photos), count=1, seed=0)
    with pytest.raises(DataError, match="1 or more, got 0"):
        make_triplets(people(photos), count=0, seed=0)


def test_the_seed_decides() -> None:
    made = [make_triplets(LOPSIDED, count=30, seed=seed) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    pairs = [{frozenset((t.anchor, t.positive)) for t in make_triplets(LOPSIDED, count=4, seed=s)} for s in range(4)]
    assert len(set.union(*pairs)) > 8  # other seeds pair other photos, not only other people's


def test_coverage_by_hand() -> None:
    made = [
        Triplet("Ann/0.jpg", "Ann/1.jpg", "Dee/0.jpg"),
        Triplet("Ann/0.jpg", "Ann/2.jpg", "Bob/1.jpg"),
        Triplet("Eve/3.jpg", "Eve/1.jpg", "Dee/0.jpg"),
    ]
    assert coverage(LOPSIDED, made) == Coverage(
        triplets=3,
        people=4,
        people_in_set=6,
        photos=7,
        photos_in_set=18,
        anchor_people=2,
        negative_people=2,
        per_person=Spread(1, 2.0, 4),  # Bob 1, Dee 2, Eve 2, Ann 4
        per_photo=Spread(1, 1.0, 2),
    )
    assert coverage(LOPSIDED, made).to_json()["per_person"] == {"min": 1, "median": 2.0, "max": 4}


def test_coverage_of_other_photos() -> None:
    with pytest.raises(DataError, match=r"got 'Zoe/0\.jpg'"):
        coverage(LOPSIDED, [Triplet("Ann/0.jpg", "Ann/1.jpg", "Zoe/0.jpg")])
    with pytest.raises(DataError, match="got none"):
        coverage(LOPSIDED, [])


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


def test_names_of_any_bytes_are_found_again(tmp_path: Path) -> None:
    odd = ("Jos\udce9/1\n.jpg", "Jos\udce9/\u202e2.jpg", "Ann/1.jpg")
    root = put(tmp_path / "people", *odd)
    people = Manifest.from_folder(root)
    made = [Triplet(r"Jos\xe9/1\n.jpg", r"Jos\xe9/\u202e2.jpg", "Ann/1.jpg")]
    assert triplet_rows(people, made).tolist() == [[people.relative_paths.index(name) for name in odd]]
    write_triplets(tmp_path / "t.csv", [Triplet(*odd)])
    assert read_triplets(tmp_path / "t.csv") == made
    found = triplet_manifest(root, made)
    assert set(found.relative_paths) == set(odd)
    assert found.labels[triplet_rows(found, made)].tolist() == [[1, 1, 0]]
    (tmp_path / "secret.jpg").touch()
    with pytest.raises(DataError, match="does not hold"):
        triplet_manifest(root, [Triplet(r"\x2e\x2e/secret.jpg", "Ann/1.jpg", "Ann/2.jpg")])


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


@pytest.fixture(scope="module")
def faces(photo_folder: Path) -> Manifest:
    return Manifest.from_folder(photo_folder)


def test_sides_share_nobody(faces: Manifest) -> None:
    train, test = make_triplet_sets(faces, count=50, test=0.3, seed=4)
    assert (train.side, len(train.triplets), test.side, len(test.triplets)) == ("train", 35, "test", 15)
    people = [{name.split("/")[0] for name in chain.from_iterable(one.triplets)} for one in (train, test)]
    assert not people[0] & people[1]
    assert people[0] | people[1] == set(faces.identities)
    expected = faces.with_splits(seed=4, validation=0, test=0.3)
    assert people[1] == set(expected.subset("test").identities)
    (every,) = make_triplet_sets(faces, count=50, test=0, seed=4)
    assert every.manifest is faces


def test_a_side_without_triplets_is_named(faces: Manifest) -> None:
    with pytest.raises(DataError, match=r"test side: .* got 0"):
        make_triplet_sets(faces, count=2, test=0.2, seed=0)


def test_classes_hold_every_photo_once(faces: Manifest, tmp_path: Path) -> None:
    sets = make_triplet_sets(faces, count=20, test=0.4, seed=1)
    flat = examples(sets)
    assert len({row.photo for row in flat}) == len(flat)
    assert {row.photo for row in flat} == {name for one in sets for name in chain.from_iterable(one.triplets)}
    assert all(row.photo.startswith(f"{row.person}/") for row in flat)
    for one in sets:
        people = sorted({row.person for row in flat if row.side == one.side})
        assert {(row.person, row.number) for row in flat if row.side == one.side} == {
            (name, number) for number, name in enumerate(people)
        }
    write_examples(tmp_path / "classes.csv", flat)
    with (tmp_path / "classes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {"Photo": flat[0].photo, "Person": flat[0].person, "Class": "0", "Side": "train"}
    assert len(rows) == len(flat)
    with pytest.raises(DataError, match="classes are written into a new file"):
        write_examples(tmp_path / "classes.csv", flat[:-1])


def test_the_name_of_the_test_file() -> None:
    assert file_of_test(Path("a/faces.v2.csv")) == Path("a/faces.v2.test.csv")
