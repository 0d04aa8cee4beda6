"""Triplets show everyone evenly, never twice the same, and say when there are not enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from facetl.data.manifest import Manifest, Photo
from facetl.data.triplets import Coverage, Spread, Triplet, coverage, make_triplets
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
