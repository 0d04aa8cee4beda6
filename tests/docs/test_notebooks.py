"""The notebooks hold no output, and run from the first cell to the last."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert len(cells) > 3
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a notebook in a folder of its own and gives what its cells print."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "agg")

    def run(name: str, parameters: str = "") -> str:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
        if parameters:
            (place,) = (n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
            notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
        room = {"metadata": {"path": str(tmp_path)}}
        done = NotebookClient(notebook, timeout=240, kernel_name="python3", resources=room).execute()
        outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
        return "".join(one["text"] for one in outputs if one.output_type == "stream" and one.name == "stdout")

    return run


def test_ones_own_model_learns_digits(printed: Any) -> None:
    text = printed("own_model")
    assert "899 images to learn from, 898 to measure on" in text
    untrained, *trained = (float(number) for number in re.findall(r"AUC (0\.\d+)", text))
    assert untrained < 0.9 < 0.97 < min(trained)
    assert len(trained) == 3
    assert re.search(r"^TripletLoss 0\.9[7-9]", text, flags=re.MULTILINE)


def test_a_threshold_a_probability_and_unknown(printed: Any) -> None:
    text = printed("unknown")
    wanted, found = (float(rate) for rate in re.findall(r"FAR (\d+\.\d+)%", text))
    assert wanted == pytest.approx(1, abs=0.05)
    assert 0.5 < found < 1.5
    right, wrong, strangers = map(float, re.findall(r"(?:rightly|wrongly|strangers named) (\d+\.\d)%", text))
    assert right > 90 > 10 > max(wrong, strangers)


def test_the_main_job_step_by_step(
    printed: Any, tmp_path: Path, make_people: Callable[..., Path], small_net_weights: Path
) -> None:
    make_people(tmp_path / "people", people=20, photos=5, noise=40.0, seed=3)
    net = {"name": "mobilenet_v3_small", "weights": str(small_net_weights), "tap": "conv:5"}
    text = printed("main_job", f'folder = Path("people")\nnet = {net!r}\ncache = Path("cache")\nepochs = 3')
    assert "100 photos of 20 people" in text
    assert "100 computed, 0 reused, 400 numbers each" in text
    scores = dict(re.findall(r"^([a-z ]+?) +accuracy (\d\.\d+)", text, flags=re.MULTILINE))
    assert scores.keys() == {"raw features", "untrained head", "head"}
    assert float(scores["head"]) > 0.8
    same, other = map(float, re.findall(r"distance (\d\.\d+)", text))
    assert same < 0.5 < 1 < other
    assert "(8, 32) {}" in text
