"""Triplets that the current model finds hard, by exact nearest neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from facetl.errors import TrainingError
from facetl.samplers.sampler import Schedule, check_schedule, linear, register_sampler
from facetl.samplers.triplet_sampler import TripletSampler

# More positives than this per anchor are not weighed at once; a random run of them is.
MAX_POSITIVES = 64
_BLOCK = 1024


@register_sampler("neighbours")
class NeighbourSampler(TripletSampler):
    """Draws triplets that the current model finds hard.

    A positive p of anchor a has weight exp(d(a, p) / T) among the other rows of its class; a negative n has weight
    exp(−d(a, n) / T) among the `candidates` nearest rows of other classes, d the squared distance of unit vectors.
    Give `fit` the callback `RefreshNeighbours(sampler)`: without it, the distances are those of the features.

    Args:
        temperature: T; smaller is sharper. It, `candidates` and `uniform_share` may be a pair: the first and the last
            of `epochs` epochs' value, with a straight line between.
        candidates: nearest rows of other classes among which a negative is drawn.
        uniform_share: share of triplets drawn uniformly even when warmed up.
        warmup: epochs of uniform draws only.
        ramp: epochs over which the share of weighted draws then grows to 1 − uniform_share.
        epochs: over which such pairs run.
        rounds, anchors_per_person: see `TripletSampler`.
    """

    effective_settings = ("temperature", "candidates", "uniform_share", "warmup", "ramp")

    def __init__(
        self,
        labels: npt.ArrayLike,
        *,
        temperature: Schedule = 0.5,
        candidates: Schedule = 2000,
        uniform_share: Schedule = 0.2,
        warmup: int = 2,
        ramp: int = 3,
        epochs: int | None = None,
        rounds: int = 1,
        anchors_per_person: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, rounds=rounds, anchors_per_person=anchors_per_person, seed=seed)
        check_schedule("temperature", temperature)
        check_schedule("candidates", candidates)
        check_schedule("uniform_share", uniform_share, share=True)
        scheduled = any(isinstance(value, tuple) for value in (temperature, candidates, uniform_share))
        if epochs is None and scheduled:
            raise TrainingError("epochs: a value that runs from a first to a last needs their number. Give epochs.")
        self.temperature = temperature
        self.candidates = candidates
        self.uniform_share = uniform_share
        self.warmup = warmup
        self.ramp = ramp
        self.epochs = epochs or 1

    def share(self, epoch: int) -> float:
        """Return the share of triplets drawn by weight in this epoch, counted from 0."""
        if epoch < self.warmup:
            return 0.0
        grown = (epoch - self.warmup + 1) / max(self.ramp, 1)
        return (1 - linear(self.uniform_share, epoch, self.epochs)) * min(grown, 1.0)

    def candidates_of(self, epoch: int) -> int:
        """Return how many of the nearest photos of others are candidates: at most what everyone has."""
        wanted = max(round(linear(self.candidates, epoch, self.epochs)), 1)
        return min(wanted, len(self.index.labels) - int(self.index.counts.max()))

    def needs_embeddings(self, epoch: int) -> bool:
        """Tell whether this epoch draws by weight at all."""
        return self.share(epoch) > 0

    def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
        """Return [rounds · anchors, 3] int32 rows; `embeddings` are [n, dim] float32 unit vectors of this epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        anchors, positives, negatives = self.uniform(rng)
        weighted = np.flatnonzero(rng.random(len(anchors)) < self.share(epoch))
        if len(weighted):
            if embeddings is None:
                raise TrainingError(f"neighbours: epoch {epoch} draws by distance and needs embeddings, got none.")
            temperature = linear(self.temperature, epoch, self.epochs)
            candidates = self.candidates_of(epoch)
            positives[weighted] = self._far_positives(anchors[weighted], embeddings, temperature, rng)
            negatives[weighted] = self._near_negatives(anchors[weighted], embeddings, temperature, candidates, rng)
        return np.stack([anchors, positives, negatives], axis=1)

    def _far_positives(
        self, anchors: np.ndarray, embeddings: np.ndarray, temperature: float, rng: np.random.Generator
    ) -> np.ndarray:
        index = self.index
        drawn = np.empty(len(anchors), np.int32)
        for part in _blocks(len(anchors)):
            block = anchors[part]
            others = index.size[block] - 1
            width = min(int(others.max()), MAX_POSITIVES)
            first = rng.integers(0, np.where(others > width, others, 1))
            step = 1 + (first[:, None] + np.arange(width)) % others[:, None]
            rows = index.order[
                index.start[block][:, None] + (index.place[block][:, None] + step) % index.size[block][:, None]
            ]
            distances = 2 - 2 * np.einsum("ad,akd->ak", embeddings[block], embeddings[rows])
            logits = np.where(np.arange(width) < others[:, None], distances / temperature, -np.inf)
            drawn[part] = np.take_along_axis(rows, _draw(logits, rng), axis=1)[:, 0]
        return drawn

    def _near_negatives(
        self,
        anchors: np.ndarray,
        embeddings: np.ndarray,
        temperature: float,
        candidates: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        # Each anchor is looked up once, however many rounds it is drawn in.
        unique, inverse = np.unique(anchors, return_inverse=True)
        rows, distances = nearest_others(embeddings, self.index.labels, unique, candidates=candidates)
        drawn = np.empty(len(anchors), np.int32)
        for part in _blocks(len(anchors)):
            picked = _draw(-distances[inverse[part]] / temperature, rng)
            drawn[part] = np.take_along_axis(rows[inverse[part]], picked, axis=1)[:, 0]
        return drawn


def nearest_others(
    embeddings: np.ndarray, labels: np.ndarray, anchors: np.ndarray, *, candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each anchor the nearest rows of other classes, exactly.

    Args:
        embeddings: [n, dim] float32 unit vectors.
        labels: [n], the class of each.
        anchors: [m] rows of `embeddings`.
        candidates: how many; every anchor must have that many rows of other classes.

    Returns:
        rows [m, candidates] int32 and squared distances [m, candidates] float32, nearest first.
    """
    import tensorflow as tf

    table = tf.constant(embeddings)
    classes = tf.constant(np.unique(labels, return_inverse=True)[1])
    rows = np.empty((len(anchors), candidates), np.int32)
    distances = np.empty((len(anchors), candidates), np.float32)
    for start in range(0, len(anchors), _BLOCK):
        block = anchors[start : start + _BLOCK]
        similarity = tf.matmul(tf.gather(table, block), table, transpose_b=True)
        own = tf.equal(tf.gather(classes, block)[:, None], classes[None, :])
        best, found = tf.math.top_k(tf.where(own, -2.0, similarity), k=candidates)
        rows[start : start + _BLOCK] = found
        distances[start : start + _BLOCK] = tf.maximum(2.0 - 2.0 * best, 0.0)
    return rows, distances


def _draw(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one column per row with probability softmax(logits), by the Gumbel-max trick; [n, k] → [n, 1]."""
    return np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)[:, None]


def _blocks(count: int, size: int = 2048) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
