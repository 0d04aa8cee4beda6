"""Triplet losses against values worked out by hand and against plain loops, on lopsided input."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from facetl.training.losses import (
    active,
    batch_all_triplet_loss,
    batch_hard_triplet_loss,
    distance_weighted_triplet_loss,
    distance_weights,
    hinge,
    out_of_order,
    pairwise_squared_distances,
    semi_hard_triplet_loss,
    triplet_loss,
)

ANCHOR = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
POSITIVE = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]], np.float32)
NEGATIVE = np.array([[0.0, 1.0], [-0.6, 0.8], [0.0, -1.0]], np.float32)
# Squared distances by hand: to the positives 0.8, 2.0, 0.4; to the negatives 2.0, 0.4, 3.6.

# Person 4 has three photos, 7 two, 9 one.
LABELS = np.array([7, 4, 9, 4, 7, 4])


def unit_vectors(count: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def softened(violation: float, softness: float) -> float:
    return softness * math.log(1 + math.exp(violation / softness)) if softness else max(0.0, violation)


def test_triplet_loss_by_hand() -> None:
    losses = triplet_loss(ANCHOR, POSITIVE, NEGATIVE, margin=1.5)
    assert tuple(losses.shape) == (3,)
    np.testing.assert_allclose(losses, [0.8 - 2.0 + 1.5, 2.0 - 0.4 + 1.5, 0.0], rtol=1e-6)


def test_triplet_loss_softened_by_hand() -> None:
    losses = triplet_loss(ANCHOR, POSITIVE, NEGATIVE, margin=0.2, softness=0.5)
    expected = [softened(x, 0.5) for x in (-1.0, 1.8, -3.0)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_triplet_loss_agrees_with_a_loop(softness: float) -> None:
    anchor, positive, negative = (unit_vectors(9, 5, seed) for seed in range(3))
    expected = [
        softened(distance(a, p) - distance(a, n) + 0.4, softness)
        for a, p, n in zip(anchor, positive, negative, strict=True)
    ]
    assert 0.0 in expected or softness
    np.testing.assert_allclose(
        triplet_loss(anchor, positive, negative, margin=0.4, softness=softness), expected, rtol=1e-5, atol=1e-6
    )


def test_hinge_by_hand_and_its_soft_form_approaches_it() -> None:
    violation = np.array([-2.0, -0.1, 0.0, 0.7], np.float32)
    np.testing.assert_allclose(hinge(violation), [0, 0, 0, 0.7])
    assert float(hinge(np.float32(0.0), softness=0.5)) == pytest.approx(0.5 * math.log(2))
    np.testing.assert_allclose(hinge(violation, softness=1e-3), [0, 0, 1e-3 * math.log(2), 0.7], atol=1e-6)


@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_active_is_a_violated_margin_whatever_the_softness(softness: float) -> None:
    violation = np.array([-0.8, -0.01, 0.01, 2.0], np.float32)
    assert np.asarray(active(hinge(violation, softness=softness), softness=softness)).tolist() == [0, 0, 1, 1]


def gradients(triplet: int, **options: float) -> list[np.ndarray]:
    parts = [tf.Variable(part[triplet : triplet + 1]) for part in (ANCHOR, POSITIVE, NEGATIVE)]
    with tf.GradientTape() as tape:
        loss = triplet_loss(*parts, **options)
    return [np.asarray(gradient)[0] for gradient in tape.gradient(loss, parts)]


def test_gradient_of_a_violated_triplet_by_hand() -> None:
    to_anchor, to_positive, to_negative = gradients(1, margin=0.2)
    a, p, n = ANCHOR[1], POSITIVE[1], NEGATIVE[1]
    np.testing.assert_allclose(to_anchor, 2 * (n - p), rtol=1e-6)
    np.testing.assert_allclose(to_positive, 2 * (p - a), rtol=1e-6)
    np.testing.assert_allclose(to_negative, 2 * (a - n), rtol=1e-6)


def test_a_solved_triplet_has_a_gradient_only_with_softness() -> None:
    for gradient in gradients(0, margin=0.2):
        assert not gradient.any()
    sigmoid = 1 / (1 + math.exp(1.0 / 0.5))  # the violation is −1
    np.testing.assert_allclose(
        gradients(0, margin=0.2, softness=0.5)[0], sigmoid * 2 * (NEGATIVE[0] - POSITIVE[0]), rtol=1e-5
    )


def test_pairwise_distances_agree_with_differences() -> None:
    embeddings = unit_vectors(7, 4)
    expected = [[distance(a, b) for b in embeddings] for a in embeddings]
    distances = np.asarray(pairwise_squared_distances(embeddings))
    assert distances.shape == (7, 7)
    np.testing.assert_allclose(distances, expected, atol=1e-6)


def test_pairwise_distances_never_fall_below_zero() -> None:
    embeddings = unit_vectors(200, 33) * np.float32(1 + 1e-6)
    assert np.min(2 - 2 * embeddings @ embeddings.T) < 0
    assert np.min(pairwise_squared_distances(embeddings)) == 0.0


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_batch_all_is_every_valid_triplet_once(softness: float) -> None:
    embeddings = unit_vectors(len(LABELS), 3, seed=5)
    expected = [
        softened(distance(embeddings[a], embeddings[p]) - distance(embeddings[a], embeddings[n]) + 0.2, softness)
        for a in range(6)
        for p in range(6)
        for n in range(6)
        if a != p and LABELS[a] == LABELS[p] and LABELS[a] != LABELS[n]
    ]
    # 3 anchors of person 4, each 2 positives and 3 negatives; 2 of person 7, each 1 and 4.
    assert len(expected) == 3 * 2 * 3 + 2 * 1 * 4
    losses = np.asarray(batch_all_triplet_loss(embeddings, LABELS, margin=0.2, softness=softness))
    assert losses.shape == (26,)
    np.testing.assert_allclose(np.sort(losses), np.sort(expected), atol=1e-5)


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_batch_hard_is_the_farthest_positive_and_the_nearest_negative(softness: float) -> None:
    embeddings = unit_vectors(len(LABELS), 3, seed=5)
    expected = []
    for a in (0, 1, 3, 4, 5):  # photo 2 is the only one of person 9
        positives = [distance(embeddings[a], embeddings[p]) for p in range(6) if p != a and LABELS[p] == LABELS[a]]
        negatives = [distance(embeddings[a], embeddings[n]) for n in range(6) if LABELS[n] != LABELS[a]]
        expected.append(softened(max(positives) - min(negatives) + 0.2, softness))
    losses = np.asarray(batch_hard_triplet_loss(embeddings, LABELS, margin=0.2, softness=softness))
    assert losses.shape == (5,)
    np.testing.assert_allclose(losses, expected, atol=1e-5)


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_semi_hard_is_the_nearest_negative_beyond_the_positive(softness: float) -> None:
    expected, without_one = [], 0
    embeddings = unit_vectors(len(LABELS), 2, seed=5)
    for a in range(6):
        for p in range(6):
            if p == a or LABELS[p] != LABELS[a]:
                continue
            far = distance(embeddings[a], embeddings[p])
            others = [distance(embeddings[a], embeddings[n]) for n in range(6) if LABELS[n] != LABELS[a]]
            beyond = [other for other in others if other > far]
            without_one += not beyond
            expected.append(softened(far - (min(beyond) if beyond else max(others)) + 0.2, softness))
    assert 0 < without_one < len(expected) == 8
    losses = np.asarray(semi_hard_triplet_loss(embeddings, LABELS, margin=0.2, softness=softness))
    np.testing.assert_allclose(losses, expected, atol=1e-5)


def density(euclidean: float, dim: int) -> float:
    """How distances spread between random points of the unit sphere, but for a factor."""
    return euclidean ** (dim - 2) * (1 - euclidean**2 / 4) ** ((dim - 3) / 2)


def test_distance_weights_are_the_inverse_density_between_the_bounds() -> None:
    # Too near, near, nearer, too far, of the anchor's person; squared.
    distances = np.array([[0.04, 1.0, 0.49, 2.5, 0.3], [2.2, 3.0, 2.6, 2.5, 0.1]], np.float32)
    negative = np.array([[True, True, True, True, False], [True, True, False, True, False]])
    weights = np.exp(np.asarray(distance_weights(distances, negative, dim=6), np.float64))
    weights /= weights.sum(axis=1, keepdims=True)
    inverse = np.array([1 / density(d, 6) for d in (0.5, 1.0, 0.7)])
    np.testing.assert_allclose(weights[0], [*(inverse / inverse.sum()), 0, 0], rtol=1e-5)
    np.testing.assert_allclose(weights[1], [1 / 3, 1 / 3, 0, 1 / 3, 0])  # nobody near: all alike


def test_distance_weighted_negatives_are_drawn_by_their_weights() -> None:
    embeddings, labels = unit_vectors(len(LABELS), 3, seed=5), LABELS
    distances = np.array([[distance(a, b) for b in embeddings] for a in embeddings])
    negative = labels[:, None] != labels[None, :]
    weights = np.exp(np.asarray(distance_weights(distances.astype(np.float32), negative, dim=3), np.float64))
    weights /= weights.sum(axis=1, keepdims=True)
    pairs = [(a, p) for a in range(6) for p in range(6) if a != p and labels[a] == labels[p]]
    violation = np.array([[distances[a, p] - distances[a, n] + 0.2 for n in range(6)] for a, p in pairs])
    drawn = np.zeros((8, 6))
    seeds = keras.random.SeedGenerator(4)
    for _ in range(200):
        losses = np.asarray(distance_weighted_triplet_loss(embeddings, labels, margin=0.2, softness=0.5, seed=seeds))
        candidates = np.array([[softened(value, 0.5) for value in row] for row in violation])
        chosen = np.argmin(np.abs(candidates - losses[:, None]), axis=1)
        np.testing.assert_allclose(losses, candidates[np.arange(8), chosen], atol=1e-5)
        drawn[np.arange(8), chosen] += 1
    expected = np.array([weights[a] for a, _ in pairs]) * 200
    np.testing.assert_array_equal(drawn[expected == 0], 0)
    assert np.max(np.abs(drawn - expected) / np.sqrt(np.maximum(expected, 1))) < 4.5


def test_a_distance_weighted_loss_follows_its_seed() -> None:
    embeddings = unit_vectors(len(LABELS), 3, seed=5)

    def losses(seed: int) -> list[float]:
        return np.asarray(distance_weighted_triplet_loss(embeddings, LABELS, margin=0.2, seed=seed)).tolist()

    assert losses(3) == losses(3)
    assert any(losses(3) != losses(other) for other in range(4, 12))


def test_out_of_order_is_a_farthest_positive_beyond_the_nearest_negative() -> None:
    embeddings = unit_vectors(len(LABELS), 3, seed=5)
    hard = np.asarray(batch_hard_triplet_loss(embeddings, LABELS, margin=3.9)) - 3.9
    wrong = np.asarray(out_of_order(embeddings, LABELS))
    assert wrong.tolist() == (hard > 0).tolist()
    assert 0 < wrong.sum() < 5


def test_a_batch_of_one_person_or_of_single_photos_has_no_triplet() -> None:
    embeddings = unit_vectors(3, 4)
    for labels in (np.array([2, 2, 2]), np.array([0, 1, 2])):
        assert batch_hard_triplet_loss(embeddings, labels, margin=0.2).shape == (0,)
        assert batch_all_triplet_loss(embeddings, labels, margin=0.2).shape == (0,)
        assert semi_hard_triplet_loss(embeddings, labels, margin=0.2).shape == (0,)
        assert distance_weighted_triplet_loss(embeddings, labels, margin=0.2, seed=1).shape == (0,)


def test_mining_works_in_a_graph_with_an_unknown_batch_size() -> None:
    embeddings = unit_vectors(len(LABELS), 3, seed=5)

    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int64)])
    def both(batch: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return batch_all_triplet_loss(batch, labels, margin=0.2), batch_hard_triplet_loss(batch, labels, margin=0.2)

    every, hard = both(embeddings, LABELS)
    np.testing.assert_allclose(every, batch_all_triplet_loss(embeddings, LABELS, margin=0.2), atol=1e-6)
    np.testing.assert_allclose(hard, batch_hard_triplet_loss(embeddings, LABELS, margin=0.2), atol=1e-6)
