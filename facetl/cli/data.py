"""`facetl data`: photos to work on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl.cli.options import Json
from facetl.cli.screen import photo_progress, put, put_json, say

app = typer.Typer(help="Get photos to work on.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    pass


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="sample, lfw, tfds:NAME, or a folder to check.")],
    out: Annotated[Path, typer.Argument(help="Folder to make, with a folder per person.")],
    json: Json = False,
) -> None:
    """Make a named source of faces into a folder of people."""
    from facetl.data.sources import fetch as fetch_source

    with photo_progress(f"fetching {name}") as progress:
        fetched = fetch_source(name, out, progress=progress)
    if json:
        put_json(fetched.to_json())
        return
    put(f"{fetched.root}: {fetched.photos:,} photos of {fetched.people:,} people")
    if fetched.terms:
        say(fetched.terms)
