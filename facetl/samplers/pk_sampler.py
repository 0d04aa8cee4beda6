"""Batches of P classes with K rows each, for losses that mine inside a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from facetl.errors import TrainingError
from facetl.samplers.sampler import ClassIndex, Sampler, register_sampler


@register_sampler("pk")
class PKSampler(Sampler):
    """Batches of P people (classes) with up to K photos (rows) each.

    A class with fewer than K rows gives all of them, so that no row stands twice in a batch; one with a single row
    is left out. Where there are fewer than P classes, a batch holds all of them.

    References:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, 2017.
    """

    sized = False
    effective_settings = ("people_per_batch", "photos_per_person", "mining")

    def __init__(
        self, labels: npt.ArrayLike, *, people_per_batch: int = 32, photos_per_person: int = 4, seed: int = 0
    ) -> None:
        super().__init__(labels, seed=seed)
        if people_per_batch < 2 or photos_per_person < 2:
            raise TrainingError(
                "pk: a batch needs at least 2 people with 2 photos each, got people_per_batch "
                f"{people_per_batch} and photos_per_person {photos_per_person}."
            )
        self.index = ClassIndex(self.labels)
        self.eligible = np.flatnonzero(self.index.counts >= 2)
        self.people_per_batch = min(people_per_batch, len(self.eligible))
        self.photos_per_person = photos_per_person
        if self.people_per_batch < 2:
            raise TrainingError(
                "pk: expected at least 2 people with 2 photos each. Add photos, or use --sampler random."
            )

    def steps(self, batch_size: int = 0) -> int:
        """Return the batches an epoch: enough to meet every class once, or to see as many rows as there are anchors.

        batch_size: of no effect.
        """
        size = self.people_per_batch * min(self.photos_per_person, int(self.index.counts.max()))
        return max(-(-len(self.eligible) // self.people_per_batch), -(-len(self.index.anchors) // size))

    def batches(self, epoch: int, *, batch_size: int = 0, embeddings: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield an epoch's batches, each [m] int32 rows."""
        rng = np.random.default_rng([self.seed, epoch])
        steps = self.steps()
        needed = steps * self.people_per_batch
        people = np.empty(0, np.int64)
        while len(people) < needed:
            turn = rng.permutation(self.eligible)
            # Those who stand in the batch where two turns meet come again only after it.
            begun = len(people) % self.people_per_batch
            twice = np.isin(turn, people[len(people) - begun :])
            people = np.concatenate([people, turn[~twice], turn[twice]])
        yield from (self._batch(chosen, rng) for chosen in people[:needed].reshape(steps, self.people_per_batch))

    def _batch(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sizes = self.index.counts[chosen]
        keys = rng.random((len(chosen), int(sizes.max())))
        keys[np.arange(keys.shape[1]) >= sizes[:, None]] = np.inf
        places = np.argsort(keys, axis=1)[:, : self.photos_per_person]
        inside = np.arange(places.shape[1]) < np.minimum(sizes, self.photos_per_person)[:, None]
        return self.index.order[(self.index.starts[chosen][:, None] + places)[inside]]
