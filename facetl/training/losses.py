"""Triplet losses as pure functions on embeddings: given triplets, or those mined inside a batch.

Distances are squared Euclidean between unit vectors, in [0, 4].

References:
    Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015 (the loss, semi-hard mining);
    Hermans, Beyer, Leibe: In Defense of the Triplet Loss, 2017 (batch-all, batch-hard);
    Wu, Manmatha, Smola, Krähenbühl: Sampling Matters in Deep Embedding Learning, ICCV 2017 (distance-weighted).
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

# Wu et al.'s bounds on the Euclidean distance of a negative that is weighted: nearer ones are taken for this near,
# farther ones are not drawn.
NEAREST = 0.5
FARTHEST = 1.4
# Stands for minus infinity, in sums of exponentials whose gradient must stay finite.
NEVER = -1e9


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
    anchor, to_positive, negative = _positive_pairs(distances, labels)
    violation = ops.expand_dims(to_positive, 1) - ops.take(distances, anchor, axis=0) + margin
    return hinge(violation[negative], softness=softness)


def batch_hard_triplet_loss(embeddings: Any, labels: Any, *, margin: float, softness: float = 0.0) -> Any:
    """Return per anchor the loss of its farthest positive and nearest negative, [m, dim] and [m] → [anchors].

    Photos with no other photo of their person in the batch, or with no other person, are no anchors.
    """
    distances = pairwise_squared_distances(embeddings)
    positive, negative = kinds(labels)
    farthest = ops.max(ops.where(positive, distances, -1.0), axis=1)
    nearest = ops.min(ops.where(negative, distances, 5.0), axis=1)
    anchors = ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))
    return hinge((farthest - nearest + margin)[anchors], softness=softness)


def semi_hard_triplet_loss(embeddings: Any, labels: Any, *, margin: float, softness: float = 0.0) -> Any:
    """Return per (anchor, positive) the loss with the nearest negative beyond the positive, → [positive pairs].

    [m, dim] and [m]. Where no negative is farther than the positive, the farthest one is taken (FaceNet, section
    3.2; as in TensorFlow Addons).
    """
    distances = pairwise_squared_distances(embeddings)
    anchor, to_positive, negative = _positive_pairs(distances, labels)
    to_others = ops.take(distances, anchor, axis=0)
    beyond = ops.logical_and(negative, to_others > ops.expand_dims(to_positive, 1))
    # With `initial`, a batch without a pair is no error.
    nearest_beyond = ops.min(ops.where(beyond, to_others, 5.0), axis=1, initial=5.0)
    farthest = ops.max(ops.where(negative, to_others, -1.0), axis=1, initial=-1.0)
    to_negative = ops.where(ops.any(beyond, axis=1), nearest_beyond, farthest)
    return hinge(to_positive - to_negative + margin, softness=softness)


def distance_weighted_triplet_loss(
    embeddings: Any, labels: Any, *, margin: float, softness: float = 0.0, seed: int | keras.random.SeedGenerator
) -> Any:
    """Return per (anchor, positive) the loss with a negative drawn by distance weight, → [positive pairs].

    [m, dim] and [m]; the weights are `distance_weights`.
    """
    distances = pairwise_squared_distances(embeddings)
    anchor, to_positive, negative = _positive_pairs(distances, labels)
    to_others = ops.take(distances, anchor, axis=0)
    logits = distance_weights(ops.stop_gradient(to_others), negative, dim=embeddings.shape[-1])
    drawn = keras.random.categorical(logits, 1, dtype="int32", seed=seed)
    to_negative = ops.take_along_axis(to_others, drawn, axis=1)[:, 0]
    return hinge(to_positive - to_negative + margin, softness=softness)


def distance_weights(distances: Any, negative: Any, *, dim: int) -> Any:
    """Return log weights with which negatives are drawn, [n, m] squared distances and [n, m] bool → [n, m].

    The weight is 1 / q(D), D = √d from NEAREST, 0 above FARTHEST; q(D) ∝ Dⁿ⁻² (1 − D²/4)^((n−3)/2) is how distances
    spread between random points of the sphere in n dimensions (Wu et al., section 4.1). A row with no negative
    nearer than FARTHEST draws among all of its negatives alike.
    """
    near = ops.logical_and(negative, distances < FARTHEST**2)
    bounded = ops.clip(distances, NEAREST**2, FARTHEST**2)
    weights = (2 - dim) / 2 * ops.log(bounded) - (dim - 3) / 2 * ops.log(1 - bounded / 4)
    none_near = ops.logical_not(ops.any(near, axis=1, keepdims=True))
    return ops.where(near, weights, ops.where(ops.logical_and(none_near, negative), 0.0, NEVER))


def out_of_order(embeddings: Any, labels: Any) -> Any:
    """Tell per anchor whether its farthest positive is farther than its nearest negative, → [anchors] bool."""
    return active(batch_hard_triplet_loss(embeddings, labels, margin=0.0))


def pairwise_squared_distances(embeddings: Any) -> Any:
    """Return squared distances between all rows of unit vectors, [m, dim] → [m, m], never below 0."""
    return ops.relu(2.0 - 2.0 * similarities(embeddings))


def similarities(embeddings: Any) -> Any:
    """Return cosines between all rows of unit vectors, [m, dim] → [m, m]."""
    return ops.matmul(embeddings, ops.transpose(embeddings))


def kinds(labels: Any) -> tuple[Any, Any]:
    """Return who is a positive of whom (itself excluded) and who a negative, both [m, m] bool."""
    same = ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0))
    itself = ops.cast(ops.eye(ops.shape(labels)[0]), "bool")
    return ops.logical_and(same, ops.logical_not(itself)), ops.logical_not(same)


def _positive_pairs(distances: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Return the anchor [pairs] of each pair (a, p), d(a, p) [pairs], and a's negatives [pairs, m] bool.

    Anchors without a negative in the batch are left out.
    """
    positive, negative = kinds(labels)
    pairs = ops.logical_and(positive, ops.any(negative, axis=1, keepdims=True))
    anchor, _ = ops.nonzero(pairs)
    return anchor, distances[pairs], ops.take(negative, anchor, axis=0)
