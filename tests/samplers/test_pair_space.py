"""Numbers and pairs: one for one, against all pairs written down, and far beyond what could be."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from facetl.samplers.pair_space import PairSpace, triangle

# Person 5 has five photos, 2 and 9 two, 7 and 1 one.
LABELS = np.array([5, 2, 5, 9, 2, 5, 7, 9, 5, 1, 5])


def written_down(labels: np.ndarray, *, same: bool) -> set[tuple[int, int]]:
    return {pair for pair in combinations(range(len(labels)), 2) if (labels[pair[0]] == labels[pair[1]]) == same}


@pytest.mark.parametrize("labels", [LABELS, LABELS[::-1], np.array([3, 3]), np.array([4, 8]), np.arange(6)])
def test_every_pair_has_one_number(labels: np.ndarray) -> None:
    space = PairSpace(labels)
    kinds = ((True, space.positives, space.positive_rows), (False, space.negatives, space.negative_rows))
    for same, count, rows_of in kinds:
        rows = rows_of(np.arange(count))
        assert rows.shape == (count, 2)
        pairs = [(min(pair), max(pair)) for pair in rows.tolist()]
        assert len(pairs) == len(set(pairs))
        assert set(pairs) == written_down(labels, same=same)


def test_a_pair_tells_its_number_in_either_order() -> None:
    space = PairSpace(LABELS)
    for count, rows_of, numbers_of in (
        (space.positives, space.positive_rows, space.positive_numbers),
        (space.negatives, space.negative_rows, space.negative_numbers),
    ):
        numbers = np.arange(count)[::-1]
        rows = rows_of(numbers)
        np.testing.assert_array_equal(numbers_of(rows), numbers)
        np.testing.assert_array_equal(numbers_of(rows[:, ::-1]), numbers)


def test_numbers_by_hand() -> None:
    # By person: 1 → [9], 2 → [1, 4], 5 → [0, 2, 5, 8, 10], 7 → [6], 9 → [3, 7].
    space = PairSpace(LABELS)
    assert (space.positives, space.negatives, space.person_pairs) == (1 + 10 + 1, 55 - 12, 10)
    assert space.positive_rows([0, 1, 2, 3, 10, 11]).tolist() == [[1, 4], [0, 2], [0, 5], [2, 5], [8, 10], [3, 7]]
    # Person 1's photo meets all ten others; then photo 1 of person 2 meets the eight of 5, 7 and 9.
    assert space.negative_rows([0, 9, 10, 17, 18, 42]).tolist() == [[9, 1], [9, 7], [1, 0], [1, 7], [4, 0], [6, 7]]


def test_a_set_far_too_large_to_write_down() -> None:
    # A million photos of three people: half a million, one, and the rest.
    labels = np.repeat([0, 1, 2], [500_000, 1, 499_999])
    space = PairSpace(labels)
    first, last = 500_000 * 499_999 // 2, 499_999 * 499_998 // 2
    assert (space.positives, space.negatives) == (first + last, 500_000 * 500_000 + 499_999)
    ends = [0, 1, first - 1, first, first + last - 1]
    expected = [[0, 1], [0, 2], [499_998, 499_999], [500_001, 500_002], [999_998, 999_999]]
    assert space.positive_rows(ends).tolist() == expected
    assert space.positive_numbers(expected).tolist() == ends
    ends = [0, 499_999, 500_000, 250_000_000_000 - 1, 250_000_000_000, space.negatives - 1]
    expected = [
        [0, 500_000],
        [0, 999_999],
        [1, 500_000],
        [499_999, 999_999],
        [500_000, 500_001],
        [500_000, 999_999],
    ]
    assert space.negative_rows(ends).tolist() == expected
    assert space.negative_numbers(expected).tolist() == ends


@pytest.mark.parametrize("i", [1, 2, 94_906_267, 2**31 - 1])
def test_the_triangle_is_exact_where_a_root_is_not(i: int) -> None:
    first = i * (i - 1) // 2
    for number, expected in ((first, (i, 0)), (first + i - 1, (i, i - 1)), (first + i, (i + 1, 0))):
        row, column = triangle(np.array([number]))
        assert (int(row[0]), int(column[0])) == expected
