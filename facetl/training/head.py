"""The head: dense layers from a feature to an L2-normalised embedding."""

from __future__ import annotations

import keras
import numpy as np

from facetl.metrics.linalg import Rows
from facetl.training.settings import TrainingSettings
from facetl.training.whitening import Standardisation

_BLOCK = 4096
# Photos instead of features: a net in place of a head fills the memory with far fewer.
_PHOTOS = 64


def build_trunk(dim: int, settings: TrainingSettings) -> keras.Model:
    """Build the trainable layers, [batch, dim] → [batch, widths[-1]] unit vectors; initial weights follow the seed."""
    inputs = keras.Input((dim,), name="standardised")
    outputs = inputs
    for position, (units, activation, normalised) in enumerate(
        zip(settings.widths, settings.activations, settings.normalised, strict=True)
    ):
        dropout = settings.dropout if position else settings.input_dropout
        if dropout:
            seed = settings.seed * 1000 + 100 + position
            outputs = keras.layers.Dropout(dropout, seed=seed, name=f"dropout_{position}")(outputs)
        outputs = keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=_initialiser(settings.initialiser, seed=settings.seed * 1000 + position),
            name=f"dense_{position}",
        )(outputs)
        if normalised:
            outputs = keras.layers.UnitNormalization(name=f"unit_{position}")(outputs)
    return keras.Model(inputs, outputs, name="trunk")


def _initialiser(name: str, *, seed: int) -> keras.initializers.Initializer:
    if name == "identity":
        # Not square, it is cut or padded with zeros: the first inputs pass through as they are.
        return keras.initializers.Identity()
    return {"glorot": keras.initializers.GlorotUniform, "orthogonal": keras.initializers.Orthogonal}[name](seed=seed)


def join(front: keras.Model, trunk: keras.Model) -> keras.Model:
    """Return the whole head, from the features themselves; the layers are shared, not copied."""
    inputs = keras.Input(front.input_shape[1:], name="features")
    outputs = inputs
    for layer in [*front.layers[1:], *trunk.layers[1:]]:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="head")


def build_head(standardisation: Standardisation, dim: int, settings: TrainingSettings) -> keras.Model:
    """Build an untrained head on features of length `dim`."""
    front = standardisation.model(dim)
    return join(front, build_trunk(front.output_shape[-1], settings))


def embed(model: keras.Model, features: Rows) -> np.ndarray:
    """Embed features in blocks, [photos, dim] any float → [photos, width] float32; photos [photos, h, w, 3], too."""
    embeddings = np.empty((features.shape[0], model.output_shape[-1]), np.float32)
    block = _BLOCK if len(features.shape) == 2 else _PHOTOS
    for start in range(0, features.shape[0], block):
        rows = np.arange(start, min(start + block, features.shape[0]))
        embeddings[rows] = model(np.asarray(features[rows], np.float32), training=False)
    return embeddings
