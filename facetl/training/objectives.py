"""Objectives of a training step: a loss on the embeddings of a batch, with the state that it keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from facetl.losses.miners import BatchHard, DistanceWeighted, SemiHard, make_miner
from facetl.losses.pair import ContrastiveLoss
from facetl.losses.proxy import ProxyLoss, cosines_to, imprinted_proxies
from facetl.losses.registry import LOSSES, resolve
from facetl.losses.triplet import TripletLoss, hinge, violated
from facetl.training.settings import TrainingSettings


class LossAndStats(NamedTuple):
    """A batch's loss, the share of its triplets that are active, and how many there were; scalars."""

    loss: Any
    fraction_active: Any
    count: Any


class Objective:
    """Measures a batch.

    Attributes:
        proxies: trained beside the head, [people, width], or None.
        seed_generator: of random draws within a step, or None.
        collapsed_loss: the loss of a head that maps everyone to one point, where a training at it has come to nothing;
            None where the loss alone does not show it.
    """

    proxies: keras.Variable | None = None
    seed_generator: keras.random.SeedGenerator | None = None
    collapsed_loss: float | None = None

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Measure the embeddings [photos, width] of a batch, by its targets and features as a sampler gives them."""
        raise NotImplementedError


class TripletObjective(Objective):
    """The triplet loss over a batch's triplets, targets [n, 3].

    `fraction_active` is the share that violates the margin.
    """

    def __init__(self, loss: TripletLoss) -> None:
        self.loss = loss
        self.collapsed_loss = float(hinge(loss.margin, softness=loss.softness))

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Return the mean loss."""
        losses = self.loss.measure_drawn(targets, embeddings)
        every = tf.ones_like(losses, tf.bool)
        return self.measured(losses, every, every)

    def measured(self, losses: Any, valid: Any, counted: Any) -> LossAndStats:
        """Return the mean of the counted losses and the share of the valid ones that is active; one shape."""
        active = tf.logical_and(valid, violated(losses, softness=self.loss.softness))
        return LossAndStats(_mean_where(counted, losses), _mean_where(valid, active), _count(valid))


class MinedTripletObjective(TripletObjective):
    """The triplet loss over those triplets that its miner finds by a batch's labels, targets [m]."""

    def __init__(self, loss: TripletLoss) -> None:
        super().__init__(loss)
        if isinstance(loss.miner, DistanceWeighted):
            self.seed_generator = loss.miner.seed_generator
        if isinstance(loss.miner, SemiHard):
            # A semi-hard negative lies within the margin of the positive: that loss is near the margin in health, too.
            self.collapsed_loss = None

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Return the mean loss; of all triplets and a hinge, the mean over active triplets."""
        losses, valid = self.loss.losses_of_triplets(targets, embeddings)
        return self.measured(losses, valid, self.loss.counted(losses, valid))


class PairObjective(Objective):
    """The contrastive loss over a batch's pairs: targets [n, 4]: two photos, whether of one person, and whether of two.

    `fraction_active` is the share of the pairs of two people that are nearer than the margin.
    """

    def __init__(self, loss: ContrastiveLoss) -> None:
        self.loss = loss

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Return the loss of the pairs, each kind averaged by itself."""
        first, second = (tf.gather(embeddings, targets[:, part]) for part in range(2))
        squared = tf.reduce_sum(tf.square(first - second), axis=1)
        same, negative = (targets[:, part] == 1 for part in (2, 3))
        loss = tf.reduce_mean(self.loss.of_distances(squared, same, negative))
        return LossAndStats(loss, _mean_where(negative, squared < self.loss.margin**2), _count(negative))

    def of_distances(self, squared: np.ndarray, same: np.ndarray) -> float:
        """Return the loss of pairs [n] by their squared distances, as `validation` curves show it."""
        return float(np.mean(self.loss.of_distances(np.asarray(squared, np.float32), same, ~same)))


