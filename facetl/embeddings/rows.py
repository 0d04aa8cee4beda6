"""Rows of a cache as an array on disk: found once, then gathered at random at about the speed of memory."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from facetl.embeddings.index import Slot
from facetl.embeddings.shards import DTYPE, Shard
from facetl.errors import CacheCorruptError
from facetl.io.files import checksum

_WIDE = 8192  # bytes of a row from which copying row by row beats going through a buffer
_BUFFER = 2**19  # bytes; stays in the second-level cache


class CachedRows:
    """Rows of a cache [n, dim] float16 in the order asked for, read from memory-mapped shards when indexed.

    Indexing with integers, a slice or a mask copies those rows into memory. Each row is checked against its
    checksum the first time it is read. Safe to read from several threads, and after the cache is closed.
    """

    def __init__(self, shards: Sequence[Shard], keys: Sequence[bytes], slots: Sequence[Slot], *, dim: int) -> None:
        self._shards = list(shards)
        places = {shard.number: place for place, shard in enumerate(self._shards)}
        self._shard = np.array([places[slot.shard] for slot in slots], dtype=np.intp)
        self._row = np.array([slot.row for slot in slots], dtype=np.intp)
        self._sums = [slot.checksum for slot in slots]
        self._keys = keys
        self._checked = np.zeros(len(slots), dtype=bool)
        self._order = np.arange(len(slots))
        self.shape = (len(slots), dim)
        self.dtype = DTYPE

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float16]:
        """Rows by any NumPy index over the first axis: integers [...] give float16 [..., dim].

        Raises IndexError as NumPy does, `CacheCorruptError` where bytes changed on the disk.
        """
        wanted = np.arange(len(self))[key]
        return self.take(wanted.ravel()).reshape(*wanted.shape, self.shape[1])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self.array().astype(dtype or DTYPE, copy=False)

    def subset(self, rows: ArrayLike) -> CachedRows:
        """Some of these rows, by integers [k], as rows of their own; nothing is read or checked again."""
        part = copy(self)
        part._order = self._order[np.asarray(rows, dtype=np.intp)]
        part.shape = (len(part._order), self.shape[1])
        return part

    def array(self) -> NDArray[np.float16]:
        """All rows in memory, float16 [n, dim]."""
        return self.take(np.arange(len(self)))

    def take(self, indices: ArrayLike, out: NDArray[np.float16] | None = None) -> NDArray[np.float16]:
        """Rows by non-negative integers [k], into `out` float16 [k, dim] where one is given (it saves the
        system from clearing fresh memory, which can cost more than the copy)."""
        wanted = self._order[np.asarray(indices, dtype=np.intp)]
        if out is None:
            out = np.empty((len(wanted), self.shape[1]), DTYPE)
        if out.shape != (len(wanted), self.shape[1]) or out.dtype != DTYPE:
            raise ValueError(f"out must be float16 {[len(wanted), self.shape[1]]}; received {out.dtype} {out.shape}.")
        self._copy(wanted, out)
        fresh = np.flatnonzero(~self._checked[wanted])
        if len(fresh):
            self._check(wanted, fresh, out)
        return out

    def _copy(self, wanted: NDArray[np.intp], out: NDArray[np.float16]) -> None:
        rows = self._row[wanted]
        if len(self._shards) == 1:
            # mode="clip" lets NumPy write straight into `out`; all rows were found to be in range.
            np.take(self._shards[0].table, rows, axis=0, out=out, mode="clip")
            return
        shards = self._shard[wanted]
        row_bytes = self.shape[1] * DTYPE.itemsize
        if row_bytes >= _WIDE:
            tables = [shard.table for shard in self._shards]
            for place, (shard, row) in enumerate(zip(shards.tolist(), rows.tolist(), strict=True)):
                out[place] = tables[shard][row]
            return
        step = max(1, _BUFFER // max(1, row_bytes))
        for number in range(len(self._shards)):
            places = np.flatnonzero(shards == number)
            for start in range(0, len(places), step):
                part = places[start : start + step]
                out[part] = np.take(self._shards[number].table, rows[part], axis=0, mode="clip")

    def _check(self, wanted: NDArray[np.intp], fresh: NDArray[np.intp], out: NDArray[np.float16]) -> None:
        """Checks the copies, not the files: what is returned is what was summed."""
        for place in fresh.tolist():
            item = wanted[place]
            shard, row = self._shards[self._shard[item]], self._row[item]
            mark = int.from_bytes(self._keys[item][:8], "big")
            if shard.checked[row] != mark:
                half = np.ascontiguousarray(out[place])
                if checksum(self._keys[item], half) != self._sums[item]:
                    raise CacheCorruptError(
                        f"Stored features must match their checksum; row {row} of {shard.path} (photo sha256 "
                        f"{self._keys[item].hex()}) does not. `facetl cache verify` lists such rows, "
                        "`facetl cache gc` drops them, and `facetl cache` computes them again."
                    )
                shard.checked[row] = mark
            self._checked[item] = True


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
