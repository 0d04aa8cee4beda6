"""Layers that nets of facetl's own need and Keras does not have, registered so that Keras loads such a net."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

_PACKAGE = "facetl"
# A root's gradient at 0 is infinite: where a whole window is 0, as behind a ReLU, none is passed on.
_LEAST = 1e-12


@keras.saving.register_keras_serializable(_PACKAGE)
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by a power of its neighbours' energy in the channels around it, [n, h, w, c] → the same.

    x / (bias + alpha · Σ x²) ** beta over `size` channels, the value's own in the middle.

    References:
        Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012,
        section 3.3, whose constants are the defaults.
    """

    def __init__(
        self, size: int = 5, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **options: Any
    ) -> None:
        super().__init__(**options)
        self.size = size
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def call(self, inputs: Any) -> Any:
        """Normalise a map."""
        return tf.nn.local_response_normalization(
            inputs, depth_radius=self.size // 2, bias=self.bias, alpha=self.alpha, beta=self.beta
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"size": self.size, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(_PACKAGE)
class L2Pooling(keras.layers.Layer):
    """Takes the L2 norm of each channel over a window instead of its maximum, [n, h, w, c] → [n, ⌈h/s⌉, ⌈w/s⌉, c].

    √Σ x² over size × size positions; what lies outside the map counts as 0.

    References:
        Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, table 2: "instead of taking the spatial max the L2 norm is
        computed".
    """

    def __init__(self, size: int = 3, strides: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.size = size
        self.strides = strides

    def call(self, inputs: Any) -> Any:
        """Pool a map."""
        height, width = inputs.shape[1:3]
        padding = [[0, 0], self._around(height), self._around(width), [0, 0]]
        # Padded by hand: Keras' average leaves out what lies outside, and its count would differ at the border.
        squares = ops.pad(ops.square(inputs), padding)
        means = ops.average_pool(squares, self.size, strides=self.strides, padding="valid")
        return ops.sqrt(ops.maximum(means * self.size**2, _LEAST))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "strides": self.strides}

    def _around(self, length: int) -> list[int]:
        """Return the zeros before and after, as the padding "same" has them."""
        missing = max((-(-length // self.strides) - 1) * self.strides + self.size - length, 0)
        return [missing // 2, missing - missing // 2]


@keras.saving.register_keras_serializable(_PACKAGE)
class Maxout(keras.layers.Layer):
    """A dense layer of which each unit is the largest of `pieces` linear ones, [n, width] → [n, units].

    References:
        Goodfellow, Warde-Farley, Mirza, Courville, Bengio: Maxout Networks, ICML 2013.
    """

    def __init__(self, units: int, pieces: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.pieces = pieces

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights of all pieces."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units * self.pieces), initializer="he_normal", name="kernel"
        )
        self.bias = self.add_weight(shape=(self.units * self.pieces,), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        """Return the largest piece of each unit."""
        linear = ops.matmul(inputs, self.kernel) + self.bias
        return ops.max(ops.reshape(linear, (-1, self.units, self.pieces)), axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return [n, units]."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "units": self.units, "pieces": self.pieces}


@keras.saving.register_keras_serializable(_PACKAGE)
class Grey(keras.layers.Layer):
    """Turns RGB into one channel of luma (ITU-R BT.601), [n, h, w, 3] → [n, h, w, 1]."""

    def call(self, inputs: Any) -> Any:
        """Weigh the channels."""
        return ops.image.rgb_to_grayscale(inputs)
