"""FaceNet's NN1: the net of Zeiler and Fergus with 1×1 convolutions between its convolutions.

References:
    Schroff, Kalenichenko, Philbin: FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015,
    table 1.
    Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014.
"""

from __future__ import annotations

from typing import Any

import keras

from facetl.features.net_layers import LocalResponseNormalization, Maxout
from facetl.methods.nets.frame import INITIALISER, begin, convolution, end, max_pooling

SIDE = 220
_FULLY_CONNECTED = 32 * 128
_DROPOUT = 0.5


def nn1(side: int = SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build NN1 with random weights, its two fully connected layers maxout of two pieces.

    photos [n, side, side, 3] float32 RGB in 0–255 → [n, width] unit vectors. The paper tells no constants of the
    local response normalisation: they are those of Krizhevsky's net.
    """
    photos, maps = _convolutions(side, grey)
    flat = keras.layers.Flatten(name="concat")(maps)
    for name in ("fc1", "fc2"):
        flat = Maxout(_FULLY_CONNECTED, name=name)(flat)
    return _end(photos, flat, width, "nn1")


def nn1_relu(side: int = SIDE, *, width: int = 128, grey: bool = False) -> keras.Model:
    """Build NN1 with ReLU and dropout in its fully connected layers instead of maxout, as Zeiler and Fergus had it."""
    photos, maps = _convolutions(side, grey)
    flat = keras.layers.Flatten(name="concat")(maps)
    for name in ("fc1", "fc2"):
        flat = keras.layers.Dense(_FULLY_CONNECTED, activation="relu", kernel_initializer=INITIALISER, name=name)(flat)
        flat = keras.layers.Dropout(_DROPOUT, name=f"{name}-dropout")(flat)
    return _end(photos, flat, width, "nn1_relu")


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


def _end(photos: Any, flat: Any, width: int, name: str) -> keras.Model:
    return end(photos, keras.layers.Dense(width, name="fc7128")(flat), name=name)
