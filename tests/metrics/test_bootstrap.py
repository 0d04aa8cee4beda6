"""Intervals by person: against formulas for their variance, and in simulations whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from facetl.errors import DataError
from facetl.metrics.bootstrap import (
    PersonRate,
    auc_gain_stderr,
    jackknife_variance,
    person_rate,
    verification_intervals,
)
from facetl.metrics.pairs import Pairs, sample_pairs
from facetl.metrics.verification import pair_thresholds, verify_at


def negatives(rng: np.random.Generator, people: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Two people for each pair, never the same one twice: int [pairs], int [pairs]."""
    first = rng.integers(people, size=pairs)
    return first, (first + rng.integers(1, people, size=pairs)) % people


def scores(seed: int, *, people: int = 30, spread: float = 0.15) -> tuple[np.ndarray, ...]:
    """Distances of 240 pairs of each kind with an effect of each person, same, first and second person."""
    rng = np.random.default_rng(seed)
    effect = spread * rng.standard_normal(people)
    own = np.repeat(np.arange(people), 240 // people)
    first, second = negatives(rng, people, 240)
    near = 0.8 + effect[own] + 0.2 * rng.standard_normal(len(own))
    far = 1.5 + effect[first] + effect[second] + 0.2 * rng.standard_normal(240)
    same = np.arange(len(own) + 240) < len(own)
    names = np.array([f"person {k}" for k in range(people)])
    return np.append(near, far), same, names[np.append(own, first)], names[np.append(own, second)]


def test_standard_error_of_frr_is_that_of_clusters():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), rng.integers(2, 9, 40))
    errors = rng.random(len(person)) < rng.beta(0.5, 1.5, 40)[person]
    rate = person_rate(errors, person, person, seed=1, replicates=4000)
    residuals = np.bincount(person, errors - errors.mean())
    expected = np.sqrt(np.sum(residuals**2) * 40 / 39) / len(errors)
    assert rate.value == pytest.approx(errors.mean())
    assert rate.stderr == pytest.approx(expected, rel=0.07)
    assert rate.stderr > 1.3 * np.sqrt(rate.value * (1 - rate.value) / len(errors))


@pytest.mark.parametrize(("people", "pairs"), [(30, 600), (400, 300)])
def test_standard_error_of_far_is_that_of_dyads(people, pairs):
    """Covariances of all pairs that share a person, each once (Aronow, Samii and Assenova, 2015)."""
    rng = np.random.default_rng(people)
    first, second = negatives(rng, people, pairs)
    effect = rng.standard_normal(people)
    errors = effect[first] + effect[second] + rng.standard_normal(pairs) > 1.5
    rate = person_rate(errors, first, second, seed=1, replicates=4000)
    ends = np.stack([first, second], axis=1)
    shared = (ends[:, None, :, None] == ends[None, :, None, :]).any(axis=(2, 3))
    residuals = errors - errors.mean()
    expected = np.sqrt(residuals @ shared @ residuals * people / (people - 4)) / pairs
    assert rate.stderr == pytest.approx(expected, rel=0.1)


def test_pairs_that_share_nobody_are_independent():
    rng = np.random.default_rng(0)
    errors = rng.random(500) < 0.2
    rate = person_rate(errors, np.arange(500), np.arange(500, 1000), seed=0, replicates=4000)
    assert rate.stderr == pytest.approx(np.sqrt(errors.mean() * (1 - errors.mean()) / 500), rel=0.1)
    assert rate.people == pytest.approx(1000)


