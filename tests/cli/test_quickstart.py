"""`facetl quickstart` without a folder: the sample is fetched, then trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.data.fetch import sources


def test_the_sample_is_fetched_into_the_current_folder_and_trained_on(
    tmp_path: Path, make_people: Callable[..., Path], small_net_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def write(name: str, out: Path, *, progress: Callable[[int, int], None]) -> None:
        fetched.append((name, out))
        make_people(out, people=10, photos=4, noise=40.0)

    monkeypatch.setattr(sources, "fetch", write)
    monkeypatch.setenv("FACETL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    net = ["--extractor", "mobilenet_v3_small", "--weights", str(small_net_weights), "--tap", "conv", "--grid", "5"]
    result = CliRunner().invoke(app, ["quickstart", *net, "--epochs", "1", "--json"])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    assert fetched == [("sample", Path("data/sample"))]
    assert sum(side["people"] for side in json.loads(result.stdout)["split"].values()) == 10
    assert (tmp_path / "models/sample/report.html").is_file()
    assert "facetl quickstart DIR" in result.stderr
