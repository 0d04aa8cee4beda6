"""Scores over folds by hand, thresholds that come from elsewhere, and what leaks are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from facetl.errors import DataError
from facetl.metrics.pairs import Pairs, fold_pairs
from facetl.metrics.verification import (
    evaluate_embeddings,
    hardest_mistakes,
    pair_distances,
    threshold_from,
    verify,
    verify_at,
    verify_folds,
)

# Two folds, three pairs and five. Fold 0 alone is best at 0.6, fold 1 alone at 1.2.
DISTANCES = np.array([0.2, 1.0, 0.7, 0.9, 1.1, 1.3, 1.5, 0.5])
SAME = np.array([True, False, False, True, True, False, False, True])
FOLD = np.array([0, 0, 0, 1, 1, 1, 1, 1])


def people(seed: int, *, count: int = 12, photos: int = 6, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Unit-norm Gaussian identities: embeddings [photos, 16] in mixed order, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(count), photos))
    rows = rng.standard_normal((count, 16))[labels] + noise * rng.standard_normal((len(labels), 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_threshold_of_a_fold_comes_from_the_others():
    scores = verify_folds(DISTANCES, SAME, FOLD)
    # Fold 0 at 1.2: right on 0.2 alone, 1 of 3. Fold 1 at 0.45, between 0.2 and 0.7: 2 of 5, none of 3 same.
    assert scores.thresholds == pytest.approx((1.2, 0.45))
    assert scores.fold_accuracies == pytest.approx((1 / 3, 2 / 5))
    assert scores.accuracy == pytest.approx((1 / 3 + 2 / 5) / 2)
    # Two values: the sample deviation is |a − b| / √2, over √2 folds is |a − b| / 2.
    assert scores.accuracy_stderr == pytest.approx((2 / 5 - 1 / 3) / 2)
    assert scores.far_at_threshold == pytest.approx(2 / 4)
    assert scores.frr_at_threshold == pytest.approx(3 / 4)
    assert (scores.pairs, scores.positives, scores.folds) == (8, 4, 2)
    assert scores.auc == pytest.approx(roc_auc_score(SAME, -DISTANCES))
    assert scores.tar_at_far == {"1e-1": None, "1e-2": None, "1e-3": None, "1e-4": None}


def test_a_rate_that_cannot_be_seen_says_what_it_takes():
    same = np.arange(1100) < 100
    distances = np.where(same, 0.5, np.linspace(0.4, 2.0, 1100))
    scores = verify_at(distances, same, threshold=0.6)
    assert scores.negatives == 1000
    assert scores.negatives_needed == {"1e-4": 10_000}
    written = scores.to_json()
    assert (written["negatives"], written["negatives_needed"]) == (1000, {"1e-4": 10_000})
    assert scores.tar_at_far["1e-3"] == 1.0
    assert verify_at(distances[1:1099], same[1:1099], threshold=0.6).negatives_needed == {"1e-3": 1000, "1e-4": 10_000}


def test_a_fold_does_not_see_itself():
    """Changing a fold's own pairs, whatever way, moves the threshold of the other folds only."""
    distances = DISTANCES.copy()
    before = verify_folds(distances, SAME, FOLD).thresholds
    distances[FOLD == 1] = 4.0 - distances[FOLD == 1]
    after = verify_folds(distances, SAME, FOLD).thresholds
    assert after[1] == before[1]
    assert after[0] != before[0]


def test_standard_error_over_five_uneven_folds():
    rng = np.random.default_rng(0)
    fold = np.repeat([3, 1, 9, 4, 7], [20, 40, 60, 80, 30])
    same = rng.random(len(fold)) < 0.5
    distances = np.where(same, 1.0, 1.5) + rng.normal(0, 0.4, len(fold))
    scores = verify_folds(distances, same, fold)
    numbered = zip([1, 3, 4, 7, 9], scores.thresholds, strict=True)
    own = [np.mean((distances[fold == k] <= t) == same[fold == k]) for k, t in numbered]
    assert scores.fold_accuracies == pytest.approx(own)
    assert scores.accuracy == pytest.approx(np.mean(own))
    assert scores.accuracy_stderr == pytest.approx(np.std(own, ddof=1) / np.sqrt(5))


