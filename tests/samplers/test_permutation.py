"""Shuffles worked out entry by entry: each a bijection, none like another, all orders about as often."""

from __future__ import annotations

from collections import Counter
from math import factorial

import numpy as np
import pytest
from scipy.stats import chisquare

from facetl.samplers.pair_space import keyed, shuffled


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 65, 1000, 4097])
def test_every_key_gives_a_bijection(size: int) -> None:
    for seed in range(4):
        taken = shuffled(np.arange(size), size, keyed(seed))
        assert taken.dtype == np.int64
        np.testing.assert_array_equal(np.sort(taken), np.arange(size))


def test_sizes_and_keys_may_differ_entry_by_entry() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 3000, 200)
    numbers = rng.integers(0, sizes)
    keys = keyed(5, np.arange(200))
    alone = [int(shuffled(n, size, keyed(5, i))[0]) for i, (n, size) in enumerate(zip(numbers, sizes, strict=True))]
    np.testing.assert_array_equal(shuffled(numbers, sizes, keys), alone)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_orders_of_a_few_come_equally_often(size: int) -> None:
    keys = keyed(np.arange(20_000), 7)
    orders = np.stack([shuffled(np.full(20_000, place), size, keys) for place in range(size)], axis=1)
    seen = Counter(map(tuple, orders.tolist()))
    assert len(seen) == factorial(size)
    assert chisquare(list(seen.values())).pvalue > 1e-3


@pytest.mark.parametrize("size", [45, 31_996_000])
def test_where_a_number_goes_is_uniform(size: int) -> None:
    keys = keyed(3, np.arange(20_000))
    taken = shuffled(np.full(20_000, size - 1), size, keys)
    bins = min(size, 50)
    assert chisquare(np.bincount(taken * bins // size, minlength=bins)).pvalue > 1e-3


def test_neighbours_are_torn_apart() -> None:
    size = 31_996_000
    taken = shuffled(np.arange(20_000), size, keyed(1))
    assert len(np.unique(taken)) == 20_000
    assert chisquare(np.bincount(taken * 50 // size, minlength=50)).pvalue > 1e-3
    assert abs(np.corrcoef(taken[:-1], taken[1:])[0, 1]) < 0.03


def test_very_large_sizes_stay_inside() -> None:
    for size in (2**53 + 1, 2**62):
        taken = shuffled(np.array([0, size // 3, size - 1]), size, keyed(9))
        assert ((taken >= 0) & (taken < size)).all()
        assert len(set(taken.tolist())) == 3


def test_keys_depend_on_every_part_and_on_their_order() -> None:
    keys = {int(keyed(*parts)[0]) for parts in ((1, 2), (2, 1), (1, 2, 0), (1,), (0, 1, 2), (1, 3))}
    assert len(keys) == 6
    assert keyed(1, np.arange(5), np.arange(5)[::-1]).shape == (5,)
    assert keyed(4, 2).tolist() == keyed(4, [2]).tolist()
