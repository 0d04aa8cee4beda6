"""Draws pairs of photos as if all had been generated and shuffled, as many of one person as of two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.data.triplets import highest_cap
from facetl.errors import TrainingError
from facetl.samplers.pair_space import Ints, Keys, PairSpace, keyed, shuffled, triangle
from facetl.samplers.sampler import BATCH_SIZE, ClassIndex, Sampler, register_sampler

# Streams of keys that must not be each other's.
_LOT, _PEOPLE, _PHOTOS, _PAIRED_PEOPLE, _PAIRED_PHOTOS, _ORDER = range(6)
_CHUNK = 65536


class DrawnPairs(NamedTuple):
    """Pairs of rows, [n, 2] int64, and whether each shows one person, [n] bool."""

    rows: Ints
    same: npt.NDArray[np.bool_]


@register_sampler("pairs")
class PairSampler(Sampler):
    """An endless stream of pairs, by turns of one person and of two; what is held does not grow with the pairs.

    Everyone with two photos gives one positive a round, and everyone meets everyone else once a round of negatives:
    who has many photos gives other pairs in later rounds, not more of them. Each person's pairs, and each two
    people's, come in a seeded order of their own and again only when all have come. Rounds are shuffled anew.

    Args:
        labels: [photos] int, the person of each.
        rounds, anchors_per_person: an epoch has two pairs for each anchor of `RandomSampler`.
        per_epoch: pairs an epoch, instead.
        most_pairs: distinct pairs that are drawn from, half of each kind while there are as many, as if no others had
            been generated; 0 for all. The pairs of a smaller number are among those of a larger one.
        seed: of all orders.
    """

    gives = "pairs"

    def __init__(
        self,
        labels: npt.ArrayLike,
        *,
        rounds: int = 1,
        anchors_per_person: int = 0,
        per_epoch: int | None = None,
        most_pairs: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, seed=seed)
        if most_pairs < 0 or most_pairs == 1:
            raise TrainingError(f"most_pairs: expected 2 or more, or 0 for all, got {most_pairs}.")
        anchors = ClassIndex(self.labels).count_anchors(rounds, anchors_per_person)
        self.per_epoch = 2 * anchors if per_epoch is None else per_epoch
        self.space = PairSpace(self.labels)
        space = self.space
        limit = most_pairs or space.positives + space.negatives
        self.positives = min(max(limit // 2, limit - space.negatives), space.positives)
        self.negatives = min(limit - self.positives, space.negatives)
        self._quota = self._dealt()
        self._able = np.flatnonzero(self._quota)
        self._rounds, self._one_more = self._negative_pool()
        # In a first round that is not whole, only those people meet whom the pool has together.
        self._span = space.person_pairs if self._rounds else self._one_more

    def __len__(self) -> int:
        """Pairs an epoch."""
        return self.per_epoch

    def steps(self, batch_size: int) -> int:
        """Return the number of batches an epoch."""
        return -(-self.per_epoch // batch_size)

    def batches(
        self, epoch: int, *, batch_size: int = BATCH_SIZE, embeddings: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yield an epoch's batches, each [n, 2] int64 rows, drawn when they are asked for."""
        begin = epoch * self.per_epoch
        for start in range(begin, begin + self.per_epoch, batch_size):
            yield self.draw(start, min(batch_size, begin + self.per_epoch - start)).rows

    def draw(self, start: int, count: int) -> DrawnPairs:
        """Return pairs `start` to `start + count` of the stream; even ones show one person."""
        turns = np.arange(start, start + count)
        rows = np.empty((count, 2), np.int64)
        same = turns % 2 == 0
        rows[same] = self.space.positive_rows(self.positive_numbers(turns[same] // 2))
        rows[~same] = self.space.negative_rows(self.negative_numbers(turns[~same] // 2))
        return DrawnPairs(rows, same)

    def positive_numbers(self, turns: npt.ArrayLike) -> Ints:
        """Return which positives come at these turns, as PairSpace numbers them: [n] → [n]."""
        rounds, place = np.divmod(np.asarray(turns, np.int64), len(self._able))
        person = self._able[shuffled(place, len(self._able), keyed(self.seed, _PEOPLE, rounds))]
        number = shuffled(rounds % self._quota[person], self.space.possible[person], self._photos_of(person))
        return (np.cumsum(self.space.possible) - self.space.possible)[person] + number

    def negative_numbers(self, turns: npt.ArrayLike) -> Ints:
        """Return which negatives come at these turns, as PairSpace numbers them: [n] → [n]."""
        rounds, place = np.divmod(np.asarray(turns, np.int64), self._span)
        place = shuffled(place, self._span, keyed(self.seed, _PAIRED_PEOPLE, rounds))
        later, earlier = self._met(place)
        others = self.space.counts[later]
        each = self.space.counts[earlier] * others
        quota = np.minimum(each, self._rounds + (place < self._one_more))
        taken = shuffled(rounds % quota, each, keyed(self.seed, _PAIRED_PHOTOS, earlier, later))
        first, second = np.divmod(taken, others)
        starts = self.space.starts
        rows = self.space.order[np.stack([starts[earlier] + first, starts[later] + second], axis=-1)]
        return self.space.negative_numbers(rows)

    def _photos_of(self, person: Ints) -> Keys:
        return keyed(self.seed, _PHOTOS, person)

    def _met(self, place: Ints) -> tuple[Ints, Ints]:
        """Return the two people who meet at a place in the order of all who do, the one with the larger index first."""
        return triangle(shuffled(place, self.space.person_pairs, keyed(self.seed, _ORDER)))

    def _dealt(self) -> Ints:
        """Return how many positives each person gives to the pool: all alike where they have them, the rest by lot."""
        possible = self.space.possible
        cap = highest_cap(possible, self.positives)
        quota = np.minimum(possible, cap)
        more = np.flatnonzero(possible > cap)
        lot = keyed(self.seed, _LOT, more)
        quota[more[np.argsort(lot, kind="stable")][: self.positives - int(quota.sum())]] += 1
        return quota

    def _negative_pool(self) -> tuple[int, int]:
        """Return how many pairs each two people give, and before which place in the order they give one more."""
        sizes, people = np.unique(self.space.counts, return_counts=True)
        one, other = np.triu_indices(len(sizes))
        products = sizes[one] * sizes[other]
        times = np.where(one == other, people[one] * (people[one] - 1) // 2, people[one] * people[other])
        cap = highest_cap(products, self.negatives, times=times)
        left = self.negatives - int(np.sum(times * np.minimum(products, cap)))
        if not cap:
            return 0, left
        place = 0
        while left > 0:
            later, earlier = self._met(np.arange(place, min(place + _CHUNK, self.space.person_pairs)))
            more = np.flatnonzero(self.space.counts[later] * self.space.counts[earlier] > cap)
            if len(more) >= left:
                return cap, place + int(more[left - 1]) + 1
            left -= len(more)
            place += _CHUNK
        return cap, 0
