"""The Keras model that `fit` trains: a head with triplet loss on what a feed gives."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from facetl.training.losses import active, batch_all_triplet_loss, batch_hard_triplet_loss, triplet_loss


class TripletTrainer(keras.Model):
    """Passes each unique photo of a batch through the head once, and takes the loss over triplets of them.

    Inputs with `triplets` [n, 3] use these; inputs with `labels` [m] are mined inside the batch by `mining`.
    """

    def __init__(self, head: keras.Model, *, margin: float, softness: float = 0.0, mining: str = "batch-hard") -> None:
        super().__init__(name="triplet_trainer")
        self.head = head
        self.margin = margin
        self.softness = softness
        self.mining = mining
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
        """Return the mean triplet loss and note the share of triplets that are active, violating the margin."""
        losses = self._loss_per_triplet(x, y_pred)
        violated = tf.cast(active(losses, softness=self.softness), tf.float32)
        count = tf.cast(tf.size(losses), tf.float32)
        self.active.update_state(tf.math.divide_no_nan(tf.reduce_sum(violated), count), sample_weight=count)
        # A hinge over all triplets of a batch is mostly zeros: its mean is over the active ones. A soft one has none.
        over_active = "labels" in x and self.mining == "batch-all" and not self.softness
        divisor = tf.reduce_sum(violated) if over_active else count
        return tf.math.divide_no_nan(tf.reduce_sum(losses), divisor)

    def _loss_per_triplet(self, x: dict[str, Any], embeddings: Any) -> Any:
        if "triplets" in x:
            triplets = x["triplets"]
            anchor, positive, negative = (tf.gather(embeddings, triplets[:, part]) for part in range(3))
            return triplet_loss(anchor, positive, negative, margin=self.margin, softness=self.softness)
        mined = batch_all_triplet_loss if self.mining == "batch-all" else batch_hard_triplet_loss
        return mined(embeddings, x["labels"], margin=self.margin, softness=self.softness)
