"""Rows of several caches side by side: the features of a photo's crops, each cached by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.features.rows import CachedRows
from facetl.features.shards import DTYPE


class JoinedRows:
    """Rows [n, dim] float16 whose columns are those of the parts, one after the other; read as CachedRows are."""

    def __init__(self, parts: Sequence[CachedRows]) -> None:
        self.parts = tuple(parts)
        self.shape = (len(self.parts[0]), sum(part.shape[1] for part in self.parts))
        self.dtype = DTYPE

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float16]:
        """Rows by any NumPy index over the first axis: integers [...] give float16 [..., dim]."""
        return np.concatenate([part[key] for part in self.parts], axis=-1)

    def subset(self, rows: ArrayLike) -> JoinedRows:
        """Some of these rows, by integers [k], as rows of their own; nothing is read."""
        return JoinedRows([part.subset(rows) for part in self.parts])

    def array(self) -> NDArray[np.float16]:
        """All rows in memory, float16 [n, dim]."""
        return self[np.arange(len(self))]
