"""A trained run gets another threshold, or is told why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from machine import Trained


@pytest.fixture
def models(trained: Trained, tmp_path: Path) -> Path:
    """Return a folder of runs that may be changed."""
    shutil.copytree(trained.folder, tmp_path / "family")
    return tmp_path


def test_training_calibrates_for_accuracy(trained: Trained) -> None:
    stored = json.loads((trained.folder / "calibration.json").read_text())
    assert stored["target"] == {"kind": "accuracy", "value": None}
    assert stored["threshold"] == pytest.approx(trained.report["verification"]["trained"]["threshold"])
    assert (stored["people"], stored["photos"]) == (4, 20)
    assert "## Calibration" in (trained.folder / "MODEL_CARD.md").read_text()


def test_a_calibrated_run_verifies_at_its_new_threshold(trained: Trained, models: Path) -> None:
    from facetl.recognition.recognizer import Recognizer

    printed = trained.machine.json("calibrate", "family", "--f1", "--models", models, here=True)
    recognizer = Recognizer.load(models / "family")
    assert recognizer.threshold == printed["threshold"]
    assert recognizer.probability(0.0) > recognizer.probability(4.0)
    assert "best F1" in (models / "family" / "MODEL_CARD.md").read_text()


def test_a_rate_that_four_people_cannot_show_is_one_clear_line(trained: Trained, models: Path) -> None:
    before = (models / "family" / "calibration.json").read_bytes()
    done = trained.machine.run_here("calibrate", "family", "--far", "0.1", "--models", models)
    assert (done.returncode, done.stdout) == (1, "")
    assert "about 9 validation people. Received: 4 with 6 pairs of people; add 5 more" in done.stderr
    assert "Traceback" not in done.stderr
    assert (models / "family" / "calibration.json").read_bytes() == before
