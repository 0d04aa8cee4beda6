"""Losses over the pairs of a batch, as pure functions: of P people × K photos by their labels, or of pairs as drawn.

Where labels are taken, `embeddings` are [m, dim] unit vectors and `labels` [m] int, the person of each. A positive is
another photo of the same person, a negative a photo of another person. A photo is an anchor when the batch holds both
for it; the others say nothing by themselves. Similarities s are cosines.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from facetl.training.losses import NEVER, kinds, pairwise_squared_distances, similarities

# A root's gradient at 0 is infinite; the squared distance of different people is taken to be at least this.
_LEAST = 1e-12


def contrastive_terms(squared: Any, same: Any, *, margin: float) -> Any:
    """Return per pair ½·D² where it shows one person and ½·max(0, margin − D)² where it shows two, → as `squared`.

    squared: D², the squared distance of a pair's embeddings, any shape; same: bool of that shape. D, in [0, 2] between
    unit vectors, is not squared in the margin.

    References:
        Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, equation 4;
        Chopra, Hadsell, LeCun: Learning a Similarity Metric Discriminatively, CVPR 2005.
    """
    short = ops.relu(margin - ops.sqrt(ops.maximum(squared, _LEAST)))
    return 0.5 * ops.where(same, squared, ops.square(short))


def contrastive_loss_of_pairs(squared: Any, positive: Any, negative: Any, *, margin: float) -> Any:
    """Return the mean of `contrastive_terms` over positive pairs plus that over violating negative ones, → [].

    squared: D² of any shape; positive, negative: bool of that shape, which pairs are of each kind. Most pairs of two
    people are soon farther apart than the margin: each kind is averaged by itself, and the negatives over those that
    are nearer, so that neither drowns the other.
    """
    terms = contrastive_terms(squared, positive, margin=margin)
    return _mean_where(positive, terms) + _mean_where(ops.logical_and(negative, terms > 0), terms)


def contrastive_loss(embeddings: Any, labels: Any, *, margin: float) -> Any:
    """Return `contrastive_loss_of_pairs` over all pairs of a batch of P people × K photos, → []."""
    return contrastive_loss_of_pairs(pairwise_squared_distances(embeddings), *kinds(labels), margin=margin)


def n_pair_loss(embeddings: Any, labels: Any, *, scale: float) -> Any:
    """Return per (anchor a, positive p) log(1 + Σₙ exp(scale · (s(a, n) − s(a, p)))), n all negatives, → [pairs].

    The (N+1)-tuplet loss with every pair of the batch as anchor and positive. Sohn bounds the embeddings' length by
    regularisation; unit vectors need a scale in its place.

    References:
        Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NeurIPS 2016, equation 6.
    """
    positive, negative = kinds(labels)
    pairs = ops.logical_and(positive, ops.any(negative, axis=1, keepdims=True))
    logits = scale * similarities(embeddings)
    return ops.softplus(_logsumexp(logits, negative)[:, None] - logits)[pairs]


def multi_similarity_loss(
    embeddings: Any, labels: Any, *, margin: float, scale: float, positive_scale: float = 2.0, base: float = 0.5
) -> Any:
    """Return per anchor (1/α) log(1 + Σₚ exp(−α (s − λ))) + (1/β) log(1 + Σₙ exp(β (s − λ))), → [anchors].

    Over mined pairs alone: negatives more similar than the least similar positive less the margin ε, positives less
    similar than the most similar negative plus ε. An anchor with none of them costs nothing.

    Args:
        margin: ε. scale: β. positive_scale: α. base: λ, a similarity.

    References:
        Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
        CVPR 2019, equations 13 to 15.
    """
    similarity = similarities(embeddings)
    positive, negative = kinds(labels)
    anchors = ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))
    least_positive = ops.min(ops.where(positive, similarity, 2.0), axis=1, keepdims=True)
    most_negative = ops.max(ops.where(negative, similarity, -2.0), axis=1, keepdims=True)
    hard_negative = ops.logical_and(negative, similarity > least_positive - margin)
    hard_positive = ops.logical_and(positive, similarity < most_negative + margin)
    pull = ops.softplus(_logsumexp(-positive_scale * (similarity - base), hard_positive)) / positive_scale
    push = ops.softplus(_logsumexp(scale * (similarity - base), hard_negative)) / scale
    return (pull + push)[anchors]


def supervised_contrastive_loss(embeddings: Any, labels: Any, *, scale: float) -> Any:
    """Return per anchor the mean over its positives of −log softmax(scale · s), → [anchors].

    The softmax runs over all other photos of the batch; `scale` is 1/τ. This is L_out, which the paper prefers.

    References:
        Khosla et al.: Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """
    positive, negative = kinds(labels)
    anchors = ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))
    logits = scale * similarities(embeddings)
    everyone = _logsumexp(logits, ops.logical_or(positive, negative))
    positives = ops.cast(positive, logits.dtype)
    total = ops.sum(positives * logits, axis=1)
    return (everyone - total / ops.maximum(ops.sum(positives, axis=1), 1.0))[anchors]


def circle_loss(embeddings: Any, labels: Any, *, margin: float, scale: float) -> Any:
    """Return per anchor log(1 + Σₙ exp(γ αₙ (s − m)) · Σₚ exp(−γ αₚ (s − 1 + m))), → [anchors].

    αₙ = max(0, s + m) and αₚ = max(0, 1 + m − s) are weights, not differentiated: the farther a similarity is from
    its optimum, the harder it is pulled. `margin` is m, `scale` is γ.

    References:
        Sun et al.: Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, equations 5 to 8.
    """
    similarity = similarities(embeddings)
    fixed = ops.stop_gradient(similarity)
    positive, negative = kinds(labels)
    anchors = ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))
    pull = -scale * ops.relu(1 + margin - fixed) * (similarity - (1 - margin))
    push = scale * ops.relu(fixed + margin) * (similarity - margin)
    return ops.softplus(_logsumexp(pull, positive) + _logsumexp(push, negative))[anchors]


def _logsumexp(logits: Any, where: Any) -> Any:
    """Return log Σ exp(logits) over the chosen of each row, [m, m] → [m]; NEVER, about, where none is."""
    return ops.logsumexp(ops.where(where, logits, NEVER), axis=1)


def _mean_where(chosen: Any, values: Any) -> Any:
    """Return the mean of the chosen values; 0 when there are none."""
    weights = ops.cast(chosen, values.dtype)
    return ops.sum(weights * values) / ops.maximum(ops.sum(weights), 1.0)
