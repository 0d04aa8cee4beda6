"""Match and class accuracy, worked by hand and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from facetl.errors import DataError
from facetl.metrics.triplet_scores import class_accuracy, match_accuracy


def test_match_accuracy_by_hand() -> None:
    points = np.array([[0.0], [1.0], [2.5], [10.0]])
    labels = ["Ann", "Ann", "Bob", "Bob"]
    # Right, right, wrong (7.5 against 1.5), and a tie, which is no right answer.
    triplets = [[0, 1, 2], [1, 0, 2], [2, 3, 1], [0, 2, 2]]
    told = match_accuracy(points, triplets, labels)
    assert (told.value, told.answers) == (0.5, 4)
    # Ann's three answers miss the mean by +0.5 in all, Bob's one by −0.5: √(2 · (0.25 + 0.25)) / 4.
    assert told.stderr == pytest.approx(1 / 4)
    with pytest.raises(DataError, match="Triplets must be"):
        match_accuracy(points, np.zeros((0, 3), int), labels)


def test_class_accuracy_leaves_the_photo_itself_out() -> None:
    # Ann at 0, 4, 5: without itself, 0 has Ann's mean at 4.5 and Bob's at 1, so it is taken for Bob.
    points = np.array([[0.0], [4.0], [5.0], [0.8], [1.2], [7.0]])
    labels = ["Ann", "Ann", "Ann", "Bob", "Bob", "Eve"]
    told = class_accuracy(points, labels)
    # 4: Ann's other mean 2.5, Bob's 1: right. 5: right. 0.8: Bob 1.2, Ann 3: right. 1.2: right. Eve is not asked.
    assert (told.value, told.answers) == (0.8, 5)
    with pytest.raises(DataError, match="at least 2 people"):
        class_accuracy(points[:3], labels[:3])


def test_class_accuracy_against_loops() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 2, 6])
    points = rng.normal(size=(len(labels), 4)) + 0.9 * rng.normal(size=(7, 4))[labels]
    right, asked = 0, 0
    for row in range(len(labels)):
        rest = np.arange(len(labels)) != row
        if not (labels[rest] == labels[row]).any():
            continue
        means = {p: points[rest & (labels == p)].mean(axis=0) for p in range(1, 7)}
        nearest = min(means, key=lambda p: float(np.sum((points[row] - means[p]) ** 2)))
        right, asked = right + (nearest == labels[row]), asked + 1
    told = class_accuracy(points, labels)
    assert (told.value, told.answers) == (right / asked, asked)
    assert 0.2 < told.value < 1
