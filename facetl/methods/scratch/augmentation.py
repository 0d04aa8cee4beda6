"""What is changed in a training photo so that a net does not learn the photo instead of the face."""

from __future__ import annotations

import keras

_SHIFT = 0.08
_ZOOM = 0.12
_TURN = 0.03
_BRIGHTNESS = 0.2
_CONTRAST = 0.25


def make_augmenter(seed: int) -> keras.Sequential:
    """Return layers that change photos [n, side, side, 3] float32 in 0–255 while training, and leave them otherwise.

    Each photo by itself: mirrored or not; another cut-out (shifted by up to 8 %, scaled by up to 12 %, turned by up to
    11 degrees; what lies outside is its mirror image); brightness and contrast.
    """
    layers = keras.layers
    return keras.Sequential(
        [
            layers.RandomFlip("horizontal", seed=seed),
            layers.RandomRotation(_TURN, fill_mode="reflect", seed=seed + 1),
            layers.RandomTranslation(_SHIFT, _SHIFT, fill_mode="reflect", seed=seed + 2),
            layers.RandomZoom(_ZOOM, fill_mode="reflect", seed=seed + 3),
            layers.RandomContrast(_CONTRAST, value_range=(0, 255), seed=seed + 4),
            layers.RandomBrightness(_BRIGHTNESS, value_range=(0, 255), seed=seed + 5),
        ],
        name="augmenter",
    )
