"""`--config`: a run is repeated from its own config.json, but for what the command line gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from light_runs import make_runs_light
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.cli.settings_options import Given, RunConfig, shares_of
from facetl.errors import FacetlError
from facetl.methods.distillation.distillation_settings import DistillationSettings


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> None:
    result = call(*arguments)
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, FacetlError), result.output
    return str(result.exception)


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


@pytest.fixture(scope="module", autouse=True)
def light_runs() -> Iterator[None]:
    """Spare the tests the reports and SavedModels of the runs that they write, which they never read."""
    with pytest.MonkeyPatch.context() as patch:
        make_runs_light(patch)
        yield


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path], small_net_weights: Path) -> Path:
    """Return a folder with photos and a run `first`, hardly a setting of which is the default."""
    room = tmp_path_factory.mktemp("repeat")
    make_people(room / "photos", people=12, photos=4, noise=40.0)
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--tap", "conv", "--grid", 5)
    seen = ("--crop", 0.9, "--no-mirror", "--grey", "--validation", 0.3, "--test", 0.25, "--seed", 3)
    head = ("--preset", "tutorial", "--sampler", "pk", "--mining", "semi-hard", "--people-per-batch", 4)
    more = ("--widths", "16,8", "--activations", "linear", "--epochs", 3, "--photos-per-person", 3)
    done("train", room / "photos", "--run", "first", *net, *seen, *head, *more, *places(room))
    return room


def places(room: Path) -> tuple[object, ...]:
    return ("--models", room / "models", "--cache", room / "cache")


def test_a_run_is_repeated_to_the_last_figure(room: Path) -> None:
    first, again = room / "models" / "first", room / "models" / "again"
    done("train", room / "photos", "--run", "again", "--config", first / "config.json", *places(room))
    for key in ("settings", "split", "extractor", "layout", "data"):
        assert read(again, "config.json")[key] == read(first, "config.json")[key], key
    assert read(again, "calibration.json")["threshold"] == read(first, "calibration.json")["threshold"]
    assert read(again, "metrics.json")["verification"] == read(first, "metrics.json")["verification"]
    assert read(again, "people.json") == read(first, "people.json")


def test_what_the_command_line_gives_counts(room: Path) -> None:
    first, other = room / "models" / "first", room / "models" / "other"
    given = ("--epochs", 1, "--mining", "batch-all", "--crop", "0.8", "--seed", 4, "--test", 0.3)
    done("train", room / "photos", "--run", "other", "--config", first, *given, *places(room))
    before, after = read(first, "config.json"), read(other, "config.json")
    changed = {key for key, value in after["settings"].items() if value != before["settings"][key]}
    assert changed == {"epochs", "mining", "seed"}
    assert after["extractor"]["spec"] == before["extractor"]["spec"] | {"crops": [0.8]}
    assert (before["split"], after["split"]) == ({"validation": 0.3, "test": 0.25}, {"validation": 0.3, "test": 0.3})


def test_only_options_that_are_given_are_checked(room: Path) -> None:
    repeat = ("train", room / "photos", "--run", "never", "--config", room / "models" / "first", *places(room))
    assert refused(*repeat, "--temperature", 0.4).startswith("temperature: counts only with the sampler neighbours")
    both = call(*repeat, "--preset", "best")
    assert both.exit_code == 2
    assert "give one of --config and --preset" in both.output


def test_a_net_from_scratch_is_repeated(room: Path) -> None:
    small = ("--size", 32, "--width", 8, "--epochs", 1, "--objective", "contrastive", "--people-per-batch", 4)
    done("scratch", room / "photos", "--run", "net", *small, "--seed", 2, "--test", 0.25, *places(room))
    net, again = room / "models" / "net", room / "models" / "net2"
    done("scratch", room / "photos", "--run", "net2", "--config", net / "config.json", *places(room))
    assert read(again, "config.json")["settings"] == read(net, "config.json")["settings"]
    assert read(again, "calibration.json")["threshold"] == read(net, "calibration.json")["threshold"]
    assert read(again, "metrics.json")["verification"] == read(net, "metrics.json")["verification"]
    refusal = refused("train", room / "photos", "--run", "never", "--config", net, *places(room))
    assert "is of a run that facetl scratch made" in refusal


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "expected a run's config.json"),
        ("", "expected a run's config.json"),
        ("[1, 2]", "without settings"),
        ('{"settings": {"seed": 1}}', "without settings"),
        ('{"settings": {"widths": [8], "colour": "blue"}}', "not known in this version: colour"),
        (
            '{"settings": {"widths": [8], "activations": ["linear"], "normalised": [true], "epochs": "many"}}',
            "cannot be",
        ),
        ('{"settings": {"widths": 8}}', "cannot be"),
        ('{"settings": {"student": "mobilenet_v2"}}', "is of a run that facetl distill made"),
        ('{"settings": {"widths": [512, 256, 128]}}', "names no extractor"),
        (
            '{"settings": {"widths": [512, 256, 128]}, "extractor": {"spec": {}, "weights": {}}}',
            "names no extractor",
        ),
    ],
)
def test_what_is_no_config_is_one_clear_line(tmp_path: Path, content: str | None, words: str) -> None:
    config = tmp_path / "run.json"
    if content is not None:
        config.write_text(content)
    message = refused("train", tmp_path, "--run", "new", "--config", config, "--models", tmp_path)
    assert message.startswith("--config: ")
    assert words in message
    assert "\n" not in message


def test_settings_of_a_student_are_read_back(tmp_path: Path) -> None:
    settings = DistillationSettings(alpha=0.5, soft=0.3, epochs=7, seed=5, tap="conv")
    stored = {**settings.to_json(), "teacher": "mine", "align": "mtcnn", "crop": 0.5}
    (tmp_path / "config.json").write_text(json.dumps({"settings": stored, "split": {"test": 0.1}}))
    config = RunConfig.read(tmp_path, DistillationSettings)
    assert config is not None
    assert config.settings == settings
    given = Given({}, frozenset({"validation"}))
    assert shares_of(config, given, validation=0.4, test=0.2) == {"validation": 0.4, "test": 0.1}
