"""Losses over the pairs of a batch against plain loops in double precision, and their gradients against differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from facetl.training.pair_losses import (
    circle_loss,
    contrastive_loss,
    contrastive_terms,
    multi_similarity_loss,
    n_pair_loss,
    supervised_contrastive_loss,
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
CASES: list[tuple[Callable[..., Any], Looped, dict[str, float]]] = [
    (contrastive_loss, looped_contrastive, {"margin": 1.0}),
    (n_pair_loss, looped_n_pair, {"scale": 6.0}),
    (multi_similarity_loss, looped_multi_similarity, {"margin": 0.1, "scale": 9.0}),
    (supervised_contrastive_loss, looped_supcon, {"scale": 7.0}),
    (circle_loss, looped_circle, {"margin": 0.3, "scale": 5.0}),
]
EACH = pytest.mark.parametrize(("loss", "looped", "options"), CASES, ids=lambda case: getattr(case, "__name__", ""))


@EACH
def test_agrees_with_a_loop(loss: Callable[..., Any], looped: Looped, options: dict[str, float]) -> None:
    for seed in range(4):
        x = unit_vectors(seed=seed)
        losses = np.atleast_1d(np.asarray(loss(x.astype(np.float32), LABELS, **options)))
        np.testing.assert_allclose(losses, looped(x, **options), rtol=2e-5, atol=1e-6)


@EACH
def test_its_gradient_agrees_with_differences(
    loss: Callable[..., Any], looped: Looped, options: dict[str, float]
) -> None:
    x = unit_vectors(seed=1)
    variable = tf.Variable(x)  # float64
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(variable, LABELS, **options))
    gradient = np.asarray(tape.gradient(total, variable))
    # Circle loss's weights are constants to its gradient.
    fixed = {"fixed": x} if loss is circle_loss else {}
    expected = np.empty_like(x)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = 1e-6
        # The library takes D² as 2 − 2·s, a plain loop as |a − b|²: on the sphere, along it, they are one.
        up, down = (sum(looped(moved, **options, **fixed)) for moved in (x + step, x - step))
        expected[at] = (up - down) / 2e-6
    tangent = gradient - np.sum(gradient * x, axis=1, keepdims=True) * x
    expected -= np.sum(expected * x, axis=1, keepdims=True) * x
    np.testing.assert_allclose(tangent, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected).max() > 0.01


def test_contrastive_by_hand() -> None:
    x = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    # Squared: 01 0.8, 23 2 of one person; of two 02 2, 03 4, 12 0.4, 13 3.2; only 12 is nearer than 1.
    expected = 0.5 * (0.8 + 2) / 2 + 0.5 * (1 - math.sqrt(0.4)) ** 2
    assert float(contrastive_loss(x, np.array([0, 0, 1, 1]), margin=1.0)) == pytest.approx(expected, rel=1e-5)


def test_contrastive_of_two_people_at_one_point_has_a_finite_gradient() -> None:
    variable = tf.Variable(np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]], np.float32))
    with tf.GradientTape() as tape:
        loss = contrastive_loss(variable, np.array([0, 1, 0]), margin=1.0)
    assert np.isfinite(tape.gradient(loss, variable)).all()


def test_a_solved_anchor_costs_nothing_in_multi_similarity() -> None:
    x = np.array([[1.0, 0.0], [0.96, 0.28], [-1.0, 0.0], [-0.96, 0.28]], np.float32)
    labels = np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(multi_similarity_loss(x, labels, margin=0.1, scale=50.0), np.zeros(4))
    assert np.all(np.asarray(multi_similarity_loss(x, np.array([0, 1, 0, 1]), margin=0.1, scale=50.0)) > 1)


def test_supcon_is_least_when_people_are_apart() -> None:
    apart = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    together = np.eye(4, dtype=np.float32)[[0, 0, 0, 0]]
    labels = np.array([0, 0, 1, 1])
    np.testing.assert_allclose(supervised_contrastive_loss(together, labels, scale=10.0), np.log(3), rtol=1e-5)
    np.testing.assert_allclose(
        supervised_contrastive_loss(apart, labels, scale=10.0), np.log(1 + 2 * np.exp(-10)), rtol=1e-2
    )


@pytest.mark.parametrize(("loss", "options"), [(case[0], case[2]) for case in CASES])
@pytest.mark.parametrize("labels", [[2, 2, 2], [0, 1, 2]], ids=["one person", "single photos"])
def test_a_batch_that_says_nothing(loss: Callable[..., Any], options: dict[str, float], labels: list[int]) -> None:
    variable = tf.Variable(unit_vectors(3, 4).astype(np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(variable, np.array(labels), **options))
    if loss is not contrastive_loss:  # its kinds of pairs stand by themselves
        assert float(total) == 0.0
    gradient = tape.gradient(total, variable)
    assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all()


@EACH
def test_works_in_a_graph_with_an_unknown_batch_size(
    loss: Callable[..., Any], looped: Looped, options: dict[str, float]
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int32)])
    def traced(batch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return loss(batch, labels, **options)

    x = unit_vectors(seed=2)
    losses = np.atleast_1d(np.asarray(traced(x.astype(np.float32), LABELS.astype(np.int32))))
    np.testing.assert_allclose(losses, looped(x, **options), rtol=2e-5, atol=1e-6)


def test_contrastive_terms_pair_by_pair() -> None:
    squared = np.array([0.0, 0.49, 2.25, 0.0, 0.49, 2.25])
    same = np.array([True, True, True, False, False, False])
    expected = [0.0, 0.245, 1.125, 0.5 * 1.2**2, 0.5 * (1.2 - 0.7) ** 2, 0.0]
    np.testing.assert_allclose(contrastive_terms(squared, same, margin=1.2), expected, atol=2e-6)


def test_a_pair_at_one_point_has_a_finite_gradient() -> None:
    squared = tf.constant([0.0, 0.0, 0.25])
    with tf.GradientTape() as tape:
        tape.watch(squared)
        loss = tf.reduce_sum(contrastive_terms(squared, tf.constant([True, False, False]), margin=1.0))
    # ½·D² has the slope ½ in D²; ½·(1 − D)² at D = ½ has −(1 − ½) / (2 · ½).
    np.testing.assert_allclose(tape.gradient(loss, squared), [0.5, 0.0, -0.5], atol=1e-6)
