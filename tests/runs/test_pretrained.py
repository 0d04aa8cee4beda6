"""A run without training: the net's own vectors, at its authors' threshold."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.calibration.calibration import Target
from facetl.errors import RunError
from facetl.recognition import recognizer as recognizer_module
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs import pretrained
from facetl.runs.evaluated_run import EvaluatedRun
from facetl.runs.recalibration import recalibrate


class Vectors:
    """An extractor that gives a photo's first pixels: whatever the test painted, about 1.4 long."""

    dim = 128
    flagged: ClassVar[dict[str, int]] = {}

    def __init__(self, spec: ExtractorSpec, weights: Weights) -> None:
        self.spec, self.weights = spec, weights

    def extract(self, images: Any) -> np.ndarray:
        return np.array([image.reshape(-1)[:128] / 255 - 0.5 for image in images], np.float32) / 4


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    weights = Weights("file", "a" * 64, tmp_path)
    monkeypatch.setattr(pretrained, "resolve", lambda spec: weights)
    monkeypatch.setattr(pretrained, "make_extractor", Vectors)
    monkeypatch.setattr(recognizer_module, "make_extractor", Vectors)
    pretrained.write_raw_run(tmp_path / "models" / "dlib")
    return tmp_path / "models" / "dlib"


def test_two_photos_are_as_far_apart_as_their_vectors(run: Path) -> None:
    recognizer = Recognizer.load(run)
    photos = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    one, other = recognizer.backbone.extract(photos).astype(np.float64)
    distance = np.sum((one - other) ** 2)
    assert recognizer.distance(*photos) / recognizer.threshold == pytest.approx(distance / 0.36, rel=0.01)
    assert recognizer.calibration is None
    with pytest.raises(RunError, match="calibrated"):
        recognizer.probability(0.1)


def test_the_run_knows_nobody_and_says_what_it_is(run: Path) -> None:
    assert RunFolder(run).people() == {"train": frozenset(), "validation": frozenset(), "test": frozenset()}
    assert EvaluatedRun.load(run).strangers(["Ann"]) == {"Ann"}
    card = (run / "MODEL_CARD.md").read_text()
    assert "0.36" in card
    assert "no probability" in card
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    with pytest.raises(RunError, match="not made from a folder of people"):
        recalibrate(run, Target("f1"), cache=run)


def test_a_folder_with_something_else_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match="found other files"):
        pretrained.write_raw_run(tmp_path / "thesis")
