"""Standard errors by leaving people out, against the formula written down."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from facetl.metrics.jackknife import auc_gain_stderr, jackknife_variance
from facetl.metrics.pairs import Pairs, sample_pairs


def test_the_jackknife_of_a_mean_is_its_textbook_variance():
    values = np.array([0.0, 1.0, 4.0, 5.0, 9.5])
    without = (values.sum() - values) / 4
    assert jackknife_variance(without) == pytest.approx(values.var(ddof=1) / 5)


def test_the_jackknife_leaves_out_people() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([7, 3, 9, 5], [4, 2, 3, 3])
    pairs = sample_pairs(labels, seed=1)
    first, second = rng.random(len(pairs.same)), rng.random(len(pairs.same))
    left_out = []
    for person in (3, 5, 7, 9):
        kept = (labels[pairs.first] != person) & (labels[pairs.second] != person)
        areas = [roc_auc_score(pairs.same[kept], -values[kept]) for values in (first, second)]
        left_out.append(areas[0] - areas[1])
    expected = np.sqrt(3 / 4 * np.sum(np.square(np.array(left_out) - np.mean(left_out))))
    assert auc_gain_stderr(first, second, pairs, labels) == pytest.approx(expected)


def test_with_two_people_nothing_can_be_left_out() -> None:
    pairs = Pairs(np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    assert auc_gain_stderr(np.zeros(2), np.ones(2), pairs, np.array([0, 0, 1])) == 0
