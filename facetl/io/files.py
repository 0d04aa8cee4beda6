"""Files on disk: for their owner alone, whole or as they were, written by one process; their digests and errors.

A photo is known by the sha256 of its bytes, whatever it is called and wherever it lies.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import shutil
import sqlite3
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from facetl.errors import FULL_DISK, CacheError, CacheFullError, CacheLockedError, DataError, RunError, first_line
from facetl.io.system import usable_processors
from facetl.io.text import LONGEST_NAME, cut

# How the names of files begin that are not whole yet; a kill leaves one behind.
PARTIAL = ".partial-"
_CHUNK = 64  # files a thread takes at a time
Sync = Literal["folder", "file", "none"]
_SQLITE_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}


@contextmanager
def translate_disk_errors(folder: Path) -> Iterator[None]:
    """Turn the errors of files and of SQLite into `CacheError`, a full disk's into `CacheFullError`."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
        raise _disk_error(folder, reason, full=error.errno in FULL_DISK) from error
    except sqlite3.OperationalError as error:
        name = getattr(error, "sqlite_errorname", "")
        raise _disk_error(folder, f"index: {error}", full=name in _SQLITE_FULL) from error


def _disk_error(folder: Path, reason: str, *, full: bool) -> CacheError:
    if not full:
        return CacheError(
            f"A cache must be on a disk that can be read and written; {folder} gave: {reason}. "
            "Check its permissions and the disk, or choose another cache folder."
        )
    return CacheFullError(
        f"The cache needs room on its disk; {folder} gave: {reason}. Every row committed before is safe: "
        "make room and run the same command again, it goes on from there."
    )


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, whatever the umask; an existing one stays as it is."""
    if folder.is_dir():
        return
    # Asked in this order: another process may make the folder meanwhile.
    if folder.exists() and not folder.is_dir():
        raise CacheError(f"A cache is a folder; {folder} is a file. Choose another place, or move the file away.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o700)
        sync_folder(folder.parent)


def open_private(path: Path, flags: int) -> int:
    """Open (or create, for its owner alone, whatever the umask) a file and return its descriptor."""
    try:
        descriptor = open_bytes(path, flags | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return open_bytes(path, flags & ~os.O_CREAT)
    os.chmod(path, 0o600)
    return descriptor


def open_bytes(path: Path | str, flags: int) -> int:
    """Open a file, its bytes as they are, and return its descriptor; opening a named pipe to read never waits."""
    # Windows would write "\r\n" for every "\n".
    return os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0), 0o600)


def sync_folder(folder: Path) -> None:
    """Make a creation or a rename in `folder` survive a power cut, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows, which writes folders through by itself
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_fully(descriptor: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of `data` at `offset`, however the system cuts it into pieces.

    It moves the descriptor's position: one thread at a time may use it.
    """
    rest = memoryview(data).cast("B")
    os.lseek(descriptor, offset, os.SEEK_SET)
    while rest:
        written = os.write(descriptor, rest)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


def disk_bytes(path: Path) -> int:
    """Return the bytes that a file takes on its disk (holes of a sparse one take none); 0 where it is missing."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 0
    blocks: int = getattr(status, "st_blocks", -1)
    return status.st_size if blocks < 0 else blocks * 512


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o600, sync: Sync = "folder") -> Iterator[BinaryIO]:
    """Give a stream of bytes that becomes the file `path` when the block ends, or nothing when it fails.

    Args:
        path: the file; its folder is there.
        mode: who may read it, by default its owner alone.
        sync: what a power cut after the block cannot undo: the bytes and the name ("folder"), the bytes alone where
            the caller syncs the folder ("file"), or nothing ("none": for what is easily made again).
    """
    # A name of its own length: the file's may be as long as the system takes.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            os.chmod(name, mode)
            yield stream
            stream.flush()
            if sync != "none":
                os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError) and error.errno in FULL_DISK and error.filename is None:
            error.filename = str(path)  # which a write does not tell
        raise
    if sync == "folder":
        sync_folder(path.parent)


def write_atomic(path: Path, content: bytes, *, mode: int = 0o600, sync: Sync = "folder") -> None:
    """Write a file so that it is there whole or as it was before; see `atomic_file`."""
    with atomic_file(path, mode=mode, sync=sync) as stream:
        stream.write(content)


