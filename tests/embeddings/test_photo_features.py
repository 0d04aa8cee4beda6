"""From a manifest to features: aligned faces, several crops, and what of it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings import fill as module
from facetl.embeddings.fill import photo_features
from facetl.errors import DataError
from facetl.faces.alignment import SIZE
from facetl.faces.detectors import Face

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


def test_nothing_but_broken_photos(tmp_path: Path) -> None:
    (tmp_path / "photos" / "Ann").mkdir(parents=True)
    (tmp_path / "photos" / "Ann" / "1.png").write_bytes(b"no photo")
    manifest = Manifest.from_folder(tmp_path / "photos")
    with pytest.raises(DataError, match=r"expected photos that can be read, got none \(1 "):
        photo_features(manifest, ExtractorSpec.of(), WEIGHTS, make_net=Net, cache=tmp_path / "cache")
