"""Views of rows, beside NumPy on the whole array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from facetl.io.arrays import RowView, concat_columns, concat_rows, map_rows, take, take_columns

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(6, 5)).astype(np.float16)


class Source:
    """Rows that note how many of them are read at a time."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.dtype, self.most = rows, rows.shape, rows.dtype, 0

    def __getitem__(self, key: Any) -> np.ndarray:
        self.most = max(self.most, len(key))
        return self.rows[key]


KEYS = [np.array([3, 0, 3]), np.array([[1, -1], [2, 0]]), slice(1, 3), ROWS[:, 0] > 0, 2, -1, np.array([], int), []]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("source", [ROWS, Source(ROWS)], ids=["in memory", "elsewhere"])
def test_every_view_is_indexed_as_numpy_is(key: Any, source: Any) -> None:
    everything = take(source, np.arange(6))
    columns = np.array([4, 1])
    views: list[tuple[RowView, np.ndarray]] = [
        (take(source, [5, 2, 2, 0, 1, 4]), ROWS[[5, 2, 2, 0, 1, 4]]),
        (take(take(source, [5, 4, 3, 2, 1, 0]), [1, 0, 2, 3, 5, 4]), ROWS[[4, 5, 3, 2, 0, 1]]),
        (map_rows(source, lambda rows: rows.astype(np.float32) + 1), ROWS.astype(np.float32) + 1),
        (map_rows(source, lambda rows: rows[:, :1] * 2, dim=1, dtype=np.float16), ROWS[:, :1] * 2),
        (take_columns(source, columns), ROWS[:, columns]),
        (take_columns(source, slice(1, 4)), ROWS[:, 1:4]),
        (concat_columns([everything, take(source, np.arange(6)[::-1])]), np.hstack([ROWS, ROWS[::-1]])),
        (concat_rows([ROWS[:2], ROWS[:0], take(source, [3, 4, 5]), ROWS[:1]]), ROWS[[0, 1, 3, 4, 5, 0]]),
    ]
    for view, whole in views:
        assert view.shape == whole.shape
        assert len(view) == 6
        found = view[key]
        assert found.dtype == view.dtype
        np.testing.assert_array_equal(found, whole[key])
        np.testing.assert_array_equal(view.array(), whole)
        np.testing.assert_array_equal(np.asarray(view, np.float64), whole.astype(np.float64))
        np.testing.assert_array_equal(view.subset([3, 1])[np.array([1, 0])], whole[[1, 3]])
        with pytest.raises(IndexError):
            view[6]


def test_only_what_is_indexed_is_read() -> None:
    source = Source(ROWS)
    joined = concat_columns([take(source, np.arange(6)), map_rows(source, np.negative)])
    some = concat_rows([joined.subset([1, 2, 3]), joined]).subset([0, 8, 4])
    assert source.most == 0
    np.testing.assert_array_equal(some[[1, 2]], np.hstack([ROWS, -ROWS])[[5, 1]])
    assert source.most == 2


def test_one_part_is_itself() -> None:
    view = take(ROWS, [0])
    assert concat_columns([view]) is view
