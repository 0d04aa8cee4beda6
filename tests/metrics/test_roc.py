"""Metrics against values worked out by hand, and against scikit-learn on lopsided data with ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from facetl.errors import DataError
from facetl.metrics import roc as roc_module

# Sorted: 0.1 S · 0.2 D · 0.3 S · 0.5 S and 0.5 D · 0.9 D · 1.4 S · 2.0 D D   (4 same, 5 different)
DISTANCES = np.array([0.5, 2.0, 0.1, 0.9, 0.3, 0.2, 1.4, 0.5, 2.0])
SAME = np.array([True, False, True, False, True, False, True, False, False])


def random_pairs(seed: int, positives: int, negatives: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping distances rounded to two digits, so that many tie, in mixed order."""
    rng = np.random.default_rng(seed)
    distances = np.concatenate([rng.normal(0.9, 0.3, positives), rng.normal(1.4, 0.25, negatives)]).round(2)
    order = rng.permutation(len(distances))
    return distances[order], (np.arange(len(distances)) < positives)[order]


def test_squared_distances_by_hand():
    a = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]], np.float16)
    b = np.array([[0.0, 1.0], [0.6, 0.8], [0.0, 1.0]], np.float16)
    np.testing.assert_allclose(roc_module.squared_distances(a, b), [2.0, 0.0, 4.0], atol=1e-12)


def test_squared_distances_cross_a_block_and_keep_small_digits(monkeypatch):
    monkeypatch.setattr(roc_module, "_BLOCK", 3)
    a = np.zeros((8, 2), np.float32)
    b = a.copy()
    b[:, 1] = 1e-5 * np.arange(8, dtype=np.float32)
    np.testing.assert_allclose(roc_module.squared_distances(a, b), (1e-5 * np.arange(8)) ** 2, rtol=1e-5)


def test_squared_distances_refuse_other_shapes():
    with pytest.raises(DataError, match=r"\(2, 3\), \(3, 3\)"):
        roc_module.squared_distances(np.zeros((2, 3)), np.zeros((3, 3)))


def test_roc_by_hand():
    curve = roc_module.roc_curve(DISTANCES, SAME)
    np.testing.assert_array_equal(curve.thresholds, [-np.inf, 0.1, 0.2, 0.3, 0.5, 0.9, 1.4, 2.0])
    np.testing.assert_allclose(curve.tar, np.array([0, 1, 1, 2, 3, 3, 4, 4]) / 4)
    np.testing.assert_allclose(curve.far, np.array([0, 0, 1, 1, 2, 3, 3, 5]) / 5)


def test_roc_agrees_with_scikit_learn():
    distances, same = random_pairs(0, 70, 400)
    far, tar, thresholds = roc_curve(same, -distances, drop_intermediate=False)
    ours = roc_module.roc_curve(distances, same)
    np.testing.assert_allclose(ours.far, far)
    np.testing.assert_allclose(ours.tar, tar)
    np.testing.assert_allclose(ours.thresholds, -thresholds)


def test_auc_by_hand():
    # Of 20 (same, different) couples: 0.1 beats 5, 0.3 beats 4, 0.5 beats 3 and ties 1, 1.4 beats 2.
    assert roc_module.auc(DISTANCES, SAME) == pytest.approx(14.5 / 20)


@pytest.mark.parametrize("seed", range(3))
def test_auc_agrees_with_scikit_learn(seed):
    distances, same = random_pairs(seed, 60, 300)
    assert roc_module.auc(distances, same) == pytest.approx(roc_auc_score(same, -distances), abs=1e-12)


def test_eer_by_hand():
    # (FAR, TAR) goes from (0.2, 0.5) to (0.4, 0.75): FAR − FRR from −0.3 to 0.15, zero at 2/3 of the way.
    assert roc_module.eer(DISTANCES, SAME) == pytest.approx(0.2 + (2 / 3) * 0.2)


def test_eer_of_perfect_and_of_reversed_distances():
    same = np.array([True, True, False, False, False])
    assert roc_module.eer([0.1, 0.2, 0.5, 0.6, 0.7], same) == 0.0
    assert roc_module.eer([0.9, 0.8, 0.5, 0.6, 0.7], same) == 1.0


