"""How many of a wanted number each of several holders gives: all alike, as far as they have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def highest_cap(sizes: Ints, wanted: int, *, times: Ints | int = 1) -> int:
    """Return the highest cap under which Σ times · min(sizes, cap) is at most `wanted`: [n] int64."""
    low, high = 0, int(sizes.max())
    while low < high:
        cap = (low + high + 1) // 2
        low, high = (cap, high) if int(np.sum(times * np.minimum(sizes, cap))) <= wanted else (low, cap - 1)
    return low


def dealt_evenly(possible: Ints, wanted: int, rng: np.random.Generator) -> Ints:
    """Return how many each gives: the highest common cap that fits, the rest by lot; int64 [n] → [n]."""
    cap = highest_cap(possible, wanted)
    quota = np.minimum(possible, cap)
    more = rng.permutation(np.flatnonzero(possible > cap))[: wanted - int(quota.sum())]
    quota[more] += 1
    return quota
