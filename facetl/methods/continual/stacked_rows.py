"""Features of several folders as if they were one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from facetl.metrics.linalg import Rows


class StackedRows:
    """Features of several collections one below the other, read as each is: [photos, dim] by an int array."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self._starts[-1]), parts[0].shape[1])

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows by integers [n] → [n, dim], of the parts' kind."""
        wanted = np.arange(self.shape[0])[rows]
        part = np.searchsorted(self._starts, wanted, side="right") - 1
        out = np.empty((len(wanted), self.shape[1]), np.float32)
        for number in np.unique(part):
            chosen = np.flatnonzero(part == number)
            out[chosen] = self._parts[number][wanted[chosen] - self._starts[number]]
        return out

    def subset(self, rows: np.ndarray) -> ChosenRows:
        """Some of these rows, by integers [k], as rows of their own; nothing is read."""
        return ChosenRows(self, rows)


class ChosenRows:
    """Some rows of others, in an order of their own."""

    def __init__(self, rows: Rows, chosen: np.ndarray) -> None:
        self._rows = rows
        self._chosen = chosen
        self.shape = (len(chosen), rows.shape[1])

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows by any index over the first axis."""
        return np.asarray(self._rows[self._chosen[rows]])

    def subset(self, rows: np.ndarray) -> ChosenRows:
        """Some of these rows, by integers [k]."""
        return ChosenRows(self._rows, self._chosen[rows])
