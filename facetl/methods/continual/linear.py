"""A linear head learnt anew in closed form, turned to where the old one lies, and drawn towards it.

A head whose layers are all linear is one affine map and a normalisation. Its best map for the people at hand is known
without a step of gradient descent: the discriminant behind the fixed front. That map is free to turn as a whole, which
no distance notices; turned to the old embeddings, its own stay comparable with them.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
from scipy.linalg import orthogonal_procrustes

from facetl.evaluation.projection import Float32s, normalised
from facetl.training.discriminant import supervised
from facetl.training.settings import TrainingSettings

_LEAST = 1e-12


class Affine(NamedTuple):
    """What linear layers do before the normalisation: rows @ kernel [dim, width] + bias [width], float32."""

    kernel: Float32s
    bias: Float32s

    def __call__(self, rows: Float32s) -> Float32s:
        """Return unit embeddings, [photos, dim] → [photos, width]."""
        return normalised(np.asarray(rows @ self.kernel + self.bias, np.float32))


def affine_of(trunk: keras.Model) -> Affine | None:
    """Return a trunk as one affine map; None where it is none, or has a layer narrower than its embedding or its rows.

    Such a trunk cannot take any map that is wanted of it.
    """
    width = trunk.output_shape[-1]
    kernel, bias = np.eye(trunk.input_shape[-1], dtype=np.float32), np.zeros(trunk.input_shape[-1], np.float32)
    *layers, last = trunk.layers[1:]
    if not isinstance(last, keras.layers.UnitNormalization) or width > trunk.input_shape[-1]:
        return None
    for layer in layers:
        if isinstance(layer, keras.layers.Dropout):
            continue
        linear = isinstance(layer, keras.layers.Dense) and layer.activation is keras.activations.linear
        if not linear or layer.units < width:
            return None
        own, shift = layer.get_weights()
        kernel, bias = kernel @ own, bias @ own + shift
    return Affine(kernel, bias)


def write_affine(trunk: keras.Model, affine: Affine) -> None:
    """Give a trunk that is an affine map another one, in place: the first layer does it all, the others pass it on."""
    dense = [layer for layer in trunk.layers if isinstance(layer, keras.layers.Dense)]
    for place, layer in enumerate(dense):
        own, shift = layer.get_weights()
        kernel = np.eye(*own.shape, dtype=np.float32)
        if place == 0:
            kernel = np.zeros_like(own)
            kernel[:, : affine.kernel.shape[1]] = affine.kernel
        last = affine.bias if layer is dense[-1] else np.zeros_like(shift)
        layer.set_weights([kernel, last])


def solve(
    rows: Float32s,
    labels: np.ndarray,
    *,
    old: Affine,
    shrinkage: float,
    plasticity: float,
) -> Affine:
    """Return the discriminant of people, turned to an old map's embeddings and drawn towards them.

    The discriminant's leading directions are turned by the rotation that brings their embeddings nearest to the old
    ones (Schönemann, A Generalized Solution of the Orthogonal Procrustes Problem, 1966). The map returned minimises
    plasticity · |f(r) − s·d(r)|² + (1 − plasticity) · |f(r) − o(r)|² over all rows r, where d is the turned
    discriminant, s brings it to the old map's length, and o is the old map: distillation in the squared form of Hinton,
    Vinyals, Dean (2015) on the embedding before its normalisation.

    Args:
        rows: [photos, dim] float32 as the front gives them.
        labels: [photos] int, the person of each.
        old: the map whose embeddings must stay comparable.
        shrinkage: of the scatter within a person towards the front's, in [0, 1].
        plasticity: in (0, 1]; at 1 nothing is drawn.
    """
    discriminant = TrainingSettings(standardise="discriminant", shrinkage=shrinkage)
    found = supervised(rows, labels, discriminant)[:, : old.kernel.shape[1]]
    turn, _ = orthogonal_procrustes(normalised(rows @ found), old(rows))
    turned = found @ turn
    level = np.sqrt(np.mean(np.square(rows @ old.kernel)) / max(np.mean(np.square(rows @ turned)), _LEAST))
    kernel = plasticity * level * turned + (1 - plasticity) * old.kernel
    return Affine(np.asarray(kernel, np.float32), np.asarray((1 - plasticity) * old.bias, np.float32))