class BatchObjective(Objective):
    """A loss on embeddings and labels, targets [m], of a batch.

    `fraction_active` is the share of the batch's hardest triplets, one per anchor, that are in the wrong order.
    """

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Return the mean of what the loss gives."""
        hardest = BatchHard().triplets(targets, embeddings)
        wrong = hardest.to_positive > hardest.to_negative
        loss = tf.reduce_mean(self.measure(targets, embeddings))
        return LossAndStats(loss, _mean_where(hardest.valid, wrong), _count(hardest.valid))

    def measure(self, labels: Any, embeddings: Any) -> Any:
        """Return the loss, a number or one per photo."""
        return self.loss.measure(labels, embeddings)


class ProxyObjective(BatchObjective):
    """A loss on the cosines of embeddings to a proxy per person, which is trained with the head and not kept.

    `people` are the sorted labels that batches may hold.
    """

    def __init__(self, loss: ProxyLoss, people: np.ndarray, *, width: int) -> None:
        super().__init__(loss)
        self.people = people
        self.proxies: keras.Variable = keras.Variable(np.zeros((len(people), width), np.float32), name="proxies")

    def measure(self, labels: Any, embeddings: Any) -> Any:
        """Return the loss with each photo's person found among the proxies."""
        rows = tf.searchsorted(tf.constant(self.people, labels.dtype), labels)
        return self.loss.call(rows, cosines_to(self.proxies, embeddings))

    def imprint(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
        """Set each proxy to the mean direction of its person's embeddings, [photos, width] and [photos]."""
        known = np.isin(labels, self.people)
        rows = np.searchsorted(self.people, labels[known])
        self.proxies.assign(imprinted_proxies(embeddings[known], rows, classes=len(self.people)))


class HeadTrainer(keras.Model):
    """Passes each unique photo of a batch through the head once, and lets the objective measure the embeddings.

    Proxies of the objective are trained with the head; they are no part of it.
    """

    def __init__(self, head: keras.Model, objective: Objective) -> None:
        super().__init__(name="head_trainer")
        self.head = head
        self.objective = objective
        # Keras finds variables in the attributes of a model, not within those of another object.
        self.proxies = objective.proxies
        self.seed_generator = objective.seed_generator
        self.active = keras.metrics.Mean(name="active")

    @property
    def embedder(self) -> keras.Model:
        """The head, as the callbacks ask for it."""
        return self.head

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Embed a batch's photos, [photos, dim] → [photos, width]."""
        return self.head(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the batch's loss and note the share of its triplets that are active."""
        measured = self.objective(y_pred, y, x)
        self.active.update_state(measured.fraction_active, sample_weight=measured.count)
        return measured.loss


def make_objective(settings: TrainingSettings, labels: np.ndarray, *, width: int) -> Objective:
    """Return what the settings minimise, for photos of the given people ([n] int) and embeddings of a width."""
    options = settings.loss_options
    named = {"margin": options.margin, "scale": options.scale}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    made = resolve(LOSSES[settings.loss].source)
    if issubclass(made, TripletLoss):
        given["softness"] = settings.softness
        if settings.sampler_gives == "triplets":
            return TripletObjective(made(**given))
        miner = make_miner(settings.mining, positives=settings.photos_per_person - 1, seed=settings.seed)
        return MinedTripletObjective(made(**given, miner=miner))
    if settings.sampler_gives == "pairs":
        return PairObjective(made(**given))
    if issubclass(made, ProxyLoss):
        # The sampler pk takes no one with a single photo.
        people, counts = np.unique(labels, return_counts=True)
        return ProxyObjective(made(**given), people[counts >= 2], width=width)
    return BatchObjective(made(**given))


def _mean_where(chosen: Any, values: Any) -> Any:
    """Return the mean of the chosen values; 0 when there are none."""
    kept = tf.where(chosen, tf.cast(values, tf.float32), 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(kept), _count(chosen))


def _count(chosen: Any) -> Any:
    return tf.reduce_sum(tf.cast(chosen, tf.float32))
