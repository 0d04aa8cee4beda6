"""Runs facetl's commands where no network is, and prints what tried to leave; `unshare --net` starts it.

Reads {"commands": [[argument, …], …], "library": folder} from stdin. The loopback interface is down, as all of a new
namespace, until the page of the library is fetched at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import signal
import socket
import struct
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

_UP, _SET_FLAGS = 1, 0x8914  # IFF_UP, SIOCSIFFLAGS
_OUT = {"Ip": ("OutRequests", "OutNoRoutes"), "Tcp": ("ActiveOpens",), "Udp": ("OutDatagrams",)}


def attempts() -> dict[str, int]:
    """Return how much this namespace has tried to send, by the kernel's names."""
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    stated = {names[0].rstrip(":"): dict(zip(names[1:], values[1:], strict=True)) for names, values in
              zip(lines[::2], lines[1::2], strict=True)}  # fmt: skip
    found = {f"{protocol}.{name}": int(stated[protocol][name]) for protocol, names in _OUT.items() for name in names}
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        sixth = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
        found |= {name: int(sixth[name]) for name in ("Ip6OutNoRoutes", "Udp6OutDatagrams")}
    return found


def run(command: list[str]) -> str:
    """Run a command in this process; return what went wrong, empty where nothing did."""
    from facetl.cli.app import main

    printed = io.StringIO()
    with (
        patch.object(sys, "argv", ["facetl", *command]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main()
        except SystemExit as ended:
            return printed.getvalue() if ended.code else ""
        except BaseException:  # noqa: BLE001 - the test prints it
            return traceback.format_exc()
    return ""


def fetch_page(library: str) -> int:
    """Serve a library, fetch its page once over the loopback interface, and return the answer's status."""
    flags = struct.pack("16sH14s", b"lo", _UP, b"")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, flags)
    command = [sys.executable, "-m", "facetl", "people", "serve", library, "--no-browser", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        assert serving.stdout is not None
        address = json.loads(serving.stdout.readline())["address"]
        try:
            with build_opener(ProxyHandler({}), HTTPCookieProcessor()).open(address, timeout=60) as page:
                return int(page.status)
        finally:
            serving.send_signal(signal.SIGINT)


def main() -> None:
    """Do what stdin orders."""
    orders: dict[str, Any] = json.load(sys.stdin)
    outcome: dict[str, Any] = {"interfaces": [name for _, name in socket.if_nameindex()]}
    outcome["failed"] = {command[0]: error for command in orders["commands"] if (error := run(command))}
    outcome["attempts"] = attempts()
    outcome["page"] = fetch_page(orders["library"])
    outcome["attempts_page"] = attempts()
    # A control: these counters see whoever tries.
    with contextlib.suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    outcome["attempts_control"] = attempts()
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
