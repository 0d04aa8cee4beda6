"""The detector's settings and the choice of a face, without TensorFlow."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetl.errors import DataError
from facetl.faces import detectors
from facetl.faces.detectors import (
    AnyWayUp,
    Face,
    MtcnnSpec,
    choose,
    detector_spec,
    mtcnn_weights,
    quarters,
    turned_back,
)


def face(left: float, top: float, right: float, bottom: float, confidence: float = 0.9) -> Face:
    return Face((left, top, right, bottom), np.zeros((5, 2), np.float32), confidence)


class TestChoose:
    def test_of_one_size_the_nearest_to_the_centre(self) -> None:
        aside, middle = face(0, 0, 40, 40), face(70, 40, 110, 80)
        assert choose([aside, middle], (120, 200, 3)) is middle

    def test_a_much_larger_face_wins_over_a_small_one_in_the_middle(self) -> None:
        # 100² − 2 · 59.5² = 2,919.5 against 20² − 2 · 0.5² · 2 = 399.
        large, small = face(10, 50, 110, 150), face(110, 90, 130, 110)
        assert choose([small, large], (200, 240, 3)) is large
        # Shifted by 20 pixels more: 10,000 − 2 · 79.5² = −2,640.5.
        assert choose([small, face(-10, 50, 90, 150)], (200, 240, 3)) is small

    def test_height_and_width_are_not_mixed_up(self) -> None:
        # A photo 400 wide and 100 high: its centre is (199.5, 49.5).
        centre, corner = face(190, 40, 210, 60), face(40, 190, 60, 210)
        assert choose([corner, centre], (100, 400, 3)) is centre
        assert choose([corner, centre], (400, 100, 3)) is corner

    def test_equal_ones_by_confidence(self) -> None:
        sure = face(10, 10, 50, 50, 0.99)
        assert choose([face(10, 10, 50, 50, 0.8), sure], (60, 60, 3)) is sure

    def test_no_face(self) -> None:
        assert choose([], (10, 10, 3)) is None


class Corner:
    """Takes a photo for upright if its brightest pixel lies in the left third of the upper half: there is the face."""

    def __init__(self, confidence: float = 0.97) -> None:
        self.confidence = confidence
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        self.shapes += [image.shape[:2] for image in images]
        return [self._faces(image) for image in images]

    def _faces(self, image: np.ndarray) -> list[Face]:
        grey = image.max(axis=2)
        row, column = np.unravel_index(grey.argmax(), grey.shape)
        if grey.max() < 100 or row * 2 >= grey.shape[0] or column * 3 >= grey.shape[1]:
            return []
        points = np.array([[0, 0], [4, 0], [2, 3], [1, 6], [3, 6]], np.float32) + np.float32([column, row])
        return [Face((float(column), float(row), column + 4.0, row + 6.0), points, self.confidence)]


def lit(shape: tuple[int, int], row: int, column: int) -> np.ndarray:
    image = np.zeros((*shape, 3), np.uint8)
    image[row, column] = 255
    return image


class TestAnyWayUp:
    # Of a photo 40 high and 60 wide that shows its face upright at row 5, column 7: the box 7 5 11 11, the left eye at
    # (7, 5), the right one at (11, 5). Turned by hand: counterclockwise once, (x, y) goes to (y, 59 − x).
    @pytest.mark.parametrize(
        ("turns", "box", "left_eye", "right_eye"),
        [
            (0, (7, 5, 11, 11), (7, 5), (11, 5)),
            (1, (5, 48, 11, 52), (5, 52), (5, 48)),
            (2, (48, 28, 52, 34), (52, 34), (48, 34)),
            (3, (28, 7, 34, 11), (34, 7), (34, 11)),
        ],
    )
    def test_a_turned_face_lies_where_it_is_in_the_photo(
        self, turns: int, box: tuple[int, ...], left_eye: tuple[int, int], right_eye: tuple[int, int]
    ) -> None:
        photo = np.ascontiguousarray(np.rot90(lit((40, 60), 5, 7), turns))
        [[found]] = AnyWayUp(Corner(), doubt=0, sure=0.9).detect([photo])
        assert found.box == box
        assert found.landmarks[:2].tolist() == [list(left_eye), list(right_eye)]
        assert found.landmarks.dtype == np.float32
        assert found.confidence == 0.97

    def test_an_upright_face_costs_one_look_and_none_four(self) -> None:
        corner = Corner()
        found = AnyWayUp(corner, doubt=0, sure=0.9).detect([lit((40, 60), 5, 7), np.zeros((2000, 1000, 3), np.uint8)])
        assert [len(faces) for faces in found] == [1, 0]
        # The other ways up are looked at in a photo of 512 pixels.
        assert corner.shapes == [(40, 60), (2000, 1000), (256, 512), (512, 256), (256, 512)]

    def test_a_face_that_is_turned_must_be_sure(self) -> None:
        sideways = np.ascontiguousarray(np.rot90(lit((40, 60), 5, 7)))
        assert AnyWayUp(Corner(0.94), doubt=0, sure=0.95).detect([sideways]) == [[]]
        assert len(AnyWayUp(Corner(0.94), doubt=0, sure=0.95).detect([lit((40, 60), 5, 7)])[0]) == 1

    def test_a_face_that_was_upright_is_not_found_turned(self) -> None:
        class Lying(Corner):
            """Finds in a turned photo a face that lies on its side there, as it would stand upright in the photo."""

            def _faces(self, image: np.ndarray) -> list[Face]:
                found = super()._faces(image)
                return [replace(face, landmarks=face.landmarks[:, ::-1] * [1, -1]) for face in found]

        sideways = np.ascontiguousarray(np.rot90(lit((40, 60), 5, 7), -1))
        [[upright]] = Lying().detect([np.ascontiguousarray(np.rot90(sideways))])
        assert quarters(turned_back(upright, 1, (60, 40))) == 0
        assert AnyWayUp(Lying(), doubt=0, sure=0.9).detect([sideways]) == [[]]

    def test_an_upright_face_in_doubt_yields_to_a_surer_one_alone(self) -> None:
        class Sideways(Corner):
            """Is sure of the photo that is wider than high, in doubt of the other."""

            def _faces(self, image: np.ndarray) -> list[Face]:
                self.confidence = 0.97 if image.shape[1] > image.shape[0] else 0.9
                return super()._faces(image)

        both = lit((60, 40), 5, 7)
        both[7, 36] = 255  # in the left third of the upper half once the photo is turned counterclockwise
        assert [face.confidence for face in AnyWayUp(Sideways(), doubt=0.95, sure=0.95).detect([both])[0]] == [0.97]
        assert [face.confidence for face in AnyWayUp(Sideways(), doubt=0.85, sure=0.95).detect([both])[0]] == [0.9]
        assert [face.confidence for face in AnyWayUp(Corner(0.9), doubt=0.95, sure=0.9).detect([both])[0]] == [0.9]
        [[upright]] = AnyWayUp(Corner(0.9), doubt=0.95, sure=0.9).detect([both])
        assert upright.box == (7, 5, 11, 11)


class TestMtcnnSpec:
    def test_the_fingerprint_tells_settings_weights_and_cascade(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = MtcnnSpec().fingerprint()
        assert plain == MtcnnSpec().fingerprint()
        assert len(bytes.fromhex(plain)) == 32
        others = {
            MtcnnSpec(min_face=30).fingerprint(),
            MtcnnSpec(max_side=900).fingerprint(),
            MtcnnSpec(thresholds=(0.6, 0.7, 0.9)).fingerprint(),
        }
        monkeypatch.setattr(detectors, "_weights_digest", lambda: "other weights")
        others.add(MtcnnSpec().fingerprint())
        monkeypatch.undo()
        monkeypatch.setattr(detectors, "_CASCADE", 99)
        others.add(MtcnnSpec().fingerprint())
        assert len(others | {plain}) == 6

    def test_to_json_has_plain_types(self) -> None:
        told = MtcnnSpec(min_face=25).to_json()
        assert json.loads(json.dumps(told)) == told
        assert (told["name"], told["min_face"]) == ("mtcnn", 25)

    @pytest.mark.parametrize("settings", [{"min_face": 11}, {"max_side": 10}, {"thresholds": (0.6, 0.7, 1.0)}])
    def test_settings_that_cannot_be(self, settings: dict[str, object]) -> None:
        with pytest.raises(DataError, match="expected"):
            MtcnnSpec(**settings)  # type: ignore[arg-type]

    def test_the_weights_are_those_of_the_package_wherever_one_stands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "pnet.lz4").write_bytes(b"a pickle by anyone")
        monkeypatch.chdir(tmp_path)
        path = mtcnn_weights("pnet")
        assert path.is_absolute()
        assert path.parts[-4:] == ("mtcnn", "assets", "weights", "pnet.lz4")
        assert len({hashlib.sha256(mtcnn_weights(net).read_bytes()).digest() for net in ("pnet", "rnet", "onet")}) == 3


class TestDetectorSpec:
    def test_by_name(self, tmp_path: Path) -> None:
        assert detector_spec("mtcnn") == MtcnnSpec()
        assert detector_spec("none").to_json()["name"] == "none"
        (tmp_path / "y.onnx").write_bytes(b"weights")
        assert detector_spec("yunet", tmp_path / "y.onnx").to_json()["name"] == "yunet"

    @pytest.mark.parametrize(
        ("name", "weights", "said"),
        [
            ("eyes", None, "one of mtcnn, none, yunet, got 'eyes'"),
            ("yunet", None, "needs its weights"),
            ("mtcnn", Path("y.onnx"), "takes no weights"),
            ("none", Path("y.onnx"), "takes no weights"),
        ],
    )
    def test_what_cannot_be(self, name: str, weights: Path | None, said: str) -> None:
        with pytest.raises(DataError, match=said):
            detector_spec(name, weights)


def test_a_face_to_json_has_plain_types() -> None:
    told = Face((1.0, 2.0, 31.5, 42.0), np.arange(10, dtype=np.float32).reshape(5, 2), 0.5).to_json()
    assert json.loads(json.dumps(told)) == {
        "box": [1.0, 2.0, 31.5, 42.0],
        "landmarks": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]],
        "confidence": 0.5,
    }


def test_settings_need_no_tensorflow() -> None:
    script = (
        "import sys; from facetl.faces.detectors import MtcnnSpec; MtcnnSpec().fingerprint();"
        "assert not {'tensorflow', 'keras', 'mtcnn', 'joblib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
