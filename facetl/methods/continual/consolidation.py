"""Which weights the people that a head knows depend on: elastic weight consolidation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facetl.evaluation.projection import Float32s
from facetl.methods.continual.retention import consolidation_penalty
from facetl.training.objectives import TripletObjective
from facetl.training.samplers import RandomSampler
from facetl.training.settings import LOSSES, TrainingSettings

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
        objective = TripletObjective(margin=margin, softness=settings.softness)
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
        """Return ½ Σ F · (θ − θ*)² of a trunk of the same layers, a scalar."""
        return consolidation_penalty(trunk.trainable_variables, self.anchors, self.importances)


def _gradient(
    trunk: keras.Model, objective: TripletObjective, rows: Float32s, triplets: np.ndarray
) -> list[np.ndarray]:
    unique, inverse = np.unique(triplets, return_inverse=True)
    batch = {"triplets": tf.constant(inverse.reshape(triplets.shape).astype(np.int32))}
    with tf.GradientTape() as tape:
        loss = objective(trunk(rows[unique], training=False), batch).loss
    return [np.asarray(gradient) for gradient in tape.gradient(loss, trunk.trainable_variables)]
