"""What a training step minimises and reports: a loss on the embeddings of a batch, with whatever state it keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from facetl.training.losses import (
    active,
    batch_all_triplet_loss,
    batch_hard_triplet_loss,
    distance_weighted_triplet_loss,
    hinge,
    out_of_order,
    semi_hard_triplet_loss,
    triplet_loss,
)
from facetl.training.pair_losses import (
    circle_loss,
    contrastive_loss,
    contrastive_loss_of_pairs,
    multi_similarity_loss,
    n_pair_loss,
    supervised_contrastive_loss,
)
from facetl.training.proxy_losses import arcface_loss, cosface_loss, proxy_anchor_loss, softmax_loss
from facetl.training.settings import TrainingSettings

_MINED: dict[str, Callable[..., Any]] = {
    "batch-hard": batch_hard_triplet_loss,
    "batch-all": batch_all_triplet_loss,
    "semi-hard": semi_hard_triplet_loss,
    "distance-weighted": distance_weighted_triplet_loss,
}
_PAIR_LOSSES: dict[str, Callable[..., Any]] = {
    "contrastive": contrastive_loss,
    "n-pair": n_pair_loss,
    "multi-similarity": multi_similarity_loss,
    "supcon": supervised_contrastive_loss,
    "circle": circle_loss,
}
_PROXY_LOSSES: dict[str, Callable[..., Any]] = {
    "arcface": arcface_loss,
    "cosface": cosface_loss,
    "softmax": softmax_loss,
    "proxy-anchor": proxy_anchor_loss,
}


class Measured(NamedTuple):
    """A batch's loss, the share of its triplets that are active, and how many there were; scalars."""

    loss: Any
    active: Any
    count: Any


class Objective(Protocol):
    """Measures a batch.

    Attributes:
        proxies: trained beside the head, [people, width], or None.
        seed_generator: of random draws within a step, or None.
        unsolved: the loss of a head that maps everyone to one point, where a training at it has come to nothing; None
            where the loss alone does not tell.
    """

    proxies: keras.Variable | None
    seed_generator: keras.random.SeedGenerator | None
    unsolved: float | None

    def __call__(self, embeddings: Any, batch: dict[str, Any]) -> Measured:
        """Measure the embeddings [photos, width] of a batch, as `as_batches` gives it."""
        ...


class TripletObjective:
    """The triplet loss over a batch's `triplets` [n, 3], or over those that `mining` finds by its `labels` [m].

    `active` is the share that violates the margin.
    """

    def __init__(self, *, margin: float, softness: float = 0.0, mining: str | None = None, seed: int = 0) -> None:
        self.margin = margin
        self.softness = softness
        self.mining = mining
        self.proxies: keras.Variable | None = None
        drawn = mining == "distance-weighted"
        self.seed_generator = keras.random.SeedGenerator(seed) if drawn else None
        # A semi-hard negative lies within the margin of the positive: that loss is near the margin in health, too.
        self.unsolved = None if mining == "semi-hard" else float(hinge(margin, softness=softness))

    def __call__(self, embeddings: Any, batch: dict[str, Any]) -> Measured:
        """Return the mean loss; of batch-all and a hinge, the mean over active triplets."""
        losses = self._losses(embeddings, batch)
        violated = tf.cast(active(losses, softness=self.softness), tf.float32)
        count = tf.cast(tf.size(losses), tf.float32)
        # A hinge over all triplets of a batch is mostly zeros: its mean is over the active ones. A soft one has none.
        over_active = self.mining == "batch-all" and not self.softness
        divisor = tf.reduce_sum(violated) if over_active else count
        return Measured(
            loss=tf.math.divide_no_nan(tf.reduce_sum(losses), divisor),
            active=tf.math.divide_no_nan(tf.reduce_sum(violated), count),
            count=count,
        )

    def _losses(self, embeddings: Any, batch: dict[str, Any]) -> Any:
        options: dict[str, Any] = {"margin": self.margin, "softness": self.softness}
        if self.mining is None:
            anchor, positive, negative = (tf.gather(embeddings, batch["triplets"][:, part]) for part in range(3))
            return triplet_loss(anchor, positive, negative, **options)
        if self.seed_generator is not None:
            options["seed"] = self.seed_generator
        return _MINED[self.mining](embeddings, batch["labels"], **options)


