"""Boxes: overlaps worked out by hand, pairs that are the best in all."""

from __future__ import annotations

import numpy as np

from facetl.data.boxes import matched, overlaps


def test_intersection_over_union() -> None:
    # 2 × 2 and 2 × 4, sharing 1 × 2: 2 / (4 + 8 − 2).
    np.testing.assert_allclose(overlaps([[0, 0, 2, 2]], [[1, 0, 3, 4], [5, 5, 6, 6]]), [[0.2, 0]])


def test_pairs_are_the_best_in_all() -> None:
    first = [(0, 0, 10, 10), (4, 0, 14, 10)]
    second = [(5, 0, 15, 10), (40, 0, 50, 10), (1, 0, 11, 10)]
    assert matched(first, second, least=0.3) == [(0, 2), (1, 0)]
    assert matched(first, second, least=0.95) == []
    # Overlaps of 0.25 and 0.21 are more together than one of 0.43, but are no pairs.
    assert matched([(0, 0, 10, 9), (10.5, 0, 20.5, 9)], [(4, 0, 14, 9), (-6, 0, 4, 9)], least=0.3) == [(0, 0)]
    assert matched([], second, least=0.3) == matched(first, [], least=0.3) == []
