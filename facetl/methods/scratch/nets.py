"""The nets that can be trained from scratch, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any

import keras

from facetl.backbones.net_layers import Grey, L2Pooling, LocalResponseNormalization, Maxout
from facetl.errors import TrainingError

INITIALISER = "he_normal"


def begin(side: int, *, grey: bool) -> tuple[Any, Any]:
    """Return the input, photos [n, side, side, 3] float32 RGB in 0–255, and the same in [−1, 1], grey if asked."""
    photos = keras.Input((side, side, 3), name="photos")
    maps = keras.layers.Rescaling(1 / 127.5, offset=-1, name="scale")(photos)
    return photos, Grey(name="grey")(maps) if grey else maps


def end(photos: Any, embeddings: Any, *, name: str) -> keras.Model:
    """Return the net that gives `embeddings` [n, width] at unit length."""
    return keras.Model(photos, keras.layers.UnitNormalization(name="L2")(embeddings), name=name)


def convolution(maps: Any, filters: int, kernel: int, *, strides: int = 1, name: str) -> Any:
    """Convolve with a ReLU behind, [n, h, w, c] → [n, ⌈h/s⌉, ⌈w/s⌉, filters]."""
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        activation="relu",
        kernel_initializer=INITIALISER,
        name=name,
    )(maps)


def max_pooling(maps: Any, *, size: int = 3, strides: int = 2, name: str) -> Any:
    """Take the largest value of each window, [n, h, w, c] → [n, ⌈h/s⌉, ⌈w/s⌉, c]."""
    return keras.layers.MaxPooling2D(size, strides=strides, padding="same", name=name)(maps)


NN2_SIDE, NNS1_SIDE, NNS2_SIDE = 224, 165, 140
# NNS2 sees 140 × 116 pixels: the middle of a square, upright as a face is.
_NNS2_WIDTH = 116


@dataclass(frozen=True, kw_only=True)
class Module:
    """An Inception module: filters of its convolutions, 0 for none.

    Attributes:
        name: as `3a`.
        one: of the 1×1 convolution.
        reduce3, three: of the 1×1 convolution that narrows, and the 3×3 behind it; so 5.
        pool: `max`, `l2` or "" for none.
        project: of the 1×1 convolution behind the pool; 0 passes the pooled map on as it is.
        strides: of the 3×3 and 5×5 convolutions and the pool.
    """

    name: str
    one: int = 0
    reduce3: int
    three: int
    reduce5: int = 0
    five: int = 0
    pool: str = ""
    project: int = 0
    strides: int = 1


_NN2 = (
    Module(name="3a", one=64, reduce3=96, three=128, reduce5=16, five=32, pool="max", project=32),
    Module(name="3b", one=64, reduce3=96, three=128, reduce5=32, five=64, pool="l2", project=64),
    Module(name="3c", reduce3=128, three=256, reduce5=32, five=64, pool="max", strides=2),
    Module(name="4a", one=256, reduce3=96, three=192, reduce5=32, five=64, pool="l2", project=128),
    Module(name="4b", one=224, reduce3=112, three=224, reduce5=32, five=64, pool="l2", project=128),
    Module(name="4c", one=192, reduce3=128, three=256, reduce5=32, five=64, pool="l2", project=128),
    Module(name="4d", one=160, reduce3=144, three=288, reduce5=32, five=64, pool="l2", project=128),
    Module(name="4e", reduce3=160, three=256, reduce5=64, five=128, pool="max", strides=2),
    Module(name="5a", one=384, reduce3=192, three=384, reduce5=48, five=128, pool="l2", project=128),
    Module(name="5b", one=384, reduce3=192, three=384, reduce5=48, five=128, pool="max", project=128),
)
_NNS1 = (
    Module(name="3a", one=48, reduce3=64, three=96, reduce5=16, five=32, pool="max", project=32),
    Module(name="3c", reduce3=64, three=128, reduce5=16, five=32, pool="max", strides=2),
    Module(name="4a", one=128, reduce3=64, three=128, reduce5=16, five=32, pool="l2", project=64),
    Module(name="4e", reduce3=96, three=128, reduce5=32, five=64, pool="max", strides=2),
)
_NNS2 = (
    Module(name="3a", one=8, reduce3=16, three=24, reduce5=4, five=8, pool="max", project=8),
    Module(name="3c", reduce3=16, three=32, reduce5=4, five=16, pool="max", strides=2),
    Module(name="4e", reduce3=24, three=48, reduce5=8, five=16, pool="max", strides=2),
)


def nn2(side: int = NN2_SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build NN2 with random weights: photos [n, side, side, 3] float32 RGB in 0–255 → [n, width] unit vectors."""
    photos, maps = begin(side, grey=grey)
    maps = reduce(_inception, _NN2, _stem(maps, first=64, narrow=64, wide=192))
    flat = keras.layers.GlobalAveragePooling2D(name="avg_pool")(maps)
    return end(photos, keras.layers.Dense(width, name="fully_conn")(flat), name="nn2")


