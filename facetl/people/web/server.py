"""The page as an ASGI application, its error pages, and the server that answers this machine alone, until Ctrl-C."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from facetl.errors import DataError, FacetlError
from facetl.io.text import printable
from facetl.people.library import Library
from facetl.people.web import answer_views, job_views, people_views, photo_views, stack_views
from facetl.people.web.context import HERE, Site
from facetl.people.web.guard import HEADERS, Guard
from facetl.people.web.service import PeopleService

HOST: Final = "127.0.0.1"
_TITLES: Final = {
    400: "That was not understood",
    404: "There is nothing here",
    405: "Not like this",
    409: "Not now",
    413: "Too large",
    422: "That was not understood",
    500: "Something went wrong",
}
_OWN_WORDS: Final = {
    "Not Found": "Nothing has this address. It may have been merged, split or forgotten.",
    "Method Not Allowed": "This address is not for that.",
}
_PATIENCE: Final = 10.0
# Newer FastAPI would report to wherever environment variables say.
_NO_TELEMETRY: Final[Any] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
_LOG: Final = logging.getLogger(__name__)


class Server:
    """The page on a library at an `address` of its own, token and all; `run` serves until `stop` or Ctrl-C.

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


def make_app(library: Library, *, token: str, port: int, service: PeopleService | None = None) -> FastAPI:
    """Return the page on a library.

    Args:
        library: an open library.
        token: what the address must hold once, `/?token=…`; the browser gets a cookie for it.
        port: where the page is served, on 127.0.0.1; no other host is answered.
        service: does what needs a run; without it the page still shows, names, splits, merges and exports.
    """
    site = Site(library, service or PeopleService(library))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        site.work.close(_PATIENCE)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, telemetry=_NO_TELEMETRY)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    for part in (photo_views, stack_views, people_views, job_views, answer_views):
        app.include_router(part.router(site))
    _add_error_pages(app, site)
    app.add_middleware(Guard, token=token, port=port)
    app.state.site = site
    return app


def _add_error_pages(app: FastAPI, site: Site) -> None:
    def respond(request: Request, status: int, text: str) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            title = _TITLES.get(status, HTTPStatus(status).phrase)
            return site.page(request, "error.html", status=status, title=title, text=text)
        return JSONResponse({"error": printable(text)}, status)

    @app.exception_handler(HTTPException)
    def by_status(request: Request, error: HTTPException) -> Response:
        answer = respond(request, error.status_code, _OWN_WORDS.get(error.detail, error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"][1:])
        return respond(request, 422, f"{where or 'request'}: {first['msg']}.")

    @app.exception_handler(FacetlError)
    def refused(request: Request, error: FacetlError) -> Response:
        return respond(request, 409, str(error))

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> Response:
        _LOG.debug("an answer failed", exc_info=error)
        answer = respond(request, 500, f"An error of facetl's own ({type(error).__name__}). Your answers are kept.")
        # This answer is given outside the guard; the server ends a connection after it, which a client should know.
        answer.headers.update(HEADERS | {"Cache-Control": "no-store", "Connection": "close"})
        return answer
