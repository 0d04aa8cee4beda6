"""The base of all samplers: their registry, their labels, and the pipeline that gathers a batch's features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from facetl.errors import FacetlError, TrainingError
from facetl.io.arrays import Rows
from facetl.metrics.linalg import normalised, projected

# A number, or where it begins and where it ends: linear over the epochs.
Schedule = float | tuple[float, float]
BATCH_SIZE = 256
SAMPLERS: dict[str, type[Sampler]] = {}

# Keras casts labels to float32, which holds whole numbers up to here.
_MOST_LABEL = 2**24
# Columns of the targets that go with what `batches` yields.
_COLUMNS = {"labels": None, "triplets": 3, "pairs": 4}
_PROJECTED = 512
_PREFETCHED = 2


def register_sampler(name: str) -> Callable[[type[Sampler]], type[Sampler]]:
    """Register a class under a name, by which `TrainingSettings.sampler` and `--sampler` choose it."""

    def register(sampler: type[Sampler]) -> type[Sampler]:
        SAMPLERS[name] = sampler
        return sampler

    return register


class Sampler(ABC):
    """Draws the batches of an epoch, which follow from the seed and the epoch alone.

    A subclass gives `steps` and `batches`; `dataset` makes a pipeline of them for Keras' `fit`.

    Attributes:
        gives: what `batches` yields: `labels`, rows [m], each once; `triplets`, rows [n, 3] of anchor, positive and
            negative; or `pairs`, rows [n, 2].
        sized: whether the batch size is for the caller to choose.
        effective_settings: names of training settings that have an effect with such samplers alone.
        labels: [rows], the class of each row, of any type that NumPy can sort.
        targets: [rows] int32, the labels as the loss gets them: themselves where they are small whole numbers, else
            their places among the sorted labels.
        epoch: that the next pass over a data set draws, counted from 0.
        features: of the last data set.
        error: what stopped a pass over a data set, which TensorFlow wraps in an error of its own; None if nothing did.
    """

    gives: ClassVar[str] = "labels"
    sized: ClassVar[bool] = True
    effective_settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, labels: npt.ArrayLike, *, seed: int = 0) -> None:
        self.labels = np.asarray(labels)
        if self.labels.ndim != 1:
            raise TrainingError(f"labels: expected one for each row, [rows], got the shape {self.labels.shape}.")
        whole = np.issubdtype(self.labels.dtype, np.integer) and np.abs(self.labels).max(initial=0) <= _MOST_LABEL
        codes = self.labels if whole else np.unique(self.labels, return_inverse=True)[1]
        self.targets = codes.astype(np.int32)
        self.seed = seed
        self.epoch = 0
        self.features: Rows | None = None
        self.error: FacetlError | None = None
        self._embeddings: np.ndarray | None = None

    @abstractmethod
    def steps(self, batch_size: int) -> int:
        """Return the number of batches an epoch."""

    @abstractmethod
    def batches(
        self, epoch: int, *, batch_size: int = BATCH_SIZE, embeddings: np.ndarray | None = None
    ) -> Iterable[np.ndarray]:
        """Yield the batches of an epoch counted from 0, in the form of `gives`.

        embeddings: [rows, width] float32 unit vectors of this epoch, where `needs_embeddings` asks for them.
        """

    def needs_embeddings(self, epoch: int) -> bool:
        """Tell whether `batches` of this epoch looks at the embeddings."""
        return False

    def dataset(
        self,
        features: Rows,
        *,
        batch_size: int | None = None,
        initial_epoch: int = 0,
    ) -> Any:
        """Return a `tf.data.Dataset` for `model.fit(dataset, epochs=…)`; each pass over it is the next epoch.

        An element is (features [m, …], targets): each row of a batch once, float32, or uint8 where the features are,
        and what a loss of `facetl.losses` takes. That is int32

        * [m], the rows' labels, of a sampler that gives `labels`;
        * [n, 3], the places of anchor, positive and negative among the batch's rows, of one that gives `triplets`;
        * [n, 4], the places of two rows, then 1 and 0 where their labels are equal and 0 and 1 where they are not, of
          one that gives `pairs`.

        Args:
            features: [rows, …], an array, also a memory-mapped one, or rows of a cache; only a batch is in memory.
            batch_size: rows, triplets or pairs a batch; 256 where it is left out. `PKSampler` takes none.
            initial_epoch: of the first pass, as given to `fit` when a training goes on.

        A sampler that looks at distances takes those of the embeddings that `refresh` was given; without it, those
        between the features themselves, under a random projection where they are long (Johnson, Lindenstrauss, 1984).

        Raises TrainingError where features and labels do not match.
        """
        import tensorflow as tf

        if not hasattr(features, "shape") or hasattr(features, "iloc"):  # a list, a table of pandas
            features = np.asarray(features)
        if features.shape[0] != len(self.labels):
            raise TrainingError(
                f"features: expected a row for each of {len(self.labels):,} labels, got {features.shape[0]:,} rows. "
                "Give the features that the sampler's labels belong to."
            )
        if batch_size is not None and not (self.sized and batch_size > 0):
            rule = "a number above 0" if self.sized else "none, since it follows from the sampler's own settings"
            raise TrainingError(f"batch_size: expected {rule}, got {batch_size}.")
        size = batch_size or BATCH_SIZE
        steps = self.steps(size)
        dtype = np.uint8 if getattr(features, "dtype", None) == np.uint8 else np.float32
        self.features, self.epoch, self._embeddings = features, initial_epoch, None
        vectors = cache(lambda: _projected(features))

        def one_epoch() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            epoch, embeddings = self.epoch, self._embeddings
            try:
                if embeddings is None and self.needs_embeddings(epoch):
                    embeddings = vectors()
                drawn = self.batches(epoch, batch_size=size, embeddings=embeddings)
                for step, batch in enumerate(drawn, start=1):
                    # A pass that is given up, as Keras does to see what a batch looks like, is no epoch.
                    self.epoch = epoch + 1 if step == steps else self.epoch
                    rows, targets = self._resolved(batch)
                    yield np.asarray(features[rows], dtype), targets
            except FacetlError as error:
                self.error = error
                raise

        columns = _COLUMNS[self.gives]
        signature = (
            tf.TensorSpec((None, *features.shape[1:]), dtype),
            tf.TensorSpec((None,) if columns is None else (None, columns), tf.int32),
        )
        dataset = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
        # In an epoch of few steps, what is fetched beforehand could reach its end.
        return dataset.prefetch(_PREFETCHED) if steps > _PREFETCHED + 2 else dataset

    def refresh(self, epoch: int, embeddings: np.ndarray | None = None) -> None:
        """Set the epoch that the next pass draws, and the embeddings by which it does, [rows, width] unit vectors.

        The callback `RefreshNeighbours` calls it with those of the model as it is when an epoch begins.
        """
        self.epoch, self._embeddings = epoch, embeddings

    def _resolved(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which rows a batch needs, each once, and its targets."""
        if self.gives == "labels":
            return batch, self.targets[batch]
        rows, places = np.unique(batch, return_inverse=True)
        places = places.reshape(batch.shape).astype(np.int32)
        if self.gives == "triplets":
            return rows, places
        same = self.targets[batch[:, :1]] == self.targets[batch[:, 1:]]
        return rows, np.concatenate([places, same, ~same], axis=1).astype(np.int32)


