"""`facetl scratch` as a user runs it: a run folder that the other verbs read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facetl.cli import app as app_module
from facetl.errors import FacetlError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Path:
    return make_people(tmp_path_factory.mktemp("verb") / "photos", people=10, photos=3, side=36, noise=40.0)


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app_module.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_writes_a_run_that_calibrate_and_verify_read(photos: Path, tmp_path: Path) -> None:
    options = ("--models", tmp_path / "models", "--cache", tmp_path / "cache")
    small = ("--size", 32, "--width", 8, "--epochs", 2, "--batch-size", 6, "--objective", "arcface", "--grey")
    told = json.loads(call("scratch", photos, "--run", "mine", *small, "--seed", 1, *options, "--json"))
    assert list(told["verification"]) == ["raw", "whitened", "lda", "untrained", "trained"]
    config = json.loads((tmp_path / "models" / "mine" / "config.json").read_text())
    assert {key: config["settings"][key] for key in ("net", "size", "width", "grey", "loss", "seed", "epochs")} == {
        "net": "small",
        "size": 32,
        "width": 8,
        "grey": True,
        "loss": "arcface",
        "seed": 1,
        "epochs": 2,
    }
    calibrated = json.loads(call("calibrate", "mine", "--f1", *options, "--json"))
    assert calibrated["people_gone"] == 0
    one, other = (photos / "Person_00" / f"{number:02d}.png" for number in (0, 1))
    verified = json.loads(call("verify", "mine", one, other, "--models", tmp_path / "models", "--json"))
    assert verified["threshold"] == pytest.approx(calibrated["threshold"])
    assert 0 <= verified["distance"] <= 4


def test_the_table_names_what_stands_beside_the_net(photos: Path, tmp_path: Path) -> None:
    options = ("--models", tmp_path, "--cache", tmp_path / "cache", "--size", 32, "--width", 8, "--epochs", 1)
    shown = call("scratch", photos, "--run", "mine", *options)
    for words in ("Raw pixels", "Pixels, PCA → LDA", "The net, untrained", "The net, trained", "of 1", "report"):
        assert words in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--net", "vgg"), "net: expected one of small"),
        (("--run", "../mine"), "expected a plain name"),
        (("--align", "eyes"), "align: expected none or mtcnn"),
        (("--crop", "2"), "crop: expected"),
    ],
)
def test_what_cannot_be_is_one_clear_line(photos: Path, tmp_path: Path, options: tuple[str, str], words: str) -> None:
    given = ["scratch", str(photos), "--run", "mine", "--models", str(tmp_path), "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(app_module.app, [*given, *options])
    assert isinstance(result.exception, FacetlError)
    assert words in str(result.exception)
    assert not list(tmp_path.glob("*mine*"))
