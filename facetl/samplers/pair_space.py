"""All pairs of photos of labelled people, numbered and shuffled: worked out pair by pair, none is written down.

8,000 photos have 32 million pairs; what is held of them grows with the photos and the people alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

# Luby and Rackoff need four for a pseudo-random permutation of wide words; half a word of a few bits takes more.
_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15


class PairSpace:
    """The pairs of one person (positives) and those of two (negatives), each kind numbered from 0 without a gap.

    Photos are ordered by person, of whom person p has `counts[p]` from `starts[p]` on in `order`. Positives are
    numbered person after person, row by row of each one's lower triangle; negatives person after person, too: each
    photo of a person with every photo of all people after.

    Attributes:
        order: [photos] int64 rows sorted by person.
        starts, counts: [people] int64.
        possible: [people] int64, positives that each person has.
        positives, negatives: how many there are.
    """

    def __init__(self, labels: npt.ArrayLike) -> None:
        _, people, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
        self.order: Ints = np.argsort(people, kind="stable").astype(np.int64)
        self.counts: Ints = counts.astype(np.int64)
        ends = np.cumsum(self.counts)
        self.starts: Ints = ends - self.counts
        self.possible: Ints = self.counts * (self.counts - 1) // 2
        self._later: Ints = len(people) - ends
        self._positive_ends: Ints = np.cumsum(self.possible)
        self._negative_ends: Ints = np.cumsum(self.counts * self._later)
        self._person: Ints = people.astype(np.int64)
        self._position = np.empty(len(people), np.int64)
        self._position[self.order] = np.arange(len(people))

    @property
    def positives(self) -> int:
        """How many pairs show one person."""
        return int(self._positive_ends[-1]) if len(self.counts) else 0

    @property
    def negatives(self) -> int:
        """How many pairs show two people."""
        return int(self._negative_ends[-1]) if len(self.counts) else 0

    @property
    def person_pairs(self) -> int:
        """How many pairs of people there are."""
        return len(self.counts) * (len(self.counts) - 1) // 2

    def positive_rows(self, numbers: npt.ArrayLike) -> Ints:
        """Return the two rows of each positive: numbers [n] → [n, 2]."""
        numbers = np.asarray(numbers, np.int64)
        person = np.searchsorted(self._positive_ends, numbers, side="right")
        upper, lower = triangle(numbers - (self._positive_ends - self.possible)[person])
        return self.order[np.stack([lower, upper], axis=-1) + self.starts[person][..., None]]

    def negative_rows(self, numbers: npt.ArrayLike) -> Ints:
        """Return the two rows of each negative: numbers [n] → [n, 2]."""
        numbers = np.asarray(numbers, np.int64)
        person = np.searchsorted(self._negative_ends, numbers, side="right")
        later = self._later[person]
        first, second = np.divmod(numbers - (self._negative_ends - self.counts * self._later)[person], later)
        # Those after this person stand at the end of the order.
        return self.order[np.stack([self.starts[person] + first, len(self.order) - later + second], axis=-1)]

    def positive_numbers(self, rows: npt.ArrayLike) -> Ints:
        """Return the number of each pair of one person's rows, in either order: [n, 2] → [n]."""
        positions, person = self._placed(rows)
        lower, upper = np.moveaxis(positions - self.starts[person], -1, 0)
        return (self._positive_ends - self.possible)[person[..., 0]] + upper * (upper - 1) // 2 + lower

    def negative_numbers(self, rows: npt.ArrayLike) -> Ints:
        """Return the number of each pair of two people's rows, in either order: [n, 2] → [n]."""
        positions, person = self._placed(rows)
        first = person[..., 0]
        later = self._later[first]
        before = (self._negative_ends - self.counts * self._later)[first]
        past = positions[..., 1] - (len(self.order) - later)
        return before + (positions[..., 0] - self.starts[first]) * later + past

    def _placed(self, rows: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Return positions in the order, the lower first, and whose they are: [n, 2] each."""
        positions = np.sort(self._position[np.asarray(rows, np.int64)], axis=-1)
        return positions, self._person[self.order[positions]]


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
