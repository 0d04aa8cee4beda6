"""The layers of facetl's own nets against NumPy, one position at a time."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from facetl.backbones.net_layers import Grey, L2Pooling, LocalResponseNormalization, Maxout


def maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def test_local_response_normalisation_divides_by_the_energy_of_the_channels_around() -> None:
    x = maps(2, 3, 4, 7)
    expected = np.empty_like(x)
    for channel in range(7):
        around = x[..., max(channel - 2, 0) : channel + 3]
        expected[..., channel] = x[..., channel] / (1.5 + 0.1 * np.sum(around**2, axis=-1)) ** 0.6
    layer = LocalResponseNormalization(size=5, bias=1.5, alpha=0.1, beta=0.6)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)


@pytest.mark.parametrize(("height", "width", "strides"), [(5, 4, 1), (7, 6, 2), (6, 9, 2), (1, 1, 2)])
def test_l2_pooling_takes_the_norm_of_a_window_and_nothing_from_outside(height: int, width: int, strides: int) -> None:
    x = maps(2, height, width, 3)
    pooled = np.asarray(L2Pooling(size=3, strides=strides)(x))
    # Where TensorFlow's own "same" pooling has its windows: a maximum over outer indices tells.
    expected = np.sqrt(
        np.asarray(tf.nn.depthwise_conv2d(x**2, np.ones((3, 3, 3, 1), np.float32), (1, strides, strides, 1), "SAME"))
    )
    assert pooled.shape == (2, -(-height // strides), -(-width // strides), 3)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)
    if strides == 1:
        window = x[1, :2, 1:4, 2]
        assert pooled[1, 0, 2, 2] == pytest.approx(np.sqrt(np.sum(window**2)), rel=1e-5)


def test_l2_pooling_of_nothing_passes_no_gradient_that_is_no_number() -> None:
    x = tf.Variable(np.zeros((1, 4, 4, 2), np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(L2Pooling()(x))
    assert np.isfinite(tape.gradient(total, x)).all()


def test_maxout_takes_the_largest_piece_of_each_unit() -> None:
    x = maps(5, 4)
    layer = Maxout(3, pieces=2)
    layer.build((None, 4))
    kernel, bias = maps(4, 6, seed=1), maps(6, seed=2)
    layer.set_weights([kernel, bias])
    linear = x @ kernel + bias
    expected = np.stack([np.maximum(linear[:, 2 * unit], linear[:, 2 * unit + 1]) for unit in range(3)], axis=1)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    assert layer.count_params() == 4 * 6 + 6


def test_grey_weighs_the_channels() -> None:
    x = maps(1, 2, 2, 3)
    luma = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    np.testing.assert_allclose(np.asarray(Grey()(x))[..., 0], luma, atol=2e-3)


def test_they_are_saved_and_loaded_with_their_settings(tmp_path: Path) -> None:
    photos = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(6, 3)(Grey()(photos))
    x = LocalResponseNormalization(size=3, bias=1.0, alpha=0.5, beta=0.5)(x)
    x = L2Pooling(size=5, strides=2)(x)
    net = keras.Model(photos, Maxout(4, pieces=3)(keras.layers.Flatten()(x)))
    net.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    batch = maps(3, 9, 9, 3)
    np.testing.assert_array_equal(loaded(batch), net(batch))
    assert [layer.get_config() for layer in loaded.layers] == [layer.get_config() for layer in net.layers]
