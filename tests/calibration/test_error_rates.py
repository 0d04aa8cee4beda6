"""Pairs weighted by person, their error rates and intervals, against values worked out by hand and by loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from facetl.calibration import error_rates
from facetl.calibration.error_rates import Distances, PeoplePairs, interval_elsewhere
from facetl.errors import DataError
from facetl.metrics.bootstrap import jackknife_variance

# On the unit circle, squared distance 2 − 2 cos: person a at 0° and 60°, b at 90°, c at 180°, 240° and 300°.
DEGREES = {"a": (0, 60), "b": (90,), "c": (180, 240, 300)}
# a–b: 90° (2), 30° (0.268). a–c: 180° (4), 120° (3), 60° (1), 120° (3), 180° (4), 120° (3).
# b–c: 90° (2), 150° (3.73), 150° (3.73). Own: a 60° (1); c 60°, 60° (1) and 120° (3).


def on_circle(degrees: dict[str, tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    angles = np.deg2rad([angle for of_person in degrees.values() for angle in of_person])
    labels = np.array([name for name, of_person in degrees.items() for _ in of_person])
    # Not in order of people: rows must be found by their label.
    order = np.array([3, 0, 5, 2, 1, 4])[: len(angles)]
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)[order].astype(np.float32), labels[order]


def scattered(people: int, seed: int, *, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """One to six photos of each person around a place of their own on a sphere."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), rng.integers(1, 7, people))
    rows = rng.normal(size=(people, 6))[labels] + noise * rng.normal(size=(len(labels), 6))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_every_pair_of_people_weighs_the_same_by_hand():
    pairs = PeoplePairs(*on_circle(DEGREES), seed=0)
    assert (pairs.people, pairs.photos, pairs.positives, pairs.negatives) == (3, 6, 4, 11)
    # At 2.5: a–b both of 2, a–c 1 of 6, b–c 1 of 3. Rejected: a none, c one of 3; b has no pair.
    errors = pairs.errors_at(2.5)
    assert errors.far == pytest.approx((1 + 1 / 6 + 1 / 3) / 3)
    assert errors.frr == pytest.approx((0 + 1 / 3) / 2)
    np.testing.assert_allclose(errors.far_without, [1 / 3, 1 / 6, 1])  # without a: b–c alone, and so on
    np.testing.assert_allclose(errors.frr_without, [1 / 3, 1 / 6, 0])


def test_distances_in_order_accept_the_shares_by_hand():
    pairs = PeoplePairs(*on_circle(DEGREES), seed=0)
    far = pairs.different.accepted([0.2, 0.3, 1.01, 2.01, 3.9, 4.01])
    np.testing.assert_allclose(far, [0, 1 / 6, 2 / 9, 1 / 2, (1 + 4 / 6 + 1) / 3, 1])
    np.testing.assert_allclose(pairs.same.accepted([0.9, 1.01, 3.01]), [0, (1 + 2 / 3) / 2, 1])


def test_the_loosest_threshold_takes_ties_whole():
    distances = Distances(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.1, 0.3, 0.2, 0.4]))
    assert [distances.loosest(share) for share in (0.05, 0.1, 0.59, 0.6, 1.0)] == [None, 0.1, 0.1, 0.5, 0.9]


def test_the_threshold_keeps_to_the_rate_and_no_looser_one_does():
    pairs = PeoplePairs(*scattered(40, 1), seed=0)
    threshold = pairs.threshold_at(0.1)
    steps = pairs.different.distances
    assert pairs.errors_at(threshold).far <= 0.1 + 1e-12
    assert pairs.errors_at(steps[steps > threshold][0]).far > 0.1


def test_errors_without_a_person_are_those_of_the_others():
    embeddings, labels = scattered(12, 2)
    errors = PeoplePairs(embeddings, labels, seed=0).errors_at(1.3)
    for person in range(12):
        rest = PeoplePairs(embeddings[labels != person], labels[labels != person], seed=0).errors_at(1.3)
        assert errors.far_without[person] == pytest.approx(rest.far)
        assert errors.frr_without[person] == pytest.approx(rest.frr)


def test_an_interval_covers_what_other_people_give():
    """FAR at a fitted threshold, on drawn from the same law, is inside 95% intervals about as often."""
    inside = []
    for seed in range(40):
        here, there = (PeoplePairs(*scattered(50, 1000 * k + seed), seed=0) for k in (1, 2))
        threshold = here.threshold_at(0.05)
        errors = here.errors_at(threshold)
        variance = jackknife_variance(errors.far_without)
        interval = interval_elsewhere(errors.far, variance, people=50, elsewhere=50)
        inside.append(interval.low <= there.errors_at(threshold).far <= interval.high)
    assert 0.88 <= np.mean(inside) <= 1.0


def test_an_interval_by_hand():
    logit, reach = math.log(0.1 / 0.9), stats.t.ppf(0.975, 19) * math.sqrt(4e-4 * (1 + 20 / 80)) / 0.09
    ends = [1 / (1 + math.exp(-(logit + sign * reach))) for sign in (-1, 1)]
    assert interval_elsewhere(0.1, 4e-4, people=20, elsewhere=80) == pytest.approx(ends)


