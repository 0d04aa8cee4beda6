"""Triplet losses as pure functions on embeddings.

Distances are squared Euclidean between unit vectors, in [0, 4].

References:
    Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015 (the loss);
    Hermans, Beyer, Leibe: In Defense of the Triplet Loss, 2017 (batch-all, batch-hard).
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops


def triplet_loss(anchor: Any, positive: Any, negative: Any, *, margin: float, softness: float = 0.0) -> Any:
    """Return hinge(d(anchor, positive) − d(anchor, negative) + margin) per triplet: three [n, dim] → [n]."""
    to_positive = ops.sum(ops.square(anchor - positive), axis=-1)
    to_negative = ops.sum(ops.square(anchor - negative), axis=-1)
    return hinge(to_positive - to_negative + margin, softness=softness)


def hinge(violation: Any, *, softness: float = 0.0) -> Any:
    """Return max(0, x), or with softness s above 0 the smooth s · log(1 + exp(x / s)); any shape."""
    return ops.softplus(violation / softness) * softness if softness else ops.relu(violation)


def active(losses: Any, *, softness: float = 0.0) -> Any:
    """Tell of each loss whether its triplet violates the margin; any shape → bool."""
    return losses > softness * math.log(2)


def batch_all_triplet_loss(embeddings: Any, labels: Any, *, margin: float, softness: float = 0.0) -> Any:
    """Return the loss of every valid triplet of a batch, [m, dim] and [m] → [valid triplets].

    Valid is (a, p, n) with p another photo of a's person and n of another person. The mean over those above
    zero is the batch-all loss of Hermans et al.
    """
    distances = pairwise_squared_distances(embeddings)
    positive, negative = _masks(labels)
    violation = ops.expand_dims(distances, 2) - ops.expand_dims(distances, 1) + margin
    valid = ops.logical_and(ops.expand_dims(positive, 2), ops.expand_dims(negative, 1))
    return hinge(violation[valid], softness=softness)


def batch_hard_triplet_loss(embeddings: Any, labels: Any, *, margin: float, softness: float = 0.0) -> Any:
    """Return per anchor the loss of its farthest positive and nearest negative, [m, dim] and [m] → [anchors].

    Photos with no other photo of their person in the batch, or with no other person, are no anchors.
    """
    distances = pairwise_squared_distances(embeddings)
    positive, negative = _masks(labels)
    farthest = ops.max(ops.where(positive, distances, -1.0), axis=1)
    nearest = ops.min(ops.where(negative, distances, 5.0), axis=1)
    anchors = ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))
    return hinge((farthest - nearest + margin)[anchors], softness=softness)


def pairwise_squared_distances(embeddings: Any) -> Any:
    """Return squared distances between all rows of unit vectors, [m, dim] → [m, m], never below 0."""
    return ops.relu(2.0 - 2.0 * ops.matmul(embeddings, ops.transpose(embeddings)))


def _masks(labels: Any) -> tuple[Any, Any]:
    """Return who is a positive of whom (itself excluded) and who a negative, both [m, m] bool."""
    same = ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0))
    itself = ops.cast(ops.eye(ops.shape(labels)[0]), "bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)
