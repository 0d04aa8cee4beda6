"""What an error advises exists, and helps: options, commands and extras of all texts; advice that is followed."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import keras
import pandas as pd
import pytest
from light_runs import make_runs_light
from machine import Machine

import facetl
from facetl.cli import app
from facetl.data.manifest import Manifest
from facetl.runs.training_run import Sight, TrainedNet, write_net_run

ROOT = Path(facetl.__file__).parent
# Of pip and npm, which facetl starts or a text calls.
OTHERS = {
    *(
        "--dest",
        "--only-binary",
        "--no-deps",
        "--require-hashes",
        "--hash",
        "--no-input",
        "--disable-pip-version-check",
    ),
    *("--quiet", "--requirement", "--force-reinstall", "--upgrade", "--ignore-scripts"),
    # Variables of the report's style sheet; a prefix; of facetl itself, not of a verb.
    *("--plot", "--plot-person", "--no", "--version"),
}


def texts(tree: ast.Module) -> Iterator[str]:
    """Yield the texts of a module, what is filled in as {}; docstrings, which no user reads, are left out."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    kept_out = inside | docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in kept_out:
            yield node.value


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a command and those below it, with the words that call it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = {path: one for name in app.COMMANDS for path, one in commands(app.load(name), (name,))}
OPTIONS = {
    path: {text for one in command.params for text in (*one.opts, *one.secondary_opts)} | {"--help"}
    for path, command in COMMANDS.items()
}
TEXTS = [
    (file.relative_to(ROOT.parent).as_posix(), text)
    for file in sorted(ROOT.rglob("*.py"))
    for text in texts(ast.parse(file.read_text(encoding="utf-8")))
]