@contextmanager
def atomic_folder(
    folder: Path, *, partial: Path | None = None, keep: bool = False, replace: bool = False, mode: int = 0o777
) -> Iterator[Path]:
    """Give a folder beside `folder` that takes its place when the block ends.

    Args:
        folder: what the block makes; OSError where something else than an empty folder has that name.
        partial: the folder beside it, which may be there already; by default `.NAME.partial`.
        keep: leave what a block has written that fails, for the next one to go on with.
        replace: put the new folder in the place of one that is there, which is `.NAME.old` for a moment.
        mode: who may read a folder that is made here.
    """
    partial = partial or beside(folder, ".partial")
    old = beside(folder, ".old")
    partial.mkdir(mode=mode, parents=True, exist_ok=True)
    try:
        yield partial
        if replace and folder.exists():
            if old.exists():
                shutil.rmtree(old)
            os.replace(folder, old)
        os.replace(partial, folder)
    except BaseException:
        if replace and old.exists() and not folder.exists():
            os.replace(old, folder)
        if not keep:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if replace:
        shutil.rmtree(old, ignore_errors=True)


def beside(path: Path, ending: str) -> Path:
    """Return the hidden name `.NAME<ending>` beside a file or folder, NAME cut where it is too long for that."""
    return path.with_name(f".{cut(path.name, LONGEST_NAME - 1 - len(os.fsencode(ending)))}{ending}")


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays by name into one .npz, none of them of objects; see `atomic_file`."""
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)


@contextmanager
def stored_arrays(path: Path, what: str, remedy: str) -> Iterator[dict[str, NDArray[Any]]]:
    """Give the arrays that `write_arrays` wrote, by name; none is larger than the file.

    Raises FileNotFoundError where there is no file, and RunError, saying `what` it is and the `remedy`, where it cannot
    be read or is damaged: also for an array that is missing, or of which the block cannot make what it must be.
    """
    try:
        yield _arrays(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, DataError) as error:
        raise RunError(f"{path}: {what} cannot be read ({first_line(error)}). {remedy}") from error


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as members:
            if sum(member.file_size for member in members.infolist()) > path.stat().st_size:
                raise ValueError("its members are larger than the file")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        for name, array in arrays.items():
            # A member that is no array is given as bytes; numbers of no size may claim any count.
            if not isinstance(array, np.ndarray) or array.size > max(1, array.nbytes):
                raise ValueError(f"{name} is no array")
            if array.dtype.kind == "U":
                array.tolist()  # fails on numbers that are no characters
    except OSError:
        raise
    except Exception as error:  # on forged files zipfile, zlib, tokenize and NumPy raise whatever they meet
        raise ValueError(first_line(error)) from error
    return arrays


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as CSV, UTF-8; a file name that is not UTF-8 keeps its bytes."""
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue().encode("utf-8", "surrogateescape")


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed left in a folder and below it; nobody else may write there meanwhile."""
    for path in folder.rglob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def checksum(key: bytes, row: NDArray[np.float16] | bytes) -> int:
    """Return the CRC-32 over a photo's sha256 and the bytes of its row: under another photo's name it is wrong."""
    return zlib.crc32(memoryview(row), zlib.crc32(key))  # type: ignore[arg-type]


def sha256_of(data: bytes) -> str:
    """Return the sha256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path | str) -> str:
    """Return the sha256 of a regular file's bytes as 64 hex digits; OSError where it cannot be read."""
    with open(path, "rb", buffering=0, opener=open_bytes) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths: Sequence[Path]) -> list[str | None]:
    """Return the sha256 of each file [paths], in order; None for one that cannot be read."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    # Threads pay where the disk is slow; with warm pages and tiny photos two are already as fast as many.
    with ThreadPoolExecutor(min(8, 2 * usable_processors())) as pool:
        return [digest for chunk in pool.map(_digests, chunks) for digest in chunk]


def _digests(paths: Sequence[Path]) -> list[str | None]:
    found: list[str | None] = []
    for path in paths:
        try:
            found.append(sha256_of_file(path))
        except (OSError, ValueError):
            found.append(None)
    return found


def holder_of(lock: Path) -> Path:
    """Return the file beside a lock that names the process which holds it."""
    return lock.with_suffix(".pid")


class WriterLock:
    """An advisory lock on a file, released by the system when its holder ends, however it ends.

    A file beside it keeps the holder's process id for the message that others get; files left behind lock nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not thread_local: a cache may be closed by another thread than the one that opened it.
        self._lock = FileLock(path, mode=0o600, thread_local=False)

    def acquire(self) -> None:
        """Take the lock without waiting; CacheLockedError where another holds it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise CacheLockedError(
                f"One process at a time may write a cache; {self.path.parent} is being written by "
                f"process {self._holder()}. Wait until it ends, or stop it, then run this again."
            ) from error
        # A full disk keeps nobody from writing over what is there.
        try:
            with suppress(OSError):
                descriptor = open_private(holder_of(self.path), os.O_WRONLY | os.O_TRUNC)
                try:
                    write_fully(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
                finally:
                    os.close(descriptor)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._lock.is_locked:
            with suppress(OSError):
                holder_of(self.path).unlink()
            self._lock.release()

    def _holder(self) -> str:
        try:
            return holder_of(self.path).read_text(encoding="ascii", errors="replace").strip() or "unknown"
        except OSError:
            return "unknown"
