"""The main job on a system without POSIX: no fcntl, no pwrite, no folder that can be opened."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import without_posix
from machine import Machine
from tiny_yunet import tiny_yunet


@dataclass(frozen=True)
class Elsewhere(Machine):
    """A machine whose `facetl` lacks what Windows lacks."""

    def run_in_turn(self, *commands: tuple[object, ...]) -> list[dict[str, Any]]:
        """Run commands in one process, which starts TensorFlow once; return what each prints with `--json`."""
        orders = json.dumps([[*map(str, arguments), "--json"] for arguments in commands])
        command = [sys.executable, "-X", "warn_default_encoding", without_posix.__file__]
        environment = {**self.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, input=orders, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(printed) == len(commands)
        return printed


def test_the_main_job_runs_without_posix(
    tmp_path: Path, make_people: Callable[..., Path], small_net_weights: Path
) -> None:
    machine = Elsewhere(tmp_path / "home")
    machine.home.mkdir()
    photos = make_people(tmp_path / "photos", people=12, photos=5, noise=40.0, seed=3)
    (photos / "Person_00").rename(photos / "Zoë_Ångström")
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--tap", "conv", "--grid", 5)
    run = ("--run", "family", "--models", tmp_path / "models", "--epochs", 2, "--components", 16)
    filled, _ = machine.run_in_turn(("cache", photos, *net), ("train", photos, *net, *run))
    assert filled["computed"] == 60
    photo = tmp_path / "photo.png"
    image = np.full((64, 64, 3), 60, np.uint8)
    image[16:32, 16:32] = (0, 0, 255)  # the net below takes red squares for faces
    cv2.imwrite(str(photo), image)
    faces = ("--models", tmp_path / "models", "--detector", "yunet")
    faces += ("--detector-weights", tiny_yunet(tmp_path / "yunet.onnx"))
    again, enrolled, found = machine.run_in_turn(
        ("cache", photos, *net),
        ("enroll", "family", "Zoë Ångström", photo, "--largest", *faces),
        ("identify", "family", photo, *faces),
    )
    assert again["reused"] == 60
    assert enrolled["faces"] == 1
    assert {face["name"] for face in found["faces"]} == {"Zoë Ångström"}
