"""A backbone finds its weights, builds its net and embeds photos, each when it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from facetl.backbones import backbone as module
from facetl.backbones import extractor as extractor_module
from facetl.backbones.backbone import Backbone
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.errors import FacetlError, PhotoError, WeightsError

RED, GREEN = (200, 10, 20), (10, 200, 20)


class Mean:
    """Mean colour of a photo."""

    dim = 3
    flagged: ClassVar[dict[str, int]] = {}

    def __init__(self, spec: ExtractorSpec, weights: Weights) -> None:
        self.spec, self.weights = spec, weights
        self.batches: list[int] = []

    def extract(self, images: list[np.ndarray]) -> np.ndarray:
        self.batches.append(len(images))
        return np.array([image.mean((0, 1)) for image in images], np.float32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.weights.h5"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor_module, "make_extractor", Mean)


def photo(path: Path, colour: tuple[int, int, int]) -> Path:
    cv2.imwrite(str(path), striped(colour)[:, :, ::-1])
    return path


def striped(colour: tuple[int, int, int]) -> np.ndarray:
    """Return a photo of stripes, 10 brighter and 10 darker than the colour."""
    image = np.full((30, 24, 3), colour, np.uint8)
    image[::2] += 10
    image[1::2] -= 10
    return image


@pytest.mark.usefixtures("mean")
class TestEmbed:
    def test_a_path_a_name_bytes_and_pixels(self, weights: Path, tmp_path: Path) -> None:
        red = photo(tmp_path / "red.png", RED)
        green = photo(tmp_path / "green.png", GREEN)
        pixels = striped((70, 70, 70))
        found = Backbone("resnet50", weights=weights).embed([red, str(green), green.read_bytes(), pixels])
        np.testing.assert_array_equal(found, np.array([RED, GREEN, GREEN, (70, 70, 70)], np.float32))

    def test_goes_by_batches(self, weights: Path) -> None:
        backbone = Backbone("resnet50", weights=str(weights))
        found = backbone.embed([striped((number, number, number)) for number in range(10, 15)], batch_size=2)
        np.testing.assert_array_equal(found[:, 0], np.arange(10, 15))
        assert backbone.net.batches == [2, 2, 1]

    def test_no_photo(self, weights: Path) -> None:
        assert Backbone("resnet50", weights=weights).embed([]).shape == (0, 3)

    def test_faces_are_aligned_where_it_is_asked_for(self, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Finding:
            def make(self) -> Finding:
                return self

            def detect(self, images: list[np.ndarray]) -> list[list[int]]:
                return [[int(image[0, 0, 0]) // 45] for image in images]

        monkeypatch.setattr(module, "MtcnnSpec", Finding)
        monkeypatch.setattr(module, "aligned", lambda image, faces: image // faces[0])
        pixels = striped((80, 80, 80))
        assert Backbone("resnet50", weights=weights, align="mtcnn").embed([pixels])[0, 0] == 40  # of 90 and 70, half
        assert Backbone("resnet50", weights=weights).embed([pixels])[0, 0] == 80

    def test_a_photo_that_can_be_no_cropped_face(self, weights: Path, tmp_path: Path) -> None:
        backbone, face, blank = Backbone("resnet50", weights=weights), striped(RED), np.full((30, 24, 3), RED, np.uint8)
        with pytest.raises(PhotoError, match=r"photo 2: .* it is blank"):
            backbone.embed([face, face, blank], batch_size=2)
        cv2.imwrite(str(tmp_path / "tiny.png"), face[:23])
        with pytest.raises(PhotoError, match=r"tiny\.png: a photo of a face has 24 pixels a side, got 24×23"):
            backbone.embed([tmp_path / "tiny.png"])
        assert backbone.extract([blank])[0].tolist() == list(RED)

    def test_a_photo_that_cannot_be_read(self, weights: Path, tmp_path: Path) -> None:
        (tmp_path / "broken.png").write_bytes(b"no photo")
        with pytest.raises(PhotoError):
            Backbone("resnet50", weights=weights).embed([tmp_path / "broken.png"])

    def test_one_net_is_built_for_each_view(self, weights: Path) -> None:
        backbone = Backbone("resnet50", weights=weights, crop=(0.5, 0.8))
        assert backbone.net is backbone.net
        assert [backbone.view(view).spec.crops for view in backbone.spec.views] == [(0.5,), (0.8,)]
        assert backbone.dim == 3


class TestSettings:
    def test_the_fingerprint_is_that_of_settings_and_weights(self, weights: Path) -> None:
        backbone = Backbone("resnet50", weights=weights)
        assert backbone.weights.path == weights
        assert backbone.fingerprint == ExtractorSpec.of("resnet50").fingerprint(backbone.weights.sha256)

    def test_weights_that_are_found_already(self) -> None:
        found = Weights("file", "ab" * 32, Path("gone.h5"))
        spec = ExtractorSpec.of(crop=(0.5, 0.7))
        backbone = Backbone.from_spec(spec, found)
        assert (backbone.spec, backbone.weights) == (spec, found)

    def test_aligned_faces_are_cropped_as_arcface_crops_them(self) -> None:
        assert Backbone(align="mtcnn").spec == ExtractorSpec.of(align="mtcnn", crop=0.5)
        assert Backbone().spec == ExtractorSpec.of(crop=1.0)
        assert Backbone(align="mtcnn", crop=0.7).spec.crops == (0.7,)

    def test_settings_that_cannot_be(self) -> None:
        with pytest.raises(FacetlError, match=r"^crop: expected different fractions"):
            Backbone(crop=0)

    def test_weights_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="found nothing"):
            _ = Backbone("resnet50", weights=tmp_path / "none.h5").fingerprint

    def test_the_fingerprint_needs_no_tensorflow(self, weights: Path) -> None:
        code = (
            "import sys; from facetl.backbones.backbone import Backbone; "
            f"Backbone('resnet50', weights={str(weights)!r}).fingerprint; print('tensorflow' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"
