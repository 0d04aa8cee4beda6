"""The tf.data pipeline of a net's training: indices in, crops and labels of a batch out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import tensorflow as tf

from facetl.errors import FacetlError, TrainingError
from facetl.methods.crops import CropRows


class Batches(Protocol):
    """Draws an epoch's batches of photos; PKSampler is one."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        ...

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return an epoch's batches, each [photos] int32 rows."""
        ...


class ShuffledBatches:
    """All photos of people with two or more, once an epoch, in batches as equal as can be.

    A batch of a rest of one or two photos would upset batch normalisation.
    """

    def __init__(self, labels: np.ndarray, *, batch_size: int, seed: int) -> None:
        people, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.rows = np.flatnonzero(counts[inverse] >= 2).astype(np.int32)
        self.batch_size = batch_size
        self.seed = seed
        if np.sum(counts >= 2) < 2:
            raise TrainingError(
                f"scratch: expected at least 2 training people with 2 photos each, got {np.sum(counts >= 2)} of "
                f"{len(people)} people. Add photos."
            )

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return an epoch's batches; they follow from the seed and the epoch alone."""
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return np.array_split(shuffled, self.steps)


class CropFeed:
    """Batches for the trainer. Elements: features [photos, side, side, 3] uint8 and labels [photos] int32.

    `refresh` sets the epoch's batches; every iteration over `dataset` then walks through them.
    """

    def __init__(self, crops: CropRows, labels: np.ndarray, batches: Batches) -> None:
        self._crops = crops
        self._labels = np.asarray(labels, np.int32)
        self._sampler = batches
        self._batches: list[np.ndarray] = []
        self.steps = batches.steps
        self.error: FacetlError | None = None

    def refresh(self, epoch: int) -> None:
        """Draw the epoch's batches."""
        self._batches = self._sampler.batches(epoch)

    def dataset(self) -> tf.data.Dataset:
        """Return the pipeline of one epoch; the next batches are gathered while one is trained on."""

        def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
            photos, labels = tf.numpy_function(self._gather, [step], [tf.uint8, tf.int32], stateful=True)
            return {
                "features": tf.ensure_shape(photos, [None, *self._crops.shape[1:]]),
                "labels": tf.ensure_shape(labels, [None]),
            }

        return tf.data.Dataset.range(self.steps).map(batch).prefetch(2)

    def _gather(self, step: np.int64) -> tuple[np.ndarray, np.ndarray]:
        rows = self._batches[step]
        try:
            return self._crops[rows], self._labels[rows]
        except FacetlError as error:
            # TensorFlow would wrap it beyond recognition.
            self.error = error
            raise