def test_the_truth_lies_in_intervals_by_person_and_outside_those_by_pair():
    """40 people who err with a chance of their own, and negatives that look alike by person: 150 simulations."""
    rng = np.random.default_rng(7)
    hits = {"frr": 0, "frr by pair": 0, "far": 0, "far by pair": 0}
    # A pair is accepted when a_i + a_j + e > 2 with a, e standard normal: 1 − Φ(2 / √3). FRR is the mean of Beta(½, 2).
    truth = {"frr": 1 / 5, "far": float(stats.norm.sf(2 / np.sqrt(3)))}
    widths = []
    for seed in range(150):
        own = np.repeat(np.arange(40), 8)
        first, second = negatives(rng, 40, 400)
        effect = rng.standard_normal(40)
        errors = {
            "frr": rng.random(320) < rng.beta(0.5, 2, 40)[own],
            "far": effect[first] + effect[second] + rng.standard_normal(400) > 2,
        }
        people = {"frr": (own, own), "far": (first, second)}
        for kind, wrong in errors.items():
            by_person = person_rate(wrong, *people[kind], seed=seed, replicates=200).interval()
            share = wrong.mean()
            by_pair = PersonRate(share, np.sqrt(share * (1 - share) / len(wrong)), len(wrong)).interval()
            hits[kind] += by_person.low <= truth[kind] <= by_person.high
            hits[f"{kind} by pair"] += by_pair.low <= truth[kind] <= by_pair.high
            widths.append((by_person.high - by_person.low) / (by_pair.high - by_pair.low))
    # 95 % of 150 is 142.5 with a standard deviation of 2.7.
    assert 135 <= hits["frr"] <= 149
    assert 135 <= hits["far"] <= 149
    assert hits["frr by pair"] < 125
    assert hits["far by pair"] < 125
    assert np.mean(widths) > 1.4


def test_intervals_of_a_verification_hold_the_truth():
    """Of each measure, in 100 simulations of 60 people: 90 to 95 should (resampling of few is a little too short).

    The effect of a person moves both kinds of pairs here, which is the hardest case for AUC.
    """
    # Distances are normal, of 0.8 with variance s² + 0.04 and of 1.5 with 2s² + 0.04.
    near, far = stats.norm(0.8, np.sqrt(0.15**2 + 0.04)), stats.norm(1.5, np.sqrt(2 * 0.15**2 + 0.04))
    rates = {"far_at_threshold": far.cdf(1.15), "frr_at_threshold": near.sf(1.15)}
    truth = {
        **rates,
        "accuracy": 1 - sum(rates.values()) / 2,
        "auc": stats.norm.cdf(0.7 / np.hypot(near.std(), far.std())),
        "eer": stats.norm.sf(0.7 / (near.std() + far.std())),
        "tar": near.cdf(far.ppf(0.1)),
    }
    hits = dict.fromkeys(truth, 0)
    for seed in range(100):
        found = verification_intervals(*scores(seed, people=60), threshold=1.15, seed=seed, replicates=100)
        intervals = {**found, "tar": found["tar_at_far"]["1e-1"]}
        for name, value in truth.items():
            hits[name] += intervals[name].low <= value <= intervals[name].high
    assert all(86 <= count <= 99 for count in hits.values()), hits


def test_intervals_by_hand_of_known_draws():
    # Newcombe, Statistics in Medicine 1998, p. 857: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611.
    rate = PersonRate(81 / 263, np.sqrt(81 / 263 * 182 / 263 / 263), 1e9)
    assert rate.draws == pytest.approx(263)
    assert rate.interval() == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert PersonRate(1.0, 0.0, 20).draws == 20
    # With 20 people Student's quantile is 2.093: z² / (20 + z²).
    assert PersonRate(0.0, 0.0, 20).interval() == pytest.approx((0.0, 2.09302**2 / (20 + 2.09302**2)), abs=1e-5)
    narrow, wide = rate.interval(0.8), rate.interval(0.99)
    assert wide.low < narrow.low < rate.value < narrow.high < wide.high


def test_no_error_seen_is_not_no_error():
    rate = person_rate(np.zeros(400, bool), *negatives(np.random.default_rng(0), 50, 400), seed=0)
    low, high = rate.interval()
    assert low == 0.0
    assert 0.05 < high < 0.1


