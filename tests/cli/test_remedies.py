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
from sparse_copy import copy_with_holes

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
    """A user's machine with photos of ten people and the run `mine` of them; `fields` fill in a command's words.

    `tiny.keras` is a net to train heads on, `album` holds photos in which faces are large enough for a library.
    """

    machine: Machine
    fields: dict[str, str]

    def call(self, line: str) -> tuple[int, str]:
        """Run a line in this process and return the exit code and stderr.

        `rm`, `cp`, `mv` and `mkdir` are a user's own, `spoil` and `damage` are what befalls a file and a cache.
        """
        words = line.format(**self.fields).split()
        if words[0] == "rm":
            Path(words[1]).unlink()
        elif words[0] == "mkdir":
            Path(words[1]).mkdir()
        elif words[0] == "cp":
            shutil.copytree(words[1], words[2], copy_function=copy_with_holes)
        elif words[0] == "mv":
            shutil.move(words[1], words[2])
        elif words[0] == "damage":
            shard = next(Path(words[1]).glob("*/shard-*.npy"))
            content = bytearray(shard.read_bytes())
            content[128] ^= 1
            shard.write_bytes(content)
        elif words[0] == "spoil":
            Path(words[1]).write_text("{")
        else:
            done = self.machine.run_here(*words)
            return done.returncode, done.stderr
        return 0, ""


