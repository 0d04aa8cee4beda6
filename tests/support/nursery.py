"""Fills (or compacts) caches in processes that the tests kill; forks them: NumPy is imported only once.

Reads a JSON order a line from stdin, forks, does it in the child and, when that has ended, prints its exit
status. Orders: {"do": "fill" | "gc", "cache", "photos", "log", "pause", "kill_after", "die_at"}. `log` gets a
line for each batch once `append` has returned. The child is killed after `kill_after` seconds. With `die_at`
it kills itself with SIGKILL just before its n-th write, sync, rename, removal or SQL statement (from 1),
and halfway through a write.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from forking import serve

from facetl.embeddings import shards
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.fill import fill
from facetl.embeddings.maintenance import gc
from facetl.io import sqlite_file

DIM = 24
BATCH = 4
WEIGHTS = "cd" * 32


@dataclass
class Spec:
    def fingerprint(self, weights_sha256: str) -> str:
        return hashlib.sha256(weights_sha256.encode()).hexdigest()


def feature(pixels: np.ndarray) -> np.ndarray:
    """Numbers that only this photo has, whatever its batch: taken from its sha256."""
    digest = hashlib.sha256(pixels.tobytes()).digest()
    return np.frombuffer(digest[:DIM], np.uint8).astype(np.float32) - 100


class Slow:
    """The extractor: exact, and slow enough to be killed in."""

    dim = DIM
    flagged: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        time.sleep(self.pause)
        return np.stack([feature(image) for image in images])


def decode(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(4, -1, 3)


def set_up_shards() -> None:
    """Shards of 10 rows: every third batch runs over the end of one."""
    shards.SHARD_BYTES = 10 * DIM * 2


def die_before(die_at: int) -> None:
    """Kills this process just before its `die_at`-th step that changes the disk."""
    left = [die_at]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return function(*arguments, **options)

        return call

    def torn_write(descriptor: int, data: bytes) -> int:
        count()  # nothing of it on the disk; then, as if killed within the call, one half
        half = honest(descriptor, bytes(data)[: len(data) // 2]) if len(data) > 1 else 0
        count()
        return half + honest(descriptor, bytes(data)[half:])

    honest = os.write
    os.write = torn_write
    for name in ("fsync", "replace", "ftruncate", "mkdir", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    attach = sqlite_file.attach

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            count()
            return super().execute(sql, *parameters)

    def attach_counted(path: Path, mode: str) -> sqlite3.Connection:
        honest = sqlite3.connect
        sqlite3.connect = lambda *a, **k: honest(*a, factory=Connection, **k)  # type: ignore[assignment]
        try:
            return attach(path, mode)
        finally:
            sqlite3.connect = honest

    sqlite_file.attach = attach_counted


def apply(order: dict[str, Any]) -> None:
    set_up_shards()
    write = os.write  # the log is the test's, and whole
    if order.get("die_at"):
        die_before(order["die_at"])
    if order["do"] == "gc":
        gc(Path(order["cache"]))
        return
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    append = EmbeddingCache.append

    def logged(self: EmbeddingCache, shas: Sequence[str], rows: Any) -> None:
        append(self, shas, rows)
        write(log, (json.dumps(list(shas)) + "\n").encode())

    EmbeddingCache.append = logged  # type: ignore[method-assign]
    fill(
        sorted(Path(order["photos"]).iterdir()),
        cache_folder=Path(order["cache"]),
        spec=Spec(),
        weights_sha256=WEIGHTS,
        make_net=lambda: Slow(order.get("pause", 0)),
        decode=decode,
        batch_size=BATCH,
    )


if __name__ == "__main__":
    serve(apply)
