"""The page of a library, served for real, and a browser that is signed in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from facetl.people.library import Library
from facetl.people.web.context import Site
from facetl.people.web.server import Server
from facetl.people.web.service import PeopleService


@dataclass
class Page:
    """The page being served, and a browser that is signed in."""

    server: Server
    browser: httpx.Client

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def site(self) -> Site:
        site: Site = self.server.app.state.site
        return site

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.browser.get(path, **options)

    def html(self, path: str) -> str:
        answer = self.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"Origin": self.base, "Accept": "application/json"} | options.pop("headers", {})
        given = options if "content" in options else {"json": body if body is not None else {}}
        return self.browser.post(path, headers=headers, **given)

    def notify(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content


def serving(library: Library, service: PeopleService | None) -> Iterator[Page]:
    """Serve a library in a thread, until the test is over."""
    server = Server(library, service=service)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60, trust_env=False) as browser:
            assert browser.get(server.address).status_code == 303
            yield Page(server, browser)
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
