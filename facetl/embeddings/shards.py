"""Shards: plain `.npy` files of float16 rows, of a fixed capacity, into which rows are only ever appended.

A shard is created at its full size with the header of a full array, sparse where the file system can, and
renamed into place; from then on it is a valid `.npy` at every moment, readable by `np.load(mmap_mode="r")`.
Which of its rows count is not written here but in the index (`facetl.embeddings.index`).
Format: NumPy enhancement proposal 1, `numpy.lib.format` version 1.0.
"""

from __future__ import annotations

import errno
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.io.files import (
    make_private_folder,
    open_bytes,
    open_private,
    sync_folder,
    write_fully,
)

# Windows makes no file sparse by itself: a shard takes its full size there from the first row on.
SHARD_BYTES = (512 if os.name == "posix" else 32) * 2**20
DTYPE = np.dtype("<f2")


def capacity(dim: int) -> int:
    """Return how many rows of `dim` float16 numbers one shard holds."""
    return max(1, SHARD_BYTES // (dim * DTYPE.itemsize))


def header(rows: int, dim: int) -> bytes:
    """Return the `.npy` header of a float16 array [rows, dim]; its length is where the first row begins."""
    buffer = io.BytesIO()
    fields: dict[str, Any] = {"descr": DTYPE.str, "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


@dataclass(frozen=True)
class ShardFormat:
    """The files of one extractor's shards, and their shape [capacity, dim]."""

    folder: Path
    dim: int
    capacity: int

    @property
    def header(self) -> bytes:
        return header(self.capacity, self.dim)

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
            os.ftruncate(descriptor, 0)
            self._lay_out(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        sync_folder(self.folder)

    def mend(self, number: int) -> None:
        """Give a shard that was cut short, or whose header was changed, its full size and header back."""
        descriptor = open_bytes(self.path(number), os.O_RDWR)
        try:
            self._lay_out(descriptor)
        finally:
            os.close(descriptor)

    def blank(self, number: int, used: int) -> None:
        """Clear what lies behind the first `used` rows."""
        descriptor = open_bytes(self.path(number), os.O_RDWR)
        try:
            os.ftruncate(descriptor, len(self.header) + used * self.row_bytes)
            self._lay_out(descriptor)
        finally:
            os.close(descriptor)

    def _lay_out(self, descriptor: int) -> None:
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
