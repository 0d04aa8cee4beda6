"""Pairs and folds: what must never be drawn, how evenly, and that a seed repeats it."""

from __future__ import annotations

import numpy as np
import pytest

from facetl.errors import DataError
from facetl.metrics import pairs as module
from facetl.metrics.pairs import fold_pairs, identity_folds, sample_pairs

# Lopsided and unsorted: 40 photos of one person, 12, 5, 3, 2, 2 and three people with one photo.
COUNTS = {"Bush": 40, "Ann": 12, "Cid": 5, "Bo": 3, "Dee": 2, "Eve": 2, "Fay": 1, "Gus": 1, "Hal": 1}
LABELS = np.random.default_rng(7).permutation(np.repeat(list(COUNTS), list(COUNTS.values())))


def assert_sound(pairs, labels) -> None:
    first, second = np.asarray(pairs.first), np.asarray(pairs.second)
    assert np.all(first != second), "a photo was paired with itself"
    keys = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert len(keys) == len(first), "a pair was drawn twice"
    np.testing.assert_array_equal(np.asarray(labels)[first] == np.asarray(labels)[second], pairs.same)


@pytest.mark.parametrize("positives", [3000, 60, 7])
def test_pairs_are_distinct_true_and_balanced(positives):
    pairs = sample_pairs(LABELS, seed=3, positives=positives)
    assert_sound(pairs, LABELS)
    assert np.count_nonzero(pairs.same) == np.count_nonzero(~pairs.same)


def test_positives_are_capped_per_person_and_dealt_evenly():
    def per_person(**options: int) -> dict[str, int]:
        pairs = sample_pairs(LABELS, seed=0, **options)
        names, counts = np.unique(LABELS[pairs.first[pairs.same]], return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    # All there are: 780, 66, 10, 3, 1, 1. Capped at 45: 45, 45, 10, 3, 1, 1.
    assert per_person() == {"Bush": 45, "Ann": 45, "Cid": 10, "Bo": 3, "Dee": 1, "Eve": 1}
    # 21 under a common cap of 5 (5 + 5 + 5 + 3 + 1 + 1 = 20) and one more by lot.
    dealt = per_person(positives=21)
    assert (dealt["Bo"], dealt["Dee"], dealt["Eve"]) == (3, 1, 1)
    assert sorted([dealt["Bush"], dealt["Ann"], dealt["Cid"]]) == [5, 5, 6]


def test_every_pair_of_one_person_can_be_drawn():
    pairs = sample_pairs(LABELS, seed=1, positives=10_000, per_person=10_000)
    assert np.count_nonzero(pairs.same) == 780 + 66 + 10 + 3 + 1 + 1


def test_pairs_of_one_person_are_drawn_uniformly():
    rows = np.arange(6)
    rng = np.random.default_rng(0)
    counts = np.zeros((6, 6), int)
    for _ in range(3000):
        for i, j in module._pairs_of_one(rows, 3, rng):
            counts[i, j] += 1
    upper = counts[np.triu_indices(6, 1)]
    assert counts.sum() == upper.sum() == 9000
    assert np.sum((upper - 600) ** 2 / 600) < 36.1  # chi-square, 14 degrees of freedom, p = 0.001


@pytest.mark.parametrize("negatives", [60, 100_000], ids=["drawn", "written-down"])
def test_negative_pairs(negatives):
    pairs = sample_pairs(LABELS, seed=5, negatives=negatives)
    assert_sound(pairs, LABELS)
    counts = np.array(list(COUNTS.values()))
    possible = (counts.sum() ** 2 - (counts**2).sum()) // 2
    assert np.count_nonzero(~pairs.same) == min(negatives, possible)


def test_pairs_of_a_person_with_very_many_photos_are_pairs():
    rows = np.arange(3_000_000)
    drawn = module._pairs_of_one(rows, 2000, np.random.default_rng(0))
    assert np.all(drawn[:, 0] >= 0)
    assert np.all(drawn[:, 0] < drawn[:, 1])


def test_people_of_negative_pairs_are_drawn_evenly_where_all_are_written_down():
    """80, 80 and 16 possible pairs, 44 drawn: by pairs alone the third couple would be 9% of them."""
    labels = np.repeat([0, 1, 2], [20, 4, 4])
    drawn = np.zeros(3)
    for seed in range(40):
        pairs = sample_pairs(labels, seed=seed, negatives=44)
        people = (labels[pairs.first] + labels[pairs.second])[~pairs.same]
        drawn += np.bincount(people, minlength=4)[1:]
    share = drawn / drawn.sum()
    assert share[2] > 0.2
    assert share[0] == pytest.approx(share[1], abs=0.05)


def test_people_of_negative_pairs_are_drawn_evenly():
    """People of 60, 6 and 6 photos: a third of the pairs each, though photos alone would say 1 in 21."""
    labels = np.repeat([0, 1, 2], [60, 6, 6])
    drawn = np.zeros(3)
    for seed in range(60):
        pairs = sample_pairs(labels, seed=seed, negatives=6)
        mask = ~pairs.same
        people = labels[pairs.first[mask]] + labels[pairs.second[mask]]  # 0+1, 0+2, 1+2
        drawn += np.bincount(people, minlength=4)[1:]
    np.testing.assert_allclose(drawn / drawn.sum(), 1 / 3, atol=0.09)


def test_balance_holds_where_negatives_run_out():
    labels = np.array([0] * 8 + [1])  # 28 pairs of one person, 8 of two
    pairs = sample_pairs(labels, seed=0)
    assert np.count_nonzero(pairs.same) == np.count_nonzero(~pairs.same) == 8
    assert_sound(pairs, labels)


def test_a_seed_repeats_and_another_differs():
    one, again, other = (sample_pairs(LABELS, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.first, again.first)
    np.testing.assert_array_equal(one.second, again.second)
    assert not np.array_equal(one.second, other.second)


@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0], [0, 1, 2]])
def test_impossible_pairs_are_reported(labels):
    with pytest.raises(DataError, match="at least 2 people, one of them with 2 photos"):
        sample_pairs(labels, seed=0)


