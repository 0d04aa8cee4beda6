"""Seeded shuffles of 0 … size − 1 that are computed entry by entry and never written down."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

# Luby and Rackoff need four for a pseudo-random permutation of wide words; half a word of a few bits takes more.
_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15


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
