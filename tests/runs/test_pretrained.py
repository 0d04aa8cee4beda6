"""Nets that others trained on faces: plain vectors at their authors' threshold, as a run and beside one."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from corners import Corners, make_evaluated_run

from facetl.backbones import dlib_net
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.calibration.calibration import Target
from facetl.data.manifest import Manifest
from facetl.data.pair_lists import read_pairs
from facetl.errors import DataError, RunError, WeightsError
from facetl.images.decode import read_photo
from facetl.metrics.pairs import Pairs
from facetl.recognition import recognizer as recognizer_module
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs import pretrained
from facetl.runs.evaluated_run import EvaluatedRun
from facetl.runs.pair_evaluation import evaluate_pairs
from facetl.runs.pretrained import ReferenceNet
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
    monkeypatch.setattr(recognizer_module, "resolve", lambda spec, given: weights)
    pretrained.write_pretrained_run(tmp_path / "models" / "dlib")
    return tmp_path / "models" / "dlib"


def test_two_photos_are_as_far_apart_as_their_vectors(run: Path) -> None:
    recognizer = Recognizer.load(run)
    photos = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), np.uint8)
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
        pretrained.write_pretrained_run(tmp_path / "thesis")


@pytest.fixture
def ceiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ReferenceNet:
    """Return a ceiling whose net is a made-up one that is named dlib."""
    weights = Weights("dlib", "ab" * 32, tmp_path)
    monkeypatch.setattr(pretrained, "resolve", lambda spec: weights)
    monkeypatch.setattr(pretrained, "make_extractor", lambda view, weights: Corners(weights, view))
    return ReferenceNet.open("dlib")


def test_its_vectors_are_compared_as_they_are(
    ceiling: ReferenceNet, tmp_path: Path, make_people: Callable[..., Path]
) -> None:
    photos = make_people(tmp_path / "photos", people=3, photos=2)
    manifest = Manifest.from_folder(photos)
    pairs = Pairs(np.array([0, 0, 4]), np.array([1, 3, 2]), np.array([True, False, False]))
    distances = ceiling.distances(manifest, pairs, cache=tmp_path / "cache")
    vectors = Corners(ceiling.weights).extract([read_photo(path) for path in manifest.paths])
    expected = [np.sum((vectors[a] - vectors[b]) ** 2) for a, b in ((0, 1), (0, 3), (4, 2))]
    # Cached features are float16.
    np.testing.assert_allclose(distances, expected, atol=3e-3)
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.05), "vectors of unit norm would show nothing"
    assert ceiling.threshold == pytest.approx(0.36)
    assert ceiling.spec == ExtractorSpec.of("dlib", mirror=False)


def test_it_stands_beside_the_run(ceiling: ReferenceNet, tmp_path: Path, make_people: Callable[..., Path]) -> None:
    photos = make_people(tmp_path / "photos", people=4, photos=3)
    rows = [f"Person_{n:02d}/00.png,Person_{n:02d}/01.png,1" for n in range(4)]
    rows += [f"Person_{n:02d}/00.png,Person_{(n + 1) % 4:02d}/01.png,0" for n in range(4)]
    (tmp_path / "pairs.csv").write_text("\n".join(["first,second,same", *rows]))
    run = make_evaluated_run(tmp_path, photos)
    told = evaluate_pairs(
        run, read_pairs(tmp_path / "pairs.csv"), photos, cache=tmp_path / "cache", ceiling=ceiling
    ).to_json()
    assert set(told["ceiling"]) == {"dlib"}
    assert told["ceiling"]["dlib"]["pairs"] == told["pairs"] == 8
    assert told["ceiling"]["dlib"]["threshold"] == pytest.approx(0.36)
    assert "dlib" not in told["baselines"]


def test_another_name_and_a_missing_extra_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="expected one of dlib, got 'facenet'"):
        ReferenceNet.open("facenet")
    monkeypatch.setattr(dlib_net, "_PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match=r"facetl\[dlib\]"):
        ReferenceNet.open("dlib")
