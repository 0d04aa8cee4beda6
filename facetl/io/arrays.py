"""Rows that need not fit memory: read when indexed, some of others, side by side, one below the other or changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


class Rows(Protocol):
    """Vectors as an array or as rows of a cache, [n, dim]: indexed over the first axis as NumPy arrays are."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class RowView:
    """Rows [n, dim] on disk or made of others; nothing is read before it is indexed."""

    def __init__(self, shape: tuple[int, int], dtype: DTypeLike) -> None:
        self._order = np.arange(shape[0])
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read rows by any NumPy index over the first axis: integers [...] give [..., dim]; IndexError as NumPy's."""
        wanted = np.asarray(self._order[key])
        return self._read(wanted.ravel()).reshape(*wanted.shape, self.shape[1])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self.array().astype(dtype or self.dtype, copy=False)

    def subset(self, rows: ArrayLike) -> Self:
        """Return some of these rows, by integers [k], as rows of their own; nothing is read."""
        part = copy(self)
        part._order = self._order[np.asarray(rows, dtype=np.intp)]
        part.shape = (len(part._order), self.shape[1])
        return part

    def array(self) -> NDArray[Any]:
        """Read all rows into memory, [n, dim]."""
        return self[:]

    def _read(self, wanted: NDArray[np.intp]) -> NDArray[Any]:
        """Read rows by non-negative integers [k], [k, dim]."""
        raise NotImplementedError


class _Made(RowView):
    """Rows that a function gives by non-negative integers [k], [k, dim]."""

    def __init__(
        self, read: Callable[[NDArray[np.intp]], NDArray[Any]], shape: tuple[int, int], dtype: DTypeLike
    ) -> None:
        super().__init__(shape, dtype)
        self._function = read

    def _read(self, wanted: NDArray[np.intp]) -> NDArray[Any]:
        return self._function(wanted)


def take(rows: Rows, chosen: ArrayLike) -> RowView:
    """Return some rows, by integers [k], as rows of their own."""
    if isinstance(rows, RowView):
        return rows.subset(chosen)
    return map_rows(rows, np.asarray, dtype=getattr(rows, "dtype", np.float32)).subset(chosen)


def map_rows(
    rows: Rows, change: Callable[[Any], NDArray[Any]], *, dim: int | None = None, dtype: DTypeLike = np.float32
) -> RowView:
    """Return rows changed as they are read.

    change: makes of rows [k, dim before] others, [k, dim] of `dtype`; without `dim` as long as before.
    """
    return _Made(lambda wanted: change(rows[wanted]), (rows.shape[0], dim or rows.shape[1]), dtype)


def take_columns(rows: Rows, columns: slice | NDArray[np.integer]) -> RowView:
    """Return some columns of rows; of an array in memory, only these are copied."""
    dim = len(np.arange(rows.shape[1])[columns])
    dtype = getattr(rows, "dtype", np.float32)
    if isinstance(rows, np.ndarray) and not isinstance(columns, slice):
        return _Made(lambda wanted: rows[wanted[:, None], columns], (len(rows), dim), dtype)
    return map_rows(rows, lambda read: np.asarray(read)[:, columns], dim=dim, dtype=dtype)


def concat_columns(parts: Sequence[RowView]) -> RowView:
    """Return rows whose columns are those of the parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    shape = (len(parts[0]), sum(part.shape[1] for part in parts))
    return _Made(lambda wanted: np.concatenate([part[wanted] for part in parts], axis=1), shape, parts[0].dtype)


def concat_rows(parts: Sequence[Rows]) -> RowView:
    """Return the rows of all parts, one part below the other, float32."""
    starts = np.cumsum([0, *(part.shape[0] for part in parts)])
    dim = parts[0].shape[1]

    def read(wanted: NDArray[np.intp]) -> NDArray[np.float32]:
        part = np.searchsorted(starts, wanted, side="right") - 1
        out = np.empty((len(wanted), dim), np.float32)
        for number in np.unique(part):
            chosen = np.flatnonzero(part == number)
            out[chosen] = parts[number][wanted[chosen] - starts[number]]
        return out

    return _Made(read, (int(starts[-1]), dim), np.float32)
