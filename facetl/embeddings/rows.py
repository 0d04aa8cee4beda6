"""Rows of a cache as an array on disk: found once, then gathered at random at about the speed of memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.embeddings.index import Slot
from facetl.embeddings.shards import DTYPE, Shard
from facetl.errors import CacheCorruptError
from facetl.io.arrays import RowView
from facetl.io.files import checksum

_WIDE = 8192  # bytes of a row from which copying row by row beats going through a buffer
_BUFFER = 2**19  # bytes; stays in the second-level cache


class CachedRows(RowView):
    """Rows of a cache [n, dim] float16 in the order asked for, read from memory-mapped shards when indexed.

    Indexing copies those rows into memory; CacheCorruptError where bytes changed on the disk. Each row is checked
    against its checksum the first time it is read. Safe to read from several threads, and after the cache is closed.
    """

    def __init__(self, shards: Sequence[Shard], keys: Sequence[bytes], slots: Sequence[Slot], *, dim: int) -> None:
        super().__init__((len(slots), dim), DTYPE)
        self._shards = list(shards)
        places = {shard.number: place for place, shard in enumerate(self._shards)}
        self._shard = np.array([places[slot.shard] for slot in slots], dtype=np.intp)
        self._row = np.array([slot.row for slot in slots], dtype=np.intp)
        self._sums = [slot.checksum for slot in slots]
        self._keys = keys
        self._checked = np.zeros(len(slots), dtype=bool)

    def take(self, indices: ArrayLike, out: NDArray[np.float16]) -> NDArray[np.float16]:
        """Read rows by non-negative integers [k] into `out`, float16 [k, dim], and return it.

        It saves the system from clearing fresh memory, which can cost more than the copy.
        """
        wanted = self._order[np.asarray(indices, dtype=np.intp)]
        if out.shape != (len(wanted), self.shape[1]) or out.dtype != DTYPE:
            raise ValueError(f"out must be float16 {[len(wanted), self.shape[1]]}; received {out.dtype} {out.shape}.")
        return self._read(wanted, out)

    def _read(self, wanted: NDArray[np.intp], out: NDArray[np.float16] | None = None) -> NDArray[np.float16]:
        if out is None:
            out = np.empty((len(wanted), self.shape[1]), DTYPE)
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
        """Check the copies, not the files: what is returned is what was summed."""
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
