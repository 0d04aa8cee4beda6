"""A made-up library, drawn once, copied for each test; and the page on it, served for real."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from made_up import Album, Oracle, fill

from facetl.library.library import Library
from facetl.web.engine import Engine
from facetl.web.server import Server
from facetl.web.site import Site


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

    def say(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content


def serving(library: Library, engine: Engine | None) -> Iterator[Page]:
    """Serve a library in a thread, until the test is over."""
    server = Server(library, engine=engine)
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


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Album]:
    """Return the folder of a closed library with 6 people on 24 photos, not to be written to, and who is who."""
    room = tmp_path_factory.mktemp("drawn")
    with Library.open(room / "library", create=True) as library:
        album = fill(library, room / "photos", people=6, photos=24, seed=1)
    return room / "library", album


@pytest.fixture
def album(drawn: tuple[Path, Album]) -> Album:
    """Return who is who."""
    return drawn[1]


@pytest.fixture
def library(drawn: tuple[Path, Album], tmp_path: Path) -> Iterator[Library]:
    """Return a library of the test's own."""
    shutil.copytree(drawn[0], tmp_path / "Family")
    with Library.open(tmp_path / "Family") as library:
        yield library


@pytest.fixture
def page(library: Library, album: Album) -> Iterator[Page]:
    """Return the page with an oracle in the nets' place."""
    yield from serving(library, Oracle(library, album).engine())


@pytest.fixture(scope="session")
def still_page(drawn: tuple[Path, Album], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Return a page that no test changes."""
    folder = tmp_path_factory.mktemp("still") / "Family"
    shutil.copytree(drawn[0], folder)
    with Library.open(folder) as library:
        yield from serving(library, Oracle(library, drawn[1]).engine())


@pytest.fixture
def bare_page(library: Library) -> Iterator[Page]:
    """Return the page of a library without a run."""
    yield from serving(library, None)
