"""Every distillation loss against plain NumPy, on vectors that are no mirror images of each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from facetl.losses.distillation import (
    LOGIT_SCALE,
    AngleDistillationLoss,
    CosineDistillationLoss,
    DistanceDistillationLoss,
    EuclideanDistillationLoss,
    SoftTargetLoss,
)


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(rows, dim)) + np.arange(dim) / dim
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


STUDENT, TEACHER = unit(6, 5, 0), unit(6, 5, 1)


def huber(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) <= 1 else abs(difference) - 0.5


def test_cosine_and_l2_by_hand() -> None:
    student = np.array([[1, 0], [0.6, 0.8]], np.float32)
    teacher = np.array([[0, 1], [0.8, 0.6]], np.float32)
    np.testing.assert_allclose(CosineDistillationLoss(reduction="none")(teacher, 3 * student), [1, 0.04], atol=1e-6)
    distances = [np.sqrt(2), 0.2 * np.sqrt(2)]
    np.testing.assert_allclose(EuclideanDistillationLoss(reduction="none")(teacher, student), distances, atol=1e-6)
    assert float(CosineDistillationLoss()(teacher, student)) == pytest.approx(0.52)


def test_distances_are_over_their_own_mean() -> None:
    def scaled(points: np.ndarray) -> np.ndarray:
        apart = np.linalg.norm(points[:, None] - points[None], axis=2)
        return apart / apart[apart > 0].mean()

    expected = np.mean([huber(d) for d in (scaled(STUDENT) - scaled(TEACHER)).ravel()])
    assert float(DistanceDistillationLoss()(TEACHER, STUDENT)) == pytest.approx(expected, rel=1e-4)
    # Which way the points lie and how large they are does not matter, nor how long the teacher's vectors are.
    turned = 3 * TEACHER @ np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0].astype(np.float32)
    assert float(DistanceDistillationLoss()(TEACHER, turned)) == pytest.approx(0, abs=1e-6)
    assert float(DistanceDistillationLoss()(TEACHER, unit(6, 3, 4))) > 1e-3


def test_angles_of_all_triplets() -> None:
    def angle(points: np.ndarray, i: int, j: int, k: int) -> float:
        first, second = points[i] - points[j], points[k] - points[j]
        lengths = np.linalg.norm(first) * np.linalg.norm(second)
        return float(first @ second / lengths) if lengths > 0 else 0.0

    every = itertools.product(range(6), repeat=3)
    expected = np.mean([huber(angle(STUDENT, i, j, k) - angle(TEACHER, i, j, k)) for i, j, k in every])
    assert float(AngleDistillationLoss()(TEACHER, STUDENT)) == pytest.approx(expected, rel=1e-4)


def test_soft_targets_are_a_divergence_from_the_teacher() -> None:
    centroids = unit(4, 5, 3)

    def shares(points: np.ndarray, temperature: float) -> np.ndarray:
        powers = np.exp(LOGIT_SCALE / temperature * points.astype(np.float64) @ centroids.T)
        return powers / powers.sum(axis=1, keepdims=True)

    for temperature in (1.0, 3.0):
        teacher, student = shares(TEACHER, temperature), shares(STUDENT, temperature)
        expected = temperature**2 * np.sum(teacher * np.log(teacher / student), axis=1)
        losses = SoftTargetLoss(centroids, temperature, reduction="none")(TEACHER, STUDENT)
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-6)
    assert float(SoftTargetLoss(centroids)(TEACHER, TEACHER)) == pytest.approx(0, abs=1e-6)