def test_eer_is_where_the_rates_cross():
    distances, same = random_pairs(4, 90, 500)
    far, tar, _ = roc_curve(same, -distances, drop_intermediate=False)
    grid = np.linspace(0, 1, 200_001)
    crossing = grid[np.argmin(np.abs(grid - (1 - np.interp(grid, far, tar))))]
    assert roc_module.eer(distances, same) == pytest.approx(crossing, abs=1e-4)


def test_tar_at_far_by_hand():
    # 5 different pairs. FAR 0.2 allows one: up to 0.3, two same of four. FAR 0.4 allows two: three of four.
    assert roc_module.tar_at_far(DISTANCES, SAME, 0.2) == pytest.approx(2 / 4)
    assert roc_module.tar_at_far(DISTANCES, SAME, 0.4) == pytest.approx(3 / 4)
    assert roc_module.tar_at_far(DISTANCES, SAME, 0.39) == pytest.approx(2 / 4)


def test_tar_at_far_is_none_where_it_cannot_be_seen():
    assert roc_module.tar_at_far(DISTANCES, SAME, 0.19) is None
    distances, same = random_pairs(1, 10, 999)
    assert roc_module.tar_at_far(distances, same, 1e-3) is None
    distances, same = random_pairs(1, 10, 1000)
    assert roc_module.tar_at_far(distances, same, 1e-3) is not None


@pytest.mark.parametrize(("far", "needed"), [(1e-1, 10), (1e-2, 100), (1e-3, 1000), (1e-4, 10_000), (1.0, 1), (0.3, 4)])
def test_negatives_needed(far, needed):
    assert roc_module.negatives_needed(far) == needed


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, float("nan")])
def test_negatives_needed_refuses_what_is_no_rate(far):
    with pytest.raises(DataError, match="false accept rate"):
        roc_module.negatives_needed(far)


def test_a_tie_is_accepted_whole_so_it_can_exceed_the_rate():
    # Ten different pairs tie at 0.5 with the only same pair: no threshold has FAR in (0, 1).
    assert roc_module.tar_at_far(np.full(11, 0.5), np.arange(11) == 0, 0.5) == 0.0


def test_a_weight_is_so_many_copies_of_a_pair():
    distances, same = random_pairs(3, 40, 150)
    weights = np.random.default_rng(3).integers(0, 4, (3, len(distances)))
    curves = roc_module.weighted_roc(distances, same, weights)
    for row, copies in enumerate(weights):
        repeated = np.repeat(distances, copies), np.repeat(same, copies)
        assert roc_module.roc_area(curves)[row] == pytest.approx(roc_module.auc(*repeated), abs=1e-12)
        assert roc_module.roc_eer(curves)[row] == pytest.approx(roc_module.eer(*repeated), abs=1e-12)
        for far in (0.3, 0.1, 0.02):
            assert roc_module.roc_tar(curves, far)[row] == pytest.approx(roc_module.tar_at_far(*repeated, far))


def test_a_weighting_without_pairs_of_a_kind_has_no_rate():
    curves = roc_module.weighted_roc(DISTANCES, SAME, np.stack([SAME, np.ones(9)]))
    assert np.isnan(roc_module.roc_area(curves)).tolist() == [True, False]
    assert roc_module.roc_area(curves)[1] == pytest.approx(14.5 / 20)


def test_weights_must_fit_the_pairs():
    with pytest.raises(DataError, match=r"\[weightings, 9\]. Received: shape \(9,\)"):
        roc_module.weighted_roc(DISTANCES, SAME, np.ones(9))


def test_best_threshold_lies_in_the_middle_of_the_gap():
    same = np.array([True, False, True, False])
    assert roc_module.best_threshold([0.2, 1.0, 0.4, 1.8], same) == pytest.approx(0.7)