def nns1(side: int = NNS1_SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build our reading of NNS1, a mini Inception of 26 million parameters and 220 million multiply-adds."""
    photos, maps = begin(side, grey=grey)
    maps = reduce(_inception, _NNS1, _stem(maps, first=32, narrow=32, wide=128))
    return _fully_connected(photos, maps, hidden=1280, width=width, name="nns1")


def nns2(side: int = NNS2_SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build our reading of NNS2, a tiny Inception of 4.3 million parameters and 20 million multiply-adds.

    It cuts its 140 × 116 pixels out of a square; of another side, the same share.
    """
    photos, maps = begin(side, grey=grey)
    beside = (side - round(side * _NNS2_WIDTH / NNS2_SIDE)) // 2
    maps = keras.layers.Cropping2D((0, beside), name="upright")(maps)
    maps = reduce(_inception, _NNS2, _stem(maps, first=16, narrow=16, wide=24))
    return _fully_connected(photos, maps, hidden=1280, width=width, name="nns2")


def _stem(maps: Any, *, first: int, narrow: int, wide: int) -> Any:
    """Build what comes before the modules: a quarter of the side at its end is an eighth."""
    maps = convolution(maps, first, 7, strides=2, name="conv1")
    maps = max_pooling(maps, name="pool1")
    maps = LocalResponseNormalization(name="norm1")(maps)
    maps = _inception(maps, Module(name="2", reduce3=narrow, three=wide))
    maps = LocalResponseNormalization(name="norm2")(maps)
    return max_pooling(maps, name="pool2")


def _inception(maps: Any, module: Module) -> Any:
    name, strides = f"inception_{module.name}", module.strides
    branches = []
    if module.one:
        branches.append(convolution(maps, module.one, 1, name=f"{name}-1x1"))
    for size, narrow, filters in ((3, module.reduce3, module.three), (5, module.reduce5, module.five)):
        if filters:
            narrowed = convolution(maps, narrow, 1, name=f"{name}-{size}x{size}_reduce")
            branches.append(convolution(narrowed, filters, size, strides=strides, name=f"{name}-{size}x{size}"))
    if module.pool:
        pooled = (
            max_pooling(maps, strides=strides, name=f"{name}-max")
            if module.pool == "max"
            else L2Pooling(strides=strides, name=f"{name}-l2")(maps)
        )
        branches.append(convolution(pooled, module.project, 1, name=f"{name}-project") if module.project else pooled)
    return branches[0] if len(branches) == 1 else keras.layers.Concatenate(name=f"{name}-concat")(branches)


def _fully_connected(photos: Any, maps: Any, *, hidden: int, width: int, name: str) -> keras.Model:
    flat = keras.layers.Flatten(name="flat")(maps)
    flat = keras.layers.Dense(hidden, activation="relu", kernel_initializer=INITIALISER, name="fc1")(flat)
    return end(photos, keras.layers.Dense(width, name="fc2")(flat), name=name)


NN1_SIDE = 220
_FULLY_CONNECTED = 32 * 128
_NN1_DROPOUT = 0.5


def nn1(side: int = NN1_SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build NN1 with random weights, its two fully connected layers maxout of two pieces.

    photos [n, side, side, 3] float32 RGB in 0–255 → [n, width] unit vectors. The paper gives no constants of the
    local response normalisation: they are those of Krizhevsky's net.
    """
    photos, maps = _convolutions(side, grey)
    flat = keras.layers.Flatten(name="concat")(maps)
    for name in ("fc1", "fc2"):
        flat = Maxout(_FULLY_CONNECTED, name=name)(flat)
    return end(photos, keras.layers.Dense(width, name="fc7128")(flat), name="nn1")


def nn1_relu(side: int = NN1_SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build NN1 with ReLU and dropout in its fully connected layers instead of maxout, as Zeiler and Fergus had it."""
    photos, maps = _convolutions(side, grey)
    flat = keras.layers.Flatten(name="concat")(maps)
    for name in ("fc1", "fc2"):
        flat = keras.layers.Dense(_FULLY_CONNECTED, activation="relu", kernel_initializer=INITIALISER, name=name)(flat)
        flat = keras.layers.Dropout(_NN1_DROPOUT, name=f"{name}-dropout")(flat)
    return end(photos, keras.layers.Dense(width, name="fc7128")(flat), name="nn1_relu")


def _convolutions(side: int, grey: bool) -> tuple[Any, Any]:
    photos, maps = begin(side, grey=grey)
    maps = convolution(maps, 64, 7, strides=2, name="conv1")
    maps = max_pooling(maps, name="pool1")
    maps = LocalResponseNormalization(name="rnorm1")(maps)
    maps = convolution(maps, 64, 1, name="conv2a")
    maps = convolution(maps, 192, 3, name="conv2")
    maps = LocalResponseNormalization(name="rnorm2")(maps)
    maps = max_pooling(maps, name="pool2")
    maps = convolution(maps, 192, 1, name="conv3a")
    maps = convolution(maps, 384, 3, name="conv3")
    maps = max_pooling(maps, name="pool3")
    for number, before in ((4, 384), (5, 256), (6, 256)):
        maps = convolution(maps, before, 1, name=f"conv{number}a")
        maps = convolution(maps, 256, 3, name=f"conv{number}")
    return photos, max_pooling(maps, name="pool4")


@dataclass(frozen=True)
class Design:
    """A net as it can be asked for.

    Attributes:
        title: what it is, a phrase.
        side: of its input by default, pixels.
        build: builds it with random weights from side, width and grey, see `nn2`.
    """

    title: str
    side: int
    build: Callable[..., keras.Model]


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
        maps = keras.layers.Conv2D(
            filters,
            3,
            strides=2 if number == 1 else 1,
            padding="same",
            use_bias=False,
            kernel_initializer=INITIALISER,
            name=f"conv{number}",
        )(maps)
        maps = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"conv{number}-norm")(maps)
        maps = keras.layers.ReLU(name=f"conv{number}-relu")(maps)
        if number > 1:
            maps = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(maps)
    flat = keras.layers.Flatten(name="flat")(maps)
    flat = keras.layers.Dropout(_DROPOUT, name="dropout")(flat)
    embeddings = keras.layers.Dense(width, use_bias=False, name="fc")(flat)
    return end(photos, keras.layers.BatchNormalization(momentum=_MOMENTUM, name="fc-norm")(embeddings), name="small")


DESIGNS: Mapping[str, Design] = MappingProxyType(
    {
        "small": Design("a small convolutional net", SIDE, small),
        "nn1": Design("FaceNet NN1 (Zeiler-Fergus, maxout)", NN1_SIDE, nn1),
        "nn1-relu": Design("FaceNet NN1 (Zeiler-Fergus, ReLU and dropout)", NN1_SIDE, nn1_relu),
        "nn2": Design("FaceNet NN2 (Inception)", NN2_SIDE, nn2),
        "nns1": Design("FaceNet NNS1 (mini Inception, our reading)", NNS1_SIDE, nns1),
        "nns2": Design("FaceNet NNS2 (tiny Inception, our reading)", NNS2_SIDE, nns2),
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
