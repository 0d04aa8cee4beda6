"""The nets against the tables of the FaceNet paper and of docs/nets.md; all of them save, load elsewhere and learn."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from _layer_table import LayerRow, layer_table
from facenet_tables import PAPER, PaperTable

from facetl.backbones.net_layers import L2Pooling, LocalResponseNormalization
from facetl.errors import TrainingError
from facetl.methods.scratch import nets
from facetl.methods.scratch.nets import DESIGNS, build_net
from facetl.methods.scratch.scratch_settings import NETS

# 545,536 parameters: the paper's only row that is cut, not rounded.
CUT = {"inception_4a"}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "nets.md"


def zeros(_: object, shape: tuple[int, ...], dtype: str | None = None) -> Any:
    return keras.ops.zeros(shape, dtype or "float32")


@cache
def table(name: str) -> tuple[LayerRow, ...]:
    """The rows of a net; NN1 fills half a gigabyte while it is built, and is built once."""
    with pytest.MonkeyPatch.context() as patch:
        # No row depends on the weights, and to draw those of NN1 takes seconds.
        patch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
        net = build_net(name, seed=0)
    rows = layer_table(net)
    assert sum(row.parameters for row in rows) == net.count_params()
    return rows


def agrees(value: int, told: float, *, cut: bool = False) -> bool:
    """Whether a number rounds to what the paper prints: thousands, or two figures from a million on."""
    if told >= 1000:
        return bool(round(value / 1e5) / 10 == told / 1000 or round(value / 1e6) == told / 1000)
    return int(value / 1e3 if cut else value / 1e3 + 0.5) == told


@pytest.mark.parametrize(("name", "parameters"), [("nn1", 140.0), ("nn2", 7.5)])
def test_a_net_of_the_paper_has_the_rows_of_its_table(name: str, parameters: float) -> None:
    rows = {row.name: row for row in table(name)}
    assert [name for name in rows if name not in ("photos", "scale")] == list(PAPER[name])
    for layer, (output, thousands, millions) in PAPER[name].items():
        row = rows[layer]
        assert row.output == output, layer
        assert agrees(row.parameters, thousands, cut=layer in CUT), (layer, row.parameters)
        digits = 1 if 0 < millions < 1 else 0
        assert round(row.multiply_adds / 1e6, digits) == millions, (layer, row.multiply_adds)
    assert sum(row.parameters for row in rows.values()) / 1e6 == pytest.approx(parameters, abs=0.05)
    assert sum(row.multiply_adds for row in rows.values()) / 1e9 == pytest.approx(1.6, abs=0.05)


def test_nn2_pools_as_its_table_says() -> None:
    net = build_net("nn2", side=32, seed=0)
    pools = {layer.name: layer for layer in net.layers if isinstance(layer, (L2Pooling, keras.layers.MaxPooling2D))}
    said = {"3a": "max", "3b": "l2", "3c": "max", "4a": "l2", "4b": "l2", "4c": "l2", "4d": "l2", "4e": "max"}
    said |= {"5a": "l2", "5b": "max"}
    assert list(pools) == ["pool1", "pool2", *(f"inception_{module}-{kind}" for module, kind in said.items())]
    for name, layer in pools.items():
        assert isinstance(layer, L2Pooling) == name.endswith("-l2")
        strides = layer.strides if isinstance(layer, L2Pooling) else layer.strides[0]
        assert strides == (2 if name in ("pool1", "pool2", "inception_3c-max", "inception_4e-max") else 1), name
    norms = [layer.name for layer in net.layers if isinstance(layer, LocalResponseNormalization)]
    order = [layer.name for layer in net.layers]
    assert norms == ["norm1", "norm2"]
    assert order.index("pool1") < order.index("norm1") < order.index("inception_2-3x3") < order.index("norm2")
    assert order.index("norm2") < order.index("pool2")


def test_nn1_with_relu_halves_the_fully_connected_layers() -> None:
    rows = {row.name: row for row in table("nn1-relu")}
    assert rows["fc1"].parameters == 12_544 * 4096 + 4096
    assert rows["fc2"].parameters == 4096 * 4096 + 4096
    convolutions = sum(row.parameters for row in rows.values() if row.name.startswith("conv"))
    assert convolutions == 3_169_984


@pytest.mark.parametrize(("name", "millions", "operations", "seen"), [("nns1", 26, 220, 165), ("nns2", 4.3, 20, 116)])
def test_the_small_inceptions_have_the_papers_sums(name: str, millions: float, operations: float, seen: int) -> None:
    rows = {row.name: row for row in table(name)}
    assert sum(row.parameters for row in rows.values()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert sum(row.multiply_adds for row in rows.values()) / 1e6 == pytest.approx(operations, rel=0.03)
    assert (rows["upright"] if name == "nns2" else rows["scale"]).output == (DESIGNS[name].side, seen, 3)


@pytest.mark.parametrize("name", NETS)
def test_the_page_shows_every_net_as_it_is(name: str) -> None:
    page = PAGE.read_text()
    section = page[page.index(f"\n## {name}") + 1 :].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert shown[:-1] == [page_row(row, PAPER.get(name)) for row in table(name)[1:]]
    total = [f"{sum(getattr(row, field) for row in table(name)):,}" for field in ("parameters", "multiply_adds")]
    assert [cell.strip(" *") for cell in shown[-1].split("|")][3:5] == total


def test_the_catalogue_is_that_of_the_settings() -> None:
    assert tuple(DESIGNS) == NETS
    with pytest.raises(TrainingError, match=r"expected one of small.*'vgg'"):
        build_net("vgg", seed=0)
    with pytest.raises(TrainingError, match="at least 32 pixels"):
        build_net("small", side=31, seed=0)


def page_row(row: LayerRow, paper: PaperTable | None) -> str:
    """A line of docs/nets.md."""
    output = "×".join(map(str, row.output))
    cells = [row.name, output, f"{row.parameters:,}", f"{row.multiply_adds:,}"]
    if paper is not None:
        _, thousands, millions = paper.get(row.name, ((), 0, 0))
        told = f"{thousands / 1000:g}M" if thousands >= 1000 else f"{thousands:g}K"
        cells += [told if thousands else "", f"{millions:g}M" if millions else ""]
    return "| " + " | ".join(cells) + " |"


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """NN1 with fully connected layers that tests can write to disk."""
    monkeypatch.setattr(nets, "_FULLY_CONNECTED", 64)


LOAD = """
import sys
import numpy as np
import facetl.backbones.net_layers
import keras
net = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], net(np.load(sys.argv[2])))
"""


@pytest.mark.usefixtures("light")
def test_every_net_embeds_saves_and_loads_in_a_fresh_process(tmp_path: Path) -> None:
    photos = np.random.default_rng(0).uniform(0, 255, (3, 40, 40, 3)).astype(np.float32)
    np.save(tmp_path / "photos.npy", photos)
    script, expected = "import sys\n", {}
    for place, name in enumerate(NETS):
        net = build_net(name, side=40, width=9, grey=bool(place % 2), seed=4)
        net.save(tmp_path / f"{name}.keras")
        expected[name] = np.asarray(net(photos))
        assert expected[name].shape == (3, 9)
        np.testing.assert_allclose(np.linalg.norm(expected[name], axis=1), 1, atol=1e-5)
        assert np.abs(expected[name][0] - expected[name][1]).max() > 1e-4
        files = [str(tmp_path / f"{name}.keras"), str(tmp_path / "photos.npy"), str(tmp_path / f"{name}.npy")]
        script += f"sys.argv[1:] = {files!r}\n{LOAD}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in NETS:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected[name], atol=1e-6, err_msg=name)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("name", NETS)
def test_the_seed_makes_the_weights_and_a_step_lowers_the_loss(name: str) -> None:
    net = build_net(name, side=32, width=8, seed=1)
    again, other = (build_net(name, side=32, width=8, seed=seed) for seed in (1, 2))
    photos = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(net(photos), again(photos))
    assert np.abs(np.asarray(net(photos)) - np.asarray(other(photos))).max() > 1e-4
    target = np.eye(8, dtype=np.float32)[np.arange(6) % 3]
    net.compile(keras.optimizers.SGD(0.05), loss="mse")
    losses = [float(net.train_on_batch(photos, target)) for _ in range(4)]
    assert np.isfinite(losses).all()
    assert min(losses[1:]) < losses[0]


def test_grey_photos_give_what_their_luma_gives() -> None:
    net = build_net("small", side=32, width=8, grey=True, seed=1)
    photos = np.random.default_rng(3).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    luma = np.repeat(photos @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=3)
    np.testing.assert_allclose(net(photos), net(luma), atol=1e-3)
    assert net.get_layer("conv1").kernel.shape[2] == 1
