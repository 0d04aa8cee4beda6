"""Moments, principal axes and projections against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from facetl.errors import DataError
from facetl.evaluation.projection import check_dim, moments, normalised, principal_axes, projected


def test_moments_do_not_cancel():
    rows = np.random.default_rng(0).normal(500, 0.5, (3000, 3)).astype(np.float16)
    rows[:, 1] = 7
    mean, scale = moments(rows)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale, [exact[:, 0].std(), 1.0, exact[:, 2].std()], rtol=1e-4)


def test_principal_axes_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    # Twelve strong directions of falling strength in noise.
    strong = rng.normal(size=(200, 12)) * np.linspace(9, 3, 12) @ rng.normal(size=(12, 60))
    rows = (strong + rng.normal(size=(200, 60))).astype(np.float16)
    mean, scale = moments(rows)
    axes, deviation = principal_axes(rows, mean, scale, 12, np.random.default_rng(0))
    exact = PCA(12, svd_solver="full").fit(StandardScaler().fit_transform(rows.astype(np.float64)))
    np.testing.assert_allclose(np.abs(np.sum(axes.T * exact.components_, axis=1)), 1.0, atol=1e-3)
    np.testing.assert_allclose(deviation, np.sqrt(exact.explained_variance_ * 199 / 200), rtol=1e-3)


def test_projected_subtracts_the_offset():
    rows = np.array([[1, 2], [3, 5]], np.float16)
    axes = np.array([[1, 0, 2], [0, 1, -1]], np.float32)
    offset = np.array([1, 1, 1], np.float32)
    np.testing.assert_array_equal(projected(rows, axes, offset), [[0, 1, -1], [2, 4, 0]])


def test_normalised_leaves_a_row_of_zeros():
    np.testing.assert_allclose(normalised(np.array([[3, 4], [0, 0]], np.float32)), [[0.6, 0.8], [0, 0]], atol=1e-7)


def test_features_of_another_length_are_refused():
    with pytest.raises(DataError, match="as in fit"):
        check_dim(np.zeros((3, 4)), 5)
