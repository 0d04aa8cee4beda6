"""The base of all losses: a Keras loss on labels and embeddings, and sums over masks of a batch's pairs.

Shapes stay static (masks, no boolean indexing), so that XLA compiles everything on every backend of Keras.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import keras
from keras import ops

# Stands for minus infinity, in sums of exponentials whose gradient must stay finite.
NEVER = -1e9


class SerializableLoss(keras.losses.Loss):
    """A Keras loss whose constructor stores each argument under its own name, which is where `get_config` looks.

    Args:
        options: `name`, `reduction` and `dtype`, as in `keras.losses.Loss`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), **constructor_arguments(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Rebuild a loss from what `get_config` gave."""
        return cls(**keras.saving.deserialize_keras_object(config))


class MetricLoss(SerializableLoss):
    """A loss on `labels` [m], any numbers, and `embeddings` [m, dim] of any length, which are normalised first.

    A subclass implements `measure`. The loss is a number for each row, whose mean is the loss of the batch; a row that
    takes no part has 0. One that takes the triplets or pairs of a sampler instead of labels implements `measure_drawn`.

    Attributes:
        drawn_columns: of such targets: 3 of triplets, 4 of pairs, see `facetl.samplers.Sampler.dataset`; None where
            the loss takes labels alone.
    """

    drawn_columns: ClassVar[int | None] = None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the reduced loss."""
        # Keras casts labels to float32, in which neighbours above 2²⁴ are one number: a row number is exact.
        # One-hot labels, which are no integers, may have as many columns.
        if self._drawn(y_true) and "int" in keras.backend.standardize_dtype(ops.convert_to_tensor(y_true).dtype):
            return super().__call__(y_true, y_pred, sample_weight)
        labels = checked_labels(y_true)
        first = ops.argmax(ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0)), axis=1)
        return super().__call__(first, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row, [m] and [m, dim] → [m]."""
        embeddings = ops.normalize(y_pred, axis=-1)
        if self._drawn(y_true):
            return self.measure_drawn(ops.cast(y_true, "int32"), embeddings)
        return self.measure(checked_labels(y_true), embeddings)

    def measure(self, labels: Any, embeddings: Any) -> Any:
        """Return the loss of each row as `call` does, the embeddings being unit vectors."""
        raise NotImplementedError

    def measure_drawn(self, drawn: Any, embeddings: Any) -> Any:
        """Return the loss of each triplet or pair, int32 [n, drawn_columns] and unit vectors [m, dim] → [n]."""
        raise NotImplementedError

    def _drawn(self, targets: Any) -> bool:
        shape = tuple(ops.convert_to_tensor(targets).shape)
        return self.drawn_columns is not None and len(shape) == 2 and shape[1] == self.drawn_columns


def constructor_arguments(instance: Any) -> dict[str, Any]:
    """Return the named arguments of an object's constructor as plain types, from its attributes of these names."""
    parameters = inspect.signature(type(instance)).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    return {name: keras.saving.serialize_keras_object(getattr(instance, name)) for name in named}


def checked_labels(labels: Any) -> Any:
    """Return labels as [m] from [m] or [m, 1]; ValueError for any other shape."""
    labels = ops.convert_to_tensor(labels)
    shape = tuple(labels.shape)
    if len(shape) == 1:
        return labels
    if len(shape) == 2 and shape[1] == 1:
        return labels[:, 0]
    raise ValueError(
        f"Labels are one number per row, shape [m] or [m, 1]. Received: shape {shape}. "
        "One-hot labels become numbers with argmax(axis=1); a sampler of triplets goes with TripletLoss, one of pairs "
        "with ContrastiveLoss."
    )


def similarities(embeddings: Any) -> Any:
    """Return cosines between all rows of unit vectors, [m, dim] → [m, m]."""
    return ops.matmul(embeddings, ops.transpose(embeddings))


def pairwise_squared_distances(embeddings: Any) -> Any:
    """Return squared distances between all rows of unit vectors, [m, dim] → [m, m], never below 0."""
    return ops.relu(2.0 - 2.0 * similarities(embeddings))


def pair_masks(labels: Any) -> tuple[Any, Any]:
    """Return which rows are positives of a row (itself excluded) and which negatives, both [m, m] bool."""
    same = ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0))
    itself = ops.cast(ops.eye(ops.shape(labels)[0]), "bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def anchors_of(positive: Any, negative: Any) -> Any:
    """Return which rows have both a positive and a negative, [m, m] bool twice → [m] bool."""
    return ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))


def spread_mean(values: Any, counted: Any) -> Any:
    """Return numbers per row whose mean is that of all counted values, [m, …] and bool of that shape → [m]."""
    kept = ops.where(counted, values, 0.0)
    number = ops.sum(ops.cast(counted, kept.dtype))
    rows = ops.cast(ops.shape(kept)[0], kept.dtype)
    return ops.sum(ops.reshape(kept, (ops.shape(kept)[0], -1)), axis=1) * (rows / ops.maximum(number, 1.0))


def masked_logsumexp(logits: Any, where: Any) -> Any:
    """Return log Σ exp(logits) over the chosen of each row, [m, n] → [m]; NEVER, about, where none is."""
    return ops.logsumexp(ops.where(where, logits, NEVER), axis=1)
