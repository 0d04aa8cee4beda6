"""From a manifest to features: aligned faces, several crops, and what of it is kept."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings import fill as module
from facetl.embeddings.embedding_cache import export_features
from facetl.embeddings.fill import PhotoFeatures, photo_features
from facetl.embeddings.maintenance import gc, info
from facetl.errors import DataError
from facetl.faces.alignment import SIZE
from facetl.faces.detectors import Face
from facetl.faces.landmark_store import FILE_NAME as LANDMARKS_FILE
from facetl.faces.landmark_store import packed
from facetl.io.files import checksum, digests

WEIGHTS = Weights("file", "ab" * 32, Path("weights"))
LANDMARKS = np.array([[20, 24], [44, 24], [32, 36], [24, 48], [40, 48]], np.float32)


class Net:
    """Means of the four quarters of the crop, red only; a map of 2 × 2 cells."""

    in_tensorflow = False
    flagged: ClassVar[dict[str, int]] = {}
    layout = FeatureMap(((2, 1),))
    dim = 4

    def __init__(self, spec: ExtractorSpec) -> None:
        self.spec = spec
        self.weights = WEIGHTS
        self.seen: list[tuple[int, ...]] = []

    def extract(self, images: list[np.ndarray]) -> np.ndarray:
        self.seen += [image.shape for image in images]
        rows = []
        for image in images:
            side = round(self.spec.crops[0] * min(image.shape[:2]))
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            red = image[top : top + side, left : left + side, 0].astype(np.float32)
            half = side // 2
            rows.append([part.mean() for band in (red[:half], red[half:]) for part in (band[:, :half], band[:, half:])])
        return np.array(rows, np.float32)


@pytest.fixture
def people(tmp_path: Path) -> Manifest:
    rng = np.random.default_rng(0)
    for name in ("Ann", "Bob"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in (1, 2):
            photo = rng.integers(0, 255, (64, 64, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), photo)
    return Manifest.from_folder(tmp_path / "photos")


def test_crops_are_cached_each_and_joined(people: Manifest, tmp_path: Path) -> None:
    nets: list[Net] = []

    def make(view: ExtractorSpec) -> Net:
        nets.append(Net(view))
        return nets[-1]

    both = ExtractorSpec.of(crop=(1.0, 0.5))
    found = photo_features(people, both, WEIGHTS, make_net=make, cache=tmp_path / "cache")
    assert [net.spec.crops for net in nets] == [(1.0,), (0.5,)]
    assert found.layout == FeatureMap(((2, 1), (2, 1)))
    assert (found.report.photos, found.report.computed, found.report.reused) == (4, 4, 0)
    photos = [cv2.imread(str(path))[:, :, ::-1] for path in people.paths]
    expected = np.hstack([Net(view).extract(photos) for view in both.views])
    np.testing.assert_allclose(found.features.array(), expected, rtol=1e-3)
    np.testing.assert_array_equal(found.features.subset([3, 1])[np.array([1])], found.features[np.array([1])])

    again = photo_features(people, ExtractorSpec.of(crop=0.5), WEIGHTS, make_net=make, cache=tmp_path / "cache")
    assert (again.report.computed, len(nets)) == (0, 2)
    np.testing.assert_array_equal(again.features.array(), found.features.array()[:, 4:])
    assert again.layout == FeatureMap(((2, 1),))


def test_photos_are_aligned_and_those_without_a_face_counted(
    people: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Detector:
        def detect(self, images: list[np.ndarray]) -> list[list[Face]]:
            # The first photo of Bob shows nobody.
            nobody = cv2.imread(str(people.paths[2]))[:, :, ::-1]
            return [
                [] if np.array_equal(image, nobody) else [Face((10.0, 10.0, 54.0, 58.0), LANDMARKS, 0.99)]
                for image in images
            ]

    monkeypatch.setattr(module.MtcnnSpec, "make", lambda self: Detector())
    net = Net(ExtractorSpec.of(align="mtcnn", crop=0.5))
    found = photo_features(people, net.spec, WEIGHTS, make_net=lambda view: net, cache=tmp_path / "cache")
    assert found.report.skipped == {"no-face": 1}
    assert found.manifest.paths == tuple(path for path in people.paths if path != people.paths[2])
    assert set(net.seen) == {(SIZE, SIZE, 3)}

    def unused(view: ExtractorSpec) -> Net:
        raise AssertionError("everything is known")

    monkeypatch.setattr(module.MtcnnSpec, "make", unused)
    again = photo_features(people, net.spec, WEIGHTS, make_net=unused, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.features.array(), found.features.array())
    assert again.report.skipped == {"no-face": 1}


def test_rows_of_faces_that_were_seen_upright_alone_are_not_taken_for_those_of_turned_ones(
    people: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upside_down = Face((10.0, 10.0, 54.0, 58.0), 63 - LANDMARKS, 0.995)
    upright = Face((10.0, 10.0, 54.0, 58.0), LANDMARKS, 0.98)
    net = Net(ExtractorSpec.of(align="mtcnn", crop=0.5))
    shas = digests(people.paths)

    def features(cache: str, face: Face) -> PhotoFeatures:
        monkeypatch.setattr(module.MtcnnSpec, "make", lambda self: Always(face))
        return photo_features(people, net.spec, WEIGHTS, make_net=lambda view: net, cache=tmp_path / cache)

    before, fresh = features("old", upright), features("fresh", upside_down)
    assert not np.array_equal(before.features.array(), fresh.features.array())
    with closing(sqlite3.connect(tmp_path / "old" / LANDMARKS_FILE, isolation_level=None)) as store:
        for sha in map(bytes.fromhex, shas):
            # As facetl wrote it when it looked at photos upright alone.
            content = packed(upright)
            values = (content, checksum(sha, content), sha)
            store.execute("UPDATE searched SET faces = ?, checksum = ? WHERE sha = ?", values)
    after = features("old", upside_down)
    np.testing.assert_array_equal(after.features.array(), fresh.features.array())
    assert (after.report.computed, features("old", upright).report.computed) == (4, 0)
    assert after.contents == tuple(shas)

    # Upkeep knows whose rows they are.
    assert (info(tmp_path / "fresh").photos, gc(tmp_path / "fresh").kept) == (4, 4)
    export_features(tmp_path / "fresh", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert {(row["path"], row["sha256"]) for row in csv.DictReader(file)} == {
            (str(path), sha) for path, sha in zip(people.paths, shas, strict=True)
        }
    people.paths[0].unlink()
    assert gc(tmp_path / "fresh").dropped == 1


class Always:
    """Finds one face in every photo."""

    def __init__(self, face: Face) -> None:
        self.face = face

    def detect(self, images: list[np.ndarray]) -> list[list[Face]]:
        return [[self.face] for _ in images]


def test_nothing_but_broken_photos(tmp_path: Path) -> None:
    (tmp_path / "photos" / "Ann").mkdir(parents=True)
    (tmp_path / "photos" / "Ann" / "1.png").write_bytes(b"no photo")
    manifest = Manifest.from_folder(tmp_path / "photos")
    with pytest.raises(DataError, match=r"expected photos that can be read, got none \(1 "):
        photo_features(manifest, ExtractorSpec.of(), WEIGHTS, make_net=Net, cache=tmp_path / "cache")
