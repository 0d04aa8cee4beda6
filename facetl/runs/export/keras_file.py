"""A whole run as one Keras model, of Keras' own layers as far as they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from facetl.backbones import keras_applications, model_file
from facetl.backbones.photo_net import formed
from facetl.backbones.spec import AVERAGE, InputForm
from facetl.errors import RunError
from facetl.images.resize import in_grey
from facetl.recognition.recognizer import Recognizer
from facetl.runs.export.fixed_input import fixed_input

_OWN = "facetl"


def keras_model(recognizer: Recognizer) -> keras.Model:
    """Return photos [n, side, side, 3] float32 RGB in 0–255, cropped already, → unit embeddings [n, width].

    Mirror image, grey and the net's own scaling of pixels are inside. Raises RunError for a run whose net is no Keras
    model, or of several crops.
    """
    side, _ = fixed_input(recognizer.backbone)
    spec = recognizer.backbone.spec
    net, scaling = _net(recognizer)
    photos = keras.Input((side, side, 3), name="photos")
    pixels = _affine(photos, lambda values: scaling(np.asarray(in_grey(values)) if spec.grey else values))
    features = _flat(net(pixels), spec.taps)
    if spec.mirror:
        mirrored = _flat(net(ops.flip(pixels, axis=2)), spec.taps)
        features = keras.layers.Average(name="both_sides")([features, mirrored])
    return keras.Model(photos, recognizer.head(features), name="recognizer")


def layers_of_facetl(model: keras.Model) -> list[str]:
    """Return the classes of a model's layers that only facetl has: a file with them loads where it is installed."""
    names = {keras.saving.get_registered_name(type(layer)) for layer in _layers(model)}
    return sorted(name for name in names if name.startswith(f"{_OWN}>"))


def _net(recognizer: Recognizer) -> tuple[keras.Model, Callable[[np.ndarray], Any]]:
    """Return the net cut at its taps, and how it wants its pixels, as a function of [n, h, w, 3]."""
    spec, weights = recognizer.backbone.spec, recognizer.backbone.weights
    if spec.family.name == "keras_applications":
        net, preprocess, _ = keras_applications.cut_net(spec, weights)
        return net, preprocess
    held = model_file.load(spec, weights).held if spec.family.name == "model_file" else None
    if not isinstance(held, keras.Model):
        raise RunError(
            f"--format keras: the net of {spec.name} is no Keras model. Hand it over as saved_model or litert."
        )
    own = InputForm(mean=(0.0,), std=(1.0,)) if model_file.scales_itself(held) else InputForm()
    form = own.with_options(spec.name)
    return held, lambda values: formed(values, form)


def _affine(photos: Any, function: Callable[[np.ndarray], Any]) -> Any:
    """Return what `function` makes of pixels as a 1×1 convolution: every net's own scaling is an affine map."""
    # One black pixel, then one of each primary colour.
    probe = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype(np.float32).reshape(4, 1, 1, 3)
    seen = np.asarray(function(probe.copy()), np.float64).reshape(4, 3)
    kernel, bias = (seen[1:] - seen[0]) / 255, seen[0]
    if np.allclose(kernel, np.eye(3), atol=1e-6) and not bias.any():
        return photos
    layer = keras.layers.Conv2D(3, 1, name="pixels", trainable=False)
    pixels = layer(photos)
    layer.set_weights([kernel.reshape(1, 1, 3, 3).astype(np.float32), bias.astype(np.float32)])
    return pixels


def _flat(maps: Any, taps: tuple[tuple[str, int], ...]) -> Any:
    every = maps if isinstance(maps, (list, tuple)) else [maps]
    flat = [_pooled(one, 1 if name == AVERAGE else grid) for one, (name, grid) in zip(every, taps, strict=True)]
    return flat[0] if len(flat) == 1 else keras.layers.Concatenate()(flat)


def _pooled(maps: Any, grid: int) -> Any:
    """Average a map over grid × grid cells as the extractor does, [n, h, w, c] → [n, grid · grid · c]."""
    if len(maps.shape) == 2:
        return maps
    for equation, length, others in (
        ("nhwc,hg->ngwc", maps.shape[1], (maps.shape[2], maps.shape[3])),
        ("nhwc,wg->nhgc", maps.shape[2], (grid, maps.shape[3])),
    ):
        shape = (grid, *others) if "hg" in equation else (others[0], grid, others[1])
        layer = keras.layers.EinsumDense(equation, output_shape=shape, trainable=False)
        maps = layer(maps)
        layer.set_weights([pooling_weights(length, grid)])
    return keras.layers.Flatten()(maps)


def pooling_weights(length: int, cells: int) -> np.ndarray:
    """Return [length, cells] float32 weights of an adaptive average: cell i covers ⌊i·l/c⌋ to ⌈(i+1)·l/c⌉."""
    weights = np.zeros((length, cells), np.float32)
    for cell in range(cells):
        start, stop = cell * length // cells, -((cell + 1) * length // -cells)
        weights[start:stop, cell] = 1 / (stop - start)
    return weights


def _layers(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        yield layer