def test_one_fold_has_no_other():
    with pytest.raises(DataError, match="at least 2 folds"):
        verify_folds(DISTANCES, SAME, np.zeros(8, int))


def test_a_threshold_from_elsewhere():
    scores = verify_at(DISTANCES, SAME, threshold=0.95)
    assert scores.accuracy == pytest.approx(6 / 8)  # wrong: 0.7 accepted, 1.1 refused
    assert scores.accuracy_stderr == pytest.approx(np.sqrt(0.75 * 0.25 / 8))
    assert (scores.far_at_threshold, scores.frr_at_threshold) == (1 / 4, 1 / 4)
    assert scores.threshold == 0.95


def test_a_threshold_for_each_fold():
    scores = verify_at(DISTANCES, SAME, threshold={1: 1.2, 0: 0.6}, fold=FOLD)
    assert scores.thresholds == (0.6, 1.2)
    assert scores.fold_accuracies == (1.0, 1.0)
    assert scores.far_at_threshold == scores.frr_at_threshold == 0.0
    with pytest.raises(DataError, match="none for fold 1"):
        verify_at(DISTANCES, SAME, threshold={0: 0.6}, fold=FOLD)


def test_to_json_is_plain():
    written = json.loads(json.dumps(verify_folds(DISTANCES, SAME, FOLD).to_json(), allow_nan=False))
    assert written["thresholds"] == pytest.approx([1.2, 0.45])
    assert written["threshold"] == pytest.approx(0.825)
    assert written["tar_at_far"]["1e-4"] is None
    assert written["negatives_needed"] == {"1e-1": 10, "1e-2": 100, "1e-3": 1000, "1e-4": 10_000}
    assert {"accuracy", "accuracy_stderr", "auc", "eer", "pairs", "folds"} <= written.keys()


def test_embeddings_of_separable_people_are_told_apart():
    held_out, labels = people(0, noise=0.05)
    scores = evaluate_embeddings(held_out, labels, thresholds_from=people(1, noise=0.05), seed=0)
    assert (scores.accuracy, scores.auc, scores.eer, scores.folds) == (1.0, 1.0, 0.0, 5)


def test_labels_that_mean_nothing_score_as_chance():
    held_out, labels = people(2, count=40, photos=8)
    shuffled = np.random.default_rng(1).permutation(labels)
    scores = evaluate_embeddings(held_out, shuffled, thresholds_from=None, seed=0)
    assert abs(scores.accuracy - 0.5) < 0.06
    assert abs(scores.auc - 0.5) < 0.06


def test_the_threshold_is_that_of_the_validation_people():
    validation = people(3, noise=0.9)
    held_out, labels = people(4, noise=0.9)
    scores = evaluate_embeddings(held_out, labels, thresholds_from=validation, seed=6)
    threshold = threshold_from(*validation, seed=6)
    assert set(scores.thresholds) == {threshold}
    pairs = fold_pairs(labels, seed=6)
    accepted = np.sum((held_out[pairs.first] - held_out[pairs.second]) ** 2, axis=1) <= threshold
    own = [np.mean(accepted[pairs.fold == k] == pairs.same[pairs.fold == k]) for k in range(5)]
    assert scores.fold_accuracies == pytest.approx(own)


def test_few_people_shrink_the_folds():
    held_out, labels = people(5, count=4)
    assert evaluate_embeddings(held_out, labels, thresholds_from=people(6), seed=0).folds == 2
    held_out, labels = people(5, count=2)
    scores = evaluate_embeddings(held_out, labels, thresholds_from=people(6), seed=0)
    assert scores.folds == 1
    assert np.isfinite(scores.accuracy_stderr)
    with pytest.raises(DataError, match="at least 2 folds"):
        evaluate_embeddings(held_out, labels, thresholds_from=None, seed=0)


def test_people_on_both_sides_are_refused():
    held_out, labels = people(0)
    names = np.array([f"Person_{k}" for k in labels])
    with pytest.raises(DataError, match=r"12 on both sides, .*Person_0"):
        evaluate_embeddings(held_out, names, thresholds_from=(held_out, names), seed=0)


