"""A process that carries out orders in forks of itself, which the tests kill: what it has imported is imported once."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def serve(do: Callable[[dict[str, Any]], None]) -> None:
    """Read a JSON order a line from stdin, do it in a child, print its exit status; `kill_after` seconds, kill it."""
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                do(order)
                status = 0
            except BaseException:  # noqa: BLE001  the parent's loop must never run in the child
                traceback.print_exc()
            finally:
                os._exit(status)
        if "kill_after" in order:
            time.sleep(order["kill_after"])
            os.kill(pid, signal.SIGKILL)  # a child that has ended keeps its number until it is waited for
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
