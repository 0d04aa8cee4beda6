"""Probability maps and what is said of them, against scikit-learn, hand-worked bins and the true law."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from facetl.calibration import probability
from facetl.calibration.probability import (
    Isotonic,
    Platt,
    at_prior,
    fit_isotonic,
    fit_platt,
    fit_probability,
    map_from_json,
    reliability,
)
from facetl.errors import DataError, RunError
from facetl.io.json import StoredFields
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.verification import pair_distances
from facetl.report.plots import figure_png, reliability_plot


def people(count: int, seed: int, *, noise: float = 0.7, photos: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), photos)
    rows = rng.normal(size=(count, 8))[labels] + noise * rng.normal(size=(len(labels), 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_platt_finds_the_law_that_made_the_pairs():
    rng = np.random.default_rng(0)
    distances = rng.uniform(0, 4, 40_000)
    same = rng.uniform(size=len(distances)) < expit(5.0 - 3.0 * distances)
    fitted = fit_platt(distances, same, np.full(len(distances), 1 / len(distances)))
    assert fitted.slope == pytest.approx(-3.0, abs=0.15)
    assert fitted.intercept == pytest.approx(5.0, abs=0.25)


def test_platt_agrees_with_scikit_learn_on_weighted_pairs():
    rng = np.random.default_rng(1)
    distances, same = rng.uniform(0, 4, 5000), np.arange(5000) % 3 == 0
    distances[same] *= 0.6
    weights = rng.uniform(0.5, 3.0, 5000)
    fitted = fit_platt(distances, same, weights / weights.sum())
    # Targets 1 and 0 instead of Platt's, which 5,000 pairs hardly tell apart.
    plain = LogisticRegression(C=1e6).fit(distances[:, None], same, sample_weight=weights)
    assert fitted.slope == pytest.approx(plain.coef_[0, 0], rel=0.02)
    assert fitted.intercept == pytest.approx(plain.intercept_[0], rel=0.02)


def test_platt_stays_finite_where_no_pair_is_mistaken():
    same = np.arange(40) < 10
    fitted = fit_platt(np.where(same, 0.5, 2.0), same, np.full(40, 1 / 40))
    np.testing.assert_allclose(
        fitted([0.5, 2.0]), [11 / 12, 1 / 32], atol=1e-3
    )  # his (n + 1) / (n + 2) and 1 / (n + 2)


def test_a_nearer_pair_is_never_less_likely():
    same = np.arange(40) < 20
    wrong_way = np.where(same, 3.0, 1.0)
    assert fit_platt(wrong_way, same, np.full(40, 1 / 40)) == Platt(0.0, 0.0)
    assert set(fit_isotonic(wrong_way, same, np.full(40, 1 / 40)).probabilities) == {0.5}


def test_isotonic_pools_what_is_out_of_order_by_hand():
    distances = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    same = np.array([True, False, True, False, False, False])
    weights = np.array([1.0, 3.0, 1.0, 1.0, 1.0, 1.0])
    fitted = fit_isotonic(distances, same, weights)
    # 0.2 and 0.3 are out of order: (0 · 3 + 1 · 1) / 4. Ends kept to (2 + 1) / (2 + 2) and 1 / (4 + 2).
    np.testing.assert_allclose(
        fitted([0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 3.0]), [3 / 4, 3 / 4, 1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6]
    )


def test_a_prior_moves_the_odds():
    # Odds 4 : 1 at even odds before; at a prior of 0.2 (1 : 4) they are even.
    np.testing.assert_allclose(at_prior(np.array([0.8, 0.5]), 0.2), [0.5, 0.2])
    with pytest.raises(DataError, match=r"prior must be in \(0, 1\)"):
        at_prior(np.array([0.5]), 1.0)


def test_bins_of_equal_weight_by_hand():
    predicted = [0.9, 0.1, 0.2, 0.8, 0.4, 0.6]
    same = [True, False, True, True, False, False]
    diagram = reliability(predicted, same, bins=3)
    np.testing.assert_allclose(diagram.predicted, [0.15, 0.5, 0.85])
    np.testing.assert_allclose(diagram.observed, [0.5, 0.0, 1.0])
    assert diagram.error == pytest.approx((0.35 + 0.5 + 0.15) / 3)
    weighted = reliability(predicted, same, weights=[1, 1, 1, 1, 1, 5], bins=2)
    # Half of the weight is that of 0.6, whose middle lies in the second half: 0.1, 0.2, 0.4 against the rest.
    np.testing.assert_allclose(weighted.weights, [0.3, 0.7])
    np.testing.assert_allclose(weighted.observed, [1 / 3, 2 / 7])


def test_equal_probabilities_stay_in_one_bin():
    diagram = reliability([0.5] * 4 + [0.7], [True, False, False, False, True], bins=5)
    np.testing.assert_allclose(diagram.observed, [0.25, 1.0])


def test_the_sweep_stops_where_more_bins_would_show_chance():
    rng = np.random.default_rng(3)
    predicted = rng.uniform(size=60)
    same = rng.uniform(size=60) < predicted
    swept = reliability(predicted, same, bins=None)
    assert np.all(np.diff(swept.observed) >= 0)
    finer = reliability(predicted, same, bins=len(swept.predicted) + 1)
    assert np.any(np.diff(finer.observed) < 0)
    assert swept.error < reliability(predicted, same, bins=15).error


@pytest.mark.parametrize(
    ("predicted", "weights", "message"),
    [([0.5, 1.2], None, r"in \[0, 1\]"), ([0.5, np.nan], None, "finite"), ([0.5, 0.6], [1, -1], "weight")],
)
def test_what_is_no_probability_is_refused(predicted, weights, message):
    with pytest.raises(DataError, match=message):
        reliability(predicted, [True, False], weights=weights)


def test_probabilities_hold_for_people_never_seen():
    fitted = fit_probability(*people(150, 0), seed=0)
    assert min(fitted.log_loss, key=fitted.log_loss.__getitem__) == fitted.map.to_json()["method"]
    embeddings, labels = people(300, 1)
    pairs = sample_pairs(labels, seed=0)
    assert reliability(fitted.map(pair_distances(embeddings, pairs)), pairs.same).error < 0.03
    assert fitted.reliability is not None
    assert fitted.reliability.error < 0.05


def test_isotonic_wins_where_no_logistic_curve_fits(monkeypatch):
    """Distances at three places, one person's share 0.95, 0.5 and 0.45: far from any logistic curve."""
    rng = np.random.default_rng(5)

    def pairs(embeddings, photos, seed):
        place = rng.integers(3, size=3000)
        same = rng.uniform(size=3000) < np.array([0.95, 0.5, 0.45])[place]
        return np.array([0.5, 1.0, 3.9])[place], same, np.full(3000, 1 / 3000)

    monkeypatch.setattr(probability, "_weighted_pairs", pairs)
    fitted = fit_probability(*people(20, 0), seed=0)
    assert isinstance(fitted.map, Isotonic)
    assert fitted.log_loss["isotonic"] < fitted.log_loss["platt"]
    np.testing.assert_allclose(fitted.map([0.5, 1.0, 3.9]), [0.95, 0.5, 0.45], atol=0.05)


