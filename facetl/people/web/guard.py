"""Middleware that keeps everyone but the user of this machine away from the page: host, origin, token, size, headers.

The page is bound to the loopback address, which other web pages in the user's browser can still reach. So a request
counts only if it names this server as its host (against DNS rebinding), comes from this page (against request
forgery) and carries the session's cookie, which the address with the token is exchanged for.
"""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Ids of 20,000 faces fit well.
MAX_BODY: Final = 1024 * 1024
MAX_UPLOAD: Final = 64 * 1024 * 1024
UPLOAD_PATH: Final = "/search/photo"
STATIC: Final = "/static/"

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Robots-Tag": "noindex",
}

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<title>facetl</title><link rel="stylesheet" href="/static/page.css">'
    '<main class="alone"><h1>{title}</h1><p>{text}</p></main></html>'
)


class Guard:
    """ASGI middleware around the whole page; must be the outermost.

    Args:
        app: what it guards.
        token: what the printed address holds; anybody who knows it is let in.
        port: where the server listens, on 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        # Not the token itself: other servers on this machine get the cookie sent, whatever their port.
        self._session = secrets.token_urlsafe(32)
        # Cookies do not know ports: two libraries' pages must not sign each other out.
        self._cookie = f"facetl_{port}"
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, exchange its token for a cookie, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._answer(scope)
        if answer is not None:
            await answer(scope, receive, _with_headers(scope, send))
            return
        await self._app(scope, _limited(scope, receive), _with_headers(scope, send))

    def _answer(self, scope: Scope) -> Response | None:
        """Return what is answered in the page's place; None where the request may pass."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return _refuse(421, "Wrong address", "Open the address that facetl printed.")
        if scope["method"] not in ("GET", "HEAD") and headers.getlist("origin") != [f"http://{hosts[0].lower()}"]:
            return _refuse(403, "Not from here", "Only this page itself may change the library.")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refuse(403, "Not from here", "Type or paste the address that facetl printed; do not follow a link.")
        if scope["method"] in ("GET", "HEAD") and scope["path"].startswith(STATIC):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if given is not None and scope["method"] == "GET" and scope["path"] == "/":
            return self._exchange(given)
        known = Request(scope).cookies.get(self._cookie, "")
        if not secrets.compare_digest(known.encode(), self._session.encode()):
            return _refuse(403, "Not signed in", "Open the address that facetl printed when it was started.")
        return _too_large(scope, headers)

    def _exchange(self, given: list[str]) -> Response:
        if len(given) != 1 or not secrets.compare_digest(given[0].encode(), self._token):
            return _refuse(403, "Not this token", "Open the address that facetl printed when it was started last.")
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self._cookie, self._session, path="/", httponly=True, samesite="strict")
        return answer


def _limit(scope: Scope) -> int:
    return MAX_UPLOAD if scope["path"] == UPLOAD_PATH else MAX_BODY


def _too_large(scope: Scope, headers: Headers) -> Response | None:
    """Refuse a body by the size it declares, before a byte of it is read."""
    declared = headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and len(declared) < 20 and int(declared) <= _limit(scope):
        return None
    answer = _refuse(413, "Too large", f"At most {_limit(scope) >> 20} MiB are taken here.")
    answer.headers["Connection"] = "close"
    return answer


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Count what comes in: a body that declares no size, or a false one, ends at the limit too."""
    left = _limit(scope)

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"At most {_limit(scope) >> 20} MiB are taken here.", {"Connection": "close"})
        return message

    return counted


def _with_headers(scope: Scope, send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            # Names and faces stay out of the browser's cache; only the page's own assets are kept.
            headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith(STATIC) else "no-store")
        await send(message)

    return sent


def _refuse(status: int, title: str, text: str) -> Response:
    return HTMLResponse(_PAGE.format(title=title, text=text), status)
