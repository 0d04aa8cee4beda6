"""The page on a library, started from the command line."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING

from facetl.cli.screen import put, put_json, say

if TYPE_CHECKING:
    from facetl.library.library import Library


def serve_page(library: Library, *, port: int, browser: bool, as_json: bool, verbose: bool) -> None:
    """Serve the page until Ctrl-C; its address is printed, and opened in a browser where one is asked for."""
    from facetl.cli.people_engine import RunningEngine
    from facetl.web.server import serve

    def ready(address: str) -> None:
        if as_json:
            put_json({"address": address})
        else:
            put(address)
        say("this address is the key to your library: keep it to yourself. Ctrl-C ends the page")
        if browser:
            webbrowser.open(address)

    serve(library, engine=RunningEngine(library, verbose=verbose).engine(), port=port, on_ready=ready)
