"""ONNX files against the same arithmetic in NumPy: layout, scale, order of channels, mirror, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_onnx
from tiny_onnx import corner_net, model, node, value_info

from facetl.backbones.extractor import make_extractor
from facetl.backbones.spec import ExtractorSpec
from facetl.backbones.weights import resolve
from facetl.errors import WeightsError
from facetl.images.resize import prepare

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(48, 5)).astype(np.float32)
PHOTOS = [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((9, 7, 3), (4, 4, 3), (30, 20, 3))]


def open_net(path: Path, options: str = "", **settings: Any) -> Any:
    spec = ExtractorSpec.of(f"onnx:{path}{options}", **settings)
    return make_extractor(spec, resolve(spec))


def prepared(size: int = 4, crop: float = 1.0) -> np.ndarray:
    return np.stack([np.asarray(prepare(photo, size=size, crop=crop)) for photo in PHOTOS])


def test_a_missing_extra_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(WeightsError, match=r"pip install facetl\[onnx\]"):
        open_net(corner_net(tmp_path / "net.onnx", WEIGHTS))


class TestNet:
    @pytest.fixture(autouse=True)
    def _needs_onnxruntime(self) -> None:
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install facetl[onnx]")

    @pytest.mark.parametrize("channels_first", [True, False])
    @pytest.mark.parametrize("batch", ["n", 1])
    def test_layout_and_scale_are_those_of_the_graph(
        self, channels_first: bool, batch: int | str, tmp_path: Path
    ) -> None:
        net = open_net(
            corner_net(tmp_path / "net.onnx", WEIGHTS, channels_first=channels_first, batch=batch), mirror=False
        )
        scaled = prepared() / 127.5 - 1
        flat = (scaled.transpose(0, 3, 1, 2) if channels_first else scaled).reshape(3, -1)
        assert (net.dim, net.size) == (5, 4)
        np.testing.assert_allclose(net.extract(PHOTOS), flat @ WEIGHTS, rtol=1e-4, atol=1e-4)
        assert net.extract([]).shape == (0, 5)

    def test_options_in_the_name(self, tmp_path: Path) -> None:
        path = corner_net(tmp_path / "net.onnx", WEIGHTS, channels_first=False)
        net = open_net(path, "?mean=10,20,30&std=2&channels=bgr", mirror=False)
        scaled = ((prepared() - [10, 20, 30]) / 2)[..., ::-1]
        np.testing.assert_allclose(net.extract(PHOTOS), scaled.reshape(3, -1) @ WEIGHTS, rtol=1e-4, atol=1e-3)

    def test_the_mirror_is_averaged_and_crops_are_joined(self, tmp_path: Path) -> None:
        path = corner_net(tmp_path / "net.onnx", WEIGHTS, channels_first=False)
        net = open_net(path, crop=(1.0, 0.5))
        expected = []
        for crop in (1.0, 0.5):
            scaled = prepared(crop=crop) / 127.5 - 1
            both = [view.reshape(3, -1) @ WEIGHTS for view in (scaled, scaled[:, :, ::-1])]
            expected.append(np.mean(both, axis=0))
        assert net.dim == 10
        np.testing.assert_allclose(net.extract(PHOTOS), np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-4)

    def test_grey_comes_before_scale_and_order(self, tmp_path: Path) -> None:
        path = corner_net(tmp_path / "net.onnx", WEIGHTS, channels_first=False)
        net = open_net(path, "?mean=10,20,30&std=2&channels=bgr", mirror=False, grey=True)
        luma = prepared() @ np.array([0.299, 0.587, 0.114])
        scaled = ((np.stack([luma] * 3, axis=-1) - [10, 20, 30]) / 2)[..., ::-1]
        np.testing.assert_allclose(net.extract(PHOTOS), scaled.reshape(3, -1) @ WEIGHTS, rtol=1e-4, atol=1e-2)

    def test_a_graph_of_bytes_scales_them_itself(self, tmp_path: Path) -> None:
        net = open_net(corner_net(tmp_path / "net.onnx", WEIGHTS, kind=tiny_onnx.UINT8), mirror=False)
        pixels = np.clip(np.round(prepared()), 0, 255).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(net.extract(PHOTOS), pixels.reshape(3, -1) @ WEIGHTS, rtol=1e-4, atol=1e-2)

    def test_an_open_size_is_112_or_what_the_name_says(self, tmp_path: Path) -> None:
        path = model(
            tmp_path / "net.onnx",
            inputs=[value_info("photos", tiny_onnx.FLOAT, ["n", 3, "h", "w"])],
            outputs=[value_info("mean", tiny_onnx.FLOAT, ["n", 3, 1, 1])],
            nodes=[node("GlobalAveragePool", ["photos"], "mean")],
        )
        assert open_net(path).size == 112
        net = open_net(path, "?size=6&mean=0&std=1", mirror=False)
        assert net.size == 6
        np.testing.assert_allclose(net.extract(PHOTOS), prepared(6).mean(axis=(1, 2)), rtol=1e-4)

    def test_a_tap_is_an_output(self, tmp_path: Path) -> None:
        path = corner_net(tmp_path / "net.onnx", WEIGHTS, channels_first=False)
        net = open_net(path, tap="flat", grid=1, mirror=False)
        np.testing.assert_allclose(net.extract(PHOTOS), (prepared() / 127.5 - 1).reshape(3, -1), atol=1e-5)
        with pytest.raises(WeightsError, match=r"an output of net\.onnx \(vector, flat\), got 'mixed2'"):
            open_net(path, tap="mixed2", grid=1)

    @pytest.mark.parametrize(
        ("content", "rule"),
        [
            ({"size": 5, "options": "?size=4"}, "takes 5×5 pixels, got size=4"),
            ({"batch": 2}, "batches of any size or of 1, got 2"),
            ({"kind": tiny_onnx.INT64}, "expected an input of tensor"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, content: dict[str, Any], rule: str, tmp_path: Path) -> None:
        options = content.pop("options", "")
        side = content.get("size", 4)
        path = corner_net(tmp_path / "net.onnx", np.ones((3 * side * side, 2)), **content)
        with pytest.raises(WeightsError, match=rule):
            open_net(path, options)

    @pytest.mark.parametrize("shape", [["n", 3, 4, 5], ["n", 1, 4, 4], ["n", 48]])
    def test_an_input_that_is_no_square_photo(self, shape: list[int | str], tmp_path: Path) -> None:
        path = model(
            tmp_path / "net.onnx",
            inputs=[value_info("photos", tiny_onnx.FLOAT, shape)],
            outputs=[value_info("flat", tiny_onnx.FLOAT, ["n", "d"])],
            nodes=[node("Flatten", ["photos"], "flat")],
        )
        with pytest.raises(WeightsError, match=r"square input|one input of photos"):
            open_net(path)

    def test_a_map_is_no_vector(self, tmp_path: Path) -> None:
        path = model(
            tmp_path / "net.onnx",
            inputs=[value_info("photos", tiny_onnx.FLOAT, ["n", 3, 4, 4])],
            outputs=[value_info("map", tiny_onnx.FLOAT, ["n", 3, 4, 4])],
            nodes=[node("Relu", ["photos"], "map")],
        )
        with pytest.raises(WeightsError, match="expected a vector per photo from map"):
            open_net(path)

    def test_no_onnx_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "net.onnx").write_bytes(b"\x08\x08 hello")
        with pytest.raises(WeightsError, match=r"net\.onnx: expected an ONNX file\.") as caught:
            open_net(tmp_path / "net.onnx")
        assert "\n" not in str(caught.value)


def test_onnx_runtime_keeps_no_number_of_this_machine(tmp_path: Path) -> None:
    corner_net(tmp_path / "net.onnx", WEIGHTS)
    code = (
        "import os; from facetl.backbones.onnx_net import import_onnxruntime\n"
        "import_onnxruntime().InferenceSession('net.onnx')"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
