"""One trained run on made-up people, through the command line, and a browser, shared by the end-to-end tests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, Trained
from shared import shared_folder
from sparse_copy import copy_with_holes

from facetl.data.fetch import sources
from facetl.errors import DataError


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path], small_net_weights: Path
) -> Trained:
    """Return a run named `family`, trained on 20 made-up people with 5 photos each.

    Workers share the photos and the weights; home and models are the worker's own, since tests write there.
    """

    def net(made: Path) -> tuple[str, ...]:
        # Random weights: only the first convolutions still tell photos apart.
        return (
            *("--extractor", "mobilenet_v3_small", "--weights", str(made / "small.weights.h5"), "--crop", "0.9"),
            *("--tap", "conv", "--grid", "5"),
        )

    def fill(made: Path) -> None:
        machine = Machine(made / "home")
        machine.home.mkdir()
        photos = make_people(made / "photos", people=20, photos=5, noise=40.0, seed=3)
        (photos / "Person_00" / "notes.txt").write_text("not a photo")
        (photos / "Person_01" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
        shutil.copy(small_net_weights, made / "small.weights.h5")
        options = ("--run", "family", "--models", made / "models", "--epochs", 4, "--components", 16)
        told = [
            machine.json("cache", photos, *net(made), here=True),
            machine.json("train", photos, *net(made), *options, here=True),
            machine.json("cache", photos, *net(made), here=True),
        ]
        (made / "told.json").write_text(json.dumps(told))

    made = shared_folder(tmp_path_factory.getbasetemp(), "trained", fill)
    room = tmp_path_factory.mktemp("machine")
    for name in ("home", "models"):
        shutil.copytree(made / name, room / name, copy_function=copy_with_holes)
    first, report, second = json.loads((made / "told.json").read_text())
    return Trained(Machine(room / "home"), made / "photos", net(made), room / "models", first, report, second)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample faces: those of `make train`, or fetched; skip where neither is to be had."""
    here = Path(__file__).resolve().parents[2] / "data" / "sample"
    if (here / "TERMS.txt").is_file():
        return here
    try:
        return sources.fetch("sample", tmp_path_factory.mktemp("fetched") / "sample").root
    except DataError as error:
        pytest.skip(f"the sample faces are not here: run facetl data fetch sample data/sample ({error})")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a headless Chromium of this machine, or skip."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    path = os.environ.get("FACETL_CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set FACETL_CHROMIUM to one")
    sync_api.expect.set_options(timeout=60_000)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
