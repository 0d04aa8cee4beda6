"""Boxes in a photo, left, top, right and bottom edge: how much they overlap, and which of two lists are one face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def overlaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection of boxes [n, 4] and [m, 4] over their union, [n, m] in [0, 1]."""
    ones = np.asarray(first, np.float64).reshape(-1, 1, 4)
    others = np.asarray(second, np.float64).reshape(1, -1, 4)
    sides = np.minimum(ones[..., 2:], others[..., 2:]) - np.maximum(ones[..., :2], others[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (ones, others)]
    union = areas[0] + areas[1] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def matched(first: Sequence[ArrayLike], second: Sequence[ArrayLike], *, least: float) -> list[tuple[int, int]]:
    """Pair boxes one to one so that they overlap most in all; return the places of pairs that overlap by `least`."""
    if not len(first) or not len(second):
        return []
    from scipy.optimize import linear_sum_assignment

    overlap = overlaps(np.asarray(first), np.asarray(second))
    # What overlaps too little must not push two that are one apart.
    rows, columns = linear_sum_assignment(np.where(overlap >= least, overlap, 0), maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if overlap[row, column] >= least]
