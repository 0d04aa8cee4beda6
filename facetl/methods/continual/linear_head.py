"""A trained head taken apart, and heads whose layers are all linear: one affine map of the features, normalised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np

from facetl.errors import RunError
from facetl.io.arrays import Rows
from facetl.metrics.linalg import Float32s, blocks, normalised, signed_root
from facetl.training.head import build_trunk, join
from facetl.training.settings import TrainingSettings
from facetl.training.whitening import Whitening

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


class Affine(NamedTuple):
    """The affine map of linear layers before the normalisation: rows @ kernel [dim, width] + bias [width], float32."""

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


class Moments(NamedTuple):
    """The standardisation of features: whether their signed root is taken, then its mean and scale, [dim] float32."""

    root: bool
    mean: Float32s
    scale: Float32s

    def front(self, axes: Float32s | None = None) -> Whitening:
        """Return the front of a head that standardises by them, and then takes axes [dim, components]."""
        return Whitening(*self, axes)

    def standardised(self, features: Rows) -> Iterator[tuple[slice, Float32s]]:
        """Yield features [photos, dim] float standardised, in blocks, [some photos, dim] each."""
        for at, block in blocks(features):
            rooted = signed_root(block) if self.root else block
            rooted -= self.mean
            rooted /= self.scale
            yield at, rooted


def rotation(rows: Float32s, others: Float32s) -> Float32s:
    """Return the orthogonal matrix [width, width] that turns rows nearest to others, [photos, width] float32 each.

    Schönemann, A Generalized Solution of the Orthogonal Procrustes Problem, 1966.
    """
    left, _, right = np.linalg.svd(rows.T @ others)
    return left @ right


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A head that is one affine map of standardised features before its normalisation.

    Attributes:
        moments: of the features.
        affine: [dim, width], and [width].
    """

    moments: Moments
    affine: Affine

    @classmethod
    def of(cls, head: keras.Model) -> LinearHead | None:
        """Read a head, features → unit embeddings; None where it is another one, or does not standardise."""
        front_model, trunk = front_and_trunk(head)
        front, affine = Whitening.of(front_model), affine_of(trunk)
        if front is None or affine is None or front.mean is None or front.scale is None:
            return None
        kernel = affine.kernel if front.axes is None else np.asarray(front.axes @ affine.kernel)
        return cls(Moments(front.root, front.mean, front.scale), Affine(kernel, affine.bias))

    def __call__(self, features: Rows) -> Float32s:
        """Return unit embeddings, features [photos, dim] float → [photos, width]."""
        made = np.empty((features.shape[0], len(self.affine.bias)), np.float32)
        for at, block in self.moments.standardised(features):
            made[at] = self.affine(block)
        return made

    def model(self, settings: TrainingSettings) -> keras.Model:
        """Return it as a head: the map in its front, and behind it the layers of the settings, which pass it on."""
        width = len(self.affine.bias)
        trunk = build_trunk(width, **settings.layer_options)
        write_affine(trunk, Affine(np.eye(width, dtype=np.float32), self.affine.bias))
        return join(self.moments.front(self.affine.kernel).model(len(self.affine.kernel)), trunk)
