"""Triplets of anchor, positive and negative, drawn uniformly."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from facetl.errors import TrainingError
from facetl.samplers.sampler import BATCH_SIZE, ClassIndex, Sampler, register_sampler


class TripletSampler(Sampler):
    """Every row whose class has another one is an anchor `rounds` times an epoch; a subclass gives `triplets`.

    `anchors_per_person` above 0 bounds how many rows of a class are anchors in a round, drawn anew each time.
    """

    gives = "triplets"

    def __init__(self, labels: npt.ArrayLike, *, rounds: int = 1, anchors_per_person: int = 0, seed: int = 0) -> None:
        super().__init__(labels, seed=seed)
        if rounds < 1 or anchors_per_person < 0:
            raise TrainingError(
                "rounds and anchors_per_person: expected numbers from 1 and from 0, got "
                f"{rounds} and {anchors_per_person}."
            )
        self.index = ClassIndex(self.labels)
        self.rounds = rounds
        self.anchors_per_person = anchors_per_person

    def __len__(self) -> int:
        """Return the number of triplets an epoch."""
        return self.index.count_anchors(self.rounds, self.anchors_per_person)

    def steps(self, batch_size: int) -> int:
        """Return the number of batches an epoch."""
        return -(-len(self) // batch_size)

    def batches(
        self, epoch: int, *, batch_size: int = BATCH_SIZE, embeddings: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yield an epoch's batches, each [n, 3] int32 rows."""
        triplets = self.triplets(epoch, embeddings)
        yield from (triplets[start : start + batch_size] for start in range(0, len(triplets), batch_size))

    @abstractmethod
    def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
        """Return an epoch's triplets, [n, 3] int32 rows of anchor, positive, negative."""

    def uniform(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return an epoch's anchors, shuffled round by round, with positives and negatives of equal chances."""
        anchors = np.concatenate([rng.permutation(self._anchors_of_a_round(rng)) for _ in range(self.rounds)])
        return anchors, self._positives(anchors, rng), self._negatives(anchors, rng)

    def _anchors_of_a_round(self, rng: np.random.Generator) -> np.ndarray:
        index, most = self.index, self.anchors_per_person
        if not most or index.counts.max() <= most:
            return index.anchors
        # Sorted by class, then by lot: the first `most` of each class.
        lot = rng.random(len(index.anchors))
        ordered = index.anchors[np.lexsort((lot, index.start[index.anchors]))]
        first = np.searchsorted(index.start[ordered], index.start[ordered])
        return ordered[np.arange(len(ordered)) - first < most]

    def _positives(self, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        index = self.index
        step = rng.integers(1, index.size[anchors])
        return index.order[index.start[anchors] + (index.place[anchors] + step) % index.size[anchors]]

    def _negatives(self, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        index = self.index
        position = rng.integers(0, len(index.labels) - index.size[anchors])
        position += np.where(position >= index.start[anchors], index.size[anchors], 0)
        return index.order[position]


@register_sampler("random")
class RandomSampler(TripletSampler):
    """Every anchor `rounds` times an epoch, with a random positive and a random negative."""

    def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
        """Return [rounds · anchors, 3] int32 rows of anchor, positive, negative."""
        return np.stack(self.uniform(np.random.default_rng([self.seed, epoch])), axis=1)
