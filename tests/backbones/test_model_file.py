"""Keras files and SavedModels as extractors, against the model they were made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from facetl.backbones.extractor import Extractor, make_extractor
from facetl.backbones.spec import ExtractorSpec
from facetl.backbones.weights import resolve
from facetl.errors import WeightsError
from facetl.images.resize import prepare
from facetl.recognition.recognizer import save_model

SIZE = 12
RNG = np.random.default_rng(1)
PHOTOS = [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((20, 17, 3), (12, 12, 3), (9, 31, 3))]


def net(*, first: list[Any] | None = None, size: int | None = SIZE) -> keras.Model:
    keras.utils.set_random_seed(5)
    layers = [
        keras.Input((size, size, 3)),
        *(first or []),
        keras.layers.Conv2D(6, 3, name="conv"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(4, name="vector"),
    ]
    return keras.Sequential(layers)


def open_model(path: Path, options: str = "", **settings: Any) -> Extractor:
    spec = ExtractorSpec.of(f"{path}{options}", **{"mirror": False} | settings)
    extractor = make_extractor(spec, resolve(spec))
    assert isinstance(extractor, Extractor)
    return extractor


def prepared(size: int = SIZE) -> np.ndarray:
    return np.stack([np.asarray(prepare(photo, size=size, crop=1.0)) for photo in PHOTOS])


class TestKerasFile:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Callable[[keras.Model], Path]:
        def save(model: keras.Model) -> Path:
            model.save(tmp_path / "net.keras")
            return tmp_path / "net.keras"

        return save

    def test_is_the_model_on_scaled_pixels(self, saved: Callable[[keras.Model], Path]) -> None:
        model = net()
        extractor = open_model(saved(model))
        assert (extractor.size, extractor.dim) == (SIZE, 4)
        np.testing.assert_allclose(extractor.extract(PHOTOS), model(prepared() / 127.5 - 1), rtol=1e-4, atol=1e-4)

    def test_a_model_that_scales_pixels_gets_them_as_they_are(self, saved: Callable[[keras.Model], Path]) -> None:
        model = net(first=[keras.Sequential([keras.layers.Rescaling(1 / 255)])])
        extractor = open_model(saved(model))
        np.testing.assert_allclose(extractor.extract(PHOTOS), model(prepared()), rtol=1e-4, atol=1e-4)

    def test_scaling_behind_the_first_kernel_is_no_scaling_of_pixels(
        self, saved: Callable[[keras.Model], Path]
    ) -> None:
        inputs = keras.Input((SIZE, SIZE, 3))
        outputs = keras.layers.Rescaling(3.0)(keras.layers.Conv2D(2, 3)(inputs))
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(outputs))
        np.testing.assert_allclose(
            open_model(saved(model)).extract(PHOTOS), model(prepared() / 127.5 - 1), rtol=1e-4, atol=1e-4
        )

    def test_options_in_the_name(self, saved: Callable[[keras.Model], Path]) -> None:
        model = net(size=None)
        extractor = open_model(saved(model), "?mean=1,2,3&std=4&channels=bgr&size=10")
        pixels = ((prepared(10) - [1, 2, 3]) / 4)[..., ::-1]
        np.testing.assert_allclose(extractor.extract(PHOTOS), model(pixels), rtol=1e-4, atol=1e-3)

    def test_a_tap_is_a_layer_pooled_to_a_grid(self, saved: Callable[[keras.Model], Path]) -> None:
        model = net()
        extractor = open_model(saved(model), tap="conv", grid=2)
        maps = np.asarray(keras.Model(model.inputs[0], model.get_layer("conv").output)(prepared() / 127.5 - 1))
        assert extractor.dim == 24
        first_cell = maps[:, :5, :5].mean(axis=(1, 2))
        np.testing.assert_allclose(extractor.extract(PHOTOS)[:, :6], first_cell, rtol=1e-4, atol=1e-4)
        with pytest.raises(WeightsError, match=r"a layer of net\.keras, got 'mixed2': conv, pool, vector"):
            open_model(saved(model), tap="mixed2", grid=2)

    @pytest.mark.parametrize("shape", [(SIZE, SIZE + 1, 3), (SIZE, SIZE, 1), (7,)])
    def test_a_model_that_takes_no_square_photo(
        self, shape: tuple[int, ...], saved: Callable[[keras.Model], Path]
    ) -> None:
        inputs = keras.Input(shape)
        path = saved(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs))))
        with pytest.raises(WeightsError, match="expected square photos as input"):
            open_model(path)

    def test_two_outputs(self, saved: Callable[[keras.Model], Path]) -> None:
        inputs = keras.Input((SIZE, SIZE, 3))
        flat = keras.layers.Flatten()(inputs)
        path = saved(keras.Model(inputs, [keras.layers.Dense(2)(flat), keras.layers.Dense(3)(flat)]))
        with pytest.raises(WeightsError, match="one output, got 2"):
            open_model(path)

    @pytest.mark.parametrize("content", [b"", b"no zip at all"])
    def test_no_model_at_all(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "net.keras").write_bytes(content)
        with pytest.raises(WeightsError, match=r"net\.keras: expected a model saved by Keras") as caught:
            open_model(tmp_path / "net.keras")
        assert "\n" not in str(caught.value)


class TestSavedModel:
    def test_one_that_keras_exported(self, tmp_path: Path) -> None:
        model = net()
        model.export(tmp_path / "net", verbose=False)
        extractor = open_model(tmp_path / "net")
        np.testing.assert_allclose(extractor.extract(PHOTOS), model(prepared() / 127.5 - 1), rtol=1e-4, atol=1e-4)

    def test_one_of_a_run_takes_photos_as_they_are(self, tmp_path: Path) -> None:
        model = net()
        model.save(tmp_path / "net.keras")
        inner = open_model(tmp_path / "net.keras", crop=0.8, mirror=True)
        inputs = keras.Input((inner.dim,))
        head = keras.Model(inputs, keras.layers.UnitNormalization()(keras.layers.Dense(3)(inputs)))
        save_model(inner, head, tmp_path / "run")
        outer = open_model(tmp_path / "run")
        assert outer.size is None
        expected = np.asarray(head(inner.extract(PHOTOS)))
        np.testing.assert_allclose(outer.extract(PHOTOS), expected, atol=1e-5)
        # And once more: what was loaded can be served again.
        save_model(outer, keras.Sequential([keras.Input((3,)), keras.layers.UnitNormalization()]), tmp_path / "again")
        served = tf.saved_model.load(str(tmp_path / "again")).signatures["serve_uint8"]
        np.testing.assert_allclose(served(images=PHOTOS[0][None])["embeddings"], expected[:1], atol=1e-5)
        with pytest.raises(WeightsError, match=r"prepares them itself, got a crop of 0\.5\. Give --crop 1"):
            open_model(tmp_path / "run", crop=0.5)

    def test_a_signature_of_bytes(self, tmp_path: Path) -> None:
        class Bytes(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3), tf.uint8)])
            def corner(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
                return {"a": tf.cast(photos[:, 0, 0], tf.int32), "b": tf.cast(photos[:, 1, 1], tf.float32)}

        module = Bytes()
        tf.saved_model.save(module, str(tmp_path / "net"), signatures={"corners": module.corner})
        pixels = np.clip(np.round(prepared(4)), 0, 255)
        np.testing.assert_array_equal(open_model(tmp_path / "net", tap="a", grid=1).extract(PHOTOS), pixels[:, 0, 0])
        np.testing.assert_array_equal(open_model(tmp_path / "net", tap="b", grid=1).extract(PHOTOS), pixels[:, 1, 1])
        with pytest.raises(WeightsError, match="an output of corners, a or b, got 'avg'"):
            open_model(tmp_path / "net")

    def test_one_without_a_signature_for_photos(self, tmp_path: Path) -> None:
        tf.saved_model.save(tf.Module(), str(tmp_path / "net"))
        with pytest.raises(WeightsError, match="no signature has none"):
            open_model(tmp_path / "net")

    def test_a_damaged_one(self, tmp_path: Path) -> None:
        (tmp_path / "saved_model.pb").write_bytes(b"damaged")
        with pytest.raises(WeightsError, match=r"expected a SavedModel\.") as caught:
            open_model(tmp_path)
        assert "\n" not in str(caught.value)
