"""Moments, principal axes and projections against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from facetl.errors import DataError
from facetl.metrics import linalg as linalg_module
from facetl.metrics.linalg import check_dim, moments, normalised, principal_axes, projected, signed_root


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


@pytest.mark.parametrize(("photos", "dim", "components"), [(60, 200, 20), (60, 200, 60)])
def test_axes_of_few_photos_are_exact_and_orthonormal_also_where_the_photos_span_no_more(photos, dim, components):
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((photos, dim)) * np.linspace(1, 3, dim)).astype(np.float32)
    mean, scale = rows.mean(axis=0), np.ones(dim, np.float32)

    axes, deviation = principal_axes(rows, mean, scale, components, np.random.default_rng(0))

    expected = np.linalg.svd(rows - mean, compute_uv=False)[:components] / np.sqrt(photos)
    assert deviation == pytest.approx(expected, abs=1e-3)
    assert axes.T @ axes == pytest.approx(np.eye(components), abs=1e-4)
    assert np.std((rows - mean) @ axes, axis=0)[:20] == pytest.approx(deviation[:20], rel=1e-2)


def test_leading_eigenvectors_of_a_large_matrix_are_those_of_scikit_learns_pca_and_orthonormal(monkeypatch):
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal((400, 90)) * 0.9 ** np.arange(90)).astype(np.float32)
    gram = rows @ rows.T
    monkeypatch.setattr(linalg_module, "_EXACT", 100)

    vectors, values = linalg_module.leading(gram, 12, np.random.default_rng(0))

    expected, directions = np.linalg.eigh(gram.astype(float))
    assert values == pytest.approx(expected[::-1][:12], rel=1e-3)
    assert np.abs(np.sum(vectors * directions[:, ::-1][:, :12], axis=0)) == pytest.approx(np.ones(12), abs=1e-2)
    assert vectors.T @ vectors == pytest.approx(np.eye(12), abs=1e-5)
    # The same through rows in float16, when photos are more than are done exactly.
    wide = (rng.standard_normal((300, 700)) * 0.98 ** np.arange(700)).astype(np.float32)
    axes, deviation = principal_axes(wide, wide.mean(axis=0), np.ones(700, np.float32), 10, rng)
    assert deviation == pytest.approx(np.linalg.svd(wide - wide.mean(axis=0))[1][:10] / np.sqrt(300), rel=2e-2)
    assert axes.T @ axes == pytest.approx(np.eye(10), abs=2e-3)
    # As many as there are: those beyond the rank are of no deviation, and still orthonormal.
    vectors, values = linalg_module.leading(gram, 120, np.random.default_rng(0))
    assert vectors.T @ vectors == pytest.approx(np.eye(120), abs=1e-3)
    assert values[90:] == pytest.approx(0, abs=1e-2)


def test_axes_begun_near_the_photos_components_are_those_of_a_full_decomposition_whatever_the_seed():
    rng = np.random.default_rng(5)
    rows = (rng.standard_normal((400, 90)) * 0.8 ** np.arange(90)).astype(np.float32)
    mean, one = rows.mean(axis=0), np.ones(90, np.float32)
    directions = np.linalg.svd(rows - mean, full_matrices=False)[2][:6]
    near = (rows @ directions.T + rng.standard_normal((400, 6)) * 0.1).astype(np.float32)

    axes, deviation = principal_axes(rows, mean, one, 6, np.random.default_rng(0), near=near)
    again, _ = principal_axes(rows, mean, one, 6, np.random.default_rng(1), near=near)

    assert np.abs(np.sum(axes.T * directions, axis=1)) == pytest.approx(np.ones(6), abs=1e-3)
    assert deviation == pytest.approx(np.std((rows - mean) @ directions.T, axis=0), rel=1e-3)
    np.testing.assert_array_equal(axes, again)


def test_signed_root():
    values = np.array([[-4, 0, 9]], np.float32)
    np.testing.assert_array_equal(signed_root(values), [[-2, 0, 3]])
    np.testing.assert_array_equal(values, [[-4, 0, 9]])


def test_a_matrix_of_zeros_has_directions_of_nothing(monkeypatch):
    monkeypatch.setattr(linalg_module, "_EXACT", 10)
    vectors, values = linalg_module.leading(np.zeros((40, 40), np.float32), 5, np.random.default_rng(0))
    assert np.all(np.isfinite(vectors))
    np.testing.assert_array_equal(values, 0)
