"""A face-trained net on the same pairs: its plain vectors, its authors' threshold, and a word where it is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corners import Corners, make_evaluated_run

from facetl.backbones import dlib_net
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.data.pair_lists import read_pairs
from facetl.errors import DataError, WeightsError
from facetl.images.decode import read_photo
from facetl.metrics.pairs import Pairs
from facetl.runs import reference_net as ceiling_module
from facetl.runs.pair_evaluation import evaluate_pairs
from facetl.runs.reference_net import ReferenceNet


@pytest.fixture
def ceiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ReferenceNet:
    """Return a ceiling whose net is a made-up one that is named dlib."""
    weights = Weights("dlib", "ab" * 32, tmp_path)
    monkeypatch.setattr(ceiling_module, "resolve", lambda spec: weights)
    monkeypatch.setattr(ceiling_module, "make_extractor", lambda view, weights: Corners(weights, view))
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


def test_another_name_and_a_missing_extra_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="expected one of dlib, got 'facenet'"):
        ReferenceNet.open("facenet")
    monkeypatch.setattr(dlib_net, "_PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match=r"facetl\[dlib\]"):
        ReferenceNet.open("dlib")
