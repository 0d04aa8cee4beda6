"""The one way from decoded pixels to a net's input: crop, then resize; and from colour to grey.

Cache filling, the SavedModel and single photos all call `prepare`, so that they cannot drift apart. It is
written in TensorFlow operations since one of the three is a graph.
"""

from __future__ import annotations

import tensorflow as tf

WHOLE = 1.0
_LUMA = (0.299, 0.587, 0.114)


def prepare(images: tf.Tensor, *, size: int, crop: float) -> tf.Tensor:
    """Crop photos to their centre and resize them to a net's input, float32 RGB in 0–255.

    Args:
        images: [height, width, 3] or [batch, height, width, 3], uint8 or float in 0–255, RGB, upright.
        size: side of the net's square input, pixels.
        crop: side of the central square as a fraction of the shorter side, in (0, 1); 1 takes the whole photo,
            stretched to the square, for faces that are cropped already.

    Returns:
        [size, size, 3] or [batch, size, size, 3] float32. Bilinear; when shrinking, the kernel widens with the
        factor (antialiasing), so that large photos do not alias.
    """
    images = tf.cast(images, tf.float32)
    if crop < WHOLE:
        shape = tf.shape(images)
        height, width = shape[-3], shape[-2]
        side = tf.cast(tf.round(crop * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
        side = tf.maximum(side, 1)
        top, left = (height - side) // 2, (width - side) // 2
        images = images[..., top : top + side, left : left + side, :]
    if images.shape[-3:-1] == (size, size):
        # Resizing would change nothing, and LiteRT has no such operation.
        return images
    return tf.image.resize(images, (size, size), method="bilinear", antialias=True)


def in_grey(pixels: tf.Tensor) -> tf.Tensor:
    """Return the luma of pixels in each of three channels, [..., 3] float32 RGB → the same shape and range.

    0.299 red, 0.587 green, 0.114 blue (ITU-R BT.601): what is grey stays what it is.
    """
    return tf.tensordot(pixels, tf.tile(tf.constant(_LUMA)[:, None], (1, 3)), axes=1)
