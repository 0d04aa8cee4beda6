"""The triplet loss, of triplets as given or as a miner finds them in a batch.

Distances are squared Euclidean between unit vectors, in [0, 4].
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from facetl.losses.base import MetricLoss, spread_mean
from facetl.losses.miners import AllTriplets, Miner, make_miner
from facetl.losses.registry import default


@keras.saving.register_keras_serializable("facetl")
class TripletLoss(MetricLoss):
    """hinge(d(anchor, positive) − d(anchor, negative) + margin), on the mean over the triplets of a batch.

    Of all triplets (`AllTriplets`) and a hinge, on the mean over those above zero. Instead of labels it takes the
    triplets of a sampler, [n, 3] rows of the batch: then no miner looks for others, and the mean is over all of them.

    Args:
        margin: a squared distance.
        softness: 0 for the hinge max(0, x); above it the smooth softness · log(1 + exp(x / softness)).
        miner: which triplets; a miner, or its name; None for `AllTriplets`.

    References:
        Schroff, Kalenichenko, Philbin: FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015;
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, 2017.
    """

    drawn_columns = 3

    def __init__(
        self,
        margin: float = default("triplet", "margin"),
        softness: float = 0.0,
        miner: Miner | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.margin = margin
        self.softness = softness
        self.miner = make_miner(miner) or AllTriplets()

    def measure(self, labels: Any, embeddings: Any) -> Any:
        """Return the loss of each anchor, [m] and [m, dim] → [m]."""
        losses, valid = self.losses_of_triplets(labels, embeddings)
        return spread_mean(losses, self.counted(losses, valid))

    def measure_drawn(self, drawn: Any, embeddings: Any) -> Any:
        """Return the loss of each triplet, [n, 3] and [m, dim] → [n]."""
        parts = (ops.take(embeddings, drawn[:, part], axis=0) for part in range(3))
        return triplet_loss(*parts, margin=self.margin, softness=self.softness)

    def losses_of_triplets(self, labels: Any, embeddings: Any) -> tuple[Any, Any]:
        """Return the loss of each triplet [m, k, q] and which of them are triplets, bool of that shape."""
        mined = self.miner.triplets(labels, embeddings)
        return hinge(mined.to_positive - mined.to_negative + self.margin, softness=self.softness), mined.valid

    def counted(self, losses: Any, valid: Any) -> Any:
        """Return over which losses the mean is taken, bool of any shape."""
        # A hinge over all triplets of a batch is mostly zeros: its mean is over the active ones. A soft one has none.
        over_active = isinstance(self.miner, AllTriplets) and not self.softness
        return ops.logical_and(valid, losses > 0) if over_active else valid


def triplet_loss(anchor: Any, positive: Any, negative: Any, *, margin: float, softness: float = 0.0) -> Any:
    """Return hinge(d(anchor, positive) − d(anchor, negative) + margin) per triplet: unit vectors [n, dim] → [n]."""
    to_positive = ops.sum(ops.square(anchor - positive), axis=-1)
    to_negative = ops.sum(ops.square(anchor - negative), axis=-1)
    return hinge(to_positive - to_negative + margin, softness=softness)


def hinge(violation: Any, *, softness: float = 0.0) -> Any:
    """Return max(0, x), or with softness s above 0 the smooth s · log(1 + exp(x / s)); any shape."""
    return ops.softplus(violation / softness) * softness if softness else ops.relu(violation)


def violated(losses: Any, *, softness: float = 0.0) -> Any:
    """Return whether each loss's triplet violates the margin; any shape → bool."""
    return losses > softness * math.log(2)
