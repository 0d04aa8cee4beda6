"""Which layers are compared, and that their names hold however many nets a process has built."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from facetl.backbones import keras_applications
from facetl.backbones.tap_candidates import candidates
from facetl.errors import WeightsError


def net() -> Any:
    entry = keras.Input((20, 12, 3))
    first = keras.layers.MaxPooling2D()(entry)
    second = keras.layers.MaxPooling2D(name="pool_of_its_own")(first)
    third = keras.layers.Conv2D(2, 1)(second)
    return keras.Model(entry, keras.layers.MaxPooling2D(pool_size=1)(third))


def test_names_are_those_of_a_fresh_process() -> None:
    net()
    model = net()
    layers = keras_applications.layers_by_name(model)
    assert model.layers[1].name != "max_pooling2d"  # Keras counts on
    assert [name for name in layers if "pool" in name] == ["max_pooling2d", "pool_of_its_own", "max_pooling2d_1"]
    assert layers["max_pooling2d"] is model.layers[1]
    assert layers["max_pooling2d_1"] is model.layers[-1]
    assert layers["conv2d"] is model.layers[3]
    assert [keras_applications.is_automatic(layer) for layer in model.layers[1:]] == [True, False, True, True]


def test_inception_s_blocks() -> None:
    found = candidates("inception_v3")
    assert found[:2] == (("max_pooling2d_1", 5), ("max_pooling2d_1", 7))
    assert found[-1] == ("avg", 1)
    assert len(found) == 17


def test_the_last_named_layer_of_each_resolution() -> None:
    found = candidates("mobilenet_v3_small")
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
        candidates("no_such")
