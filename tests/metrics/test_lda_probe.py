"""The probe against scikit-learn's discriminants and hand-drawn folds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from facetl.errors import DataError
from facetl.metrics.baselines import Lda
from facetl.metrics.lda_probe import gain_stderr, probe
from facetl.metrics.pairs import fold_pairs, identity_folds

PEOPLE, DIM = 24, 12


def faces(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """People in 5 directions; the other 7 are louder and say nothing."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(PEOPLE), rng.integers(2, 6, PEOPLE))
    centres = np.concatenate([rng.normal(size=(PEOPLE, 5)), np.zeros((PEOPLE, DIM - 5))], axis=1)
    scale = np.concatenate([np.full(5, noise), np.full(DIM - 5, 6.0)])
    return (centres[labels] + rng.normal(size=(len(labels), DIM)) * scale).astype(np.float32), labels


def test_against_independent_folds() -> None:
    features, labels = faces(0.4)
    score = probe(features, labels, seed=3)
    pairs, fold_of = fold_pairs(labels, seed=3, folds=3), identity_folds(labels, folds=3, seed=3)
    assert np.array_equal(fold_of[pairs.first], pairs.fold)
    assert np.array_equal(fold_of[pairs.second], pairs.fold)
    distances = np.empty(len(pairs.same))
    for fold in range(3):
        others = fold_of != fold
        lda = Lda(components=min(400, others.sum() // 2), seed=3).fit(features[others], labels[others])
        embedded = lda.transform(features)
        squared = ((embedded[pairs.first] - embedded[pairs.second]) ** 2).sum(axis=1)
        distances[pairs.fold == fold] = squared[pairs.fold == fold]
    assert score.auc == pytest.approx(roc_auc_score(pairs.same, -distances), abs=1e-6)
    accuracies = []
    for fold in range(3):
        here, elsewhere = pairs.fold == fold, pairs.fold != fold
        # Any threshold between the two distances around the best cut gives the other folds the same accuracy.
        cuts = np.sort(distances[elsewhere])
        cuts = np.concatenate([[cuts[0] - 1], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1]])
        right = [np.mean((distances[elsewhere] <= cut) == pairs.same[elsewhere]) for cut in cuts]
        best = cuts[np.flatnonzero(np.isclose(right, max(right)))]
        accuracies.append([np.mean((distances[here] <= cut) == pairs.same[here]) for cut in (best[0], best[-1], *best)])
    assert np.mean([min(each) for each in accuracies]) <= score.accuracy + 1e-9
    assert score.accuracy <= np.mean([max(each) for each in accuracies]) + 1e-9
    assert (score.people, score.photos) == (PEOPLE, len(labels))


def test_finds_what_raw_distances_miss_and_knows_nothing_of_those_it_tests() -> None:
    features, labels = faces(0.2)
    assert probe(features, labels, seed=0).auc > 0.9
    noise = np.random.default_rng(5).normal(size=(len(labels), 200)).astype(np.float32)
    score = probe(noise, labels, seed=0)
    # An LDA that had seen the people tested would tell them apart in so many dimensions, whatever the features.
    assert abs(score.auc - 0.5) < 4 * score.auc_stderr + 0.05


def test_the_error_of_a_gain_cancels_what_both_share() -> None:
    (clear, labels), (blurred, _) = faces(0.3), faces(1.2)
    one, other = probe(clear, labels, seed=1), probe(blurred, labels, seed=1)
    assert gain_stderr(one, one) == 0.0
    difference = np.array(one.auc_without) - np.array(other.auc_without)
    parts = len(difference)
    assert parts == 20
    assert gain_stderr(one, other) == pytest.approx(math.sqrt((parts - 1) ** 2 / parts * difference.var(ddof=1)))
    assert one.auc - other.auc > gain_stderr(one, other) > 0


def test_the_stderr_is_about_the_spread_over_draws_of_people() -> None:
    scores = [probe(*faces(1.0, seed), seed=seed) for seed in range(6)]
    spread = np.std([score.auc for score in scores], ddof=1)
    assert 0.4 < np.mean([score.auc_stderr for score in scores]) / spread < 2.5


def test_labels_may_be_names() -> None:
    features, labels = faces(0.4)
    assert probe(features, [f"p{label:02d}" for label in labels], seed=2) == probe(features, labels, seed=2)


@pytest.mark.parametrize(("photos", "people"), [(6, 3), (8, 8)])
def test_too_few_people(photos: int, people: int) -> None:
    with pytest.raises(DataError, match="4 people with 2 photos"):
        probe(np.random.default_rng(0).normal(size=(photos, 3)), np.arange(photos) % people, seed=0)


def test_probes_of_other_photos_are_not_compared() -> None:
    features, labels = faces(0.4)
    with pytest.raises(DataError, match="same photos"):
        gain_stderr(probe(features, labels, seed=0), probe(features[1:], labels[1:], seed=0))
