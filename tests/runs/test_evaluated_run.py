"""What a run under evaluation says of itself: its methods, its margin, and whom it knows."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corners import BASELINE_THRESHOLDS, THRESHOLD, make_evaluated_run

from facetl.data.manifest import Manifest
from facetl.runs import evaluated_run
from facetl.runs.evaluated_run import TrainingOverlap


def test_the_methods_are_the_baselines_and_the_trained_head(tmp_path: Path, make_people: Callable[..., Path]) -> None:
    photos = make_people(tmp_path / "photos", people=3, photos=3)
    run = make_evaluated_run(tmp_path, photos)
    embedded = run.embed(Manifest.from_folder(photos), cache=tmp_path / "cache")
    methods = list(run.methods(embedded))
    expected = [*BASELINE_THRESHOLDS.items(), ("trained", THRESHOLD)]
    assert [(name, threshold) for name, _, threshold in methods] == expected
    for _, embeddings, _ in methods:
        assert len(embeddings) == 9
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(methods[-1][1], embedded.embeddings)


def test_people_are_known_by_their_composed_name(tmp_path: Path, make_people: Callable[..., Path]) -> None:
    jose = unicodedata.normalize("NFC", "José")
    photos = make_people(tmp_path / "photos", people=2, photos=2)
    run = make_evaluated_run(tmp_path, photos, known=frozenset({jose, "Zoe"}))
    overlap = run.overlap_with_training([unicodedata.normalize("NFD", jose), "Ann", jose, "Bob"])
    assert overlap == TrainingOverlap(3, (jose,))
    assert overlap.to_json() == {"people": 3, "people_in_training": 1}
    assert overlap.warning is not None
    assert "1 of the 3 people" in overlap.warning
    assert run.strangers(["Ann", unicodedata.normalize("NFD", jose)]) == {"Ann"}
    assert run.overlap_with_training(["Ann"]).warning is None
    assert "does not say" in (TrainingOverlap(3, None).warning or "")


@pytest.mark.parametrize(
    ("settings", "margin"),
    [
        ({"loss": "triplet", "margin": 0.35}, 0.35),
        ({"margin": 0.5}, 0.5),
        ({"loss": "arcface", "margin": 0.5}, 0.2),
        ({"loss": "triplet", "margin": None}, 0.2),
    ],
)
def test_the_margin_is_that_of_a_triplet_loss(settings: dict[str, object], margin: float) -> None:
    assert evaluated_run._margin({"settings": settings}) == margin
