"""Losses between a teacher's embeddings and a student's: Keras losses on (teacher [m, dim], student [m, dim']).

References:
    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (soft targets);
    Park, Kim, Lu, Cho: Relational Knowledge Distillation, CVPR 2019 (distances, angles);
    Li, Hoiem: Learning without Forgetting, ECCV 2016, and Hou et al.: Learning a Unified Classifier Incrementally via
    Rebalancing, CVPR 2019, equation 6 (cosines, where the teacher is the model before an update).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from facetl.losses.base import SerializableLoss

# Below it two photos count as one place, whose distance has no gradient.
_LEAST = 1e-12
# A cosine in [−1, 1] times it is a class's logit, as in ArcFace-like classifiers of unit vectors.
LOGIT_SCALE = 16.0


@keras.saving.register_keras_serializable("facetl")
class CosineDistillationLoss(SerializableLoss):
    """1 − cos of each row's two embeddings, → [m]."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row, [m, dim] twice → [m]."""
        return 1.0 - ops.sum(ops.normalize(y_true, axis=-1) * ops.normalize(y_pred, axis=-1), axis=-1)


@keras.saving.register_keras_serializable("facetl")
class EuclideanDistillationLoss(SerializableLoss):
    """The Euclidean distance of each row's two embeddings, → [m]."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row, [m, dim] twice → [m]."""
        return ops.sqrt(ops.maximum(ops.sum(ops.square(y_pred - y_true), axis=-1), _LEAST))


@keras.saving.register_keras_serializable("facetl")
class DistanceDistillationLoss(SerializableLoss):
    """RKD-D: the Huber loss of all pairs' distances, each over its own mean; a number for the batch.

    The mean distance is over pairs of different places, as in the authors' code; equation 5 of Park et al. The widths
    of the two embeddings may differ.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of the batch, [m, dim] and [m, dim'] → []."""
        return ops.mean(_huber(_over_mean(_distances(y_pred)) - _over_mean(_distances(y_true))))


@keras.saving.register_keras_serializable("facetl")
class AngleDistillationLoss(SerializableLoss):
    """RKD-A: the Huber loss of the cosine of the angle at j of every triplet i, j, k; a number for the batch.

    m³ terms; equation 8 of Park et al. The widths of the two embeddings may differ.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of the batch, [m, dim] and [m, dim'] → []."""
        return ops.mean(_huber(_angles(y_pred) - _angles(y_true)))


@keras.saving.register_keras_serializable("facetl")
class SoftTargetLoss(SerializableLoss):
    """T² · KL(teacher ‖ student) of which class a row looks like, → [m].

    Logits are the cosines with the classes' centroids, times LOGIT_SCALE; T² keeps the gradient's size whatever the
    temperature (Hinton et al., section 2.1).

    Args:
        centroids: [classes, dim], unit vectors.
        temperature: T.
    """

    def __init__(self, centroids: Any, temperature: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.centroids = centroids
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row, unit vectors [m, dim] twice → [m]."""
        columns = ops.transpose(ops.convert_to_tensor(self.centroids, dtype=y_pred.dtype))
        columns = columns * (LOGIT_SCALE / self.temperature)
        of_student = ops.log_softmax(ops.matmul(y_pred, columns), axis=-1)
        of_teacher = ops.log_softmax(ops.matmul(y_true, columns), axis=-1)
        return self.temperature**2 * ops.sum(ops.exp(of_teacher) * (of_teacher - of_student), axis=-1)


def _distances(points: Any) -> Any:
    """Return all Euclidean distances, [n, dim] → [n, n]; of a place to itself 0."""
    apart = ops.expand_dims(points, 0) - ops.expand_dims(points, 1)
    squared = ops.sum(ops.square(apart), axis=-1)
    # A root's gradient at 0 is infinite.
    return ops.where(squared > _LEAST, ops.sqrt(ops.maximum(squared, _LEAST)), 0.0)


def _over_mean(distances: Any) -> Any:
    there = ops.cast(distances > 0, distances.dtype)
    mean = ops.sum(distances) / ops.maximum(ops.sum(there), 1.0)
    return distances / ops.maximum(mean, _LEAST)


def _angles(points: Any) -> Any:
    """Return cos of the angle at j between i and k, [n, dim] → [j, i, k]."""
    apart = ops.expand_dims(points, 0) - ops.expand_dims(points, 1)
    squared = ops.sum(ops.square(apart), axis=-1, keepdims=True)
    unit = ops.where(squared > _LEAST, apart / ops.sqrt(ops.maximum(squared, _LEAST)), 0.0)
    return ops.matmul(unit, ops.transpose(unit, (0, 2, 1)))


def _huber(difference: Any) -> Any:
    size = ops.abs(difference)
    return ops.where(size <= 1, 0.5 * ops.square(difference), size - 0.5)
