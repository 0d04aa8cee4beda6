"""The main job on a system without POSIX: no fcntl, no pwrite, no folder that can be opened."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import without_posix
from machine import Machine
from tiny_yunet import tiny_yunet


@dataclass(frozen=True)
class Elsewhere(Machine):
    """A machine whose `facetl` lacks what Windows lacks."""

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "warn_default_encoding", without_posix.__file__, *map(str, arguments)]
        environment = {**self.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_main_job_runs_without_posix(
    tmp_path: Path, make_people: Callable[..., Path], small_net_weights: Path
) -> None:
    machine = Elsewhere(tmp_path / "home")
    machine.home.mkdir()
    photos = make_people(tmp_path / "photos", people=12, photos=5, noise=40.0, seed=3)
    (photos / "Person_00").rename(photos / "Zoë_Ångström")
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--tap", "conv", "--grid", 5)
    assert machine.json("cache", photos, *net)["computed"] == 60
    assert machine.json("cache", photos, *net)["reused"] == 60
    run = ("--run", "family", "--models", tmp_path / "models", "--epochs", 2, "--components", 16)
    machine.json("train", photos, *net, *run)
    photo = tmp_path / "photo.png"
    image = np.full((64, 64, 3), 60, np.uint8)
    image[16:32, 16:32] = (0, 0, 255)  # the net below takes red squares for faces
    cv2.imwrite(str(photo), image)
    faces = ("--models", tmp_path / "models", "--detector", "yunet")
    faces += ("--detector-weights", tiny_yunet(tmp_path / "yunet.onnx"))
    assert machine.json("enroll", "family", "Zoë Ångström", photo, "--largest", *faces)["faces"] == 1
    found = machine.json("identify", "family", photo, *faces)
    assert {face["name"] for face in found["faces"]} == {"Zoë Ångström"}
