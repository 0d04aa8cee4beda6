"""The options of training: the same for every verb that trains, and each of them reaches the settings."""

from __future__ import annotations

from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from facetl.cli.app import app, load
from facetl.cli.settings_options import Given, options_of, takes_options, training_settings
from facetl.errors import TrainingError
from facetl.faces.aligned_album import AlignSettings
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.scratch.scratch_settings import ScratchSettings
from facetl.training.settings import TrainingSettings

# Each with a value that is no preset's.
GIVEN: dict[str, tuple[str, Any]] = {
    "margin": ("0.37", 0.37),
    "temperature": ("1.5:0.25", (1.5, 0.25)),
    "candidates": ("700:70", (700, 70)),
    "uniform_share": ("0.45", 0.45),
    "warmup": ("7", 7),
    "widths": ("40,20", (40, 20)),
    "activations": ("tanh", ("tanh", "tanh")),
    "dropout": ("0.15", 0.15),
    "standardise": ("within", "within"),
    "components": ("77", 77),
    "learning_rate": ("0.007", 0.007),
    "schedule": ("decay", "decay"),
    "batch_size": ("33", 33),
    "epochs": ("5", 5),
    "patience": ("3", 3),
    "decay": ("0.5", 0.5),
    "weight_decay": ("0.01", 0.01),
    "input_dropout": ("0.25", 0.25),
    "joined": ("64", 64),
    "shrinkage": ("0.35", 0.35),
    "initialiser": ("orthogonal", "orthogonal"),
    "softness": ("0.75", 0.75),
    "rounds": ("2", 2),
    "anchors_per_person": ("6", 6),
    "ramp": ("4", 4),
    "seed": ("9", 9),
}
GIVEN_IN_BATCHES: dict[str, tuple[str, Any]] = {
    "loss": ("circle", "circle"),
    "loss_scale": ("70", 70.0),
    "people_per_batch": ("12", 12),
    "photos_per_person": ("3", 3),
}
MINED: dict[str, tuple[str, Any]] = {"sampler": ("pk", "pk"), "mining": ("semi-hard", "semi-hard")}
PAIRED: dict[str, tuple[str, Any]] = {"sampler": ("pairs", "pairs"), "most_pairs": ("900", 900), "batch_size": ("8", 8)}


def taken(arguments: list[str]) -> tuple[str, TrainingSettings]:
    """Return what a verb that takes the options receives."""
    received: list[tuple[str, TrainingSettings]] = []
    verb = typer.Typer()

    @verb.command()
    @takes_options(TrainingSettings, defaults=False)
    def train(folder: str, given: Given, preset: str = "balanced", seed: int = 0) -> None:
        received.append((folder, training_settings(given, preset, validation=0.31)))

    result = CliRunner().invoke(verb, ["photos", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return received[0]


def as_arguments(given: dict[str, tuple[str, Any]]) -> list[str]:
    return [part for name, (text, _) in given.items() for part in (f"--{name.replace('_', '-')}", text)]


@pytest.mark.parametrize(
    "given", [GIVEN, GIVEN_IN_BATCHES, MINED, PAIRED], ids=["triplets", "batches", "mined", "pairs"]
)
def test_every_option_reaches_the_settings(given: dict[str, tuple[str, Any]]) -> None:
    folder, settings = taken(as_arguments(given))
    assert folder == "photos"
    assert settings.validation == 0.31
    for name, (_, value) in given.items():
        assert getattr(settings, name) == value, name


def test_every_option_is_tested_here() -> None:
    offered = {name for name, _ in options_of(TrainingSettings)}
    assert {"fallback", "root", "regions", *GIVEN, *GIVEN_IN_BATCHES, *MINED, *PAIRED} == offered


def test_without_options_the_preset_stands() -> None:
    assert taken([])[1] == TrainingSettings(validation=0.31)
    assert taken(["--preset", "tutorial"])[1].sampler == "random"


def test_the_fallback_is_the_presets_unless_given() -> None:
    assert [taken(given)[1].fallback for given in ([], ["--no-fallback"])] == [True, False]
    tutorial = ["--preset", "tutorial"]
    assert [taken([*tutorial, *given])[1].fallback for given in ([], ["--fallback"])] == [False, True]


def test_switches_reach_the_settings() -> None:
    settings = taken(["--no-root", "--no-regions"])[1]
    assert (settings.root, settings.regions) == (False, False)
    assert taken(["--preset", "tutorial", "--root"])[1].root


def test_whole_numbers_stay_whole() -> None:
    candidates = taken(["--candidates", "50"])[1].candidates
    assert (candidates, type(candidates)) == (50, int)


def test_verbs_that_train_share_the_options() -> None:
    train, lfw = load("train"), load("benchmark").commands["lfw"]
    for name, _ in options_of(TrainingSettings):
        one, other = (next(option for option in verb.params if option.name == name) for verb in (train, lfw))
        assert one.opts == other.opts == [f"--{name.replace('_', '-')}"]
        assert one.help == other.help
        # None is the preset's choice.
        assert one.default == other.default == (0 if name == "seed" else None)


@pytest.mark.parametrize(
    ("verb", "settings", "renamed"),
    [
        ("align", AlignSettings(), {}),
        ("scratch", ScratchSettings(), {}),
        ("distill", DistillationSettings(), {"alpha": "width"}),
    ],
)
def test_a_verb_shows_the_settings_defaults(verb: str, settings: Any, renamed: dict[str, str]) -> None:
    shown = {option.name: option for option in load(verb).params}
    offered = options_of(type(settings))
    assert offered
    for name, option in offered:
        found = shown[renamed.get(name, name)]
        assert found.opts == [f"--{found.name.replace('_', '-')}"]
        # Without --patience, scratch does not stop before the last epoch.
        assert found.default == (None if (verb, name) == ("scratch", "patience") else getattr(settings, name))
        assert (found.min, found.max) == (option.min, option.max) or name == "patience"


def test_the_bounds_of_options_are_those_of_the_settings() -> None:
    for settings in (TrainingSettings, ScratchSettings, DistillationSettings):
        for name, option in options_of(settings):
            if option.min is not None:
                with pytest.raises(TrainingError, match=f"{name}: expected {option.min:g} or more"):
                    settings(**{name: type(option.min)(option.min - 1)})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--temperature", "sharp"],
        ["--temperature", "1:2:3"],
        ["--temperature", ""],
        ["--candidates", "2.5"],
        ["--candidates", "100:nan"],
        ["--candidates", "inf"],
        ["--people-per-batch", "1"],
    ],
    ids=" ".join,
)
def test_what_is_no_number_or_schedule_is_wrong_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["train", "photos", "--run", "x", *arguments])
    assert result.exit_code == click.UsageError.exit_code == 2
    assert arguments[0] in result.output