def test_a_map_is_judged_on_people_it_was_not_fitted_on():
    # On the pairs of its own fit isotonic regression beats every curve; on those of other people it cannot here.
    fitted = fit_probability(*people(12, 4, noise=1.0), seed=0)
    assert fitted.log_loss["isotonic"] > fitted.log_loss["platt"]


def test_people_with_many_photos_weigh_no_more():
    embeddings, labels = people(30, 2, photos=2)
    rng = np.random.default_rng(0)
    more = np.tile(embeddings[:1], (40, 1)) + 0.01 * rng.normal(size=(40, 8)).astype(np.float32)
    more /= np.linalg.norm(more, axis=1, keepdims=True)
    rows, names = np.concatenate([embeddings, more]), np.concatenate([labels, np.zeros(40, labels.dtype)])
    _, same, weights = probability._weighted_pairs(rows, names, 0)
    assert weights[same].sum() == pytest.approx(0.5)
    assert weights[~same].sum() == pytest.approx(0.5)
    # The one person's 45 pairs together weigh what another's single pair does.
    assert np.sort(weights[same])[-29:] == pytest.approx(0.5 / 30)
    assert np.sort(weights[same])[:-29].sum() == pytest.approx(0.5 / 30)


def test_few_people_get_a_curve_and_no_claim():
    fitted = fit_probability(*people(3, 0), seed=0)
    assert (fitted.reliability, fitted.log_loss) == (None, {})
    assert isinstance(fitted.map, Platt)


@pytest.mark.parametrize("fitted", [Platt(-3.5, 4.25), Isotonic((0.5, 1.0, 1.5), (0.9, 0.9, 0.25))])
def test_a_map_survives_json(fitted):
    again = map_from_json(StoredFields(json.loads(json.dumps(fitted.to_json())), "file"))
    assert again == fitted


@pytest.mark.parametrize(
    "stored",
    [
        {"method": "svm"},
        {"method": "platt", "slope": 1.0, "intercept": 0.0},
        {"method": "platt", "slope": float("nan"), "intercept": 0.0},
        {"method": "platt", "slope": -1.0},
        {"method": "isotonic", "distances": [0.1, 0.2], "probabilities": [0.2, 0.9]},
        {"method": "isotonic", "distances": [0.2, 0.1], "probabilities": [0.9, 0.2]},
        {"method": "isotonic", "distances": [0.2], "probabilities": [0.9, 0.2]},
        {"method": "isotonic", "distances": [], "probabilities": []},
        {"method": "isotonic", "distances": [0.2, "0.3"], "probabilities": [0.9, 0.2]},
        ["platt"],
    ],
    ids=str,
)
def test_a_damaged_map_is_named(stored):
    with pytest.raises(RunError, match=r"file.*Run facetl calibrate"):
        map_from_json(StoredFields(stored, "file"))


def test_the_diagram_shows_the_bins_and_the_error():
    figure = reliability_plot(reliability([0.1, 0.4, 0.9], [False, False, True], bins=3))
    line = next(line for line in figure.axes[0].lines if "ECE 0.200" in line.get_label())
    np.testing.assert_allclose(line.get_xydata(), [[0.1, 0], [0.4, 0], [0.9, 1]])
    assert figure_png(figure, dpi=20).startswith(b"\x89PNG")