class PairObjective:
    """The contrastive loss over a batch's `pairs` [n, 2] of which `same` [n] show one person.

    `active` is the share of the pairs of two people that are nearer than the margin.
    """

    def __init__(self, *, margin: float) -> None:
        self.margin = margin
        self.proxies: keras.Variable | None = None
        self.seed_generator: keras.random.SeedGenerator | None = None
        self.unsolved: float | None = None

    def __call__(self, embeddings: Any, batch: dict[str, Any]) -> Measured:
        """Return the loss of the pairs, each kind averaged by itself."""
        first, second = (tf.gather(embeddings, batch["pairs"][:, part]) for part in range(2))
        squared = tf.reduce_sum(tf.square(first - second), axis=1)
        negative = tf.logical_not(batch["same"])
        violated = tf.cast(tf.logical_and(negative, squared < self.margin**2), tf.float32)
        count = tf.reduce_sum(tf.cast(negative, tf.float32))
        return Measured(
            loss=contrastive_loss_of_pairs(squared, batch["same"], negative, margin=self.margin),
            active=tf.math.divide_no_nan(tf.reduce_sum(violated), count),
            count=count,
        )

    def of_distances(self, squared: np.ndarray, same: np.ndarray) -> float:
        """Return the loss of pairs [n] by their squared distances, as `validation` curves show it."""
        return float(contrastive_loss_of_pairs(np.asarray(squared, np.float32), same, ~same, margin=self.margin))


class BatchObjective:
    """A loss on embeddings and `labels` of a batch.

    `active` is the share of the batch's hardest triplets, one per anchor, that are in the wrong order.
    """

    def __init__(self, loss: Callable[..., Any]) -> None:
        self.loss = loss
        self.proxies: keras.Variable | None = None
        self.seed_generator: keras.random.SeedGenerator | None = None
        self.unsolved: float | None = None

    def __call__(self, embeddings: Any, batch: dict[str, Any]) -> Measured:
        """Return the mean of what the loss gives."""
        losses = self.measure(embeddings, batch["labels"])
        wrong = tf.cast(out_of_order(embeddings, batch["labels"]), tf.float32)
        count = tf.cast(tf.size(wrong), tf.float32)
        return Measured(
            loss=tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32)),
            active=tf.math.divide_no_nan(tf.reduce_sum(wrong), count),
            count=count,
        )

    def measure(self, embeddings: Any, labels: Any) -> Any:
        """Return the loss, a number or one per term."""
        return self.loss(embeddings, labels)


class ProxyObjective(BatchObjective):
    """A loss on embeddings, `labels` and a proxy per person, which is trained with the head and not kept.

    `people` are the sorted labels that batches may hold. The proxies begin as the mean embeddings of their people
    (imprinting: Qi, Brown, Lowe, Low-Shot Learning with Imprinted Weights, CVPR 2018): random ones would
    first turn a head that starts well towards chance.
    """

    def __init__(self, loss: Callable[..., Any], people: np.ndarray, *, width: int) -> None:
        super().__init__(loss)
        self.people = people
        self.proxies: keras.Variable = keras.Variable(np.zeros((len(people), width), np.float32), name="proxies")

    def measure(self, embeddings: Any, labels: Any) -> Any:
        """Return the loss with each photo's person found among the proxies."""
        rows = tf.searchsorted(tf.constant(self.people, labels.dtype), labels)
        return self.loss(embeddings, rows, self.proxies)

    def imprint(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
        """Set each proxy to the mean of its person's embeddings, [photos, width] and [photos]."""
        rows = np.searchsorted(self.people, labels)
        known = self.people[np.minimum(rows, len(self.people) - 1)] == labels
        sums = np.zeros(self.proxies.shape, np.float64)
        np.add.at(sums, rows[known], embeddings[known])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        self.proxies.assign((sums / np.maximum(lengths, 1e-12)).astype(np.float32))


def make_objective(settings: TrainingSettings, labels: np.ndarray, *, width: int) -> Objective:
    """Return what the settings minimise, for photos of the given people ([n] int) and embeddings of a width."""
    options = settings.loss_options
    if settings.loss == "triplet":
        assert options.margin is not None
        mining = settings.mining if settings.sampler == "pk" else None
        return TripletObjective(margin=options.margin, softness=settings.softness, mining=mining, seed=settings.seed)
    if settings.sampler == "pairs":
        assert options.margin is not None
        return PairObjective(margin=options.margin)
    named = {"margin": options.margin, "scale": options.scale}
    given = {name: value for name, value in named.items() if value is not None}
    if settings.loss in _PAIR_LOSSES:
        return BatchObjective(partial(_PAIR_LOSSES[settings.loss], **given))
    # The sampler pk takes no one with a single photo.
    people, counts = np.unique(labels, return_counts=True)
    return ProxyObjective(partial(_PROXY_LOSSES[settings.loss], **given), people[counts >= 2], width=width)