def tiny_net() -> keras.Model:
    keras.utils.set_random_seed(5)
    photos = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(4, 5, strides=3, activation="relu", name="conv2d")(
        keras.layers.Rescaling(1 / 127.5, -1)(photos)
    )
    embeddings = keras.layers.Dense(6, name="dense")(keras.layers.Flatten()(maps))
    return keras.Model(photos, keras.layers.UnitNormalization()(embeddings))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Path:
    room = tmp_path_factory.mktemp("remedies")
    photos = make_people(room / "photos", people=10, photos=3, side=24, noise=60.0)
    make_people(room / "others", people=3, photos=2, side=24, seed=7)
    make_people(room / "album", people=8, photos=3, side=112, seed=3)
    untrained = tiny_net()
    untrained.save(room / "tiny.keras")
    net = TrainedNet(
        net=untrained,
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
def room(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    make_runs_light(monkeypatch)
    here = shutil.copytree(made, tmp_path / "room", copy_function=copy_with_holes)
    # The run names the folder of its photos.
    config = here / "models" / "mine" / "config.json"
    config.write_text(config.read_text().replace(str(made), str(here)))
    photo = str(here / "photos" / "Person_03" / "00.png")
    fields = {"room": str(here), "models": f"--models={here / 'models'}", "photo": photo}
    return Room(Machine(here), fields | {name: line.format(**fields) for name, line in LINES.items()})


# Lines that many rows begin with.
LINES = {
    "fill": "cache fill {room}/photos --extractor {room}/tiny.keras",
    "train": "train {room}/photos --extractor {room}/tiny.keras --epochs 1 --components 8 {models} --run",
    "import": "people import {room}/album --detector none {models} --library {room}/lib",
}


# Lines that set the scene ("" for none, "; " between them), the line that fails, its error, the advice as lines, and
# whether the failed line must work afterwards.
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
    ("", "train {photo} --run new {models}", "Give the folder that holds a folder per person", ("{train} new",), False),
    (
        "",
        "train {room}/photos/Person_03 --run new {models}",
        "Put each person's photos into a folder",
        ("mkdir {room}/people", "mv {room}/photos/Person_03 {room}/people", "data check {room}/people"),
        False,
    ),
    (
        "",
        "{train} new --tap auto",
        "Run facetl benchmark transfer on other people",
        ("benchmark transfer {room}/album --extractor {room}/tiny.keras", "{train} new --tap avg --grid 1"),
        False,
    ),
    (
        "",
        "{train} new --validation 0.6 --test 0.5",
        "Try 0.1 and 0.1",
        ("{train} new --validation 0.1 --test 0.1",),
        False,
    ),
    ("", "{train} new --resume", "Train without --resume", ("{train} new",), False),
    (
        "mkdir {room}/models/new; spoil {room}/models/new/notes.txt",
        "{train} new",
        "Choose another --run",
        ("{train} newer",),
        False,
    ),
    (
        "",
        "{train} new --loss triplet --sampler pairs",
        "Choose the loss contrastive, or another sampler",
        ("{train} new --loss contrastive --sampler pairs",),
        False,
    ),
    (
        "",
        "{train} new --loss cosface --sampler neighbours",
        "Choose the sampler pk, or the loss triplet",
        ("{train} new --loss cosface --sampler pk",),
        False,
    ),
    ("", "{fill} --tap none", "or a layer of tiny.keras", ("{fill} --tap dense",), False),
    ("", "{fill} --tap conv2d --grid 9", "has a map of 4×4", ("{fill} --tap conv2d --grid 4",), False),
    ("", "{fill} --weights {photo}", "brings its own", ("{fill}",), False),
    ("", "{fill} --crop 2", "1 takes the whole photo", ("{fill} --crop 1",), False),
    (
        "{train} new",
        "scratch {room}/photos --run copy {models} --config {room}/models/new",
        "Give it to facetl train",
        ("train {room}/photos --run copy {models} --config {room}/models/new",),
        False,
    ),
    (
        "spoil {room}/models/mine/config.json",
        "verify mine {photo} {photo} {models}",
        "Run facetl train",
        ("{train} mine",),
        True,
    ),
    ("rm {room}/models/mine/people.json", "calibrate mine {models}", "Train it again", ("{train} mine",), True),
    (
        "{train} new; mv {room}/tiny.keras {room}/away.keras",
        "verify new {photo} {photo} {models}",
        "Restore them",
        ("mv {room}/away.keras {room}/tiny.keras",),
        True,
    ),
    (
        "",
        "calibrate mine {models} --fpir 0.3",
        "or ask for a higher FPIR",
        ("calibrate mine {models} --fpir 0.8",),
        False,
    ),
    (
        "",
        "data openset {room}/photos --out {room}/set --known 99",
        "Ask for fewer",
        ("data openset {room}/photos --out {room}/set --known 3",),
        False,
    ),
    (
        "",
        "data openset {room}/photos --out {room}/photos/set",
        "Choose another folder",
        ("data openset {room}/photos --out {room}/set",),
        False,
    ),
    (
        "",
        "data triplets {room}/photos --count 9999 --out {room}/t.csv",
        "Ask for fewer",
        ("data triplets {room}/photos --count 999 --out {room}/t.csv",),
        False,
    ),
    (
        "data triplets {room}/photos --count 5 --out {room}/t.csv",
        "evaluate triplets mine {room}/t.csv --images {room}/others {models}",
        "Give the folder of images that the list was made for",
        ("evaluate triplets mine {room}/t.csv --images {room}/photos {models}",),
        False,
    ),
    (
        "",
        "align {room}/photos {room}/photos",
        "a folder of their own",
        ("align {room}/photos {room}/faces --detector none",),
        False,
    ),
    (
        "",
        "align {room}/photos {room}/others --detector none",
        "Choose another folder",
        ("align {room}/photos {room}/faces --detector none",),
        False,
    ),
    (
        "align {room}/photos {room}/faces --detector none",
        "align {room}/photos {room}/faces --detector none --size 64",
        "Choose another folder",
        ("align {room}/photos {room}/small --detector none --size 64",),
        False,
    ),
    (
        "",
        "enroll mine Ann {photo} --face 9 {models}",
        "counted from the left from 1",
        ("enroll mine Ann {photo} --face 1 {models}",),
        False,
    ),
    ("", "enroll mine unknown {photo} {models}", "Choose another name", ("enroll mine Ann {photo} {models}",), False),
    (
        "enroll mine Ann {photo} {models}",
        "forget mine Bob {models}",
        "Check its spelling",
        ("forget mine Ann {models}",),
        False,
    ),
    (
        "",
        "identify mine {photo} {models} --detector mtcnn --detector-weights {photo}",
        "Leave it out",
        ("enroll mine Ann {photo} {models}", "identify mine {photo} {models} --detector mtcnn"),
        False,
    ),
    (
        "",
        "update mine {room}/others {models} --method naive",
        "or give --method none",
        ("update mine {room}/others {models} --method none",),
        False,
    ),
    (
        "mv {room}/photos {room}/moved",
        "update mine {room}/others {models} --method none",
        "name the folder where they are now by --data",
        ("update mine {room}/others {models} --method none --data {room}/moved",),
        False,
    ),
    (
        "{train} new --test 0",
        "update new {room}/others {models}",
        "Name new people by facetl enroll",
        ("enroll new Ann {room}/others/Person_00/00.png {models}",),
        False,
    ),
    (
        "mv {room}/photos {room}/moved",
        "export mine {models} --out {room}/net --format litert --quantise int8",
        "Name a folder of photos by --representative",
        ("export mine {models} --out {room}/net --format litert --quantise int8 --representative {room}/moved",),
        False,
    ),
    (
        "",
        "export mine {models} --out {room}/net --format litert --quantise int4",
        "expected none, float16, int8, with --format litert",
        ("export mine {models} --out {room}/net --format litert --quantise float16",),
        False,
    ),
    (
        "",
        "export mine {models} --out {room}/net --format keras",
        "files that end in .keras",
        ("export mine {models} --out {room}/net.keras --format keras",),
        False,
    ),
    (
        "",
        "cache info --cache {room}/none",
        "Run `facetl cache`",
        ("{fill} --cache {room}/none",),
        True,
    ),
    (
        "",
        "{fill} --cache {photo}",
        "Choose another place",
        ("{fill} --cache {room}/new",),
        False,
    ),
    (
        "",
        "{fill} --tap auto --grid 2",
        "Leave it out",
        ("{fill} --tap auto",),
        False,
    ),
    (
        "{fill}; damage {room}/cache",
        "cache verify",
        "Run facetl cache gc to drop them; the next fill computes them again",
        ("cache gc", "{fill}"),
        True,
    ),
    ("cp {room}/models/mine {room}/models/new", "{import}", "Name one of them", ("{import} --run mine",), False),
    ("", "people stacks {room}/lib", "Run facetl people import first", ("{import}",), True),
    (
        "{import} --faces-only",
        "people cluster {room}/lib",
        "Run facetl people import with --run first",
        ("{import} --run mine",),
        True,
    ),
    (
        "",
        "people import {room}/album --library {room}/photos --run mine {models}",
        "Name one that is empty or not there yet",
        ("{import} --run mine",),
        False,
    ),
    (
        "cp {room}/models/mine {room}/models/new; {import} --run new; mv {room}/models/new {room}/away",
        "people cluster {room}/lib",
        "or choose one by facetl people import --run",
        ("{import} --run mine",),
        True,
    ),
    (
        "{import}",
        "people name {room}/lib 99 Ann",
        "List its stacks again",
        ("people stacks {room}/lib", "people name {room}/lib 3 Ann"),
        False,
    ),
    (
        "{import}",
        "identify {room}/lib {room}/album/Person_00/00.png",
        "Run facetl people name first",
        ("people name {room}/lib 3 Ann",),
        True,
    ),
    (
        "{import}; people name {room}/lib 3 Ann",
        "people export {room}/lib {room}/photos --as csv",
        "Name another one",
        ("people export {room}/lib {room}/out --as csv",),
        False,
    ),
    (
        "{import}; people name {room}/lib 3 Ann",
        "people export {room}/lib {room}/out --as csv --name Bob",
        "Check its spelling",
        ("people export {room}/lib {room}/out --as csv --name Ann",),
        False,
    ),
    (
        "{import}",
        "people learn {room}/lib --apply --back",
        "give one of --apply, --discard and --back",
        ("people learn {room}/lib --discard",),
        False,
    ),
    (
        "",
        "benchmark transfer {room}/others --extractor {room}/tiny.keras",
        "Add photos",
        ("benchmark transfer {room}/photos --extractor {room}/tiny.keras",),
        False,
    ),
]


@pytest.mark.parametrize(("before", "line", "words", "advice", "again"), FOLLOWED, ids=[case[2] for case in FOLLOWED])
def test_who_follows_an_error_s_advice_succeeds(
    room: Room, before: str, line: str, words: str, advice: tuple[str, ...], again: bool
) -> None:
    for scene in before.split("; ") if before else ():
        assert room.call(scene)[0] == 0, scene
    code, error = room.call(line)
    assert code in (1, 2)
    assert words in error
    assert code == 2 or error.strip().splitlines()[-1].startswith("facetl: ")
    for step in (*advice, *([line] if again else [])):
        code, error = room.call(step)
        assert (step, code, error if code else "") == (step, 0, "")


@pytest.mark.filterwarnings("default::facetl.errors.FacetlWarning")
def test_a_training_that_diverges_late_is_kept_up_to_there(room: Room) -> None:
    code, error = room.call("{train} new --epochs 5 --schedule decay --decay 1e20")
    assert code == 0
    assert "warning: training diverged in epoch " in error
    assert "is kept" in error.splitlines()[-1]
    assert room.call("verify new {photo} {photo} {models}")[0] == 0


def test_prune_advises_the_command_that_drops_what_it_counted(room: Room) -> None:
    assert room.call("{import}")[0] == 0
    assert room.call("mv {room}/album {room}/away")[0] == 0
    advised = room.call("people prune {room}/lib {room}/album")[1].split("facetl ", 1)[1]
    assert advised.split() == "people prune {room}/lib {room}/album --apply".format(**room.fields).split()
    assert room.call(advised)[0] == 0
    assert "nothing is changed yet" not in room.call("people prune {room}/lib {room}/album")[1]
