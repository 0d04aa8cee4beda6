"""The server as a program: a free port or the one asked for, Ctrl-C, two libraries side by side."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from made_up import Album

from facetl.errors import DataError
from facetl.people.library import Library
from facetl.people.web.server import Server, _listen

CHILD = Path(__file__).parents[1] / "support" / "serve_made_up.py"


def test_ctrl_c_ends_it_in_order(drawn: tuple[Path, Album], tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(tmp_path / "room"), "--photos", "4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    try:
        address = child.stdout.readline().strip()
        assert httpx.get(address, trust_env=False, timeout=60).status_code == 303
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (child.returncode, out, err) == (0, "", "")


def test_a_taken_port_is_an_error_in_a_line(library: Library) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DataError, match=rf"--port: expected a free port.*{port}"):
            Server(library, port=port)
    for port in (-1, 70_000):
        with pytest.raises(DataError, match="--port"):
            Server(library, port=port)


def test_a_browser_may_be_quicker_than_the_server(library: Library) -> None:
    server = Server(library)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        pass
    server._socket.close()


def test_each_start_has_a_token_of_its_own(library: Library) -> None:
    one, other = Server(library), Server(library)
    assert one.port != other.port
    tokens = [server.address.split("token=")[1] for server in (one, other)]
    assert tokens[0] != tokens[1]
    assert all(len(token) >= 43 for token in tokens)
    for server in (one, other):
        server._socket.close()


def test_answers_are_sent_at_once() -> None:
    """A connection that holds small packets back (Nagle's algorithm) makes a browser wait for each picture."""

    async def held_back() -> int:
        found = asyncio.get_running_loop().create_future()

        async def heard(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = _listen(0)
        async with await asyncio.start_server(heard, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.close()
            return int(await found)

    assert asyncio.run(held_back()) != 0
