"""The tf.data pipeline: indices in, features of each batch's unique photos out."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from facetl.errors import FacetlError
from facetl.metrics.linalg import Rows
from facetl.training.pair_sampler import PairSampler
from facetl.training.samplers import PKSampler, Sampler


class _Reader:
    """Reads features for the pipeline, and keeps an error that TensorFlow would wrap beyond recognition."""

    def __init__(self, features: Rows) -> None:
        self._features = features
        self.error: FacetlError | None = None

    def _read(self, rows: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._features[rows], np.float32)
        except FacetlError as error:
            self.error = error
            raise


class TripletFeed(_Reader):
    """Batches of triplets; each photo of a batch is gathered once and passes the head once.

    `refresh` sets the epoch's triplets; every iteration over `dataset` then walks through them.
    Elements: features [unique photos, dim] float32 and triplets [batch, 3] int32 into them.
    """

    def __init__(self, features: Rows, sampler: Sampler, *, batch_size: int) -> None:
        super().__init__(features)
        self._sampler = sampler
        self._batch_size = batch_size
        self._triplets: np.ndarray | None = None
        self.steps = -(-len(sampler) // batch_size)

    def needs_embeddings(self, epoch: int) -> bool:
        """Tell whether `refresh` wants embeddings for this epoch."""
        return self._sampler.needs_embeddings(epoch)

    def refresh(self, epoch: int, embeddings: np.ndarray | None) -> None:
        """Draw the epoch's triplets; `embeddings` are [photos, width] float32 of the current head."""
        self._triplets = self._sampler.triplets(epoch, embeddings)

    def dataset(self) -> tf.data.Dataset:
        """Return the pipeline of one epoch."""
        dim = self._features.shape[1]

        def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
            features, triplets = tf.numpy_function(self._gather, [step], [tf.float32, tf.int32], stateful=True)
            return {
                "features": tf.ensure_shape(features, [None, dim]),
                "triplets": tf.ensure_shape(triplets, [None, 3]),
            }

        return tf.data.Dataset.range(self.steps).map(batch).prefetch(2)

    def _gather(self, step: np.int64) -> tuple[np.ndarray, np.ndarray]:
        assert self._triplets is not None
        triplets = self._triplets[step * self._batch_size : (step + 1) * self._batch_size]
        unique, inverse = np.unique(triplets, return_inverse=True)
        return self._read(unique), inverse.reshape(triplets.shape).astype(np.int32)


class PKFeed(_Reader):
    """Batches of P people × K photos. Elements: features [photos, dim] float32 and labels [photos] int32."""

    def __init__(self, features: Rows, labels: np.ndarray, sampler: PKSampler) -> None:
        super().__init__(features)
        self._labels = np.asarray(labels, np.int32)
        self._sampler = sampler
        self._batches: list[np.ndarray] = []
        self.steps = sampler.steps

    def needs_embeddings(self, epoch: int) -> bool:
        """Mining happens inside the batch."""
        return False

    def refresh(self, epoch: int, embeddings: np.ndarray | None) -> None:
        """Draw the epoch's batches."""
        self._batches = self._sampler.batches(epoch)

    def dataset(self) -> tf.data.Dataset:
        """Return the pipeline of one epoch."""
        dim = self._features.shape[1]

        def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
            features, labels = tf.numpy_function(self._gather, [step], [tf.float32, tf.int32], stateful=True)
            return {
                "features": tf.ensure_shape(features, [None, dim]),
                "labels": tf.ensure_shape(labels, [None]),
            }

        return tf.data.Dataset.range(self.steps).map(batch).prefetch(2)

    def _gather(self, step: np.int64) -> tuple[np.ndarray, np.ndarray]:
        rows = self._batches[step]
        return self._read(rows), self._labels[rows]


class PairFeed(_Reader):
    """Batches of pairs, drawn when they are wanted; each photo of a batch is gathered once.

    Elements: features [unique photos, dim] float32, pairs [batch, 2] int32 into them and same [batch] bool.
    """

    def __init__(self, features: Rows, sampler: PairSampler, *, batch_size: int) -> None:
        super().__init__(features)
        self._sampler = sampler
        self._batch_size = batch_size
        self._first = 0
        self.steps = -(-len(sampler) // batch_size)

    def needs_embeddings(self, epoch: int) -> bool:
        """All pairs are drawn alike."""
        return False

    def refresh(self, epoch: int, embeddings: np.ndarray | None) -> None:
        """Go to where the epoch's pairs begin in the stream."""
        self._first = epoch * len(self._sampler)

    def dataset(self) -> tf.data.Dataset:
        """Return the pipeline of one epoch."""
        dim = self._features.shape[1]

        def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
            features, pairs, same = tf.numpy_function(
                self._gather, [step], [tf.float32, tf.int32, tf.bool], stateful=True
            )
            return {
                "features": tf.ensure_shape(features, [None, dim]),
                "pairs": tf.ensure_shape(pairs, [None, 2]),
                "same": tf.ensure_shape(same, [None]),
            }

        return tf.data.Dataset.range(self.steps).map(batch).prefetch(2)

    def _gather(self, step: np.int64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start = int(step) * self._batch_size
        drawn = self._sampler.draw(self._first + start, min(self._batch_size, len(self._sampler) - start))
        unique, inverse = np.unique(drawn.rows, return_inverse=True)
        return self._read(unique), inverse.reshape(drawn.rows.shape).astype(np.int32), drawn.same
