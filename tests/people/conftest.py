"""A made-up library, drawn once, copied for each test; and the page on it, served for real."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import Album, Oracle, fill
from served import Page, serving

from facetl.people.library import Library


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
    yield from serving(library, Oracle(library, album))


@pytest.fixture(scope="session")
def still_page(drawn: tuple[Path, Album], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Return a page that no test changes."""
    folder = tmp_path_factory.mktemp("still") / "Family"
    shutil.copytree(drawn[0], folder)
    with Library.open(folder) as library:
        yield from serving(library, Oracle(library, drawn[1]))


@pytest.fixture
def bare_page(library: Library) -> Iterator[Page]:
    """Return the page of a library without a run."""
    yield from serving(library, None)
