"""Training on few people, as a user sees it: held-out photos are called that, and what cannot work ends at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from light_runs import make_runs_light
from typer.testing import CliRunner

from facetl.cli import app as app_module
from facetl.cli.verbs import train as train_module
from facetl.errors import DataError


@pytest.fixture
def light_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    make_runs_light(monkeypatch)


def call(*arguments: object) -> tuple[str, str]:
    result = CliRunner().invoke(app_module.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize(("people", "photos"), [(1, 9), (5, 1), (2, 3)])
def test_what_cannot_be_trained_is_refused_before_any_work(
    tmp_path: Path,
    make_people: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    people: int,
    photos: int,
) -> None:
    folder = make_people(tmp_path / "photos", people=people, photos=photos, side=24)
    monkeypatch.setattr(train_module, "open_collection", None)
    with pytest.raises(DataError, match="training needs 4 people with 2 photos each, or 2 people with 4 photos each"):
        call("train", folder, "--run", "few", "--models", tmp_path)


def trained_from_scratch(folder: Path) -> tuple[str, str]:
    """Return what a short training prints, and its notes."""
    room = folder.parent
    small = ("--size", 32, "--width", 8, "--epochs", 1)
    return call("scratch", folder, "--run", "mine", "--models", room, "--cache", room / "cache", *small)


@pytest.mark.usefixtures("light_runs")
def test_a_family_trains_and_the_figures_are_called_what_they_are(
    tmp_path: Path, make_people: Callable[..., Path]
) -> None:
    shown, noted = trained_from_scratch(make_people(tmp_path / "photos", people=5, photos=6, side=36, noise=40.0))
    assert "5 people are too few to hold some out: photos of the same people are held out instead" in noted
    assert "Verification of 10 held-out photos" in shown
    assert "test people" not in shown
    assert "on others the run may do far worse" in shown


@pytest.mark.usefixtures("light_runs")
def test_a_run_that_is_not_measured_says_so(tmp_path: Path, make_people: Callable[..., Path]) -> None:
    shown, noted = trained_from_scratch(make_people(tmp_path / "photos", people=4, photos=2, side=36, noise=40.0))
    assert "nothing is held out to measure by" in noted
    assert "not measured" in shown
    assert "AUC" not in shown
