"""Layers of heads, registered: a stored head may hold them."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="facetl")
class SignedRoot(keras.layers.Layer):
    """Takes sign(x)·√|x| of each feature, which tames the long tail of ReLU maps.

    References:
        Perronnin, Sánchez, Mensink: Improving the Fisher Kernel for Large-Scale Image Classification, ECCV 2010.
    """

    def call(self, inputs: Any) -> Any:
        """Return an array of the same shape, [..., dim]."""
        return keras.ops.sign(inputs) * keras.ops.sqrt(keras.ops.abs(inputs))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the same shape."""
        return input_shape


# The name in files that were written before the class had this one.
@keras.saving.register_keras_serializable(package="facetl", name="Lifted")
class SphereLift(keras.layers.Layer):
    """Lays flat space on a large sphere: vectors [batch, dim] → unit vectors [batch, dim + 1].

    A vector gets the coordinate that takes its length to `radius`, and the whole is divided by that. Squared distances
    become those between the vectors over radius², and a little more where their lengths differ: at most, in relation,
    (their lengths' mean)² / (radius² − the greater length²). So a threshold that was published for plain distances
    keeps its meaning, which normalising the vectors would take from it. Vectors longer than `radius` are cut to it.

    Args:
        radius: length above that of all vectors; the larger, the truer.
    """

    def __init__(self, radius: float, **options: Any) -> None:
        super().__init__(**options)
        self.radius = radius

    def call(self, inputs: Any) -> Any:
        """Lift vectors [batch, dim] → [batch, dim + 1]."""
        squared = keras.ops.sum(keras.ops.square(inputs), axis=-1, keepdims=True)
        height = keras.ops.sqrt(keras.ops.maximum(self.radius**2 - squared, 0.0))
        lifted = keras.ops.concatenate([inputs, height], axis=-1)
        return lifted / keras.ops.maximum(keras.ops.sqrt(squared), self.radius)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the output: one number more."""
        return (*input_shape[:-1], (input_shape[-1] or 0) + 1)

    def get_config(self) -> dict[str, Any]:
        """Return the layer's settings."""
        return {**super().get_config(), "radius": self.radius}
