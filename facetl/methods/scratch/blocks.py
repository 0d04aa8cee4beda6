"""What every net here begins and ends with: photos as they are in, unit vectors out."""

from __future__ import annotations

from typing import Any

import keras

from facetl.backbones.net_layers import Grey

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