def test_embeddings_must_have_unit_norm():
    held_out, labels = people(0)
    with pytest.raises(DataError, match=r"72 of 72 .* norm 3"):
        evaluate_embeddings(3 * held_out, labels, thresholds_from=None, seed=0)
    broken = held_out.copy()
    broken[labels == 3] = np.nan
    with pytest.raises(DataError, match="6 of 72"):
        evaluate_embeddings(broken, labels, thresholds_from=None, seed=0)
    with pytest.raises(DataError, match="Each label needs an embedding"):
        evaluate_embeddings(held_out[:10], labels, thresholds_from=None, seed=0)


def test_float16_embeddings_serve():
    held_out, labels = people(0)
    whole = evaluate_embeddings(held_out, labels, thresholds_from=None, seed=0)
    half = evaluate_embeddings(held_out.astype(np.float16), labels, thresholds_from=None, seed=0)
    assert half.auc == pytest.approx(whole.auc, abs=0.01)


def test_pair_distances_by_hand():
    embeddings = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32)
    pairs = Pairs(np.array([0, 2, 3]), np.array([1, 0, 1]), np.array([True, False, False]))
    np.testing.assert_allclose(pair_distances(embeddings, pairs), [2.0, 0.8, 1.0], rtol=1e-6)


def test_hardest_mistakes_by_hand():
    # At 0.95 wrong are 0.7 D (by 0.25), 1.1 S (by 0.15); at 0.3 also 0.9 S and 0.5 S, all three same refused.
    assert hardest_mistakes(DISTANCES, SAME, threshold=0.95).tolist() == [2, 4]
    assert hardest_mistakes(DISTANCES, SAME, threshold=0.95, limit=1).tolist() == [4]
    assert hardest_mistakes(DISTANCES, SAME, threshold=0.3, limit=2).tolist() == [4, 3]
    assert hardest_mistakes(DISTANCES, SAME, threshold=0.75, limit=2).tolist() == [4, 2]
    assert hardest_mistakes(DISTANCES, SAME, threshold=np.where(FOLD == 0, 0.6, 1.2)).tolist() == []


class TestVerify:
    def test_is_that_of_the_same_pairs_of_unit_vectors(self):
        embeddings, labels = people(3)
        found = verify(embeddings, labels, folds=3, seed=7)
        expected = evaluate_embeddings(embeddings, labels, thresholds_from=None, seed=7, folds=3)
        assert found.thresholds == pytest.approx(expected.thresholds, abs=1e-6)
        assert (found.folds, found.fold_accuracies) == (3, expected.fold_accuracies)
        assert (found.auc, found.eer) == pytest.approx((expected.auc, expected.eer))

    def test_the_norm_of_an_embedding_does_not_count(self):
        embeddings, labels = people(3)
        scales = np.random.default_rng(0).uniform(0.1, 9, (len(labels), 1))
        plain, scaled = (verify(rows, labels, seed=1) for rows in (embeddings, (embeddings * scales).tolist()))
        assert scaled.accuracy == pytest.approx(plain.accuracy)
        assert scaled.auc == pytest.approx(plain.auc, abs=1e-4)

    def test_no_fold_gives_its_own_threshold(self):
        """Labels by chance: a threshold from the pairs it is judged on would be right on more than half of them."""
        rng = np.random.default_rng(0)
        found = [verify(rng.standard_normal((60, 8)), np.arange(60) % 12, seed=seed) for seed in range(20)]
        assert np.mean([one.accuracy for one in found]) < 0.51

    def test_it_can_be_read(self):
        lines = str(verify(*people(3), folds=3)).splitlines()
        assert lines[0].startswith("accuracy   0.")
        assert lines[0].endswith(", 3 folds, thresholds from the other folds")
        assert "needs 10,000 pairs for 1e-4" in lines[3]
        assert [line.split()[0] for line in lines] == ["accuracy", "AUC", "EER", "TAR@FAR", "threshold", "pairs"]

    def test_too_few_people(self):
        with pytest.raises(DataError, match="at least 2 folds"):
            verify(np.eye(6), [0, 0, 1, 1, 2, 2])
        with pytest.raises(DataError, match=r"labels \[photos\]"):
            verify(np.eye(6), [0, 0, 1, 1, 2])

    def test_embeddings_that_are_not_finite(self):
        embeddings, labels = people(3)
        embeddings[5] = np.nan
        with pytest.raises(DataError, match=r"finite|unit norm"):
            verify(embeddings, labels)
