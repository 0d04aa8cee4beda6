"""Losses over the pairs of a batch, best of P people × K photos.

A positive is another photo of the same person, a negative a photo of another person. A photo is an anchor when the
batch holds both for it; the others have no loss of their own. Similarities s are cosines.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from facetl.losses.base import MetricLoss, anchors_of, masked_logsumexp, pair_masks, similarities, spread_mean
from facetl.losses.miners import Miner, make_miner
from facetl.losses.registry import default

# A root's gradient at 0 is infinite; the squared distance of different people is taken to be at least this.
_LEAST = 1e-12


class PairLoss(MetricLoss):
    """A loss of similarities and of which pairs are positive and negative. A subclass implements `of_pairs`.

    Args:
        miner: whose triplets' (anchor, positive) and (anchor, negative) are the pairs; a miner, or its name; None for
            all pairs of the batch.
    """

    def __init__(self, *, miner: Miner | str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.miner = make_miner(miner)

    def measure(self, labels: Any, embeddings: Any) -> Any:
        """Return the loss of each anchor, [m] and [m, dim] → [m]."""
        pairs = pair_masks(labels) if self.miner is None else self.miner.pairs(labels, embeddings)
        return self.of_pairs(similarities(embeddings), *pairs)

    def of_pairs(self, similarity: Any, positive: Any, negative: Any) -> Any:
        """Return the loss of each row: cosines [m, m], and bool [m, m] which pairs are of each kind → [m]."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("facetl")
