"""The long work behind the page: one thing at a time, in one thread, with progress and a way to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from facetl.errors import FacetlError
from facetl.io.json import JsonFields
from facetl.io.text import printable

OnProgress = Callable[[int, int], None]


class Cancelled(Exception):  # noqa: N818 - no error: the user asked for it
    """Raised inside running work, at its next report of progress, once the user has asked it to stop."""


@dataclass(frozen=True)
class State(JsonFields):
    """The state of the work.

    Attributes:
        number: counts the works of this server; 0 before the first.
        what: what is being done, as the user reads it: `Looking for new photos`.
        done, total: progress; total is 0 while it is not known.
        running: whether it still runs; `stopping`, whether it was asked to stop.
        message: how it ended: what it found, or one line why it did not end well.
        failed: whether it did not end well.
        seconds: how long it has been running, or took.
    """

    number: int = 0
    what: str = ""
    done: int = 0
    total: int = 0
    running: bool = False
    stopping: bool = False
    message: str = ""
    failed: bool = False
    seconds: float = 0.0


class Work:
    """Runs one function at a time in a thread of its own; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = State()
        self._began = 0.0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def state(self) -> State:
        """Return the state of the work."""
        with self._lock:
            seconds = time.monotonic() - self._began if self._state.running else self._state.seconds
            return replace(self._state, seconds=seconds)

    def start(self, what: str, function: Callable[[OnProgress], str]) -> bool:
        """Start a function of (on_progress) → message; False, and nothing is done, while another one runs."""
        with self._lock:
            if self._state.running:
                return False
            self._stop.clear()
            self._began = time.monotonic()
            self._state = State(number=self._state.number + 1, what=what, running=True)
            # A daemon: a net that does not come back must not keep Ctrl-C from ending the program.
            self._thread = threading.Thread(target=self._run, args=(function,), name="facetl-work", daemon=True)
            self._thread.start()
            return True

    def cancel(self) -> None:
        """Ask what runs to stop at its next report of progress; what it has written stays."""
        with self._lock:
            self._stop.set()
            self._state = replace(self._state, stopping=self._state.running)

    def close(self, timeout: float) -> None:
        """Cancel, and wait for the end of what runs, seconds."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self, function: Callable[[OnProgress], str]) -> None:
        try:
            message, failed = function(self._report), False
        except Cancelled:
            message, failed = "Stopped. What was finished is kept.", False
        except FacetlError as error:
            message, failed = str(error), True
        except Exception as error:  # noqa: BLE001 - the page must show that it ended, whatever it was
            message, failed = f"It ended with an error of its own: {type(error).__name__}: {error}", True
        with self._lock:
            self._state = replace(
                self._state,
                running=False,
                stopping=False,
                message=printable(message),
                failed=failed,
                seconds=time.monotonic() - self._began,
            )

    def _report(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Cancelled
        with self._lock:
            self._state = replace(self._state, done=int(done), total=int(total))