class ClassIndex:
    """Rows ordered by class, so that draws within and outside a class are index arithmetic.

    Attributes:
        order: [n] rows sorted by class.
        start, size, place: [n] per row: where its class begins in `order`, how many rows that class has,
            and the row's place among them.
        anchors: rows of classes with at least two rows.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = np.asarray(labels)
        self.order = np.argsort(self.labels, kind="stable").astype(np.int32)
        _, inverse, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.counts, self.starts = counts, starts
        self.start, self.size = starts[inverse], counts[inverse]
        self.place = np.empty(len(self.labels), np.int64)
        self.place[self.order] = np.arange(len(self.labels)) - self.start[self.order]
        self.anchors = np.flatnonzero(self.size >= 2).astype(np.int32)
        if len(counts) < 2 or not len(self.anchors):
            raise TrainingError(
                f"training: expected at least 2 people, one of them with 2 photos, got {len(counts)} people with "
                f"{len(self.labels)} photos. Add photos."
            )

    def count_anchors(self, rounds: int, most: int) -> int:
        """Return how many anchors `rounds` passes have, with at most `most` rows of a class in each (0: all)."""
        able = self.counts[self.counts >= 2]
        return rounds * int(np.minimum(able, most or able).sum())


def linear(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return a schedule's value in an epoch counted from 0: the first value in the first, the last in the last.

    A number stays as it is.
    """
    if not isinstance(schedule, tuple):
        return schedule
    share = min(epoch / max(epochs - 1, 1), 1.0)
    return (1 - share) * schedule[0] + share * schedule[1]


def check_schedule(name: str, schedule: Schedule, *, share: bool = False) -> None:
    """Raise TrainingError unless a number, or both ends of a schedule, lie above 0 or, as a share, in [0, 1]."""
    ends = schedule if isinstance(schedule, tuple) else (schedule,)
    if not 1 <= len(ends) <= 2 or not all(isinstance(value, int | float) for value in ends):
        raise TrainingError(f"{name}: expected a number or a pair of them, first and last, got {schedule!r}.")
    if not all(0 <= value <= 1 if share else 0 < value < math.inf for value in ends):
        rule = "a share in [0, 1]" if share else "a number above 0"
        raise TrainingError(f"{name}: expected {rule}, got {':'.join(map(str, ends))}.")


def _projected(features: Rows) -> np.ndarray:
    """Return features as unit vectors, [rows, at most 512] float32."""
    if len(features.shape) != 2:
        raise TrainingError(
            f"features: expected vectors, [rows, dim], to draw by their distances, got the shape {features.shape}. "
            "Add the callback RefreshNeighbours, by which the model's embeddings are compared."
        )
    dim = features.shape[1]
    axes = np.eye(dim, dtype=np.float32)
    if dim > _PROJECTED:
        axes = np.random.default_rng(0).standard_normal((dim, _PROJECTED), dtype=np.float32)
    return normalised(projected(features, axes, np.zeros(1, np.float32)))
