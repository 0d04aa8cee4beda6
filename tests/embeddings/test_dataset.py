"""A folder of people with a cached feature for every photo, with a tiny extractor in the net's place."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from facetl.backbones import extractor as extractor_module
from facetl.backbones.backbone import Backbone
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection, default_cache_folder
from facetl.errors import DataError, WeightsError

DIM = 6
SPEC = ExtractorSpec.of("mobilenet_v3_small")


def feature(image: np.ndarray) -> np.ndarray:
    """Mean and spread of each colour, so that no two photos of these tests have the same."""
    return np.concatenate([image.mean((0, 1)), image.std((0, 1))]).astype(np.float32)


class Tiny:
    flagged: ClassVar[dict[str, int]] = {}
    dim = DIM

    def __init__(self) -> None:
        self.seen = 0

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.seen += len(images)
        return np.stack([feature(image) for image in images])


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """Stands where the net is made; `made_with` notes for what."""
    extractor = Tiny()

    def make(spec: ExtractorSpec, weights: Weights) -> Tiny:
        assert spec.name == SPEC.name
        assert weights.source == "file"
        return extractor

    monkeypatch.setattr(extractor_module, "make_extractor", make)
    return extractor


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "net.weights.h5").write_bytes(b"weights")
    return tmp_path / "net.weights.h5"


@pytest.fixture
def people(tmp_path: Path, make_people: Callable[..., Path]) -> Path:
    """Seven people with three photos each."""
    return make_people(tmp_path / "people", people=7, photos=3, side=24)


@pytest.fixture
def open_collection(tmp_path: Path, weights: Path) -> Callable[..., Collection]:
    def open_(root: Path, **options: object) -> Collection:
        manifest = Manifest.from_folder(root)
        return dataset.embed(manifest, Backbone.from_spec(SPEC, weights), cache=tmp_path / "cache", **options)

    return open_


Open = Callable[..., Collection]


def expected_rows(paths: Sequence[Path]) -> np.ndarray:
    return np.stack([feature(cv2.imread(str(path))[..., ::-1]) for path in paths]).astype(np.float16)


class TestOpen:
    def test_every_photo_has_its_own_feature(self, people: Path, open_collection: Open, tiny: Tiny) -> None:
        found = open_collection(people)
        assert found.features.shape == (21, DIM)
        np.testing.assert_array_equal(found.features.array(), expected_rows(found.manifest.paths))
        assert (found.report.photos, found.report.computed, found.report.reused) == (21, 21, 0)
        assert found.report.skipped == {}
        assert tiny.seen == 21
        assert found.weights.sha256 == hashlib.sha256(b"weights").hexdigest()
        assert found.spec == SPEC

    def test_the_second_time_nothing_is_computed(self, people: Path, open_collection: Open, tiny: Tiny) -> None:
        first = open_collection(people)
        tiny.seen = 0
        second = open_collection(people)
        assert tiny.seen == 0
        assert (second.report.computed, second.report.reused) == (0, 21)
        np.testing.assert_array_equal(second.features.array(), first.features.array())

    def test_other_weights_are_another_extractor(
        self, people: Path, open_collection: Open, weights: Path, tiny: Tiny
    ) -> None:
        open_collection(people)
        weights.write_bytes(b"other weights")
        assert open_collection(people).report.computed == 21
        assert tiny.seen == 42

    def test_the_second_time_imports_no_tensorflow(
        self, people: Path, open_collection: Open, weights: Path, tmp_path: Path
    ) -> None:
        expected = open_collection(people).features.array()
        code = (
            "import sys; from pathlib import Path; from facetl.data.manifest import Manifest; "
            "from facetl.embeddings.dataset import embed; from facetl.backbones.backbone import Backbone; "
            "people, cache, weights, out = map(Path, sys.argv[1:]); import numpy; "
            f"found = embed(Manifest.from_folder(people), Backbone({SPEC.name!r}, weights=weights), cache=cache); "
            "numpy.save(out, found.features.array()); "
            "print(found.report.computed, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
        )
        arguments = [str(path) for path in (people, tmp_path / "cache", weights, tmp_path / "rows.npy")]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.stdout.split() == ["0", "False", "False"], done.stderr
        assert done.stderr == ""
        np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected)

    def test_progress_is_reported(self, people: Path, open_collection: Open) -> None:
        calls: list[tuple[int, int]] = []
        open_collection(people, batch_size=8, on_progress=lambda done, total: calls.append((done, total)))
        assert calls[-1] == (21, 21)
        assert [done for done, _ in calls] == sorted(done for done, _ in calls)

    def test_missing_weights(self, people: Path, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="found nothing"):
            dataset.embed(
                Manifest.from_folder(people),
                Backbone.from_spec(SPEC, tmp_path / "nowhere.h5"),
                cache=tmp_path / "cache",
            )


class TestPhotosThatDoNotCount:
    def test_broken_ones_are_counted_by_reason(self, people: Path, open_collection: Open) -> None:
        (people / "Person_00" / "00.png").write_bytes(b"no photo")
        broken = people / "Person_01" / "01.png"
        broken.write_bytes(broken.read_bytes()[:-40])
        (people / "Person_02" / "02.png").write_bytes(b"")
        found = open_collection(people)
        assert found.report.skipped == {"truncated": 1, "empty-file": 1, "not-an-image": 1}
        assert len(found.manifest) == found.features.shape[0] == 18
        assert broken not in found.manifest.paths
        np.testing.assert_array_equal(found.features.array(), expected_rows(found.manifest.paths))

    def test_no_photo_at_all(self, people: Path, open_collection: Open) -> None:
        for path in people.glob("*/*.png"):
            path.write_bytes(b"no photo")
        with pytest.raises(DataError, match=r"expected photos that can be read, got none \(21 not-an-image\)"):
            open_collection(people)

    def test_one_person_s_copies_count_once(self, people: Path, open_collection: Open) -> None:
        folder = people / "Person_03"
        for copy in ("zz copy.png", "zz copy of the copy.png"):
            shutil.copy(folder / "01.png", folder / copy)
        found = open_collection(people)
        assert found.report.skipped == {"repeated": 2}
        assert found.manifest.counts()["Person_03"] == 3
        assert folder / "01.png" in found.manifest.paths
        np.testing.assert_array_equal(found.features.array(), expected_rows(found.manifest.paths))

    def test_what_stands_under_two_people_is_left_out(self, people: Path, open_collection: Open) -> None:
        shutil.copy(people / "Person_03" / "01.png", people / "Person_05" / "smile.png")
        shutil.copy(people / "Person_03" / "01.png", people / "Person_05" / "smile again.png")
        found = open_collection(people)
        # The original under Person_03 and both copies under Person_05: nobody knows whose face it is.
        assert found.report.skipped == {"mislabelled": 3}
        assert found.manifest.counts() == {f"Person_{k:02d}": 2 if k == 3 else 3 for k in range(7)}
        assert len(found.manifest) == found.features.shape[0] == 20
        np.testing.assert_array_equal(found.features.array(), expected_rows(found.manifest.paths))

    def test_a_person_with_nothing_else_disappears(self, people: Path, open_collection: Open) -> None:
        (people / "Stranger").mkdir()
        shutil.copy(people / "Person_03" / "01.png", people / "Stranger" / "only.png")
        found = open_collection(people)
        assert "Stranger" not in found.manifest.identities
        assert found.manifest.labels.max() == 6

    def test_what_the_scan_skipped_is_counted_too(self, people: Path, open_collection: Open) -> None:
        (people / "Person_00" / "notes.txt").write_text("text")
        shutil.copy(people / "Person_00" / "00.png", people / "Person_00" / "01.png")
        assert open_collection(people).report.skipped == {"not-an-image": 1, "repeated": 1}


class TestSides:
    def test_features_labels_and_photos_stay_together(self, people: Path, open_collection: Open) -> None:
        shutil.copy(people / "Person_03" / "01.png", people / "Person_05" / "smile.png")
        (people / "Person_01" / "01.png").write_bytes(b"no photo")
        whole = open_collection(people)
        found = whole.with_splits(seed=4, validation=0.3, test=0.3)
        assert found.report == whole.report
        total, seen = 0, set()
        for split in ("train", "validation", "test"):
            features, labels, manifest = found.side(split)
            assert len(manifest) == len(labels) == features.shape[0] > 0
            assert labels.dtype == np.int32
            # Labels are those of the whole collection, so that a label means one person on every side.
            assert [whole.manifest.identities[label] for label in labels] == [p.identity for p in manifest.photos]
            assert {photo.split for photo in manifest.photos} == {split}
            np.testing.assert_array_equal(features.array(), expected_rows(manifest.paths))
            assert not seen & set(manifest.identities)
            seen |= set(manifest.identities)
            total += len(manifest)
        assert total == 19

    def test_rows_by_mask_and_by_index(self, people: Path, open_collection: Open) -> None:
        found = open_collection(people)
        order = np.array([20, 3, 7])
        features, labels, manifest = found.rows(order)
        assert manifest.paths == tuple(found.manifest.paths[index] for index in order)
        np.testing.assert_array_equal(features.array(), expected_rows(manifest.paths))
        np.testing.assert_array_equal(labels, [6, 1, 2])
        mask = np.zeros(21, bool)
        mask[[3, 7]] = True
        features, labels, manifest = found.rows(mask)
        np.testing.assert_array_equal(features.array(), expected_rows(manifest.paths))
        np.testing.assert_array_equal(labels, [1, 2])

    def test_rows_have_names(self, people: Path, open_collection: Open) -> None:
        whole = open_collection(people).with_splits(seed=4, validation=0.3, test=0.3)
        found = whole.side("validation")
        np.testing.assert_array_equal(found.features.array(), expected_rows(found.paths))
        assert [whole.manifest.identities[label] for label in found.labels] == [
            path.parent.name for path in found.paths
        ]
        assert (whole.paths, whole.labels.tolist()) == (whole.manifest.paths, whole.manifest.labels.tolist())

    def test_a_side_that_there_is_not(self, people: Path, open_collection: Open) -> None:
        with pytest.raises(DataError, match="a side is one of train, validation, test, got 'val'"):
            open_collection(people).side("val")


class TestCacheFolder:
    def test_below_the_user_s_cache_folder(self, own_home: Path) -> None:
        assert default_cache_folder() == own_home / ".cache" / "facetl" / "embeddings"

    def test_xdg(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_cache_folder() == tmp_path / "facetl" / "embeddings"

    def test_facetl_cache_wins(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv("FACETL_CACHE", str(tmp_path / "mine"))
        assert default_cache_folder() == tmp_path / "mine"

    def test_an_empty_variable_is_as_good_as_none(self, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
        monkeypatch.setenv("FACETL_CACHE", "")
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        assert default_cache_folder() == Path(os.environ["HOME"]) / ".cache" / "facetl" / "embeddings"
