"""What a student is taught by: losses between its embeddings and the teacher's, as pure functions.

References:
    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (soft targets);
    Park, Kim, Lu, Cho: Relational Knowledge Distillation, CVPR 2019 (distances, angles).
"""

from __future__ import annotations

from typing import Any

from keras import ops

# Below it two photos count as one place, whose distance has no gradient.
_LEAST = 1e-12
# A cosine in [−1, 1] times it is a class's logit, as in ArcFace-like classifiers of unit vectors.
LOGIT_SCALE = 16.0


def cosine_loss(student: Any, teacher: Any) -> Any:
    """Return 1 − cos of each photo's two embeddings: unit vectors [n, dim] twice → [n]."""
    return 1 - ops.sum(student * teacher, axis=-1)


def l2_loss(student: Any, teacher: Any) -> Any:
    """Return the Euclidean distance of each photo's two embeddings, [n, dim] twice → [n]."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(student - teacher), axis=-1), _LEAST))


def distance_loss(student: Any, teacher: Any) -> Any:
    """Return RKD-D: the Huber loss of all pairs' distances, each over its own mean, [n, dim] and [n, dim'] → scalar.

    The mean distance is over pairs of different places, as in the authors' code; equation 5 of Park et al.
    """
    return ops.mean(_huber(_over_mean(_distances(student)) - _over_mean(_distances(teacher))))


def angle_loss(student: Any, teacher: Any) -> Any:
    """Return RKD-A: the Huber loss of the cosine of the angle at j of every triplet i, j, k, → scalar.

    [n, dim] and [n, dim']; n³ terms. Equation 8 of Park et al.
    """
    return ops.mean(_huber(_angles(student) - _angles(teacher)))


def soft_target_loss(student: Any, teacher: Any, centroids: Any, *, temperature: float) -> Any:
    """Return T² · KL(teacher ‖ student) of who a photo looks like, [n, dim] twice and [classes, dim] → [n].

    Logits are the cosines with the classes' centroids, times LOGIT_SCALE; T² keeps the gradient's size whatever the
    temperature (Hinton et al., section 2.1).
    """
    turned = ops.transpose(centroids) * (LOGIT_SCALE / temperature)
    of_student = ops.log_softmax(ops.matmul(student, turned), axis=-1)
    of_teacher = ops.log_softmax(ops.matmul(teacher, turned), axis=-1)
    return temperature**2 * ops.sum(ops.exp(of_teacher) * (of_teacher - of_student), axis=-1)


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
