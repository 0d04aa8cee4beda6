"""One trained run on made-up people, through the command line, shared by the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from machine import Machine, Trained


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path], small_net_weights: Path
) -> Trained:
    """Return a run named `family`, trained on 20 made-up people with 5 photos each."""
    room = tmp_path_factory.mktemp("machine")
    machine = Machine(room / "home")
    machine.home.mkdir()
    photos = make_people(room / "photos", people=20, photos=5, noise=40.0, seed=3)
    (photos / "Person_00" / "notes.txt").write_text("not a photo")
    (photos / "Person_01" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    # Random weights: only the first convolutions still tell photos apart.
    net = ("--extractor", "mobilenet_v3_small", "--weights", str(small_net_weights), "--crop", "0.9")
    net += ("--tap", "conv", "--grid", "5")
    first = machine.json("cache", photos, *net)
    options = ("--run", "family", "--models", room / "models", "--epochs", 4, "--components", 16)
    report = machine.json("train", photos, *net, *options)
    return Trained(machine, photos, net, room / "models", first, report, machine.json("cache", photos, *net))
