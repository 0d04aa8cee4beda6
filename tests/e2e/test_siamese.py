"""A Siamese run in grey, from the command line: what it keeps, draws and logs, and where its threshold comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from machine import Machine

MARGIN = 0.6


@pytest.fixture(scope="module")
def siamese(
    tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path], small_net_weights: Path
) -> tuple[Machine, Path, Path]:
    """Return a machine, photos, and a run that was trained on pairs of them."""
    room = tmp_path_factory.mktemp("siamese")
    machine = Machine(room / "home")
    machine.home.mkdir()
    photos = make_people(room / "photos", people=20, photos=4, noise=40.0, seed=5)
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--tap", "conv", "--grid", 5, "--grey")
    pairs = ("--loss", "contrastive", "--sampler", "pairs", "--margin", MARGIN, "--most-pairs", 300, "--epochs", 2)
    where = ("--run", "siamese", "--models", room / "models", "--components", 16, "--no-fallback")
    report = machine.json("train", photos, *net, *pairs, *where, "--plot-embeddings", here=True)
    assert report["epochs"] == 2
    return machine, photos, room / "models" / "siamese"


def test_the_run_says_what_it_was_trained_on(siamese: tuple[Machine, Path, Path]) -> None:
    config = json.loads((siamese[2] / "config.json").read_text())
    settings = config["settings"]
    assert (settings["loss"], settings["sampler"], settings["most_pairs"]) == ("contrastive", "pairs", 300)
    assert settings["margin"] == MARGIN
    assert config["extractor"]["spec"]["grey"] is True
    assert config["layout"] == "folders"
    assert "in grey" in (siamese[2] / "MODEL_CARD.md").read_text()


def test_tensorboard_has_both_losses_and_the_plane(siamese: tuple[Machine, Path, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(siamese[2] / "logs"), size_guidance={"tensors": 0})
    events.Reload()
    for tag in ("training/loss", "validation/loss", "validation/embeddings"):
        assert [point.step for point in events.Tensors(tag)] == [1, 2]


def test_colour_has_no_say(siamese: tuple[Machine, Path, Path]) -> None:
    from facetl.images.decode import read_photo
    from facetl.recognition.recognizer import Recognizer

    recognizer = Recognizer.load(siamese[2])
    image = read_photo(next(siamese[1].rglob("*.png")))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    one, other, turned = recognizer.embed([image, grey, image[:, :, ::-1].copy()]).embeddings
    # OpenCV rounds the luma to whole numbers; red and blue exchanged are another picture.
    assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(one - turned)


def test_the_threshold_is_of_validation_people_and_not_the_margin(siamese: tuple[Machine, Path, Path]) -> None:
    from facetl.metrics.verification import threshold_from
    from facetl.recognition.recognizer import Recognizer

    _, photos, run = siamese
    recognizer = Recognizer.load(run)
    people = json.loads((run / "people.json").read_text())["validation"]
    paths = [path for name in people for path in sorted((photos / name).iterdir())]
    embeddings = recognizer.embed(paths).embeddings
    expected = threshold_from(embeddings, np.repeat(np.arange(len(people)), 4), seed=0)
    metrics = json.loads((run / "metrics.json").read_text())
    # The cache holds float16.
    assert metrics["verification"]["trained"]["threshold"] == pytest.approx(expected, rel=0.05)
    assert recognizer.threshold == json.loads((run / "calibration.json").read_text())["threshold"]
    assert all(abs(recognizer.threshold - value) > 1e-3 for value in (MARGIN, MARGIN**2))
