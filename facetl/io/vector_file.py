"""Files of vectors with a line of text about each: `.npy`, `.parquet` and `.csv`, written batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError
from facetl.io.files import atomic_file, csv_bytes, sync_folder
from facetl.io.text import LONGEST_NAME

_GROUP_BYTES = 32 * 2**20  # of numbers in a row group of a Parquet file, which is held in memory

Columns = Mapping[str, Sequence[Any]]


class VectorWriter:
    """Takes vectors, batch after batch."""

    def append(self, columns: Columns, vectors: NDArray[np.floating]) -> None:
        """Add vectors [n, dim] and what is known of each: name → n strings or numbers; NaN is an empty field."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is left."""


def check_vector_path(path: Path) -> None:
    """Raise DataError unless a file of vectors can be written under this name."""
    if path.suffix not in _WRITERS:
        raise DataError(f"--out: expected a name that ends in {', '.join(_WRITERS)}, got {path}.")
    names = [path, _rows_of(path)] if path.suffix == ".npy" else [path]
    for one in names:
        if len(os.fsencode(one.name)) > LONGEST_NAME:
            raise DataError(f"--out: a name has at most {LONGEST_NAME} bytes, got {one.name}. Choose a shorter one.")
        if one.is_dir():
            raise DataError(f"--out: {one} is a folder. Choose another name, or move it away.")
    if not path.parent.is_dir():
        raise DataError(f"--out: {path.parent} is no folder. Make it first, or choose another one.")


@contextmanager
def vector_file(path: Path) -> Iterator[VectorWriter]:
    """Open a file of vectors, for its owner alone; it appears under its name when all are written.

    `.csv` and `.parquet` hold the columns and e0, e1, …; `.npy` holds the vectors [n, dim] alone, in the dtype of the
    first, and the columns lie beside it in `NAME.rows.csv`, a line a vector: that file takes its name first, and an old
    `.npy` is gone by then. Memory holds one batch, or one row group.

    Raises DataError for another ending.
    """
    check_vector_path(path)
    with ExitStack() as stack:
        writer = _WRITERS[path.suffix](path, stack)
        yield writer
        writer.finish()


class _CsvWriter(VectorWriter):
    def __init__(self, path: Path, stack: ExitStack, *, vectors: bool = True) -> None:
        self.stream = stack.enter_context(atomic_file(path))
        self._vectors = vectors
        self._begun = False

    def append(self, columns: Columns, vectors: NDArray[np.floating]) -> None:
        numbers = vectors if self._vectors else vectors[:, :0]
        # str is the shortest text that reads as the same number in the vectors' own precision.
        rows = [[*map(_field, values), *map(str, row)] for *values, row in zip(*columns.values(), numbers, strict=True)]
        if not self._begun:
            rows.insert(0, [*columns, *_names(numbers.shape[1])])
            self._begun = True
        self.stream.write(csv_bytes(rows))


class _NpyWriter(VectorWriter):
    def __init__(self, path: Path, stack: ExitStack) -> None:
        # Entered first, so that it takes its name last.
        self._path, self._stream = path, stack.enter_context(atomic_file(path))
        self._rows = _CsvWriter(_rows_of(path), stack, vectors=False)
        self._count = 0
        self._like = np.zeros((0, 0), np.float32)

    def append(self, columns: Columns, vectors: NDArray[np.floating]) -> None:
        if not self._count:
            self._like = vectors[:0]
            self._header()
        self._rows.append(columns, vectors)
        self._stream.write(np.ascontiguousarray(vectors, self._like.dtype).data)
        self._count += len(vectors)

    def finish(self) -> None:
        self._stream.seek(0)
        self._header()
        # What can fail for want of room is done before the old vectors go; then at no moment do vectors lie beside
        # another file's rows, wherever this process is killed.
        for stream in (self._stream, self._rows.stream):
            stream.flush()
            os.fsync(stream.fileno())
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def _header(self) -> None:
        # NumPy leaves room in the header for the first axis to grow, so that the second header is as long as the first.
        described = np.lib.format.header_data_from_array_1_0(self._like)
        np.lib.format.write_array_header_1_0(self._stream, {**described, "shape": (self._count, self._like.shape[1])})


class _ParquetWriter(VectorWriter):
    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._stream = stack.enter_context(atomic_file(path))
        self._writer: Any = None
        self._waiting: list[Any] = []
        self._bytes = 0

    def append(self, columns: Columns, vectors: NDArray[np.floating]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Few readers know float16.
        numbers = np.asarray(vectors, np.float32)
        named: dict[str, Any] = {name: _arrow(values) for name, values in columns.items()}
        named |= dict(zip(_names(numbers.shape[1]), map(pa.array, numbers.T), strict=True))
        self._waiting.append(pa.table(named))
        if self._writer is None:
            self._writer = self._stack.enter_context(pq.ParquetWriter(self._stream, self._waiting[0].schema))
        self._bytes += numbers.nbytes
        if self._bytes >= _GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._bytes = [], 0


_WRITERS: dict[str, Callable[[Path, ExitStack], VectorWriter]] = {
    ".npy": _NpyWriter,
    ".parquet": _ParquetWriter,
    ".csv": _CsvWriter,
}


def _rows_of(path: Path) -> Path:
    return path.with_suffix(".rows.csv")


def _names(dim: int) -> list[str]:
    return [f"e{number}" for number in range(dim)]


def _field(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _arrow(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    if len(values) and isinstance(values[0], (str, os.PathLike)):
        # Arrow's text is UTF-8: of a file name that is not, the odd bytes are written as \xNN.
        return pa.array([os.fsencode(value).decode("utf-8", "backslashreplace") for value in values], pa.string())
    return pa.array(np.asarray(values, np.float32), from_pandas=True)
