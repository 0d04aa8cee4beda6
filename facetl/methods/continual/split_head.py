"""A trained head taken apart: the fixed front, and the trainable layers behind it."""

from __future__ import annotations

import keras
import numpy as np

from facetl.errors import RunError

_TRUNK = ("dropout_", "dense_", "unit_")


def front_and_trunk(head: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return the front, features → what the trunk takes, and the trunk, → unit embeddings; layers are shared.

    The opposite of `facetl.training.head.join`. Raises RunError where nothing of the head can be trained: it is the raw
    features, or a net's own embeddings.
    """
    layers = head.layers[1:]
    begins = next((place for place, layer in enumerate(layers) if layer.name.startswith(_TRUNK)), len(layers))
    if not any(layer.trainable_weights for layer in layers[begins:]):
        raise RunError(
            "Only a trained head can be updated, and this run's is the features themselves. Enrol people by --method "
            "none, or train a run whose head is kept."
        )
    front = _chain(head.input_shape[-1], layers[:begins], "front")
    return front, _chain(front.output_shape[-1], layers[begins:], "trunk")


def copy_of(trunk: keras.Model) -> keras.Model:
    """Return a trunk with layers and weights of its own."""
    copied = keras.models.clone_model(trunk)
    copied.set_weights(trunk.get_weights())
    return copied


def _chain(dim: int, layers: list[keras.layers.Layer], name: str) -> keras.Model:
    inputs = keras.Input((dim,), name="rows")
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name=name)


def same_weights(one: keras.Model, other: keras.Model) -> bool:
    """Return whether two models hold the same numbers in the same order."""
    first, second = one.get_weights(), other.get_weights()
    return len(first) == len(second) and all(map(np.array_equal, first, second))
