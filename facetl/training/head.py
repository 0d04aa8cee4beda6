"""The head: dense layers from a feature to an L2-normalised embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from facetl.errors import TrainingError
from facetl.io.arrays import Rows
from facetl.training.whitening import Whitening

_BLOCK = 4096
# Photos instead of features: a net in place of a head fills the memory with far fewer.
_PHOTOS = 64


def build_head(
    whitening: Whitening | None = None,
    widths: Sequence[int] = (512, 256, 128),
    *,
    input_dim: int | None = None,
    **layers: Any,
) -> keras.Model:
    """Build an untrained head: a frozen front and dense layers, [batch, dim] → [batch, widths[-1]] unit vectors.

    Args:
        whitening: the front; None for none.
        widths: units of the dense layers; the last is the embedding's length.
        input_dim: length of the features, where it does not follow from a whitening.
        layers: `activations`, `normalised`, `dropout`, `input_dropout`, `initialiser` and `seed`, see `build_trunk`.

    Raises TrainingError where the length of the features is not known, or the layers do not fit together.
    """
    front = whitening or Whitening(False, None, None, None)
    dim = input_dim or front.dim
    if dim is None:
        raise TrainingError("input_dim: expected the length of the features, since no whitening has it, got None.")
    model = front.model(dim)
    return join(model, build_trunk(model.output_shape[-1], widths, **layers))


def build_trunk(
    dim: int,
    widths: Sequence[int],
    *,
    activations: str | Sequence[str] = "linear",
    normalised: Sequence[bool] | None = None,
    dropout: float = 0.0,
    input_dropout: float = 0.5,
    initialiser: str = "identity",
    seed: int = 0,
) -> keras.Model:
    """Build the trainable layers, [batch, dim] → [batch, widths[-1]] unit vectors; initial weights follow the seed.

    Args:
        widths: units of the dense layers; the last is the embedding's length.
        activations: one Keras activation per layer, or one for all.
        normalised: per layer, whether its output is L2-normalised; None for the last alone.
        dropout: share of a layer's inputs dropped in training, before every dense layer but the first.
        input_dropout: the same before the first.
        initialiser: `glorot`, `orthogonal`, or `identity`, by which the first inputs pass through as they are.
    """
    names = [activations] * len(widths) if isinstance(activations, str) else list(activations)
    units_normalised = [False] * (len(widths) - 1) + [True] if normalised is None else list(normalised)
    if not len(widths) == len(names) == len(units_normalised) > 0 or not units_normalised[-1]:
        raise TrainingError(
            "head: expected as many activations and normalised as widths, and the last layer normalised, got widths "
            f"{tuple(widths)}, activations {tuple(names)} and normalised {tuple(units_normalised)}."
        )
    inputs = keras.Input((dim,), name="standardised")
    outputs = inputs
    for position, (units, activation, unit) in enumerate(zip(widths, names, units_normalised, strict=True)):
        rate = dropout if position else input_dropout
        if rate:
            outputs = keras.layers.Dropout(rate, seed=seed * 1000 + 100 + position, name=f"dropout_{position}")(outputs)
        outputs = keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=_initialiser(initialiser, seed=seed * 1000 + position),
            name=f"dense_{position}",
        )(outputs)
        if unit:
            outputs = keras.layers.UnitNormalization(name=f"unit_{position}")(outputs)
    return keras.Model(inputs, outputs, name="trunk")


def _initialiser(name: str, *, seed: int) -> keras.initializers.Initializer:
    if name == "identity":
        # Not square, it is cut or padded with zeros: the first inputs pass through as they are.
        return keras.initializers.Identity()
    if name not in ("glorot", "orthogonal"):
        raise TrainingError(f"initialiser: expected glorot, orthogonal or identity, got {name!r}.")
    return {"glorot": keras.initializers.GlorotUniform, "orthogonal": keras.initializers.Orthogonal}[name](seed=seed)


def join(front: keras.Model, trunk: keras.Model) -> keras.Model:
    """Return the whole head, from the features themselves; the layers are shared, not copied."""
    inputs = keras.Input(front.input_shape[1:], name="features")
    outputs = inputs
    for layer in [*front.layers[1:], *trunk.layers[1:]]:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="head")


def embed(model: keras.Model, features: Rows) -> np.ndarray:
    """Embed features in blocks, [photos, dim] any float → [photos, width] float32; photos [photos, h, w, 3], too."""
    embeddings = np.empty((features.shape[0], model.output_shape[-1]), np.float32)
    block = _BLOCK if len(features.shape) == 2 else _PHOTOS
    for start in range(0, features.shape[0], block):
        rows = np.arange(start, min(start + block, features.shape[0]))
        embeddings[rows] = model(np.asarray(features[rows], np.float32), training=False)
    return embeddings
