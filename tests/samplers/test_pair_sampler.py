"""Drawing pairs: all of them in the end, everyone alike on the way, the same again for a seed, and in no memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from gaussians import small_settings
from scipy.stats import chisquare

from facetl.data.triplets import highest_cap
from facetl.errors import TrainingError
from facetl.samplers import RandomSampler
from facetl.samplers.pair_sampler import DrawnPairs, PairSampler, keyed, shuffled, triangle
from facetl.training.fit import make_sampler

# Person 5 has five photos, 2 and 9 two, 7 and 1 one: 12 pairs of one person, 43 of two.
LABELS = np.array([5, 2, 5, 9, 2, 5, 7, 9, 5, 1, 5])


def pairs_of(drawn: DrawnPairs, *, same: bool) -> list[tuple[int, int]]:
    return [(min(pair), max(pair)) for pair in drawn.rows[drawn.same == same].tolist()]


@pytest.fixture(scope="module")
def sampler() -> PairSampler:
    return PairSampler(LABELS, per_epoch=20, seed=1)


class TestDrawing:
    def test_kinds_take_turns_and_are_what_they_say(self, sampler: PairSampler) -> None:
        drawn = sampler.draw(0, 400)
        np.testing.assert_array_equal(drawn.same, np.arange(400) % 2 == 0)
        np.testing.assert_array_equal(LABELS[drawn.rows[:, 0]] == LABELS[drawn.rows[:, 1]], drawn.same)
        assert (drawn.rows[:, 0] != drawn.rows[:, 1]).all()

    def test_in_the_end_every_pair_has_come(self, sampler: PairSampler) -> None:
        # Three people give a positive a round, the one with most has ten; ten times two people meet, at most ten ways.
        drawn = sampler.draw(0, 2 * 10 * 10)
        everything = set(combinations(range(len(LABELS)), 2))
        assert {*pairs_of(drawn, same=True), *pairs_of(drawn, same=False)} == everything

    def test_a_person_gives_each_pair_once_before_any_again(self, sampler: PairSampler) -> None:
        drawn = pairs_of(sampler.draw(0, 2 * 30), same=True)
        of_five = [pair for pair in drawn if LABELS[pair[0]] == 5]
        assert len(of_five) == len(set(of_five)) == 10
        drawn = pairs_of(sampler.draw(0, 2 * 100), same=False)
        between = [pair for pair in drawn if {LABELS[row] for row in pair} == {5, 9}]
        assert len(between) == len(set(between)) == 10

    def test_who_has_many_photos_does_not_dominate(self) -> None:
        labels = np.repeat(np.arange(10), [200, 2, 2, 2, 2, 2, 2, 2, 1, 1])
        drawn = PairSampler(labels, per_epoch=2, seed=3).draw(0, 2 * 8 * 45)
        positive = labels[drawn.rows[drawn.same][:, 0]]
        np.testing.assert_array_equal(np.bincount(positive), [45] * 8)
        negative = labels[drawn.rows[~drawn.same]]
        # 360 pairs are eight rounds of 45, in each of which everyone meets nine others.
        np.testing.assert_array_equal(np.bincount(negative.ravel()), [8 * 9] * 10)

    def test_all_photos_of_a_person_come_alike(self) -> None:
        labels = np.repeat([0, 1, 2], [40, 3, 2])
        drawn = PairSampler(labels, per_epoch=2, seed=0).draw(0, 2 * 3 * 780)
        counts = np.bincount(drawn.rows[drawn.same].ravel(), minlength=45)[:40]
        np.testing.assert_array_equal(counts, [39] * 40)

    def test_batches_of_the_stream_are_parts_of_it(self, sampler: PairSampler) -> None:
        whole = sampler.draw(0, 60)
        for start, count in ((0, 7), (7, 20), (27, 33)):
            part = sampler.draw(start, count)
            np.testing.assert_array_equal(part.rows, whole.rows[start : start + count])
            np.testing.assert_array_equal(part.same, whole.same[start : start + count])

    def test_a_seed_gives_one_stream_and_rounds_differ(self, sampler: PairSampler) -> None:
        again = PairSampler(LABELS, per_epoch=20, seed=1).draw(0, 60)
        np.testing.assert_array_equal(again.rows, sampler.draw(0, 60).rows)
        other = PairSampler(LABELS, per_epoch=20, seed=2).draw(0, 60)
        assert other.rows.tolist() != again.rows.tolist()
        orders = {tuple(LABELS[sampler.draw(start, 6).rows[::2, 0]].tolist()) for start in range(0, 120, 6)}
        assert len(orders) > 3

    def test_a_set_far_too_large_to_write_down(self) -> None:
        labels = np.repeat([0, 1, 2], [500_000, 1, 499_999])
        sampler = PairSampler(labels, per_epoch=2, seed=1)
        assert sampler.positives == 500_000 * 499_999 // 2 + 499_999 * 499_998 // 2
        assert sampler.negatives == 500_000 * 500_000 + 499_999
        drawn = sampler.draw(10**11, 2000)
        np.testing.assert_array_equal(labels[drawn.rows[:, 0]] == labels[drawn.rows[:, 1]], drawn.same)
        assert len({*pairs_of(drawn, same=True)}) == 1000


class TestPool:
    @pytest.mark.parametrize("pairs", [2, 5, 11, 20, 24, 30, 41, 50, 54, 55, 1000])
    def test_it_holds_so_many_distinct_pairs(self, pairs: int) -> None:
        sampler = PairSampler(LABELS, per_epoch=20, most_pairs=pairs, seed=4)
        drawn = sampler.draw(0, 1000)
        positive, negative = (set(pairs_of(drawn, same=same)) for same in (True, False))
        assert len(positive) + len(negative) == min(pairs, 55)
        assert (sampler.positives, sampler.negatives) == (len(positive), len(negative))
        if pairs <= 24:
            assert len(positive) == pairs // 2

    def test_a_smaller_pool_is_part_of_a_larger(self) -> None:
        before: set[tuple[int, int]] = set()
        for pairs in range(2, 56):
            drawn = PairSampler(LABELS, per_epoch=20, most_pairs=pairs, seed=4).draw(0, 500)
            pool = {*pairs_of(drawn, same=True), *pairs_of(drawn, same=False)}
            assert before <= pool
            before = pool

    def test_positives_make_up_for_negatives_that_there_are_not(self) -> None:
        labels = np.repeat([0, 1], [9, 1])  # 36 and 9
        sampler = PairSampler(labels, per_epoch=4, most_pairs=30, seed=0)
        assert (sampler.positives, sampler.negatives) == (21, 9)
        drawn = sampler.draw(0, 200)
        assert len(set(pairs_of(drawn, same=True))) == 21

    def test_a_pool_is_dealt_evenly(self) -> None:
        labels = np.repeat(np.arange(6), [30, 4, 4, 3, 2, 1])  # 435, 6, 6, 3, 1 and no positives
        sampler = PairSampler(labels, per_epoch=4, most_pairs=32, seed=0)
        positives = set(pairs_of(sampler.draw(0, 1000), same=True))
        assert sorted(np.bincount([labels[one] for one, _ in positives])) == [1, 3, 4, 4, 4]
        negatives = set(pairs_of(sampler.draw(0, 1000), same=False))
        # 15 times two people: once all of them, and one more for one with more than one pair.
        met = np.unique([labels[list(pair)] for pair in negatives], axis=0, return_counts=True)[1]
        assert sorted(met) == [1] * 14 + [2]

    @pytest.mark.parametrize(
        ("wanted", "cap"), [(0, 0), (3, 0), (4, 1), (7, 1), (8, 2), (10, 2), (11, 3), (14, 4), (15, 5), (99, 5)]
    )
    def test_the_highest_cap(self, wanted: int, cap: int) -> None:
        # At caps of 1 to 5: 1 + 1 + 2 · 1 = 4, 2 + 2 + 2 · 2 = 8, 3 + 2 + 2 · 3 = 11, 4 + 2 + 2 · 4 = 14, 15.
        assert highest_cap(np.array([5, 2, 4]), wanted, times=np.array([1, 1, 2])) == cap


class TestMemory:
    def test_what_is_held_does_not_grow_with_the_pairs(self) -> None:
        labels = np.repeat(np.arange(400), 20)
        for pairs in (10_000, 31_000_000):
            tracemalloc.start()
            sampler = PairSampler(labels, per_epoch=20, most_pairs=pairs, seed=1)
            for start in range(0, 20_000, 2000):
                sampler.draw(start, 2000)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            # Written down, 31 million pairs would take 496 MB.
            assert peak < 8e6


class TestSettings:
    def test_the_settings_name_it(self) -> None:
        settings = small_settings(loss="contrastive", sampler="pairs", most_pairs=30, rounds=2, anchors_per_person=3)
        sampler = make_sampler(LABELS, settings)
        assert isinstance(sampler, PairSampler)
        # As many pairs of each kind as there are triplets: 3 + 2 + 2 anchors, twice.
        triplets = RandomSampler(LABELS, rounds=2, anchors_per_person=3)
        assert len(sampler) == 2 * len(triplets) == 28
        assert sampler.positives + sampler.negatives == 30
        expected = PairSampler(LABELS, per_epoch=28, most_pairs=30, seed=settings.seed).draw(5, 40)
        np.testing.assert_array_equal(sampler.draw(5, 40).rows, expected.rows)

    @pytest.mark.parametrize("labels", [[1, 2, 3], [4, 4, 4], [7]])
    def test_too_few_people_or_photos(self, labels: list[int]) -> None:
        with pytest.raises(TrainingError, match="expected at least 2 people, one of them with 2 photos"):
            make_sampler(np.array(labels), small_settings(loss="contrastive", sampler="pairs"))


class TestPermutation:
    """Each a bijection, none like another, all orders about as often."""

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 65, 1000, 4097])
    def test_every_key_gives_a_bijection(self, size: int) -> None:
        for seed in range(4):
            taken = shuffled(np.arange(size), size, keyed(seed))
            assert taken.dtype == np.int64
            np.testing.assert_array_equal(np.sort(taken), np.arange(size))

    def test_sizes_and_keys_may_differ_entry_by_entry(self) -> None:
        rng = np.random.default_rng(0)
        sizes = rng.integers(1, 3000, 200)
        numbers = rng.integers(0, sizes)
        keys = keyed(5, np.arange(200))
        alone = [int(shuffled(n, size, keyed(5, i))[0]) for i, (n, size) in enumerate(zip(numbers, sizes, strict=True))]
        np.testing.assert_array_equal(shuffled(numbers, sizes, keys), alone)

    @pytest.mark.parametrize("size", [2, 3, 4])
    def test_all_orders_of_a_few_come_equally_often(self, size: int) -> None:
        keys = keyed(np.arange(20_000), 7)
        orders = np.stack([shuffled(np.full(20_000, place), size, keys) for place in range(size)], axis=1)
        seen = Counter(map(tuple, orders.tolist()))
        assert len(seen) == factorial(size)
        assert chisquare(list(seen.values())).pvalue > 1e-3

    @pytest.mark.parametrize("size", [45, 31_996_000])
    def test_where_a_number_goes_is_uniform(self, size: int) -> None:
        keys = keyed(3, np.arange(20_000))
        taken = shuffled(np.full(20_000, size - 1), size, keys)
        bins = min(size, 50)
        assert chisquare(np.bincount(taken * bins // size, minlength=bins)).pvalue > 1e-3

    def test_neighbours_are_torn_apart(self) -> None:
        size = 31_996_000
        taken = shuffled(np.arange(20_000), size, keyed(1))
        assert len(np.unique(taken)) == 20_000
        assert chisquare(np.bincount(taken * 50 // size, minlength=50)).pvalue > 1e-3
        assert abs(np.corrcoef(taken[:-1], taken[1:])[0, 1]) < 0.03

    def test_very_large_sizes_stay_inside(self) -> None:
        for size in (2**53 + 1, 2**62):
            taken = shuffled(np.array([0, size // 3, size - 1]), size, keyed(9))
            assert ((taken >= 0) & (taken < size)).all()
            assert len(set(taken.tolist())) == 3

    def test_keys_depend_on_every_part_and_on_their_order(self) -> None:
        keys = {int(keyed(*parts)[0]) for parts in ((1, 2), (2, 1), (1, 2, 0), (1,), (0, 1, 2), (1, 3))}
        assert len(keys) == 6
        assert keyed(1, np.arange(5), np.arange(5)[::-1]).shape == (5,)
        assert keyed(4, 2).tolist() == keyed(4, [2]).tolist()


@pytest.mark.parametrize("i", [1, 2, 94_906_267, 2**31 - 1])
def test_the_triangle_is_exact_where_a_root_is_not(i: int) -> None:
    first = i * (i - 1) // 2
    for number, expected in ((first, (i, 0)), (first + i - 1, (i, i - 1)), (first + i, (i + 1, 0))):
        row, column = triangle(np.array([number]))
        assert (int(row[0]), int(column[0])) == expected