class ContrastiveLoss(PairLoss):
    """½·D² of a positive pair, ½·max(0, margin − D)² of a negative one; D is the Euclidean distance, not squared.

    The mean over positive pairs plus that over violating negative ones: most pairs of two people are soon farther apart
    than the margin, so each kind is averaged by itself, and neither drowns the other. Instead of labels it takes the
    pairs of a sampler, [n, 4].

    References:
        Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, equation 4;
        Chopra, Hadsell, LeCun: Learning a Similarity Metric Discriminatively, CVPR 2005.
    """

    drawn_columns = 4

    def __init__(
        self,
        margin: float = default("contrastive", "margin"),
        *,
        miner: Miner | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(miner=miner, **options)
        self.margin = margin

    def of_pairs(self, similarity: Any, positive: Any, negative: Any) -> Any:
        """Return the loss of each row, [m, m] → [m]."""
        return self.of_distances(ops.relu(2.0 - 2.0 * similarity), positive, negative)

    def measure_drawn(self, drawn: Any, embeddings: Any) -> Any:
        """Return the loss of each pair: [n, 4] of two rows, whether of one class and whether of two; [m, dim] → [n]."""
        first, second = (ops.take(embeddings, drawn[:, part], axis=0) for part in range(2))
        squared = ops.sum(ops.square(first - second), axis=1)
        return self.of_distances(squared, drawn[:, 2] == 1, drawn[:, 3] == 1)

    def of_distances(self, squared: Any, positive: Any, negative: Any) -> Any:
        """Return the loss of each row: D² [m, …], and bool of that shape which pairs are of each kind → [m]."""
        near = 0.5 * squared
        far = 0.5 * ops.square(ops.relu(self.margin - ops.sqrt(ops.maximum(squared, _LEAST))))
        return spread_mean(near, positive) + spread_mean(far, ops.logical_and(negative, far > 0))


@keras.saving.register_keras_serializable("facetl")
class NPairLoss(PairLoss):
    """log(1 + Σₙ exp(scale · (s(a, n) − s(a, p)))) per (anchor a, positive p), n all negatives.

    The (N+1)-tuplet loss with every pair of the batch as anchor and positive. Sohn bounds the embeddings' length by
    regularisation; unit vectors need a scale in its place.

    References:
        Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NeurIPS 2016, equation 6.
    """

    def __init__(
        self, scale: float = default("n-pair", "scale"), *, miner: Miner | str | None = None, **options: Any
    ) -> None:
        super().__init__(miner=miner, **options)
        self.scale = scale

    def of_pairs(self, similarity: Any, positive: Any, negative: Any) -> Any:
        """Return the loss of each anchor, [m, m] → [m]."""
        logits = self.scale * similarity
        losses = ops.softplus(ops.expand_dims(masked_logsumexp(logits, negative), 1) - logits)
        return spread_mean(losses, ops.logical_and(positive, ops.any(negative, axis=1, keepdims=True)))


@keras.saving.register_keras_serializable("facetl")
class MultiSimilarityLoss(PairLoss):
    """(1/α) log(1 + Σₚ exp(−α (s − λ))) + (1/β) log(1 + Σₙ exp(β (s − λ))) per anchor.

    Over hard pairs alone: negatives more similar than the least similar positive less the margin ε, positives less
    similar than the most similar negative plus ε. An anchor with none of them costs nothing.

    Args:
        margin: ε. scale: β. positive_scale: α. base: λ, a similarity. miner: see `PairLoss`.

    References:
        Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
        CVPR 2019, equations 13 to 15.
    """

    def __init__(
        self,
        margin: float = default("multi-similarity", "margin"),
        scale: float = default("multi-similarity", "scale"),
        positive_scale: float = 2.0,
        base: float = 0.5,
        *,
        miner: Miner | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(miner=miner, **options)
        self.margin = margin
        self.scale = scale
        self.positive_scale = positive_scale
        self.base = base

    def of_pairs(self, similarity: Any, positive: Any, negative: Any) -> Any:
        """Return the loss of each anchor, [m, m] → [m]."""
        least_positive = ops.min(ops.where(positive, similarity, 2.0), axis=1, keepdims=True)
        most_negative = ops.max(ops.where(negative, similarity, -2.0), axis=1, keepdims=True)
        hard_negative = ops.logical_and(negative, similarity > least_positive - self.margin)
        hard_positive = ops.logical_and(positive, similarity < most_negative + self.margin)
        above = similarity - self.base
        pull = ops.softplus(masked_logsumexp(-self.positive_scale * above, hard_positive)) / self.positive_scale
        push = ops.softplus(masked_logsumexp(self.scale * above, hard_negative)) / self.scale
        return spread_mean(pull + push, anchors_of(positive, negative))


@keras.saving.register_keras_serializable("facetl")
class SupervisedContrastiveLoss(PairLoss):
    """The mean over an anchor's positives of −log softmax(scale · s), per anchor.

    The softmax runs over all of the anchor's pairs; `scale` is 1/τ. This is L_out, which the paper prefers.

    References:
        Khosla et al.: Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """

    def __init__(
        self, scale: float = default("supcon", "scale"), *, miner: Miner | str | None = None, **options: Any
    ) -> None:
        super().__init__(miner=miner, **options)
        self.scale = scale

    def of_pairs(self, similarity: Any, positive: Any, negative: Any) -> Any:
        """Return the loss of each anchor, [m, m] → [m]."""
        logits = self.scale * similarity
        everyone = masked_logsumexp(logits, ops.logical_or(positive, negative))
        positives = ops.cast(positive, logits.dtype)
        mean = ops.sum(positives * logits, axis=1) / ops.maximum(ops.sum(positives, axis=1), 1.0)
        return spread_mean(everyone - mean, anchors_of(positive, negative))


@keras.saving.register_keras_serializable("facetl")
class CircleLoss(PairLoss):
    """log(1 + Σₙ exp(γ αₙ (s − m)) · Σₚ exp(−γ αₚ (s − 1 + m))) per anchor.

    αₙ = max(0, s + m) and αₚ = max(0, 1 + m − s) are weights, not differentiated: the farther a similarity is from
    its optimum, the harder it is pulled. `margin` is m, `scale` is γ.

    References:
        Sun et al.: Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, equations 5 to 8.
    """

    def __init__(
        self,
        margin: float = default("circle", "margin"),
        scale: float = default("circle", "scale"),
        *,
        miner: Miner | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(miner=miner, **options)
        self.margin = margin
        self.scale = scale

    def of_pairs(self, similarity: Any, positive: Any, negative: Any) -> Any:
        """Return the loss of each anchor, [m, m] → [m]."""
        fixed = ops.stop_gradient(similarity)
        pull = -self.scale * ops.relu(1 + self.margin - fixed) * (similarity - (1 - self.margin))
        push = self.scale * ops.relu(fixed + self.margin) * (similarity - self.margin)
        both = masked_logsumexp(pull, positive) + masked_logsumexp(push, negative)
        return spread_mean(ops.softplus(both), anchors_of(positive, negative))
