"""Serves the page to this machine alone, until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import uvicorn

from facetl.errors import DataError
from facetl.people.web.app import make_app
from facetl.people.web.service import PeopleService

if TYPE_CHECKING:
    from facetl.people.library import Library


HOST: Final = "127.0.0.1"


class Server:
    """The page on a library at an address of its own; `run` serves until `stop` or Ctrl-C.

    Args:
        library: an open library; the caller closes it after `run`.
        service: does what needs a run.
        port: where to listen on 127.0.0.1; 0 takes a free one. DataError where it is taken.
    """

    def __init__(self, library: Library, *, service: PeopleService | None = None, port: int = 0) -> None:
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        token = secrets.token_urlsafe(32)
        self.address = f"http://{HOST}:{self.port}/?token={token}"
        self.app = make_app(library, token=token, port=self.port, service=service)
        # No access log: it would hold what was looked at. No log at all: an error page has it all.
        config = uvicorn.Config(
            self.app,
            http="h11",
            ws="none",
            loop="asyncio",
            access_log=False,
            log_config=None,
            log_level="critical",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=200,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve; returns after Ctrl-C or `stop`, once running work has been stopped."""
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:
            # Uvicorn has shut down in order and raises the signal once more.
            pass
        finally:
            self._socket.close()

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._server.should_exit = True


def serve(
    library: Library,
    *,
    service: PeopleService | None = None,
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page on a library until Ctrl-C; `on_ready` gets the address, token and all, before it begins."""
    server = Server(library, service=service, port=port)
    if on_ready is not None:
        on_ready(server.address)
    server.run()


def _listen(port: int) -> socket.socket:
    # With the protocol named asyncio sends at once (TCP_NODELAY): else each answer on a connection that is kept waits
    # some 40 ms for the browser to acknowledge its headers.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        # From here on a browser that is quicker than the server waits instead of being refused.
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise DataError(
            f"--port: expected a free port of this machine, got {port} ({error}). Leave it out, and one is found."
        ) from error
    return listening
