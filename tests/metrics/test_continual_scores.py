"""What continual learning is judged by, against values worked by hand and by NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from facetl.errors import DataError
from facetl.metrics.continual_scores import (
    AccuracyMatrix,
    Compatibility,
    compatibility,
    cross_distances,
    found_by_nearest_mean,
    verified_against_gallery,
)
from facetl.metrics.pairs import Pairs

# Task 0 is best after step 1, task 1 suffers in the last step.
MATRIX = AccuracyMatrix(np.array([[0.5, 0.2, 0.1], [0.7, 0.9, 0.4], [0.6, 0.8, 0.75]]))


def test_measures_of_a_matrix_worked_by_hand() -> None:
    assert MATRIX.average_accuracy == pytest.approx((0.6 + 0.8 + 0.75) / 3)
    # Against the best before the last step: 0.7 and 0.9; against the step that learnt each: 0.5 and 0.9.
    assert MATRIX.forgetting == pytest.approx(((0.7 - 0.6) + (0.9 - 0.8)) / 2)
    assert MATRIX.backward_transfer == pytest.approx(((0.6 - 0.5) + (0.8 - 0.9)) / 2)
    # Before each is learnt: 0.2 of task 1 after step 0, 0.4 of task 2 after step 1.
    assert MATRIX.forward_transfer([0.9, 0.15, 0.05]) == pytest.approx(((0.2 - 0.15) + (0.4 - 0.05)) / 2)


def test_the_best_of_all_steps_counts_for_forgetting_not_the_one_before() -> None:
    matrix = AccuracyMatrix(np.array([[0.9, 0.0, 0.0], [0.3, 0.8, 0.0], [0.5, 0.8, 0.6]]))
    assert matrix.forgetting == pytest.approx((0.4 + 0.0) / 2)
    assert matrix.backward_transfer == pytest.approx((-0.4 + 0.0) / 2)


def test_json_holds_plain_types() -> None:
    import json

    stored = json.loads(json.dumps(MATRIX.to_json()))
    assert stored["matrix"][1] == [0.7, 0.9, 0.4]
    assert stored["forgetting"] == pytest.approx(0.1)


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.zeros((1, 1)), np.full((2, 2), np.nan), np.full((2, 2), 1.5)])
def test_what_is_no_matrix_of_accuracies_is_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="accuracy matrix must be"):
        AccuracyMatrix(values)


def test_a_baseline_needs_a_value_a_task() -> None:
    with pytest.raises(DataError, match=r"an accuracy a task, \[3\]"):
        MATRIX.forward_transfer([0.1, 0.2])


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


def test_verification_against_a_gallery_by_hand() -> None:
    angle = np.deg2rad([0.0, 10.0, 50.0, 100.0])
    gallery, names = np.column_stack([np.cos(angle), np.sin(angle)]), ["ann", "ann", "bob", "cem"]
    angle = np.deg2rad([5.0, 80.0, 60.0, 200.0])
    probes, owners = np.column_stack([np.cos(angle), np.sin(angle)]), ["ann", "ann", "bob", "dan"]
    # Up to 45 degrees apart is one person. Ann: 5 is near both her photos, 80 near none: 2 of 4. Bob: 1 of 1.
    # Others: Ann's 5 is 45 from Bob's (near), 95 from Cem's; Ann's 80 near Bob's (30) and Cem's (20); Bob's 60 is 60
    # and 50 from Ann's, 40 from Cem's (near); Dan's is far from all four: 4 of 11 are wrong.
    threshold = 2 - 2 * np.cos(np.deg2rad(45.001))
    found = verified_against_gallery(probes, owners, gallery, names, threshold=threshold)
    assert found == pytest.approx((0.75 + 7 / 11) / 2)
    with pytest.raises(DataError, match="somebody else"):
        verified_against_gallery(probes, ["eve"] * 4, gallery, names, threshold=threshold)
