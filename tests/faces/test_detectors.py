"""The detector's settings and the choice of a face, without TensorFlow."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facetl.errors import DataError
from facetl.faces import detectors
from facetl.faces.detectors import Face, MtcnnSpec, choose, detector_spec, mtcnn_weights


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
