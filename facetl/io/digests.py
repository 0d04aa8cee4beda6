"""By what a photo is known: the sha256 of its bytes, whatever it is called and wherever it lies."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from facetl.io.files import open_bytes
from facetl.io.system import usable_processors

_AT_ONCE = 16 * 2**20
_CHUNK = 64


def sha256_of(data: bytes) -> str:
    """Return the sha256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path | str) -> str:
    """Return the sha256 of a regular file's bytes as 64 hex digits; OSError where it cannot be read."""
    descriptor = open_bytes(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size <= _AT_ONCE:
            data = os.read(descriptor, status.st_size)
            if len(data) == status.st_size:
                return sha256_of(data)
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    finally:
        os.close(descriptor)


def digests(paths: Sequence[Path], *, threads: int | None = None) -> list[str | None]:
    """Return the sha256 of each file [paths], in order; None for one that cannot be read."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    # Threads pay where the disk is slow; with warm pages and tiny photos two are already as fast as many.
    with ThreadPoolExecutor(threads or min(8, 2 * usable_processors())) as pool:
        return [digest for chunk in pool.map(_digests, chunks) for digest in chunk]


def _digests(paths: Sequence[Path]) -> list[str | None]:
    found: list[str | None] = []
    for path in paths:
        try:
            found.append(sha256_of_file(path))
        except (OSError, ValueError):
            found.append(None)
    return found
