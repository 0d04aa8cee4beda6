"""Flat space on a large sphere: distances stay, lengths become one."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from facetl.training.layers import SignedRoot, SphereLift


def lifted(rows: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(SphereLift(radius)(rows.astype(np.float32)), np.float64)


def test_by_hand() -> None:
    np.testing.assert_allclose(lifted(np.array([[3.0, 0.0]]), 5.0), [[0.6, 0.0, 0.8]], atol=1e-6)
    np.testing.assert_allclose(lifted(np.array([[0.0, 12.0]]), 5.0), [[0.0, 1.0, 0.0]], atol=1e-6)


def test_distances_stay_but_for_what_is_stated() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 16))
    rows *= rng.uniform(1.2, 1.7, (60, 1)) / np.linalg.norm(rows, axis=1, keepdims=True)
    above = lifted(rows, 8.0)
    np.testing.assert_allclose(np.linalg.norm(above, axis=1), 1.0, atol=1e-6)
    first, second = np.triu_indices(len(rows), 1)
    flat = np.sum((rows[first] - rows[second]) ** 2, axis=1)
    excess = 64 * np.sum((above[first] - above[second]) ** 2, axis=1) / flat - 1
    lengths = np.linalg.norm(rows, axis=1)
    mean, greater = (lengths[first] + lengths[second]) / 2, np.maximum(lengths[first], lengths[second])
    assert excess.max() > 1e-4
    assert np.all(excess <= mean**2 / (64 - greater**2) + 1e-4)
    assert np.all(excess >= -1e-4)


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    inputs = keras.Input((3,))
    layer = SphereLift(4.0, name="lifted")
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, 4)
    model.save(tmp_path / "head.keras")
    rows = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    back = keras.models.load_model(tmp_path / "head.keras")
    np.testing.assert_array_equal(np.asarray(back(rows)), np.asarray(model(rows)))
    assert back.get_layer("lifted").get_config()["radius"] == pytest.approx(4.0)
    # Files hold the name under which the class was first registered.
    assert keras.saving.get_registered_name(SphereLift) == "facetl>Lifted"


def test_signed_root_by_hand() -> None:
    np.testing.assert_allclose(SignedRoot()(np.array([[-9.0, 0.0, 0.25]])), [[-3.0, 0.0, 0.5]])
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(SignedRoot(name="root")))
    assert isinstance(layer, SignedRoot)
    assert layer.name == "root"
