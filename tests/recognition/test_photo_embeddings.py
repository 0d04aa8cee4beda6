"""A folder through a Recognizer and its cache: the embedding of each photo, computed once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corners import make_recognizer

from facetl.data.manifest import Manifest
from facetl.errors import DataError, RunError, WeightsError
from facetl.images.decode import read_photo
from facetl.recognition.photo_embeddings import embed_manifest
from facetl.recognition.recognizer import Recognizer


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return make_recognizer(tmp_path)


@pytest.fixture
def photos(tmp_path: Path, make_people: Callable[..., Path]) -> Path:
    root = make_people(tmp_path / "photos", people=3, photos=4)
    shutil.copy(root / "Person_00" / "00.png", root / "Person_02" / "copy.png")
    (root / "Person_01" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    (root / "Person_01" / "notes.txt").write_text("no photo")
    return root


def test_every_photo_has_its_own_embedding_in_the_manifests_order(
    recognizer: Recognizer, photos: Path, tmp_path: Path
) -> None:
    manifest = Manifest.from_folder(photos)
    told: list[tuple[int, int]] = []
    embedded = embed_manifest(
        recognizer, manifest, cache=tmp_path / "cache", on_progress=lambda *step: told.append(step)
    )
    assert len(embedded.manifest) == len(embedded.features) == len(embedded.embeddings) == 13
    assert embedded.report.skipped == {"broken": 1, "not-an-image": 1}
    assert embedded.report.computed == 12, "the copy has the row of its twin"
    assert told[-1] == (14, 14)
    for row, path in enumerate(embedded.manifest.paths):
        feature = recognizer.backbone.extract([read_photo(path)]).astype(np.float16).astype(np.float32)
        np.testing.assert_allclose(embedded.embeddings[row], np.asarray(recognizer.head(feature))[0], atol=1e-5)
        assert embedded.contents[row] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert embedded.embeddings.dtype == np.float32
    assert np.abs(embedded.embeddings[0] - embedded.embeddings[5]).max() > 1e-3


def test_what_is_in_the_cache_is_not_computed_again(recognizer: Recognizer, photos: Path, tmp_path: Path) -> None:
    first = embed_manifest(recognizer, Manifest.from_folder(photos), cache=tmp_path / "cache")
    seen = recognizer.backbone.seen
    second = embed_manifest(recognizer, Manifest.from_folder(photos), cache=tmp_path / "cache")
    assert (second.report.computed, recognizer.backbone.seen) == (0, seen)
    np.testing.assert_array_equal(first.embeddings, second.embeddings)


def test_other_weights_under_the_same_name_do_not_reach_the_cache(
    recognizer: Recognizer, photos: Path, tmp_path: Path
) -> None:
    recognizer.backbone.weights.path.write_bytes(b"other weights")
    with pytest.raises(RunError, match="trained with weights of sha256"):
        embed_manifest(recognizer, Manifest.from_folder(photos), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    recognizer.backbone.weights.path.unlink()
    with pytest.raises(WeightsError, match="found nothing"):
        embed_manifest(recognizer, Manifest.from_folder(photos), cache=tmp_path / "cache")


def test_a_folder_without_a_readable_photo_is_reported(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "people" / "Ann").mkdir(parents=True)
    (tmp_path / "people" / "Ann" / "a.jpg").write_bytes(b"\xff\xd8\xff no more")
    with pytest.raises(DataError, match=r"got none \(1 broken\)"):
        embed_manifest(recognizer, Manifest.from_folder(tmp_path / "people"), cache=tmp_path / "cache")
