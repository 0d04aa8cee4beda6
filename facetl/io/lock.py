"""The lock that lets one process at a time write a cache; reading needs none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from facetl.errors import CacheLockedError
from facetl.io.files import open_private, write_fully


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
        with suppress(OSError):
            descriptor = open_private(holder_of(self.path), os.O_WRONLY | os.O_TRUNC)
            try:
                write_fully(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
            finally:
                os.close(descriptor)

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
