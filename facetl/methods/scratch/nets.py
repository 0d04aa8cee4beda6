"""The nets that can be trained from scratch, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any, Protocol

import keras

from facetl.errors import TrainingError
from facetl.methods.scratch import facenet
from facetl.methods.scratch.facenet import INITIALISER, begin, end


class Build(Protocol):
    """Builds a net with random weights: photos [n, side, side, 3] RGB in 0–255 → [n, width] unit vectors."""

    def __call__(self, side: int, *, width: int, grey: bool) -> keras.Model: ...


@dataclass(frozen=True)
class Design:
    """A net as it can be asked for.

    Attributes:
        title: what it is, a phrase.
        side: of its input by default, pixels.
        build: builds it.
    """

    title: str
    side: int
    build: Build


SIDE = 96
_FILTERS = (32, 64, 96, 128, 192)
_DROPOUT = 0.4
# A set of few photos makes few steps an epoch: the moving averages must keep up with the weights.
_MOMENTUM = 0.9


def small(side: int = SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build the small net with random weights: photos [n, side, side, 3] → [n, width] unit vectors.

    Five 3×3 convolutions with batch normalisation, the map halved by each; the last one is not averaged, since where
    something is in an aligned face says what it is.
    """
    photos, maps = begin(side, grey=grey)
    for number, filters in enumerate(_FILTERS, 1):
        maps = _block(maps, filters, strides=2 if number == 1 else 1, name=f"conv{number}")
        if number > 1:
            maps = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(maps)
    flat = keras.layers.Flatten(name="flat")(maps)
    flat = keras.layers.Dropout(_DROPOUT, name="dropout")(flat)
    embeddings = keras.layers.Dense(width, use_bias=False, name="fc")(flat)
    return end(photos, keras.layers.BatchNormalization(momentum=_MOMENTUM, name="fc-norm")(embeddings), name="small")


def _block(maps: Any, filters: int, *, strides: int, name: str) -> Any:
    maps = keras.layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=INITIALISER,
        name=name,
    )(maps)
    maps = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}-norm")(maps)
    return keras.layers.ReLU(name=f"{name}-relu")(maps)


DESIGNS: Mapping[str, Design] = MappingProxyType(
    {
        "small": Design("a small convolutional net", SIDE, small),
        "nn1": Design("FaceNet NN1 (Zeiler-Fergus, maxout)", facenet.SIDE, facenet.nn1),
        "nn1-relu": Design("FaceNet NN1 (Zeiler-Fergus, ReLU and dropout)", facenet.SIDE, facenet.nn1_relu),
        "nn2": Design("FaceNet NN2 (Inception)", facenet.NN2_SIDE, facenet.nn2),
        "nns1": Design("FaceNet NNS1 (mini Inception, our reading)", facenet.NNS1_SIDE, facenet.nns1),
        "nns2": Design("FaceNet NNS2 (tiny Inception, our reading)", facenet.NNS2_SIDE, facenet.nns2),
    }
)
# Below it some map of some net has no pixel left.
LEAST_SIDE = 32


def build_net(name: str, *, side: int | None = None, width: int = 128, grey: bool = False, seed: int) -> keras.Model:
    """Build a net of DESIGNS with weights that follow from the seed; TrainingError for none of them or too few pixels.

    Sets the seed of Python, NumPy and TensorFlow.
    """
    if name not in DESIGNS:
        raise TrainingError(f"net: expected one of {', '.join(DESIGNS)}, got {name!r}.")
    side = DESIGNS[name].side if side is None else side
    if side < LEAST_SIDE or width < 2:
        raise TrainingError(f"net: expected at least {LEAST_SIDE} pixels and a width from 2, got {side} and {width}.")
    keras.utils.set_random_seed(seed)
    return DESIGNS[name].build(side, width=width, grey=grey)


@dataclass(frozen=True)
class LayerRow:
    """A layer, or a module of several.

    Attributes:
        name: of the layer, up to a dash.
        output: of the last layer in it, without the batch.
        parameters: trained or not.
        multiply_adds: for one photo, of convolutions and dense layers, a bias counting as one for each output: so the
            FaceNet paper counts its "FLOPS".
    """

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_table(net: keras.Model) -> tuple[LayerRow, ...]:
    """Return the rows of a net in its own order; layers `name-part` next to each other make one row `name`."""
    return tuple(
        _row(name, list(layers)) for name, layers in groupby(net.layers, lambda layer: layer.name.partition("-")[0])
    )


def _row(name: str, layers: Sequence[Any]) -> LayerRow:
    return LayerRow(
        name,
        tuple(layers[-1].output.shape[1:]),
        sum(layer.count_params() for layer in layers),
        sum(_multiply_adds(layer) for layer in layers),
    )


def _multiply_adds(layer: Any) -> int:
    if getattr(layer, "kernel", None) is None:
        return 0
    shape = layer.output.shape[1:]
    positions = shape[0] * shape[1] if isinstance(layer, keras.layers.Conv2D) else 1
    return int(positions * layer.count_params())