def test_best_threshold_takes_the_widest_of_equal_gaps():
    # Right at each cut: 0.1|: 6 of 9; after 0.3: 6; after the tie: 6; after 1.4: 6. Gaps 0.1, 0.2, 0.4, 0.6.
    assert roc_module.best_threshold(DISTANCES, SAME) == pytest.approx(1.7)


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_is_best_of_all(seed):
    distances, same = random_pairs(seed, 40, 130)
    best = roc_module.accuracy_at(distances, same, roc_module.best_threshold(distances, same))
    tried = np.concatenate([[-1.0], np.unique(distances)])
    assert best == max(np.mean((distances <= t) == same) for t in tried)


def test_best_threshold_may_accept_all_or_nothing():
    assert roc_module.best_threshold([0.5, 0.1, 0.2], [False, True, True]) == pytest.approx(0.35)
    everything = roc_module.best_threshold([0.5, 0.1, 0.7], [True, False, True])
    assert everything == 0.7
    nothing = roc_module.best_threshold([0.0, 0.1, 0.7], [False, False, True])
    assert nothing < 0.0


def test_best_threshold_between_neighbouring_floats_rejects_the_upper():
    upper = np.nextafter(1.0, 2.0)
    assert roc_module.best_threshold([1.0, upper], [True, False]) == 1.0


def test_accuracy_and_rates_by_hand():
    assert roc_module.accuracy_at(DISTANCES, SAME, 0.5) == pytest.approx(6 / 9)
    assert roc_module.far_frr_at(DISTANCES, SAME, 0.5) == (pytest.approx(2 / 5), pytest.approx(1 / 4))
    each = np.where(SAME, 2.0, 0.0)
    assert roc_module.accuracy_at(DISTANCES, SAME, each) == 1.0


def test_smooth_threshold_lies_where_the_densities_cross():
    """Normal distances of equal spread and equal weight cross halfway, however many pairs of a kind there are."""
    rng = np.random.default_rng(0)
    distances = np.concatenate([rng.normal(0.8, 0.2, 4000), rng.normal(1.4, 0.2, 1000)])
    same = np.arange(5000) < 4000
    assert roc_module.smooth_threshold(distances, same) == pytest.approx(1.1, abs=0.02)


def test_smooth_threshold_is_more_accurate_on_other_pairs_than_the_best_of_a_sample():
    truth = np.random.default_rng(1)
    errors = {"best": [], "smooth": []}
    for _ in range(30):
        distances = np.concatenate([truth.normal(0.8, 0.3, 200), truth.normal(1.4, 0.3, 200)])
        same = np.arange(400) < 200
        errors["best"].append(roc_module.best_threshold(distances, same) - 1.1)
        errors["smooth"].append(roc_module.smooth_threshold(distances, same) - 1.1)
    assert np.std(errors["smooth"]) < 0.6 * np.std(errors["best"])
    assert abs(np.mean(errors["smooth"])) < 0.02


def test_smooth_threshold_of_kinds_far_apart_is_between_them():
    distances = np.concatenate([np.linspace(0.1, 0.2, 50), np.linspace(3.0, 3.5, 50)])
    found = roc_module.smooth_threshold(distances, np.arange(100) < 50)
    assert 0.5 < found < 2.7


def test_smooth_threshold_of_distances_that_are_all_equal_is_the_best_one():
    assert roc_module.smooth_threshold([0.2, 0.2, 1.0, 1.0], [True, True, False, False]) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "function",
    [roc_module.roc_curve, roc_module.auc, roc_module.eer, roc_module.best_threshold, roc_module.smooth_threshold],
)
def test_one_kind_of_pairs_cannot_be_scored(function):
    with pytest.raises(DataError, match="2 same, 0 different"):
        function([0.1, 0.2], [True, True])


def test_broken_distances_are_refused():
    with pytest.raises(DataError, match="1 of 2"):
        roc_module.auc([0.1, np.nan], [True, False])
    with pytest.raises(DataError, match="one distance and one"):
        roc_module.auc([0.1, 0.2, 0.3], [True, False])
    with pytest.raises(DataError, match="at least one pair"):
        roc_module.accuracy_at([], [], 0.1)
