"""`facetl cache DIR --tap auto`: the tap is found first, and what is cached has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from machine import Machine


@pytest.mark.slow
def test_tap_auto_is_resolved_before_anything_is_cached(
    tmp_path: Path, make_people: Callable[..., Path], small_net_weights: Path
) -> None:
    photos = make_people(tmp_path / "photos", people=6, photos=3)
    machine = Machine(tmp_path)
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--no-mirror")
    filled = machine.json("cache", photos, *net, "--tap", "auto", here=True)
    picked = filled["transfer"]["picked"]
    assert filled["computed"] == 18
    assert filled["transfer"]["people"] == 6
    assert picked in filled["transfer"]["rows"]
    (cached,) = machine.json("cache", "info", here=True)["extractors"]
    assert (cached["description"]["tap"], cached["description"]["grid"]) == (picked["tap"], picked["grid"])
    assert cached["fingerprint"] == filled["fingerprint"]
    again = machine.json("cache", photos, *net, "--tap", picked["tap"], "--grid", picked["grid"], here=True)
    assert (again["computed"], again["fingerprint"]) == (0, filled["fingerprint"])
