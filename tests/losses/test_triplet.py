"""The triplet loss and its miners against values worked out by hand and against plain loops, on lopsided input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from facetl.losses.base import pairwise_squared_distances
from facetl.losses.miners import AllTriplets, BatchHard, DistanceWeighted, Miner, SemiHard, distance_weights
from facetl.losses.triplet import TripletLoss, hinge, triplet_loss, violated

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


def mined(miner: Miner, embeddings: np.ndarray, labels: np.ndarray = LABELS, **options: float) -> np.ndarray:
    losses, valid = TripletLoss(**options, miner=miner).losses_of_triplets(tf.constant(labels), tf.constant(embeddings))
    return np.asarray(losses)[np.broadcast_to(valid, losses.shape)]


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
def test_a_violated_margin_is_seen_whatever_the_softness(softness: float) -> None:
    violation = np.array([-0.8, -0.01, 0.01, 2.0], np.float32)
    assert np.asarray(violated(hinge(violation, softness=softness), softness=softness)).tolist() == [0, 0, 1, 1]


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
    for positives in (None, 2, 9):
        losses = mined(AllTriplets(positives=positives), embeddings, margin=0.2, softness=softness)
        np.testing.assert_allclose(np.sort(losses), np.sort(expected), atol=1e-5)
    assert len(mined(AllTriplets(positives=1), embeddings, margin=0.2)) == 3 * 3 + 2 * 4


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_batch_hard_is_the_farthest_positive_and_the_nearest_negative(softness: float) -> None:
    embeddings = unit_vectors(len(LABELS), 3, seed=5)
    expected = []
    for a in (0, 1, 3, 4, 5):  # photo 2 is the only one of person 9
        positives = [distance(embeddings[a], embeddings[p]) for p in range(6) if p != a and LABELS[p] == LABELS[a]]
        negatives = [distance(embeddings[a], embeddings[n]) for n in range(6) if LABELS[n] != LABELS[a]]
        expected.append(softened(max(positives) - min(negatives) + 0.2, softness))
    losses = mined(BatchHard(), embeddings, margin=0.2, softness=softness)
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
    for positives in (None, 2):
        losses = mined(SemiHard(positives=positives), embeddings, margin=0.2, softness=softness)
        np.testing.assert_allclose(losses, expected, atol=1e-5)


def test_semi_hard_looks_at_positives_in_blocks() -> None:
    # 20 photos of one person: three blocks of positives, the last one not full.
    embeddings, labels = unit_vectors(30, 4), np.repeat([0, 1, 2], [20, 6, 4])
    whole = mined(SemiHard(positives=19), embeddings, labels, margin=0.2)
    np.testing.assert_allclose(mined(SemiHard(), embeddings, labels, margin=0.2), whole, atol=1e-6)
    distances = np.array([[distance(a, b) for b in embeddings] for a in embeddings])
    expected = []
    for a, p in zip(*np.nonzero((labels[:, None] == labels) & ~np.eye(30, dtype=bool)), strict=True):
        others = distances[a][labels != labels[a]]
        beyond = others[others > distances[a, p]]
        expected.append(max(0.0, distances[a, p] - (beyond.min() if len(beyond) else others.max()) + 0.2))
    np.testing.assert_allclose(whole, expected, atol=1e-5)


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
    loss = TripletLoss(0.2, softness=0.5, miner=DistanceWeighted(seed=4))
    draw = tf.function(lambda: loss.losses_of_triplets(tf.constant(labels), tf.constant(embeddings)))
    for _ in range(200):
        values, valid = (np.asarray(part) for part in draw())
        losses = values[valid]
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
        return mined(DistanceWeighted(seed=seed), embeddings, margin=0.2).tolist()

    assert losses(3) == losses(3)
    assert any(losses(3) != losses(other) for other in range(4, 12))


def test_a_batch_of_one_person_or_of_single_photos_has_no_triplet() -> None:
    embeddings = unit_vectors(3, 4)
    for labels in (np.array([2, 2, 2]), np.array([0, 1, 2])):
        for miner in (AllTriplets(), BatchHard(), SemiHard(), DistanceWeighted(seed=1)):
            assert mined(miner, embeddings, labels, margin=0.2).shape == (0,)
            assert float(TripletLoss(miner=miner)(labels, embeddings)) == 0.0


@pytest.mark.parametrize("positives", [None, 2])
def test_mining_works_in_a_graph_with_an_unknown_batch_size(positives: int | None) -> None:
    embeddings = unit_vectors(len(LABELS), 3, seed=5)
    miners = [AllTriplets(positives=positives), BatchHard(), SemiHard(positives=positives)]
    losses = [TripletLoss(miner=miner) for miner in miners]
    drawing = TripletLoss(miner=DistanceWeighted(positives=positives))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 3])])
    def traced(labels: tf.Tensor, batch: tf.Tensor) -> list[tf.Tensor]:
        return [loss(labels, batch) for loss in (*losses, drawing)]

    *values, drawn = traced(LABELS, embeddings)
    np.testing.assert_allclose(values, [loss(LABELS, embeddings) for loss in losses], rtol=1e-5)
    assert np.isfinite(drawn)


def test_the_mean_of_all_triplets_is_over_the_active_ones_unless_softened() -> None:
    x = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    labels = np.array([0, 0, 1, 1])
    # d(a, p) − d(a, n) + 0.2 for (a, p, n):
    # 012 −1.0, 013 −3.0, 102 0.6, 103 −2.2; 230 0.2, 231 1.8, 320 −1.8, 321 −1.0.
    every = [-1.0, -3.0, 0.6, -2.2, 0.2, 1.8, -1.8, -1.0]
    assert float(TripletLoss()(labels, x)) == pytest.approx((0.6 + 0.2 + 1.8) / 3, rel=1e-5)
    softly = np.mean([softened(value, 0.4) for value in every])
    assert float(TripletLoss(softness=0.4)(labels, x)) == pytest.approx(softly, rel=1e-5)
    # Nearest negatives: 2.0, 0.4, 0.4, 2 → violations −1.0, 0.6, 1.8, and for 3: 2 − 3.2 + 0.2 = −1.0.
    assert float(TripletLoss(miner=BatchHard())(labels, x)) == pytest.approx((0.6 + 1.8) / 4, rel=1e-5)
    unreduced = np.asarray(TripletLoss(miner="batch-hard", reduction="none")(labels, x))
    np.testing.assert_allclose(unreduced, [0, 0.6, 1.8, 0], atol=1e-5)


def pairs_of(miner: Miner, x: np.ndarray, labels: np.ndarray = LABELS) -> tuple[set, set]:
    marked = miner.pairs(tf.constant(labels), tf.constant(x))
    return tuple({tuple(pair) for pair in np.argwhere(np.asarray(kind)).tolist()} for kind in marked)  # type: ignore[return-value]


@pytest.mark.parametrize("positives", [None, 2])
def test_a_miners_pairs_are_those_of_its_triplets(positives: int | None) -> None:
    x = unit_vectors(len(LABELS), 2, seed=5)
    distances = np.array([[distance(a, b) for b in x] for a in x])
    hard, semi_hard = (set(), set()), (set(), set())
    everything = (set(), set())
    for a in (0, 1, 3, 4, 5):  # photo 2 is the only one of person 9
        mates = [p for p in range(6) if p != a and LABELS[p] == LABELS[a]]
        others = [n for n in range(6) if LABELS[n] != LABELS[a]]
        hard[0].add((a, max(mates, key=lambda p: distances[a, p])))
        hard[1].add((a, min(others, key=lambda n: distances[a, n])))
        for p in mates:
            beyond = [n for n in others if distances[a, n] > distances[a, p]]
            nearest = (
                min(beyond, key=lambda n: distances[a, n]) if beyond else max(others, key=lambda n: distances[a, n])
            )
            semi_hard[0].add((a, p))
            semi_hard[1].add((a, nearest))
            everything[0].add((a, p))
        everything[1].update((a, n) for n in others)
    assert pairs_of(BatchHard(), x) == hard
    assert pairs_of(SemiHard(positives=positives), x) == semi_hard
    assert pairs_of(AllTriplets(positives=positives), x) == everything
    near, far = pairs_of(DistanceWeighted(positives=positives), x)
    assert near == everything[0]
    assert far < everything[1]


def test_a_miner_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"A miner is one of batch-hard, .*Received: 'hardest'"):
        TripletLoss(miner="hardest")