def test_more_people_elsewhere_narrow_an_interval():
    of = [interval_elsewhere(0.1, 4e-4, people=20, elsewhere=n) for n in (10, 20, 1000, math.inf)]
    widths = [interval.high - interval.low for interval in of]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("rate", "end"), [(0.0, 1), (1.0, 0)])
def test_no_error_seen_is_not_no_error(rate, end):
    interval = interval_elsewhere(rate, 0.0, people=10, elsewhere=10)
    assert interval[1 - end] == rate
    assert abs(interval[end] - rate) == pytest.approx(1 - 0.025 ** (1 / 10))


def test_too_few_people_are_reported_and_how_many_more_it_takes():
    pairs = PeoplePairs(*scattered(20, 3), seed=0)
    # 3 / 0.01 = 300 pairs of people take 25 people: 25 · 24 / 2 = 300.
    with pytest.raises(DataError, match=r"300 independent pairs.*about 25 validation.*20 with 190 pairs.*add 5 more"):
        pairs.refuse_unsupported(0.01)
    PeoplePairs(*scattered(60, 3), seed=0).refuse_unsupported(0.05)


def test_people_who_are_taken_for_many_count_for_less():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 400))
    rows[0] *= 0.02  # in the midst of the others: nearly all false accepts are this person's
    rows[:, 0] += 15.0
    rows = np.concatenate([rows, rows + 0.01 * rng.normal(size=rows.shape)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = PeoplePairs(rows.astype(np.float32), np.tile(np.arange(50), 2), seed=0)
    with pytest.raises(DataError, match=r"worth \d+ independent ones; add \d+ more"):
        pairs.refuse_unsupported(0.03)


@pytest.mark.parametrize("far", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_must_be_one(far):
    with pytest.raises(DataError, match="must be in"):
        PeoplePairs(*scattered(10, 0), seed=0).refuse_unsupported(far)


def test_different_people_at_one_place_have_no_threshold():
    rows = np.tile(np.array([[1.0, 0.0]], np.float32), (40, 1))
    with pytest.raises(DataError, match="train the head again"):
        PeoplePairs(rows, np.repeat(np.arange(20), 2), seed=0).threshold_at(0.1)


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 0, 0], "1 people"), ([0, 1, 2], "0 with 2 photos"), ([0, 1], "needs a label")]
)
def test_pairs_need_two_people_and_one_pair(labels, message):
    with pytest.raises(DataError, match=message):
        PeoplePairs(np.eye(3, dtype=np.float32), labels, seed=0)


def test_many_photos_are_thinned_where_they_are_many(monkeypatch):
    monkeypatch.setattr(error_rates, "_MOST_PHOTOS", 40)
    labels = np.repeat([0, 1, 2, 3], [60, 12, 9, 3])
    rows = np.random.default_rng(0).normal(size=(84, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = PeoplePairs(rows.astype(np.float32), labels, seed=0)
    # A cap of 14 gives 14 + 12 + 9 + 3 = 38; one of 15 gives 39, of 16 gives 40, of 17 gives 41.
    assert (pairs.people, pairs.photos) == (4, 40)
    assert pairs.positives == sum(math.comb(n, 2) for n in (16, 12, 9, 3))


def test_many_people_are_a_random_part(monkeypatch):
    monkeypatch.setattr(error_rates, "_MOST_PEOPLE", 5)
    embeddings, labels = scattered(30, 4)
    seen = {PeoplePairs(embeddings, labels, seed=seed).photos for seed in range(6)}
    assert {PeoplePairs(embeddings, labels, seed=seed).people for seed in range(6)} == {5}
    assert len(seen) > 1


def test_of_many_people_those_with_several_photos_are_kept(monkeypatch):
    monkeypatch.setattr(error_rates, "_MOST_PEOPLE", 4)
    embeddings = scattered(30, 1)[0][:30]
    # Persons 7 and 20 have two photos each, all others one.
    labels = np.where(np.arange(30) == 8, 7, np.where(np.arange(30) == 21, 20, np.arange(30)))
    for seed in range(6):
        pairs = PeoplePairs(embeddings, labels, seed=seed)
        assert (pairs.people, pairs.photos, pairs.positives) == (4, 6, 2)


def test_too_few_photos_are_counted_over_all_people(monkeypatch):
    monkeypatch.setattr(error_rates, "_MOST_PEOPLE", 4)
    embeddings = scattered(30, 1)[0][:30]
    with pytest.raises(DataError, match="Received: 30 people, 0 with 2 photos or more; add photos"):
        PeoplePairs(embeddings, np.arange(30), seed=0)


def test_the_rates_are_those_of_a_plain_loop():
    embeddings, labels = scattered(9, 5)
    wanted: dict[tuple[int, int], list[bool]] = {}
    for i, j in itertools.combinations(range(len(labels)), 2):
        near = float(np.sum((embeddings[i].astype(float) - embeddings[j]) ** 2)) <= 1.1
        wanted.setdefault(tuple(sorted((int(labels[i]), int(labels[j])))), []).append(near)
    errors = PeoplePairs(embeddings, labels, seed=0).errors_at(1.1)
    assert errors.far == pytest.approx(np.mean([np.mean(v) for (p, q), v in wanted.items() if p != q]))
    assert errors.frr == pytest.approx(np.mean([1 - np.mean(v) for (p, q), v in wanted.items() if p == q]))