def test_accuracy_is_the_mean_over_folds_and_every_measure_has_its_own_interval():
    distances, same, first, second = scores(3)
    fold = (np.arange(len(same)) % 7 == 0).astype(int)  # one pair in seven
    scored = verify_at(distances, same, threshold={0: 1.1, 1: 1.3}, fold=fold)
    own = pair_thresholds(scored.thresholds, fold)
    found = verification_intervals(distances, same, first, second, threshold=own, fold=fold, seed=5, replicates=300)

    for name in ("accuracy", "auc", "eer", "far_at_threshold", "frr_at_threshold"):
        assert found[name].low < getattr(scored, name) < found[name].high
    tars = found["tar_at_far"]
    assert tars["1e-1"].low < scored.tar_at_far["1e-1"] < tars["1e-1"].high
    assert [name for name, interval in tars.items() if interval is None] == ["1e-3", "1e-4"]
    assert found["people"] == 30
    assert json.loads(json.dumps(found))["auc"] == list(found["auc"])


def test_blocks_do_not_change_what_is_measured(monkeypatch):
    distances, same, first, second = scores(5)
    whole = verification_intervals(distances, same, first, second, threshold=1.15, seed=0, replicates=2000)
    monkeypatch.setattr("facetl.metrics.bootstrap._BLOCK", 480 * 300)
    blocks = verification_intervals(distances, same, first, second, threshold=1.15, seed=0, replicates=2000)
    assert blocks["accuracy"] == pytest.approx(whole["accuracy"], abs=0.005)


def test_too_few_people_have_no_interval():
    distances, same, first, second = scores(6, people=8)
    found = verification_intervals(distances, same, first, second, threshold=1.15, seed=0)
    assert found["accuracy"] is found["auc"] is found["tar_at_far"]["1e-1"] is found["frr_at_threshold"] is None


def test_one_person_in_every_pair_is_not_many_people():
    # 60 others beside him: each has a share of 1/120, he has 1/2; 1 / (1/4 + 60/120²) = 3.93.
    rate = person_rate(np.arange(60) < 9, np.zeros(60, int), np.arange(1, 61), seed=0)
    assert rate.people == pytest.approx(1 / (1 / 4 + 60 / 120**2))


def test_what_contradicts_itself_is_refused():
    distances, same, first, second = scores(7)
    wrong = second.copy()
    wrong[3] = "somebody else"
    with pytest.raises(DataError, match="1 of 480 pairs"):
        verification_intervals(distances, same, first, wrong, threshold=1.0, seed=0)
    with pytest.raises(DataError, match="two people each for each of 480 pairs"):
        verification_intervals(distances, same, first[1:], second, threshold=1.0, seed=0)
    with pytest.raises(DataError, match="one kind"):
        person_rate(~same, first, second, seed=0)
    with pytest.raises(DataError, match="at least one pair"):
        person_rate([], [], [], seed=0)
    with pytest.raises(DataError, match="at least 100 replicates"):
        verification_intervals(distances, same, first, second, threshold=1.0, seed=0, replicates=50)
    with pytest.raises(DataError, match="2 for 1 folds"):
        pair_thresholds((0.5, 0.6), np.zeros(4, int))


def test_the_jackknife_of_a_mean_is_its_textbook_variance():
    values = np.array([0.0, 1.0, 4.0, 5.0, 9.5])
    without = (values.sum() - values) / 4
    assert jackknife_variance(without) == pytest.approx(values.var(ddof=1) / 5)


def test_the_jackknife_leaves_out_people() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([7, 3, 9, 5], [4, 2, 3, 3])
    pairs = sample_pairs(labels, seed=1)
    first, second = rng.random(len(pairs.same)), rng.random(len(pairs.same))
    left_out = []
    for person in (3, 5, 7, 9):
        kept = (labels[pairs.first] != person) & (labels[pairs.second] != person)
        areas = [roc_auc_score(pairs.same[kept], -values[kept]) for values in (first, second)]
        left_out.append(areas[0] - areas[1])
    expected = np.sqrt(3 / 4 * np.sum(np.square(np.array(left_out) - np.mean(left_out))))
    assert auc_gain_stderr(first, second, pairs, labels) == pytest.approx(expected)


def test_with_two_people_nothing_can_be_left_out() -> None:
    pairs = Pairs(np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    assert auc_gain_stderr(np.zeros(2), np.ones(2), pairs, np.array([0, 0, 1])) == 0
