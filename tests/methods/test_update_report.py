"""Compatibility of two heads and people found by class means, against values worked by hand and by NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from facetl.errors import DataError
from facetl.methods.continual.update_report import (
    Compatibility,
    compatibility,
    cross_distances,
    found_by_nearest_mean,
)
from facetl.metrics.pairs import Pairs


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_compatibility_against_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    centre = rng.normal(size=(8, 5))
    labels = np.repeat(np.arange(8), 4)
    old = _unit(centre[labels] + rng.normal(size=(32, 5)))
    new = _unit(old + 0.4 * rng.normal(size=(32, 5)))
    first, second = np.triu_indices(32, 1)
    same = labels[first] == labels[second]
    pairs = Pairs(first, second, same)
    found = compatibility(old, new, pairs)
    for value, probes, gallery in ((found.old, old, old), (found.cross, new, old), (found.new, new, new)):
        distances = np.sum((probes[first] - gallery[second]) ** 2, axis=1)
        assert value == pytest.approx(roc_auc_score(same, -distances))
    assert len({found.old, found.cross, found.new}) == 3


def test_the_probe_is_the_new_one_and_the_gallery_the_old_one() -> None:
    old = np.array([[1.0, 0.0], [0.0, 1.0]])
    new = np.array([[0.0, 1.0], [-1.0, 0.0]])
    pairs = Pairs(np.array([0, 1]), np.array([1, 0]), np.array([True, False]))
    # new[0] is old[1]; new[1] is the opposite of old[0].
    np.testing.assert_allclose(cross_distances(new, old, pairs), [0.0, 4.0])


def test_compatible_is_better_than_the_old_model_on_its_own_gallery() -> None:
    assert Compatibility(old=0.8, cross=0.81, new=0.9).compatible
    assert not Compatibility(old=0.8, cross=0.8, new=0.9).compatible
    assert Compatibility(old=0.8, cross=0.81, new=0.9).to_json()["compatible"] is True


def test_embeddings_of_another_width_are_refused() -> None:
    pairs = Pairs(np.array([0]), np.array([1]), np.array([True]))
    with pytest.raises(DataError, match="of one width"):
        cross_distances(np.eye(3)[:2], np.eye(2), pairs)


def test_nearest_means_by_hand_people_weighing_alike() -> None:
    gallery = _unit(np.array([[1.0, 0.2], [1.0, -0.2], [0.0, 1.0]]))
    names = ["ann", "ann", "bob"]
    # Two of Ann's three probes are nearest to her mean (1, 0), Bob's only one is not, Cem is not enrolled.
    probes = _unit(np.array([[1.0, 0.1], [1.0, 0.9], [0.1, 1.0], [1.0, 0.0], [0.0, 1.0]]))
    owners = ["ann", "ann", "ann", "bob", "cem"]
    assert found_by_nearest_mean(probes, owners, gallery, names) == pytest.approx((2 / 3 + 0 + 0) / 3)
