"""Nothing tries to leave the machine: the main job in a network namespace of its own, whose counters stay 0."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import offline
import pytest
from machine import Machine

_UNSHARE = ["unshare", "--map-root-user", "--net"]

pytestmark = pytest.mark.slow


def _can_unshare() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*_UNSHARE, "true"], check=False).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="no network namespace may be made here: unshare --map-root-user --net")
def test_nothing_tries_to_leave(tmp_path: Path, make_people: Callable[..., Path], small_net_weights: Path) -> None:
    machine = Machine(tmp_path / "home")
    machine.home.mkdir()
    photos = make_people(tmp_path / "photos", people=12, photos=5, noise=40.0, seed=3)
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--tap", "conv", "--grid", 5)
    run, library = tmp_path / "models" / "family", tmp_path / "library"
    commands: tuple[tuple[object, ...], ...] = (
        ("cache", photos, *net),
        ("train", photos, *net, "--run", "family", "--models", run.parent, "--epochs", 2, "--components", 16),
        ("evaluate", "clusters", run, photos),
        ("enroll", run, "Ada", photos / "Person_00" / "00.png"),
        ("identify", run, photos / "Person_01" / "00.png"),
        ("export", run, "--out", tmp_path / "net.tflite", "--format", "litert"),
        ("people", "import", photos, "--library", library, "--run", run, "--detector", "none"),
    )
    orders = json.dumps({"commands": [list(map(str, one)) for one in commands], "library": str(library)})
    done = subprocess.run(
        [*_UNSHARE, sys.executable, offline.__file__],
        input=orders,
        env={**machine.environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["failed"] == {}
    assert outcome["interfaces"] == ["lo"]
    assert set(outcome["attempts"].values()) == {0}
    assert outcome["page"] == 200
    # Over the loopback interface the page is fetched, and that is all.
    page = outcome["attempts_page"]
    assert page["Tcp.ActiveOpens"] == 2  # the address with its token, and where that leads
    assert page["Udp.OutDatagrams"] == page["Ip.OutNoRoutes"] == page.get("Ip6OutNoRoutes", 0) == 0
    assert outcome["attempts_control"]["Ip.OutNoRoutes"] > 0
