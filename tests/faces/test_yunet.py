"""YuNet through OpenCV, with a net of its shape that was written by hand: boxes, landmarks, sizes, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_yunet import BOX, LANDMARKS, tiny_yunet

from facetl.errors import DataError, WeightsError
from facetl.faces.yunet import YunetSpec


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_yunet(tmp_path_factory.mktemp("yunet") / "net.onnx")


def spec(weights: Path) -> YunetSpec:
    return YunetSpec(weights=weights, side=64)


def red(height: int, width: int, *squares: tuple[int, int, int, int]) -> np.ndarray:
    """Return a black photo with red squares (left, top, side, how red)."""
    image = np.zeros((height, width, 3), np.uint8)
    for left, top, side, value in squares:
        image[top : top + side, left : left + side, 0] = value
    return image


def test_a_face_is_where_the_net_says(weights: Path) -> None:
    [[face]] = spec(weights).make().detect([red(64, 64, (32, 16, 8, 255))])
    # The cell in column 4, row 2 of stride 8; the box hangs about its own middle.
    middle = 8 * np.array([4 + BOX[0], 2 + BOX[1]])
    half = 8 * np.exp(BOX[2:]) / 2
    np.testing.assert_allclose(face.box, [*(middle - half), *(middle + half)], atol=1e-4)
    np.testing.assert_allclose(face.landmarks, 8 * (LANDMARKS + np.array([4, 2])), atol=1e-4)
    assert face.landmarks.dtype == np.float32
    assert face.confidence == pytest.approx(1)


def test_the_best_comes_first_and_the_weak_not_at_all(weights: Path) -> None:
    image = red(64, 64, (0, 40, 8, 240), (48, 8, 8, 250), (32, 56, 8, 200))
    [faces] = spec(weights).make().detect([image])
    assert [face.confidence for face in faces] == pytest.approx([250 / 255, 240 / 255], abs=1e-5)
    assert faces[0].landmarks[0, 0] > faces[1].landmarks[0, 0]


def test_a_large_photo_is_shrunk_and_its_faces_given_in_its_own_pixels(weights: Path) -> None:
    small, large = red(40, 64, (32, 16, 8, 255)), red(160, 256, (128, 64, 32, 255))
    [[one], [other]] = spec(weights).make().detect([small, large])
    assert (np.array(other.box) + 0.5)[:3] == pytest.approx(4 * (np.array(one.box) + 0.5)[:3])
    np.testing.assert_allclose(other.landmarks + 0.5, 4 * (one.landmarks + 0.5), atol=1e-3)


def test_boxes_stay_in_the_photo(weights: Path) -> None:
    [[face]] = spec(weights).make().detect([red(40, 64, (56, 32, 8, 255))])
    left, top, right, bottom = face.box
    assert 0 <= left < right == 63
    assert 0 <= top < bottom == 39


def test_photos_beside_it_change_nothing(weights: Path) -> None:
    photos = [red(64, 64, (32, 16, 8, 255)), red(30, 50), red(300, 64, (8, 8, 40, 255)), red(1, 1)]
    together = spec(weights).make().detect(photos)
    detector = spec(weights).make()
    alone = [detector.detect([photo])[0] for photo in photos]
    assert [[face.to_json() for face in faces] for faces in together] == [
        [face.to_json() for face in faces] for faces in alone
    ]
    assert [len(faces) for faces in together][:2] == [1, 0]


def test_what_is_no_photo(weights: Path) -> None:
    with pytest.raises(DataError, match="uint8"):
        spec(weights).make().detect([np.zeros((64, 64), np.uint8)])


class TestSpec:
    def test_the_fingerprint_is_that_of_settings_and_content(self, weights: Path, tmp_path: Path) -> None:
        plain = spec(weights).fingerprint()
        copy = tmp_path / "copy.onnx"
        copy.write_bytes(weights.read_bytes())
        assert spec(copy).fingerprint() == plain
        copy.write_bytes(weights.read_bytes() + b"\0")
        others = {
            spec(copy).fingerprint(),
            YunetSpec(weights=weights, side=96).fingerprint(),
            YunetSpec(weights=weights, side=64, score=0.8).fingerprint(),
            YunetSpec(weights=weights, side=64, overlap=0.4).fingerprint(),
        }
        assert len(others | {plain}) == 5

    def test_to_json_has_plain_types_without_paths(self, weights: Path) -> None:
        told = spec(weights).to_json()
        assert json.loads(json.dumps(told)) == told
        assert str(weights.parent) not in json.dumps(told)

    @pytest.mark.parametrize("settings", [{"side": 100}, {"side": 0}, {"score": 1.0}, {"overlap": 0.0}])
    def test_settings_that_cannot_be(self, weights: Path, settings: dict[str, float]) -> None:
        with pytest.raises(DataError, match="expected"):
            YunetSpec(weights=weights, **settings)  # type: ignore[arg-type]

    def test_weights_that_are_missing(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="cannot be read"):
            YunetSpec(weights=tmp_path / "none.onnx").fingerprint()

    def test_weights_that_are_none_in_one_line_and_in_silence(self, tmp_path: Path) -> None:
        (tmp_path / "junk.onnx").write_bytes(b"junk")
        # A net, but with other outputs.
        from tiny_onnx import corner_net

        corner_net(tmp_path / "other.onnx", np.zeros((3 * 64 * 64, 2), np.float32), size=64)
        script = (
            "import sys; from pathlib import Path\n"
            "from facetl.errors import WeightsError; from facetl.faces.yunet import YunetSpec\n"
            "for name in sys.argv[1:]:\n"
            "    try: YunetSpec(weights=Path(name), side=64).make()\n"
            "    except WeightsError as error: assert len(str(error).splitlines()) == 1; print('told')\n"
            "assert not {'tensorflow', 'keras'} & set(sys.modules)"
        )
        names = [str(tmp_path / "junk.onnx"), str(tmp_path / "other.onnx")]
        done = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "told\ntold\n", "")
