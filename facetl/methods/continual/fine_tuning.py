"""The gradient descent of methods that have no closed form, on arrays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from facetl.losses.distillation import CosineDistillationLoss
from facetl.losses.registry import LOSSES
from facetl.losses.triplet import TripletLoss
from facetl.methods.continual.linear_head import copy_of
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.metrics.linalg import Float32s
from facetl.samplers import RandomSampler
from facetl.training.fit import fit_trunk
from facetl.training.objectives import LossAndStats, Objective, TripletObjective, make_objective
from facetl.training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class People:
    """Rows of people, [photos, dim] float as a head's front gives them, and their names, str [photos]."""

    rows: np.ndarray
    names: np.ndarray

    def joined(self, others: People) -> People:
        """Return these and others."""
        return People(np.concatenate([self.rows, others.rows]), np.concatenate([self.names, others.names]))

    def of(self, which: np.ndarray) -> People:
        """Return some of them, by a mask or by integers."""
        return People(self.rows[which], self.names[which])

    @property
    def float32(self) -> Float32s:
        """The rows, as every computation takes them."""
        return np.asarray(self.rows, np.float32)

    @property
    def labels(self) -> np.ndarray:
        """The person of each row as a number, int64 [photos], people sorted."""
        return np.unique(self.names, return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class Learnt:
    """Updated layers, and in how many seconds."""

    trunk: keras.Model
    seconds: float


def learn(
    trunk: keras.Model,
    anchor: keras.Model,
    new: People,
    memory: People,
    *,
    settings: TrainingSettings,
    update: UpdateSettings,
    validation: People,
) -> Learnt:
    """Return a trunk that has learnt new people by gradient descent; the one given stays as it is.

    The loss is the run's own; it ends where validation people are separated best.

    Args:
        trunk: [batch, dim] → [batch, width] unit vectors, the layers in use.
        anchor: the layers whose embeddings fill galleries, which the new ones must stay comparable with; perhaps
            `trunk` itself.
        new, memory: people to learn and people to remember.
        settings: the run's.
        update: the method.
        validation: other people.

    Raises TrainingError for too few people or photos, CollapseError.
    """
    began = time.monotonic()
    updated = copy_of(trunk)
    taken = memory.joined(new) if update.has("replay") and len(memory.names) else new
    chosen = replace(
        settings, seed=update.seed, epochs=update.epochs, patience=update.epochs, learning_rate=update.learning_rate
    )
    objective: Objective = make_objective(chosen, taken.labels, width=trunk.output_shape[-1])
    if update.has("distillation"):

        def moved(rows: Any) -> Any:
            """Return the cosine distillation to the old trunk, both without dropout: its noise is not the old's."""
            old = tf.stop_gradient(anchor(rows, training=False))
            return CosineDistillationLoss()(old, updated(rows, training=False))

        objective = _Retaining(objective, update.distillation, moved)
    if update.has("ewc"):
        consolidation = Consolidation.at(trunk, memory.float32, memory.labels, chosen)
        objective = _Retaining(objective, update.consolidation, lambda rows: consolidation.penalty(updated))
    fit_trunk(
        updated,
        taken.float32,
        taken.labels,
        chosen,
        validation=(validation.float32, validation.labels),
        objective=objective,
    )
    return Learnt(updated, time.monotonic() - began)


class _Retaining(Objective):
    """An objective with another one's loss and something added to it, which hides the loss of a collapsed head.

    added: a batch's features → a scalar.
    """

    def __init__(self, base: Objective, weight: float, added: Callable[[Any], Any]) -> None:
        self.base = base
        self.weight = weight
        self.added = added
        self.proxies = base.proxies
        self.seed_generator = base.seed_generator

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Return the base's measure, its loss increased."""
        measured = self.base(embeddings, targets, features)
        return measured._replace(loss=measured.loss + self.weight * self.added(features))


_BATCH = 16  # triplets a gradient: squares of the mean of many would be small everywhere
_MOST = 2048  # triplets


@dataclass(frozen=True, eq=False)
class Consolidation:
    """Old weights, and the diagonal of the Fisher information there; an array for each variable."""

    anchors: tuple[np.ndarray, ...]
    importances: tuple[np.ndarray, ...]

    @classmethod
    def at(cls, trunk: keras.Model, rows: Float32s, labels: np.ndarray, settings: TrainingSettings) -> Consolidation:
        """Measure the weights that a trunk has: rows [photos, dim] of known people and labels [photos] int.

        The Fisher information is the mean square of the gradient of the triplet loss, over small batches of random
        triplets (Kirkpatrick et al., PNAS 2017, with the empirical Fisher). Raises TrainingError for too few people.
        """
        margin = LOSSES["triplet"].margin if settings.loss != "triplet" else settings.loss_options.margin
        assert margin is not None
        objective = TripletObjective(TripletLoss(margin, settings.softness))
        sampler = RandomSampler(labels, anchors_per_person=settings.anchors_per_person, seed=settings.seed)
        triplets = sampler.triplets(0)[:_MOST]
        squares = [np.zeros(variable.shape, np.float64) for variable in trunk.trainable_variables]
        batches = [triplets[start : start + _BATCH] for start in range(0, len(triplets), _BATCH)]
        for batch in batches:
            for total, gradient in zip(squares, _gradient(trunk, objective, rows, batch), strict=True):
                total += np.square(gradient)
        anchors = tuple(np.asarray(variable.numpy()) for variable in trunk.trainable_variables)
        return cls(anchors, tuple((total / len(batches)).astype(np.float32) for total in squares))

    def penalty(self, trunk: keras.Model) -> Any:
        """Return ½ Σ F · (θ − θ*)² of a trunk of the same layers, a scalar (equation 3)."""
        parts = [
            ops.sum(importance * ops.square(weight - anchor))
            for weight, anchor, importance in zip(
                trunk.trainable_variables, self.anchors, self.importances, strict=True
            )
        ]
        return 0.5 * sum(parts)


def _gradient(
    trunk: keras.Model, objective: TripletObjective, rows: Float32s, triplets: np.ndarray
) -> list[np.ndarray]:
    unique, inverse = np.unique(triplets, return_inverse=True)
    places = tf.constant(inverse.reshape(triplets.shape).astype(np.int32))
    with tf.GradientTape() as tape:
        loss = objective(trunk(rows[unique], training=False), places).loss
    return [np.asarray(gradient) for gradient in tape.gradient(loss, trunk.trainable_variables)]
