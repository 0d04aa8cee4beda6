"""Carries out command lines of facetl in processes that the tests kill; forks them: TensorFlow is imported only once.

Reads a JSON order a line from stdin, forks, runs it in the child and, when that has ended, prints its exit status.
Orders: {"command", "folder", "die_at", "steps"}. The command runs in `folder`, which is its HOME, too, and holds its
cache; what it prints goes to `err`. With `die_at` the child kills itself with SIGKILL just before its n-th step that
changes the disk, and halfway through a write. `steps` is a file that gets the number of steps.
"""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
from forking import serve
from light_runs import make_runs_light

import facetl
from facetl.embeddings import shards

_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


class Steps:
    """Counts the steps that change the disk: opening for writing, writing, syncing, renaming, removing, SQL."""

    def __init__(self, die_at: int | None) -> None:
        self.count, self.die_at = 0, die_at
        honest = os.write

        def torn_write(descriptor: int, data: Any) -> int:
            self.add()  # nothing of it on the disk; then, as if killed within the call, one half
            half = honest(descriptor, bytes(data)[: len(data) // 2]) if len(data) > 1 else 0
            self.add()
            return half + honest(descriptor, bytes(data)[half:])

        os.write = torn_write
        os.fsync = self._counted(os.fsync)
        os.ftruncate = self._counted(os.ftruncate)
        connect = sqlite3.connect

        def connect_counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(lambda _: self.add())
            return connection

        sqlite3.connect = connect_counted  # type: ignore[assignment]
        sys.addaudithook(self._hear)

    def add(self) -> None:
        self.count += 1
        if self.count == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.add()
            return function(*arguments)

        return call

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _CHANGES or (opened and isinstance(arguments[0], (str, bytes))):
            self.add()


def import_all() -> None:
    """Import what any command may need."""
    for module in walk_packages(facetl.__path__, "facetl."):
        if module.name != "facetl.__main__":
            import_module(module.name)
    import pandas  # noqa: F401
    import sklearn  # noqa: F401


def apply(order: dict[str, Any]) -> None:
    folder = Path(order["folder"])
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("FACETL", "XDG", "KERAS_HOME"))]:
        del os.environ[name]
    os.environ |= {"HOME": str(folder), "FACETL_CACHE": str(folder / "cache")}
    printed = os.open(order.get("printed", folder / "err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(printed, number)
    sys.argv = ["facetl", *order["command"]]
    steps = Steps(order.get("die_at"))
    from facetl.cli.app import main

    try:
        main()
    except SystemExit as ended:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if "steps" in order:
            Path(order["steps"]).write_text(str(steps.count))
        os._exit(int(ended.code or 0))


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import_all()
    make_runs_light(pytest.MonkeyPatch())
    shards.SHARD_BYTES = 2**12
    gc.freeze()
    serve(apply)
