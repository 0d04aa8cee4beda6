"""The lock that lets one process at a time write a cache; reading needs none."""

from __future__ import annotations

import os
from pathlib import Path

from facetl.errors import CacheLockedError
from facetl.io.files import open_private


class WriterLock:
    """An advisory lock on a file, released by the system when its holder ends, however it ends.

    The file keeps the holder's process id for the message that others get; a file left behind locks nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Takes the lock or raises `CacheLockedError`; never waits."""
        import fcntl  # absent outside POSIX, where reading must still work

        descriptor = open_private(self.path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise CacheLockedError(
                f"One process at a time may write a cache; {self.path.parent} is being written by "
                f"process {holder or 'unknown'}. Wait until it ends, or stop it, then run this again."
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Gives the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
