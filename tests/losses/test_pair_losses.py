"""Losses over the pairs of a batch against plain loops in double precision, and their gradients against differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from facetl.losses.miners import BatchHard, SemiHard
from facetl.losses.pair import (
    CircleLoss,
    ContrastiveLoss,
    MultiSimilarityLoss,
    NPairLoss,
    PairLoss,
    SupervisedContrastiveLoss,
)

# Person 4 has three photos, 7 two, 2 two, 9 one: the last is a negative of others and no anchor.
LABELS = np.array([7, 4, 9, 4, 2, 7, 4, 2])
ANCHORS = [0, 1, 3, 4, 5, 6, 7]


def unit_vectors(count: int = 8, dim: int = 3, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mates(anchor: int) -> list[int]:
    return [row for row in range(8) if row != anchor and LABELS[row] == LABELS[anchor]]


def others(anchor: int) -> list[int]:
    return [row for row in range(8) if LABELS[row] != LABELS[anchor]]


def looped_contrastive(x: np.ndarray, margin: float = 1.0) -> list[float]:
    near, far = [], []
    for i in range(8):
        for j in range(i):
            euclidean = math.dist(x[i], x[j])
            if LABELS[i] == LABELS[j]:
                near.append(euclidean**2 / 2)
            elif euclidean < margin:
                far.append((margin - euclidean) ** 2 / 2)
    assert len(near) == 5
    assert 0 < len(far) < 23
    return [sum(near) / len(near) + sum(far) / len(far)]


def looped_n_pair(x: np.ndarray, scale: float = 6.0) -> list[float]:
    losses = []
    for a in range(8):
        for p in mates(a):
            losses.append(math.log(1 + sum(math.exp(scale * (x[a] @ x[n] - x[a] @ x[p])) for n in others(a))))
    assert len(losses) == 3 * 2 + 2 + 2
    return losses


def looped_multi_similarity(x: np.ndarray, margin: float = 0.1, scale: float = 9.0) -> list[float]:
    losses = []
    for a in ANCHORS:
        least = min(x[a] @ x[p] for p in mates(a))
        most = max(x[a] @ x[n] for n in others(a))
        negatives = [x[a] @ x[n] for n in others(a) if x[a] @ x[n] > least - margin]
        positives = [x[a] @ x[p] for p in mates(a) if x[a] @ x[p] < most + margin]
        pull = math.log(1 + sum(math.exp(-2 * (s - 0.5)) for s in positives)) / 2
        push = math.log(1 + sum(math.exp(scale * (s - 0.5)) for s in negatives)) / scale
        losses.append(pull + push)
    return losses


def looped_supcon(x: np.ndarray, scale: float = 7.0) -> list[float]:
    losses = []
    for a in ANCHORS:
        everyone = sum(math.exp(scale * (x[a] @ x[row])) for row in range(8) if row != a)
        terms = [-math.log(math.exp(scale * (x[a] @ x[p])) / everyone) for p in mates(a)]
        losses.append(sum(terms) / len(terms))
    return losses


def looped_circle(
    x: np.ndarray, margin: float = 0.3, scale: float = 5.0, fixed: np.ndarray | None = None
) -> list[float]:
    weighed = x if fixed is None else fixed
    losses = []
    for a in ANCHORS:
        push = sum(
            math.exp(scale * max(0.0, weighed[a] @ weighed[n] + margin) * (x[a] @ x[n] - margin)) for n in others(a)
        )
        pull = sum(
            math.exp(-scale * max(0.0, 1 + margin - weighed[a] @ weighed[p]) * (x[a] @ x[p] - 1 + margin))
            for p in mates(a)
        )
        losses.append(math.log(1 + push * pull))
    return losses


Looped = Callable[..., list[float]]
CASES: list[tuple[type[PairLoss], Looped, dict[str, float]]] = [
    (ContrastiveLoss, looped_contrastive, {"margin": 1.0}),
    (NPairLoss, looped_n_pair, {"scale": 6.0}),
    (MultiSimilarityLoss, looped_multi_similarity, {"margin": 0.1, "scale": 9.0}),
    (SupervisedContrastiveLoss, looped_supcon, {"scale": 7.0}),
    (CircleLoss, looped_circle, {"margin": 0.3, "scale": 5.0}),
]
EACH = pytest.mark.parametrize(("loss", "looped", "options"), CASES, ids=lambda case: getattr(case, "__name__", ""))


@EACH
def test_agrees_with_a_loop(loss: type[PairLoss], looped: Looped, options: dict[str, float]) -> None:
    for seed in range(4):
        x = unit_vectors(seed=seed)
        # Of any length: it is normalised first.
        lengths = np.random.default_rng(seed).uniform(0.2, 3, (8, 1))
        expected = looped(x, **options)
        value = loss(**options)(LABELS, (lengths * x).astype(np.float32))
        np.testing.assert_allclose(float(value), np.mean(expected), rtol=2e-5, atol=1e-6)
        if len(expected) == len(ANCHORS):
            rows = np.asarray(loss(**options, reduction="none")(LABELS, x.astype(np.float32)))
            assert rows[2] == 0
            np.testing.assert_allclose(rows[ANCHORS] * 7 / 8, expected, rtol=2e-5, atol=1e-6)


@EACH
def test_its_gradient_agrees_with_differences(loss: type[PairLoss], looped: Looped, options: dict[str, float]) -> None:
    x = unit_vectors(seed=1)
    variable = tf.Variable(x)  # float64
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(**options).measure(tf.constant(LABELS), variable))
    gradient = np.asarray(tape.gradient(value, variable))
    # Circle loss's weights are constants to its gradient.
    fixed = {"fixed": x} if loss is CircleLoss else {}
    expected = np.empty_like(x)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = 1e-6
        # The library takes D² as 2 − 2·s, a plain loop as |a − b|²: on the sphere, along it, they are one.
        up, down = (np.mean(looped(moved, **options, **fixed)) for moved in (x + step, x - step))
        expected[at] = (up - down) / 2e-6
    tangent = gradient - np.sum(gradient * x, axis=1, keepdims=True) * x
    expected -= np.sum(expected * x, axis=1, keepdims=True) * x
    np.testing.assert_allclose(tangent, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected).max() > 0.001


def test_contrastive_by_hand() -> None:
    x = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    # Squared: 01 0.8, 23 2 of one person; of two 02 2, 03 4, 12 0.4, 13 3.2; only 12 is nearer than 1.
    expected = 0.5 * (0.8 + 2) / 2 + 0.5 * (1 - math.sqrt(0.4)) ** 2
    assert float(ContrastiveLoss()(np.array([0, 0, 1, 1]), x)) == pytest.approx(expected, rel=1e-5)


def test_a_miners_pairs_take_the_place_of_all() -> None:
    x = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0], [-0.6, 0.8]], np.float32)
    labels = np.array([0, 0, 1, 1, 1])
    # Squared distances of two people: 02 2, 03 4, 04 3.2, 12 0.4, 13 3.2, 14 1.44; of one 01 0.8, 23 2, 24 0.4, 34 0.8.
    near = [0.8, 0.8, 2.0, 2.0, 0.8]  # 01, 10, 23, 32, 43
    far = [2.0, 0.4, 0.4, 3.2, 1.44]  # 02, 12, 21, 31, 41
    costs = [0.5 * (1.5 - math.sqrt(d)) ** 2 for d in far if d < 1.5**2]
    expected = np.mean(near) / 2 + np.mean(costs)
    assert float(ContrastiveLoss(1.5, miner=BatchHard())(labels, x)) == pytest.approx(expected, rel=1e-5)
    # The n-pair loss of each pair against the one negative that was mined.
    pairs = zip(near, far, strict=True)
    tuplets = [math.log(1 + math.exp(3 * ((2 - n) / 2 - (2 - p) / 2))) for p, n in pairs]
    assert float(NPairLoss(3.0, miner="batch-hard")(labels, x)) == pytest.approx(np.mean(tuplets), rel=1e-5)


@EACH
def test_a_miner_changes_the_loss(loss: type[PairLoss], looped: Looped, options: dict[str, float]) -> None:
    x = unit_vectors(seed=2).astype(np.float32)
    every, mined = (float(loss(**options, miner=miner)(LABELS, x)) for miner in (None, SemiHard()))
    assert every != pytest.approx(mined, rel=1e-3)


def test_a_solved_anchor_costs_nothing_in_multi_similarity() -> None:
    x = np.array([[1.0, 0.0], [0.96, 0.28], [-1.0, 0.0], [-0.96, 0.28]], np.float32)
    loss = MultiSimilarityLoss(reduction="none")
    np.testing.assert_array_equal(loss(np.array([0, 0, 1, 1]), x), np.zeros(4))
    assert np.all(np.asarray(loss(np.array([0, 1, 0, 1]), x)) > 1)


def test_supcon_is_least_when_people_are_apart() -> None:
    apart = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    together = np.eye(4, dtype=np.float32)[[0, 0, 0, 0]]
    labels = np.array([0, 0, 1, 1])
    loss = SupervisedContrastiveLoss(scale=10.0, reduction="none")
    np.testing.assert_allclose(loss(labels, together), np.full(4, np.log(3)), rtol=1e-5)
    np.testing.assert_allclose(loss(labels, apart), np.full(4, np.log(1 + 2 * np.exp(-10))), rtol=1e-2)


def test_distances_of_pairs_as_drawn() -> None:
    squared = np.array([0.0, 0.49, 2.25, 0.0, 0.49, 2.25], np.float32)
    same = np.array([True, True, True, False, False, False])
    near, far = [0.0, 0.245, 1.125], [0.5 * 1.2**2, 0.5 * (1.2 - 0.7) ** 2]
    rows = np.asarray(ContrastiveLoss(1.2).of_distances(squared, same, ~same))
    np.testing.assert_allclose(rows, [*(np.array(near) * 2), *(np.array(far) * 3), 0.0], atol=4e-6)


def test_a_pair_at_one_point_has_a_finite_gradient() -> None:
    squared = tf.constant([0.0, 0.0, 0.25])
    same = tf.constant([True, False, False])
    with tf.GradientTape() as tape:
        tape.watch(squared)
        loss = tf.reduce_mean(ContrastiveLoss(1.0).of_distances(squared, same, ~same))
    # ½·D² has the slope ½ in D²; ½·(1 − D)² at D = ½ has −(1 − ½) / (2 · ½), and is one of two.
    np.testing.assert_allclose(tape.gradient(loss, squared), [0.5, 0.0, -0.25], atol=1e-6)
