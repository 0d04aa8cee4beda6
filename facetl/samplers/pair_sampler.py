"""Pairs of photos, drawn as if all had been generated and shuffled, as many of one person as of two.

Each is worked out when its turn comes: 8,000 photos have 32 million pairs, and none is written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.data.triplets import highest_cap
from facetl.errors import TrainingError
from facetl.samplers.sampler import BATCH_SIZE, ClassIndex, Sampler, register_sampler

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

# Streams of keys that must not be each other's.
_LOT, _PEOPLE, _PHOTOS, _PAIRED_PEOPLE, _PAIRED_PHOTOS, _ORDER = range(6)
_CHUNK = 65536
# Luby and Rackoff need four for a pseudo-random permutation of wide words; half a word of a few bits takes more.
_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15


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
    effective_settings = ("most_pairs",)

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
        self.index = ClassIndex(self.labels)
        anchors = self.index.count_anchors(rounds, anchors_per_person)
        self.per_epoch = 2 * anchors if per_epoch is None else per_epoch
        counts = self.index.counts
        self._possible: Ints = counts * (counts - 1) // 2
        positives = int(self._possible.sum())
        negatives = len(self.labels) * (len(self.labels) - 1) // 2 - positives
        limit = most_pairs or positives + negatives
        self.positives = min(max(limit // 2, limit - negatives), positives)
        self.negatives = min(limit - self.positives, negatives)
        self._person_pairs = len(counts) * (len(counts) - 1) // 2
        self._quota = self._dealt()
        self._able = np.flatnonzero(self._quota)
        self._rounds, self._one_more = self._negative_pool()
        # In a first round that is not whole, only those people meet whom the pool has together.
        self._span = self._person_pairs if self._rounds else self._one_more

    def __len__(self) -> int:
        """Return the number of pairs an epoch."""
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
        rows[same] = self._positive_rows(turns[same] // 2)
        rows[~same] = self._negative_rows(turns[~same] // 2)
        return DrawnPairs(rows, same)

    def _positive_rows(self, turns: Ints) -> Ints:
        """Return the pairs of one person that come at these turns, [n] → [n, 2] rows."""
        rounds, place = np.divmod(turns, len(self._able))
        person = self._able[shuffled(place, len(self._able), keyed(self.seed, _PEOPLE, rounds))]
        keys = keyed(self.seed, _PHOTOS, person)
        upper, lower = triangle(shuffled(rounds % self._quota[person], self._possible[person], keys))
        return self.index.order[np.stack([lower, upper], axis=-1) + self.index.starts[person][:, None]]

    def _negative_rows(self, turns: Ints) -> Ints:
        """Return the pairs of two people that come at these turns, [n] → [n, 2] rows."""
        rounds, place = np.divmod(turns, self._span)
        place = shuffled(place, self._span, keyed(self.seed, _PAIRED_PEOPLE, rounds))
        later, earlier = self._met(place)
        counts, starts = self.index.counts, self.index.starts
        each = counts[earlier] * counts[later]
        quota = np.minimum(each, self._rounds + (place < self._one_more))
        taken = shuffled(rounds % quota, each, keyed(self.seed, _PAIRED_PHOTOS, earlier, later))
        first, second = np.divmod(taken, counts[later])
        return self.index.order[np.stack([starts[earlier] + first, starts[later] + second], axis=-1)]

    def _met(self, place: Ints) -> tuple[Ints, Ints]:
        """Return the two people who meet at a place in the order of all who do, the one with the larger index first."""
        return triangle(shuffled(place, self._person_pairs, keyed(self.seed, _ORDER)))

    def _dealt(self) -> Ints:
        """Return how many positives each person gives to the pool: all alike where they have them, the rest by lot."""
        possible = self._possible
        cap = highest_cap(possible, self.positives)
        quota = np.minimum(possible, cap)
        more = np.flatnonzero(possible > cap)
        lot = keyed(self.seed, _LOT, more)
        quota[more[np.argsort(lot, kind="stable")][: self.positives - int(quota.sum())]] += 1
        return quota

    def _negative_pool(self) -> tuple[int, int]:
        """Return how many pairs each two people give, and before which place in the order they give one more."""
        sizes, people = np.unique(self.index.counts, return_counts=True)
        one, other = np.triu_indices(len(sizes))
        products = sizes[one] * sizes[other]
        times = np.where(one == other, people[one] * (people[one] - 1) // 2, people[one] * people[other])
        cap = highest_cap(products, self.negatives, times=times)
        left = self.negatives - int(np.sum(times * np.minimum(products, cap)))
        if not cap:
            return 0, left
        place = 0
        while left > 0:
            later, earlier = self._met(np.arange(place, min(place + _CHUNK, self._person_pairs)))
            more = np.flatnonzero(self.index.counts[later] * self.index.counts[earlier] > cap)
            if len(more) >= left:
                return cap, place + int(more[left - 1]) + 1
            left -= len(more)
            place += _CHUNK
        return cap, 0


def triangle(numbers: Ints) -> tuple[Ints, Ints]:
    """Return (i, j), j < i, of numbers i (i − 1) / 2 + j: the lower triangle row by row, to 2⁶² exactly."""
    i = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) // 2).astype(np.int64)
    # Where numbers are large, the last of a row may be rounded up into the next.
    i -= i * (i - 1) // 2 > numbers
    return i, numbers - i * (i - 1) // 2


def keyed(*parts: npt.ArrayLike) -> Keys:
    """Hash whole numbers from 0, or arrays of them that broadcast, into keys: uint64 [n].

    The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), chained.
    """
    key = np.zeros(1, np.uint64)
    for part in parts:
        key = _mixed(key + np.uint64(_GOLDEN) ^ _mixed(np.atleast_1d(np.asarray(part)).astype(np.uint64)))
    return key


def shuffled(numbers: npt.ArrayLike, sizes: npt.ArrayLike, keys: Keys) -> Ints:
    """Return where a seeded permutation takes each number.

    A Feistel network over the smallest even number of bits that holds a size, and walking along its cycle until the
    number is below the size: a bijection of 0 … size − 1 for every key, at the memory of its arguments.

    Args:
        numbers: [n] int, each from 0 and below its size.
        sizes: one size or [n] int64, from 1 to 2⁶².
        keys: one key or [n] uint64; those of one permutation are equal.

    References:
        Black, Rogaway: Ciphers with Arbitrary Finite Domains, CT-RSA 2002, methods 2 and 3.
    """
    numbers, sizes, keys = np.broadcast_arrays(np.atleast_1d(np.asarray(numbers, np.int64)), sizes, keys)
    widths = np.frexp((sizes - 1).astype(np.float64))[1]
    # A float64 rounds numbers beyond 2⁵³ up at most, so that a word is never too narrow.
    halves = np.maximum((widths + 1) // 2, 1).astype(np.uint64)
    taken = _feistel(numbers.astype(np.uint64), halves, keys)
    outside = np.flatnonzero(taken >= sizes.astype(np.uint64))
    while len(outside):
        taken[outside] = _feistel(taken[outside], halves[outside], keys[outside])
        outside = outside[taken[outside] >= sizes[outside].astype(np.uint64)]
    return taken.astype(np.int64)


def _feistel(words: Keys, halves: Keys, keys: Keys) -> Keys:
    """Permute words of 2 · halves bits."""
    mask = (np.uint64(1) << halves) - np.uint64(1)
    left, right = words >> halves, words & mask
    for turn in range(_ROUNDS):
        # The upper bits of the hash: for halves of a bit, the lowest would repeat what the multiplication leaves.
        left, right = right, left ^ (_mixed(keys ^ _mixed(right + np.uint64(turn << 58))) >> np.uint64(32) & mask)
    return left << halves | right


def _mixed(words: Keys) -> Keys:
    words = words + np.uint64(_GOLDEN)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
