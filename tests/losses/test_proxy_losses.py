"""Losses against proxies, checked with plain loops in double precision, and their gradients with differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from facetl.losses.proxy import (
    ArcFaceLoss,
    CosFaceLoss,
    NormalizedSoftmaxLoss,
    ProxyAnchorLoss,
    ProxyLoss,
    cosines_to,
)

# Six photos of people 0 to 4; person 3 is not in the batch.
LABELS = np.array([4, 0, 2, 0, 1, 4])


def unit_vectors(count: int, dim: int = 3, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lopsided_proxies(seed: int = 7) -> np.ndarray:
    return unit_vectors(5, seed=seed) * np.array([[0.5], [2.0], [1.0], [3.0], [0.1]])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt(b @ b))


def cross_entropy(logits: list[float], own: int) -> float:
    return -math.log(math.exp(logits[own]) / sum(math.exp(logit) for logit in logits))


def looped_arcface(x: np.ndarray, proxies: np.ndarray, margin: float, scale: float) -> list[float]:
    losses = []
    for row, own in zip(x, LABELS, strict=True):
        cosines = [cosine(row, proxy) for proxy in proxies]
        angle = math.acos(cosines[own])
        within = angle + margin < math.pi
        cosines[own] = math.cos(angle + margin) if within else cosines[own] - margin * math.sin(margin)
        losses.append(cross_entropy([scale * value for value in cosines], own))
    return losses


def looped_cosface(x: np.ndarray, proxies: np.ndarray, margin: float, scale: float) -> list[float]:
    losses = []
    for row, own in zip(x, LABELS, strict=True):
        cosines = [cosine(row, proxy) for proxy in proxies]
        cosines[own] -= margin
        losses.append(cross_entropy([scale * value for value in cosines], own))
    return losses


def looped_softmax(x: np.ndarray, proxies: np.ndarray, scale: float) -> list[float]:
    return looped_cosface(x, proxies, 0.0, scale)


def looped_proxy_anchor(x: np.ndarray, proxies: np.ndarray, margin: float, scale: float) -> list[float]:
    pulled, pushed = [], []
    for person, proxy in enumerate(proxies):
        own = [cosine(row, proxy) for row, label in zip(x, LABELS, strict=True) if label == person]
        other = [cosine(row, proxy) for row, label in zip(x, LABELS, strict=True) if label != person]
        if own:
            pulled.append(math.log(1 + sum(math.exp(-scale * (s - margin)) for s in own)))
        pushed.append(math.log(1 + sum(math.exp(scale * (s + margin)) for s in other)))
    assert (len(pulled), len(pushed)) == (4, 5)
    return [sum(pulled) / 4 + sum(pushed) / 5]


Looped = Callable[..., list[float]]
EACH = pytest.mark.parametrize(
    ("loss", "looped", "options"),
    [
        (ArcFaceLoss, looped_arcface, {"margin": 0.5, "scale": 6.0}),
        (ArcFaceLoss, looped_arcface, {"margin": 1.4, "scale": 3.0}),
        (CosFaceLoss, looped_cosface, {"margin": 0.35, "scale": 6.0}),
        (NormalizedSoftmaxLoss, looped_softmax, {"scale": 6.0}),
        (ProxyAnchorLoss, looped_proxy_anchor, {"margin": 0.1, "scale": 6.0}),
    ],
    ids=["arcface", "arcface past π", "cosface", "softmax", "proxy anchor"],
)


@EACH
def test_agrees_with_a_loop(loss: type[ProxyLoss], looped: Looped, options: dict[str, float]) -> None:
    for seed in range(4):
        x, proxies = unit_vectors(6, seed=seed), lopsided_proxies()
        cosines = cosines_to(proxies.astype(np.float32), x.astype(np.float32))
        losses = loss(**options, reduction="none")(LABELS, cosines)
        np.testing.assert_allclose(np.atleast_1d(losses), looped(x, proxies, **options), rtol=2e-5, atol=1e-6)


def test_the_cases_hold_angles_past_pi() -> None:
    x, proxies = unit_vectors(6, seed=0), lopsided_proxies()
    angles = [math.acos(cosine(row, proxies[own])) for row, own in zip(x, LABELS, strict=True)]
    assert max(angles) + 1.4 > math.pi > min(angles) + 1.4


@EACH
def test_its_gradients_agree_with_differences(loss: type[ProxyLoss], looped: Looped, options: dict[str, float]) -> None:
    x, proxies = unit_vectors(6, seed=3), lopsided_proxies()
    variables = [tf.Variable(x), tf.Variable(proxies)]  # float64
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(**options).call(LABELS, cosines_to(variables[1], variables[0])))
    for place, gradient in enumerate(tape.gradient(total, variables)):
        expected = np.empty(gradient.shape)
        for at in np.ndindex(*gradient.shape):
            sums = []
            for step in (1e-6, -1e-6):
                moved = [x.copy(), proxies.copy()]
                moved[place][at] += step
                sums.append(sum(looped(*moved, **options)))
            expected[at] = (sums[0] - sums[1]) / 2e-6
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
        assert np.abs(expected).max() > 0.01


def test_arcface_by_hand() -> None:
    x = np.array([[1.0, 0.0]], np.float32)
    proxies = np.array([[3.0, 0.0], [0.0, 0.2]], np.float32)
    # The own angle 0 becomes 0.5, the other is a right angle.
    expected = math.log(1 + math.exp(-4 * math.cos(0.5)))
    loss = ArcFaceLoss(0.5, 4.0)(np.array([0]), cosines_to(proxies, x))
    np.testing.assert_allclose(loss, expected, rtol=2e-3)


@pytest.mark.parametrize("own", [[1.0, 0.0], [-1.0, 0.0]], ids=["on the proxy", "opposite"])
def test_arcface_has_a_finite_gradient_on_and_opposite_its_proxy(own: list[float]) -> None:
    # Rounded, a unit vector may be a little too long: the cosine is beyond 1.
    variables = [tf.Variable([[1.000001, 0.0]]), tf.Variable([own, [0.0, 1.0]])]
    with tf.GradientTape() as tape:
        loss = ArcFaceLoss(0.5, 64.0)(np.array([0]), cosines_to(variables[1], variables[0]))
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, variables))


def test_a_proxys_length_does_not_matter() -> None:
    x, proxies = unit_vectors(6).astype(np.float32), lopsided_proxies().astype(np.float32)
    once, again = (cosines_to(scaled, x) for scaled in (proxies, proxies * 5))
    np.testing.assert_allclose(once, again, rtol=1e-5)