def named_commands(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the commands that a text names, and what follows them in their sentence."""
    for found in re.finditer(r"\bfacetl ((?:[a-z]+ ?)+)([^,.;:()`]*)", text):
        words = tuple(found[1].split())
        for length in (2, 1):
            if words[:length] in COMMANDS:
                yield words[:length], found[0]
                break


def test_every_option_that_a_text_names_exists() -> None:
    every = set().union(*OPTIONS.values())
    unknown = {
        (file, option)
        for file, text in TEXTS
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*", text)
        if option not in every | OTHERS
    }
    assert not unknown


def test_every_command_that_a_text_calls_has_the_options_it_is_given() -> None:
    wrong = {
        (file, called, option)
        for file, text in TEXTS
        for command, called in named_commands(text)
        for option in re.findall(r"--[a-z][a-z0-9-]*", called)
        if option not in OPTIONS[command]
    }
    assert not wrong


@pytest.mark.parametrize("lead", ["run", "then", "by", "Run", "pass"])
def test_every_command_that_a_text_advises_exists(lead: str) -> None:
    wrong = {
        (file, found[0])
        for file, text in TEXTS
        for found in re.finditer(rf"\b{lead} `?facetl ([a-z]+)", text)
        if (found[1],) not in COMMANDS
    }
    assert not wrong


def test_every_extra_that_a_text_names_exists() -> None:
    extras = set(metadata("facetl").get_all("Provides-Extra") or ())
    named = {(file, extra) for file, text in TEXTS for extra in re.findall(r"facetl\[([a-z]+)\]", text)}
    assert named
    assert {one for one in named if one[1] not in extras} == set()


@dataclass(frozen=True)
class Room:
    """A user's machine with photos of ten people and the run `mine` of them; `fields` fill in a command's words."""

    machine: Machine
    fields: dict[str, str]

    def call(self, line: str) -> tuple[int, str]:
        """Run a line in this process and return the exit code and stderr; `rm` and `mv` are a user's own."""
        words = [word.format(**self.fields) for word in line.split()]
        if words[0] == "rm":
            Path(words[1]).unlink()
        elif words[0] == "mkdir":
            Path(words[1]).mkdir()
        elif words[0] == "mv":
            shutil.move(words[1], words[2])
        elif words[0] == "spoil":
            Path(words[1]).write_text("{")
        else:
            done = self.machine.run_here(*words)
            return done.returncode, done.stderr
        return 0, ""


def tiny_net() -> keras.Model:
    keras.utils.set_random_seed(5)
    photos = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(4, 5, strides=3, activation="relu")(keras.layers.Rescaling(1 / 127.5, -1)(photos))
    embeddings = keras.layers.Dense(6)(keras.layers.Flatten()(maps))
    return keras.Model(photos, keras.layers.UnitNormalization()(embeddings))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Path:
    room = tmp_path_factory.mktemp("remedies")
    photos = make_people(room / "photos", people=10, photos=3, side=24, noise=60.0)
    make_people(room / "others", people=3, photos=2, side=24, seed=7)
    net = TrainedNet(
        net=tiny_net(),
        settings={"seed": 0, "loss": "none"},
        history=pd.DataFrame([{"epoch": 1.0, "loss": 1.0}]),
        best_epoch=1,
        seconds=1.0,
        origin="a tiny net",
    )
    with pytest.MonkeyPatch.context() as patch:
        make_runs_light(patch)
        split = Manifest.from_folder(photos).with_splits(seed=0, validation=0.3, test=0.3)
        write_net_run(room / "models" / "mine", net, split, Sight(cache=room / "cache"))
    return room


@pytest.fixture
def room(made: Path, tmp_path: Path) -> Room:
    here = shutil.copytree(made, tmp_path / "room")
    # The run names the folder of its photos.
    config = here / "models" / "mine" / "config.json"
    config.write_text(config.read_text().replace(str(made), str(here)))
    photo = str(here / "photos" / "Person_03" / "00.png")
    return Room(Machine(here), {"room": str(here), "models": f"--models={here / 'models'}", "photo": photo})


# A line that sets the scene ("" for none), the line that fails, its error, the advice as lines, and whether the failed
# line must work afterwards.
FOLLOWED = [
    (
        "",
        "verify {room}/none {photo} {photo}",
        "Run facetl train first",
        ("verify mine {photo} {photo} {models}",),
        False,
    ),
    ("", "identify mine {photo} {models}", "Run facetl enroll", ("enroll mine Ann {photo} {models}",), True),
    (
        "spoil {room}/models/mine/calibration.json",
        "verify mine {photo} {photo} {models}",
        "Run facetl calibrate",
        ("calibrate mine {models}",),
        True,
    ),
    (
        "rm {room}/models/mine/calibration.json",
        "identify mine {photo} {models}",
        "Run facetl calibrate",
        ("calibrate mine {models}", "enroll mine Ann {photo} {models}"),
        True,
    ),
    (
        "spoil {room}/models/mine/gallery.npz",
        "identify mine {photo} {models}",
        "delete it and run facetl enroll again",
        ("rm {room}/models/mine/gallery.npz", "enroll mine Ann {photo} {models}"),
        True,
    ),
    (
        "mv {room}/photos {room}/moved",
        "calibrate mine {models}",
        "name the folder where they are now by --data",
        ("calibrate mine {models} --data {room}/moved",),
        False,
    ),
    (
        "",
        "calibrate mine {models} --far 0.001",
        "or ask for a higher FAR",
        ("calibrate mine {models}",),
        False,
    ),
    (
        "",
        "embed mine {photo} {models} --out {room}/x.txt",
        "expected a name that ends in .npy, .parquet, .csv",
        ("embed mine {photo} {models} --out {room}/x.csv",),
        False,
    ),
    ("", "embed mine {photo} {models} --out {room}/new/x.csv", "Make it first", ("mkdir {room}/new",), True),
    (
        "",
        "evaluate openset mine {models} --gallery {room}/others --probe {room}/photos --method nearest --k 99",
        "k must be 1 to the 6 photos",
        ("evaluate openset mine {models} --gallery {room}/others --probe {room}/photos --method nearest --k 6",),
        False,
    ),
    (
        "",
        "evaluate openset mine {models} --gallery {room}/others --probe {room}/others",
        "Give other photos",
        ("evaluate openset mine {models} --gallery {room}/others --probe {room}/photos",),
        False,
    ),
    (
        "rm {room}/models/mine/people.json",
        "evaluate clusters mine {room}/photos {models} --unseen",
        "leave the option out",
        ("evaluate clusters mine {room}/photos {models}",),
        False,
    ),
    (
        "",
        "data triplets {room}/others --count 9 --test 0.3 --out {room}/t.csv",
        "set a fraction to 0",
        ("data triplets {room}/others --count 9 --test 0 --out {room}/t.csv",),
        False,
    ),
    (
        "",
        "data openset {room}/photos --out {room}/others",
        "Choose another folder",
        ("data openset {room}/photos --out {room}/set2",),
        False,
    ),
    (
        "",
        "scratch {room}/others --run a/b {models}",
        "The folder above it is --models",
        (),
        False,
    ),
    (
        "",
        "update mine {room}/photos {models}",
        "Add photos",
        ("update mine {room}/others {models} --method none",),
        False,
    ),
    (
        "",
        "scratch {room}/others --run few {models}",
        "name these people by a run that was trained on others",
        (
            "enroll mine Ann {room}/others/Person_00/00.png {models}",
            "identify mine {room}/others/Person_00/01.png {models}",
        ),
        False,
    ),
]


@pytest.mark.parametrize(("before", "line", "words", "advice", "again"), FOLLOWED, ids=[case[2] for case in FOLLOWED])
def test_who_follows_an_error_s_advice_succeeds(
    room: Room, before: str, line: str, words: str, advice: tuple[str, ...], again: bool
) -> None:
    if before:
        room.call(before)
    code, error = room.call(line)
    assert code == 1
    assert words in error
    assert error.strip().count("\n") == 0
    for step in (*advice, *([line] if again else [])):
        code, error = room.call(step)
        assert (step, code, error if code else "") == (step, 0, "")
