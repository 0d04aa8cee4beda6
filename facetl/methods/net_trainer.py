"""The Keras model that `fit` trains from scratch: augmentation, the net, and an objective that is thrown away."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from facetl.methods.scratch_settings import ScratchSettings
from facetl.training.objectives import Measured, Objective, ProxyObjective, make_objective
from facetl.training.trainer import HeadTrainer


class SoftmaxObjective:
    """Cross-entropy of a linear classifier of the training people on the penultimate layer.

    `proxies` are the classifier's weights, [people, width]; `people` the sorted labels that batches may hold. `active`
    is the share of photos that the classifier takes for somebody else.
    """

    def __init__(self, people: np.ndarray, *, width: int, smoothing: float) -> None:
        self.people = people
        self.smoothing = smoothing
        initial = keras.initializers.GlorotUniform()((len(people), width))
        self.proxies: keras.Variable = keras.Variable(initial, name="classifier")
        self.seed_generator: keras.random.SeedGenerator | None = None
        self.unsolved: float | None = None

    def __call__(self, embeddings: Any, batch: dict[str, Any]) -> Measured:
        """Measure the penultimate layer's outputs [photos, width], not normalised."""
        own = tf.searchsorted(tf.constant(self.people, batch["labels"].dtype), batch["labels"])
        logits = ops.matmul(embeddings, ops.transpose(self.proxies))
        target = ops.one_hot(own, len(self.people)) * (1 - self.smoothing) + self.smoothing / len(self.people)
        losses = ops.categorical_crossentropy(target, logits, from_logits=True)
        wrong = ops.cast(ops.not_equal(ops.argmax(logits, axis=1), ops.cast(own, "int64")), "float32")
        return Measured(ops.mean(losses), ops.mean(wrong), tf.cast(tf.size(wrong), tf.float32))


class NetTrainer(HeadTrainer):
    """Trains a net on photos; only the net is kept.

    Under the softmax the net ends before its L2 normalisation: the classifier stands on the penultimate layer, which
    becomes the embedding when it is chopped off.
    """

    def __init__(self, net: keras.Model, objective: Objective, augmenter: keras.Sequential | None) -> None:
        super().__init__(net, objective)
        self.augmenter = augmenter
        penultimate = isinstance(objective, SoftmaxObjective)
        self.body = keras.Model(net.input, net.layers[-1].input) if penultimate else net

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Embed a batch's photos, [photos, side, side, 3] uint8 → [photos, width]."""
        photos = ops.cast(inputs["features"], "float32")
        if training and self.augmenter is not None:
            photos = self.augmenter(photos, training=True)
        return self.body(photos, training=training)


def make_net_objective(settings: ScratchSettings, labels: np.ndarray, *, width: int) -> Objective:
    """Return what the settings minimise, for photos of the given people ([n] int)."""
    if settings.objective == "softmax":
        people, counts = np.unique(labels, return_counts=True)
        return SoftmaxObjective(people[counts >= 2], width=width, smoothing=settings.label_smoothing)
    objective = make_objective(settings.training, labels, width=width)
    if isinstance(objective, ProxyObjective):
        # An untrained net's embeddings of everyone are alike: imprinted proxies would be, too.
        objective.proxies.assign(keras.initializers.GlorotUniform()(objective.proxies.shape))
    return objective
