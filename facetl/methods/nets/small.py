"""A small convolutional net for faces of 64 to 128 pixels, which a processor without a GPU trains in minutes."""

from __future__ import annotations

from typing import Any

import keras

from facetl.methods.nets.frame import INITIALISER, begin, end

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