@pytest.mark.parametrize("folds", [1, 2, 3, 4])
def test_folds_share_nobody_and_hold_as_many_people(folds):
    fold = identity_folds(LABELS, folds=folds, seed=0)
    of = {name: set(fold[name == LABELS].tolist()) for name in COUNTS}
    assert all(len(inside) == 1 for inside in of.values())
    people = np.bincount([next(iter(inside)) for inside in of.values()], minlength=folds)
    able = np.bincount([next(iter(of[n])) for n in COUNTS if COUNTS[n] >= 2], minlength=folds)
    assert np.ptp(people) <= 1
    assert np.ptp(able) <= 1


def test_folds_need_people():
    with pytest.raises(DataError, match="2 people, 3 folds"):
        identity_folds(["a", "b"], folds=3, seed=0)


@pytest.mark.parametrize(("folds", "made"), [(1, 1), (2, 2), (5, 3)])
def test_both_photos_of_a_pair_lie_in_its_fold(folds, made):
    pairs = fold_pairs(LABELS, seed=4, folds=folds)
    assert_sound(pairs, LABELS)
    assert len(np.unique(pairs.fold)) == made  # six people have two photos: three folds at most
    where = identity_folds(LABELS, folds=made, seed=4)
    np.testing.assert_array_equal(where[pairs.first], pairs.fold)
    np.testing.assert_array_equal(where[pairs.second], pairs.fold)
    for k in range(made):
        inside = pairs.same[pairs.fold == k]
        assert np.count_nonzero(inside) == np.count_nonzero(~inside) > 0


def test_fold_pairs_need_two_people_with_two_photos():
    assert len(fold_pairs([0, 0, 1, 1], seed=0).same) == 4
    with pytest.raises(DataError, match="Received: 1; add photos"):
        fold_pairs([0, 0, 1, 2], seed=0)
    with pytest.raises(DataError, match="Received: 0"):
        fold_pairs([], seed=0)
