"""Triplets by side, and the classes they flatten into."""

from __future__ import annotations

import csv
from itertools import chain
from pathlib import Path

import pytest

from facetl.data.manifest import Manifest
from facetl.data.triplet_sets import examples, file_of_test, make_triplet_sets, write_examples
from facetl.errors import DataError


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
