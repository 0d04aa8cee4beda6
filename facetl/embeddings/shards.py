"""Shards: plain `.npy` files of float16 rows, of a fixed capacity, into which rows are only ever appended.

A shard is created at its full size with the header of a full array, sparse where the file system can, and
renamed into place; from then on it is a valid `.npy` at every moment, readable by `np.load(mmap_mode="r")`.
Which of its rows count is not written here but in the index (`facetl.embeddings.index`).
`CachedRows` gathers rows at random at about the speed of memory.
Format: NumPy enhancement proposal 1, `numpy.lib.format` version 1.0.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.errors import CacheCorruptError
from facetl.io.arrays import RowView
from facetl.io.files import (
    checksum,
    make_private_folder,
    open_bytes,
    open_private,
    sync_folder,
    write_fully,
)

# Windows makes no file sparse by itself: a shard takes its full size there from the first row on.
LARGEST_SHARD = 512 * 2**20
SHARD_BYTES = LARGEST_SHARD if os.name == "posix" else 32 * 2**20
DTYPE = np.dtype("<f2")
_WIDE = 8192  # bytes of a row from which copying row by row beats going through a buffer
_BUFFER = 2**19  # bytes; stays in the second-level cache


def capacity(dim: int) -> int:
    """Return how many rows of `dim` float16 numbers one shard holds."""
    return max(1, SHARD_BYTES // (dim * DTYPE.itemsize))


@dataclass(frozen=True)
class ShardFormat:
    """The files of one extractor's shards, and their shape [capacity, dim]."""

    folder: Path
    dim: int
    capacity: int

    @property
    def header(self) -> bytes:
        """The `.npy` header of a float16 array [capacity, dim]; its length is where the first row begins."""
        buffer = io.BytesIO()
        fields: dict[str, Any] = {"descr": DTYPE.str, "fortran_order": False, "shape": (self.capacity, self.dim)}
        np.lib.format.write_array_header_1_0(buffer, fields)
        return buffer.getvalue()

    @property
    def row_bytes(self) -> int:
        return self.dim * DTYPE.itemsize

    @property
    def file_bytes(self) -> int:
        return len(self.header) + self.capacity * self.row_bytes

    def path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.npy"

    def whole_rows(self, number: int) -> int:
        """Return how many rows lie wholly inside the file as it is now; -1 where the file is missing."""
        try:
            size = os.stat(self.path(number)).st_size
        except FileNotFoundError:
            return -1
        return min(self.capacity, max(0, size - len(self.header)) // self.row_bytes)

    def header_matches(self, number: int) -> bool:
        expected = self.header
        with open(self.path(number), "rb") as file:
            return file.read(len(expected)) == expected

    def create(self, number: int) -> None:
        """Put an empty shard of full size in place, in one step."""
        path = self.path(number)
        temporary = path.with_name(path.name + ".tmp")
        descriptor = open_private(temporary, os.O_RDWR)
        try:
            self._lay_out(descriptor, 0)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        sync_folder(self.folder)

    def mend(self, number: int) -> None:
        """Give a shard that was cut short, or whose header was changed, its full size and header back."""
        self.blank(number, self.capacity)

    def blank(self, number: int, used: int) -> None:
        """Clear what lies behind the first `used` rows."""
        descriptor = open_bytes(self.path(number), os.O_RDWR)
        try:
            self._lay_out(descriptor, used)
        finally:
            os.close(descriptor)

    def _lay_out(self, descriptor: int, used: int) -> None:
        # Cut off, what lay there reads as zeros afterwards.
        os.ftruncate(descriptor, len(self.header) + used * self.row_bytes)
        os.ftruncate(descriptor, self.file_bytes)
        write_fully(descriptor, self.header, 0)
        os.fsync(descriptor)


class Shard:
    """A shard opened for reading: `table` [whole rows, dim] float16, mapped, and which rows are checked."""

    def __init__(self, layout: ShardFormat, number: int) -> None:
        self.number = number
        self.path = layout.path(number)
        whole = layout.whole_rows(number)
        if whole < 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        self.table: NDArray[np.float16] = np.empty((0, layout.dim), DTYPE)
        if whole:
            # A plain view: indexing np.memmap itself costs microseconds a call.
            start = len(layout.header)
            self.table = np.asarray(np.memmap(self.path, DTYPE, mode="r", offset=start, shape=(whole, layout.dim)))
        # For each row, the start of the sha256 under which it was found right: a damaged index may name a row
        # twice, and what is right for one photo is not for the other.
        self.checked = np.zeros(whole, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self.table)


class Slot(NamedTuple):
    """The place of a committed row, and its checksum."""

    shard: int
    row: int
    checksum: int


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


class Tail:
    """The end of one extractor's rows, where the next ones are written."""

    def __init__(self, layout: ShardFormat, *, shard: int | None, used: int, next_shard: int) -> None:
        self.layout = layout
        self.shard = shard
        self.used = used
        self.next_shard = next_shard
        self._descriptor: int | None = None

    def write(self, rows: NDArray[np.float16]) -> list[tuple[int, int]]:
        """Write rows [n, dim] past the end, fsync them, and return the (shard, row) of each.

        They count only once the index has committed them; rows written and never committed are overwritten.
        """
        slots: list[tuple[int, int]] = []
        while len(slots) < len(rows):
            if self.shard is None or self.used >= self.layout.capacity:
                self._begin_shard()
            assert self.shard is not None
            count = min(len(rows) - len(slots), self.layout.capacity - self.used)
            piece = np.ascontiguousarray(rows[len(slots) : len(slots) + count], dtype=DTYPE)
            self._write_piece(piece)
            slots += [(self.shard, self.used + row) for row in range(count)]
            self.used += count
        return slots

    def _begin_shard(self) -> None:
        self.close()
        make_private_folder(self.layout.folder)
        self.layout.create(self.next_shard)
        self.shard, self.used = self.next_shard, 0
        self.next_shard += 1

    def _write_piece(self, piece: NDArray[np.float16]) -> None:
        assert self.shard is not None
        if self._descriptor is None:
            self._descriptor = open_bytes(self.layout.path(self.shard), os.O_RDWR)
        start = len(self.layout.header) + self.used * self.layout.row_bytes
        write_fully(self._descriptor, piece.tobytes(), start)
        # The shard is sparse: space is claimed by the write or, on some file systems, only by this.
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
