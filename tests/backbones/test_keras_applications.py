"""The nets by name, against what keras.applications itself says of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from facetl.backbones import keras_applications
from facetl.errors import WeightsError


class TestNames:
    def test_every_net_is_listed_once_and_found_by_its_name(self) -> None:
        names = keras_applications.names()
        assert len(names) == len(set(names)) >= 38
        assert names == sorted(names)
        assert len({keras_applications.net(name).function for name in names}) == len(names)

    @pytest.mark.parametrize(
        ("name", "function"),
        [
            ("inception_v3", "InceptionV3"),
            ("InceptionV3", "InceptionV3"),
            ("inceptionv3", "InceptionV3"),
            ("Inception-V3", "InceptionV3"),
            ("inception_resnet_v2", "InceptionResNetV2"),
            ("mobilenet_v3_small", "MobileNetV3Small"),
            ("mobilenet", "MobileNet"),
            ("mobilenet_v2", "MobileNetV2"),
            ("resnet50", "ResNet50"),
            ("resnet50_v2", "ResNet50V2"),
            ("vgg16", "VGG16"),
            ("densenet121", "DenseNet121"),
            ("nasnet_mobile", "NASNetMobile"),
            ("efficientnet_b0", "EfficientNetB0"),
            ("efficientnetv2_s", "EfficientNetV2S"),
            ("convnext_tiny", "ConvNeXtTiny"),
            ("xception", "Xception"),
        ],
    )
    def test_names_with_and_without_underscores(self, name: str, function: str) -> None:
        assert keras_applications.net(name).function is getattr(keras.applications, function)

    @pytest.mark.parametrize("name", ["inception_v4", "", "imagenet_utils", "preprocess_input", "__name__"])
    def test_an_unknown_name(self, name: str) -> None:
        with pytest.raises(WeightsError, match=r"expected a net of keras\.applications \(.*xception.*, got "):
            keras_applications.net(name)


class TestSize:
    @pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v2", "xception", "inception_v3", "efficientnet_b1"])
    def test_is_that_of_the_net_with_its_classifier(self, name: str) -> None:
        net = keras_applications.net(name)
        assert net.function(include_top=True, weights=None).input_shape == (None, net.size, net.size, 3)

    @pytest.mark.parametrize(
        "name", [name for name in keras_applications.names() if not name.startswith("mobilenet_v3")]
    )
    def test_is_keras_default_for_every_net(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Building all would take minutes: the default size is caught where every net hands it on."""

        class CaughtError(Exception):
            pass

        def catch(input_shape: object, default_size: int, **_: object) -> None:
            raise CaughtError(default_size)

        net = keras_applications.net(name)
        module = sys.modules[net.function.__module__]
        monkeypatch.setattr(module.imagenet_utils, "obtain_input_shape", catch)
        with pytest.raises(CaughtError) as caught:
            net.function(include_top=True, weights=None)
        assert caught.value.args == (net.size,)

    def test_mobilenet_v3_takes_any_size_and_gets_the_one_it_was_trained_with(self) -> None:
        assert (
            keras_applications.net("mobilenet_v3_small").size
            == keras_applications.net("mobilenet_v3_large").size
            == 224
        )

    def test_a_net_is_built_without_its_classifier_and_for_its_size(self) -> None:
        model = keras_applications.net("mobilenet").build(None)
        assert model.input_shape == (None, 224, 224, 3)
        assert model.output_shape == (None, 7, 7, 1024)


def _symmetric(pixels: np.ndarray) -> np.ndarray:
    return pixels / 127.5 - 1


def _caffe(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., ::-1] - np.array([103.939, 116.779, 123.68])


def _torch(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def _unchanged(pixels: np.ndarray) -> np.ndarray:
    return pixels


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inception_v3", _symmetric),
        ("xception", _symmetric),
        ("inception_resnet_v2", _symmetric),
        ("mobilenet_v2", _symmetric),
        ("nasnet_mobile", _symmetric),
        ("resnet50_v2", _symmetric),
        ("resnet50", _caffe),
        ("vgg16", _caffe),
        ("vgg19", _caffe),
        ("densenet121", _torch),
        ("mobilenet_v3_small", _unchanged),
        ("efficientnet_b0", _unchanged),
        ("efficientnetv2_s", _unchanged),
        ("convnext_tiny", _unchanged),
    ],
)
def test_each_family_has_its_own_preprocessing(name: str, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 3)).astype(np.float32)
    prepared = np.asarray(keras_applications.net(name).preprocess(pixels.copy()))
    np.testing.assert_allclose(prepared, expected(pixels), atol=1e-3)


def pools() -> Any:
    entry = keras.Input((20, 12, 3))
    first = keras.layers.MaxPooling2D()(entry)
    second = keras.layers.MaxPooling2D(name="pool_of_its_own")(first)
    third = keras.layers.Conv2D(2, 1)(second)
    return keras.Model(entry, keras.layers.MaxPooling2D(pool_size=1)(third))


def test_names_are_those_of_a_fresh_process() -> None:
    pools()
    model = pools()
    layers = keras_applications.layers_by_name(model)
    assert model.layers[1].name != "max_pooling2d"  # Keras counts on
    assert [name for name in layers if "pool" in name] == ["max_pooling2d", "pool_of_its_own", "max_pooling2d_1"]
    assert layers["max_pooling2d"] is model.layers[1]
    assert layers["max_pooling2d_1"] is model.layers[-1]
    assert layers["conv2d"] is model.layers[3]
    assert [keras_applications.is_automatic(layer) for layer in model.layers[1:]] == [True, False, True, True]


def test_inception_s_blocks() -> None:
    found = keras_applications.tap_candidates("inception_v3")
    assert found[:2] == (("max_pooling2d_1", 5), ("max_pooling2d_1", 7))
    assert found[-1] == ("avg", 1)
    assert len(found) == 17


def test_the_last_named_layer_of_each_resolution() -> None:
    found = keras_applications.tap_candidates("mobilenet_v3_small")
    model = keras_applications.net("mobilenet_v3_small").build(None)
    layers = keras_applications.layers_by_name(model)
    names = [layer.name for layer in model.layers]
    for tap, grid in found[:-1]:
        side = layers[tap].output.shape[1]
        assert grid <= side
        later = [model.layers[place] for place in range(names.index(tap) + 1, len(names))]
        assert not [
            layer.name
            for layer in later
            if len(layer.output.shape) == 4
            and layer.output.shape[1] == side
            and not keras_applications.is_automatic(layer)
        ]
    assert {layers[tap].output.shape[1] for tap, _ in found[:-1]} >= {28, 14, 7}
    with pytest.raises(WeightsError, match="no_such"):
        keras_applications.tap_candidates("no_such")
