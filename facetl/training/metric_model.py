"""The Keras model that `fit` trains: a head and an objective on the batches of a sampler."""

from __future__ import annotations

from typing import Any

import keras

from facetl.training.objectives import Objective


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

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Embed a batch's photos, [photos, dim] → [photos, width]."""
        return self.head(inputs["features"], training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the batch's loss and note the share of its triplets that are active."""
        measured = self.objective(y_pred, x)
        self.active.update_state(measured.active, sample_weight=measured.count)
        return measured.loss
