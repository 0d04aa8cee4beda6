"""Fits a student to its teacher's embeddings: the whole net on crops, or a projection of a frozen trunk's features."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

from facetl.errors import TrainingError
from facetl.io.arrays import Rows
from facetl.losses.distillation import (
    AngleDistillationLoss,
    CosineDistillationLoss,
    DistanceDistillationLoss,
    EuclideanDistillationLoss,
    SoftTargetLoss,
)
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.scratch.crops import CropRows, make_augmenter
from facetl.methods.scratch.scratch_training import NetTrainer
from facetl.samplers import ShuffleSampler
from facetl.training.fit import Fit
from facetl.training.head import embed, join
from facetl.training.objectives import LossAndStats, Objective
from facetl.training.whitening import Whitening

OnEpoch = Callable[[int, dict[str, float]], None]
_REMEDIES = "Try a lower --learning-rate or a larger --cosine."


@dataclass(frozen=True)
class Lesson:
    """One side of what a student is shown.

    Attributes:
        rows: crops [photos, side, side, 3] uint8, or features [photos, dim] of a frozen trunk.
        labels: [photos] int, who is on them.
        targets: [photos, width] float32 unit vectors, the teacher's embeddings.
    """

    rows: CropRows | Rows
    labels: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class FittedStudent:
    """A trained student: its weights are those of the best epoch, counted from 1; 0 is the start.

    `net` takes what `Lesson.rows` holds. `history` has a row per epoch, and `active` there is the share of a batch's
    photos that are nearer to another photo's target than to their own.
    """

    net: keras.Model
    history: pd.DataFrame
    best_epoch: int
    seconds: float


class DistillationObjective(Objective):
    """The weighted losses between a batch's embeddings and their targets, by rows [m] of `targets`."""

    def __init__(self, settings: DistillationSettings, targets: np.ndarray, centroids: np.ndarray) -> None:
        self.targets = tf.constant(targets, tf.float32)
        losses: dict[str, keras.losses.Loss] = {
            "cosine": CosineDistillationLoss(),
            "l2": EuclideanDistillationLoss(),
            "distances": DistanceDistillationLoss(),
            "angles": AngleDistillationLoss(),
            "soft": SoftTargetLoss(centroids, settings.temperature),
        }
        self.terms = [(weight, losses[name]) for name, weight in settings.weights.items() if weight]

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Measure the embeddings [photos, width] of a batch."""
        targets = tf.gather(self.targets, targets)
        loss = sum(weight * term(targets, embeddings) for weight, term in self.terms)
        alike = ops.matmul(embeddings, ops.transpose(targets))
        wrong = ops.cast(ops.max(alike, axis=1) > ops.diagonal(alike), "float32")
        return LossAndStats(loss, ops.mean(wrong), ops.cast(ops.size(wrong), "float32"))


def centroids_of(targets: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the unit mean embedding of each person with two photos or more, [people, width] float32.

    [photos, width] and [photos]. One photo teaches a net nothing of what a person looks like in others.
    """
    people, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(people), targets.shape[1]), np.float64)
    np.add.at(sums, inverse, targets)
    sums = sums[counts >= 2]
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-12), np.float32)


def fit_student(
    net: keras.Model,
    train: Lesson,
    validation: Lesson,
    settings: DistillationSettings,
    *,
    logs: Path | None = None,
    on_epoch: OnEpoch = lambda epoch, logs: None,
) -> FittedStudent:
    """Train a net, in place, to give the teacher's embeddings, and keep the epoch that verifies validation people best.

    Which epoch that is follows from validation people's names alone, not from the teacher. The same seed gives the
    same net. Raises TrainingError for too few photos or, with soft targets, people; CollapseError.
    """
    began = time.monotonic()
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    if train.rows.shape[0] < 2:
        raise TrainingError(f"distillation: expected at least 2 training photos, got {train.rows.shape[0]}.")
    centroids = centroids_of(train.targets, train.labels)
    if settings.soft and len(centroids) < 2:
        raise TrainingError(
            f"--soft: expected at least 2 training people with 2 photos each, got {len(centroids)}. Set it to 0."
        )
    objective = DistillationObjective(settings, train.targets, centroids)
    augmenter = _augmenter(settings.augment, settings.seed) if isinstance(train.rows, CropRows) else None
    trainer = NetTrainer(net, objective, augmenter)
    # A photo is a class of its own: its target.
    sampler = ShuffleSampler(np.arange(train.rows.shape[0]), smallest_class=1, seed=settings.seed)
    dataset = None if isinstance(train.rows, CropRows) else _of_features(train.rows, settings.batch_size, settings.seed)
    fit = Fit(trainer, settings, validation=(validation.rows, validation.labels), remedies=_REMEDIES)
    fit.run(sampler, train.rows, dataset=dataset, on_epoch=on_epoch, logs=logs)
    return FittedStudent(net, pd.DataFrame(fit.history), fit.stopping.best_epoch + 1, time.monotonic() - began)


def fit_projection(
    trunk: keras.Model,
    train: Lesson,
    validation: Lesson,
    settings: DistillationSettings,
    *,
    logs: Path | None = None,
    on_epoch: OnEpoch = lambda epoch, logs: None,
) -> FittedStudent:
    """Train a projection of a frozen trunk's features, and return both as one net, photos → unit vectors.

    The features are whitened first, as a head's are; see `fit_student`. trunk: photos → [n, dim].
    """
    whitening = Whitening.fit(train.rows, method="whiten", components=settings.components, seed=settings.seed)
    front = whitening.model(train.rows.shape[1])
    inputs = keras.Input(front.output_shape[1:], name="whitened")
    seen = keras.layers.Dropout(settings.dropout, seed=settings.seed)(inputs) if settings.dropout else inputs
    initialiser = keras.initializers.GlorotUniform(seed=settings.seed)
    dense = keras.layers.Dense(train.targets.shape[1], kernel_initializer=initialiser, name="projection")(seen)
    projection = keras.Model(inputs, keras.layers.UnitNormalization(name="unit")(dense), name="projection")

    def whitened(lesson: Lesson) -> Lesson:
        return Lesson(embed(front, lesson.rows), lesson.labels, lesson.targets)

    fitted = fit_student(projection, whitened(train), whitened(validation), settings, logs=logs, on_epoch=on_epoch)
    head = join(front, projection)
    trunk.trainable = False
    net = keras.Model(trunk.input, head(trunk.output), name="student")
    return FittedStudent(net, fitted.history, fitted.best_epoch, fitted.seconds)


def _augmenter(augment: str, seed: int) -> keras.Sequential | None:
    if augment == "mirror":
        return keras.Sequential([keras.layers.RandomFlip("horizontal", seed=seed)], name="mirror")
    return make_augmenter(seed) if augment == "full" else None


def _of_features(rows: Rows, batch_size: int, seed: int) -> tf.data.Dataset:
    photos = rows.shape[0]
    elements = np.asarray(rows), np.arange(photos, dtype=np.int32)
    shuffled = tf.data.Dataset.from_tensor_slices(elements).shuffle(photos, seed=seed)
    return shuffled.batch(batch_size).prefetch(2)
