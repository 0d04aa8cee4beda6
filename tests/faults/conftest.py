"""What the tests of faults share: a place in memory, and processes that are told what to do and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def quick_room() -> Iterator[Path]:
    """A folder in memory where there is one: SIGKILL spares the page cache, so a disk adds only waiting."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def quick_path(quick_room: Path) -> Path:
    """A test's own folder in there."""
    return Path(tempfile.mkdtemp(dir=quick_room))


@pytest.fixture(scope="module")
def start_nursery() -> Iterator[Callable[[str], Callable[..., int]]]:
    """A function that starts a script of tests/support, which carries out each order in a process of its own.

    It returns a function of the order's words that gives the exit status, -9 when the process was killed.
    """
    with ExitStack() as started:

        def start(script: str) -> Callable[..., int]:
            process = subprocess.Popen(
                [sys.executable, str(SUPPORT / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                text=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            to, back = process.stdin, process.stdout
            started.callback(process.wait, 10)
            started.callback(to.close)

            def order(**words: object) -> int:
                to.write(json.dumps(words) + "\n")
                to.flush()
                return int(back.readline())

            return order

        yield start
