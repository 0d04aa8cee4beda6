"""Ctrl-C and SIGTERM at any step that changes the disk: one line, 130, nothing half-made; the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from light_runs import make_runs_light
from machine import Machine
from sparse_copy import copy_with_holes

from facetl.embeddings import shards

LINE = "facetl: interrupted; what was finished is kept"
NET = ("--extractor", "mobilenet_v3_small", "--weights", "small.weights.h5", "--tap", "conv", "--grid", "2")
TRAIN = ("train", "photos", *NET, "--epochs", "2", "--components", "4", "--run")
# Verb → its command line, and what it makes, which is there whole or not at all.
VERBS = {
    "cache": (("cache", "photos", *NET, "--crop", "0.7", "--batch-size", "4"), None),
    "cache export": (("cache", "export", "--out", "made.npy"), "made.npy"),
    "align": (("align", "photos", "aligned", "--detector", "none", "--batch-size", "4"), None),
    "calibrate": (("calibrate", "family"), None),
    "enroll": (("enroll", "family", "Ann", "photos/Person_01"), None),
    "embed": (("embed", "family", "photos", "--out", "made.csv"), "made.csv"),
    "cluster": (("cluster", "family", "photos", "--out", "made.csv"), "made.csv"),
    "people import": (
        ("people", "import", "photos", "--library", "new", "--run", "family", "--detector", "none"),
        None,
    ),
    "people cluster": (("people", "cluster", "library"), None),
    "people export": (("people", "export", "library", "out", "--as", "csv", "--as", "xmp"), "out/people.csv"),
    "data triplets": (("data", "triplets", "photos", "--count", "9", "--out", "made.csv"), "made.csv"),
    "data openset": (("data", "openset", "photos", "--out", "made"), "made/openset.csv"),
}
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "sqlite3.connect", "subprocess.Popen"}


class Trap:
    """Sends this process a signal at its n-th step that changes the disk."""

    def __init__(self) -> None:
        self.steps = self.at = 0
        self.sign = signal.SIGINT
        self.set = False
        sys.addaudithook(self._count)

    def run(
        self, machine: Machine, command: tuple[str, ...], at: int = 0, sign: int = signal.SIGINT
    ) -> tuple[int, str]:
        self.steps, self.at, self.sign, self.set = 0, at, sign, True
        try:
            done = machine.run_here(*command)
        finally:
            self.set = False
        return done.returncode, done.stderr

    def _count(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.set:
            return
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _CHANGES or (opened and isinstance(arguments[0], (str, bytes))):
            self.steps += 1
            if self.steps == self.at:
                os.kill(os.getpid(), self.sign)


@pytest.fixture(scope="module")
def trap() -> Trap:
    return Trap()


@pytest.fixture(scope="module")
def light() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        make_runs_light(patch)
        patch.setattr(shards, "SHARD_BYTES", 2**16)
        yield


@pytest.fixture(scope="module")
def scene(
    light: None, tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path], small_net_weights: Path
) -> Path:
    """Return a folder with photos, a run and a library of them."""
    folder = tmp_path_factory.mktemp("scene")
    make_people(folder / "photos", people=10, photos=3)
    shutil.copy(small_net_weights, folder / "small.weights.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        machine = Machine(folder)
        for command in ((*TRAIN, "family"), _with("people import", library="library")):
            done = machine.run_here(*command)
            assert done.returncode == 0, done.stderr
        assert machine.run_here("people", "name", "library", "1", "Ann").returncode == 0
    return folder


def _with(verb: str, *, library: str) -> tuple[str, ...]:
    return tuple(library if word == "new" else word for word in VERBS[verb][0])


@pytest.mark.parametrize("verb", VERBS)
def test_an_interrupted_verb_goes_on(
    scene: Path, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    command, made = VERBS[verb]

    def fresh(name: str) -> Machine:
        shutil.copytree(scene, tmp_path / name, copy_function=copy_with_holes)
        monkeypatch.chdir(tmp_path / name)
        return Machine(tmp_path / name)

    def content() -> bytes | None:
        # Some hold the photos' absolute paths.
        there = made is not None and Path(made).exists()
        return Path(made).read_bytes().replace(os.fsencode(Path.cwd()), b"") if there else None

    assert trap.run(fresh("clean"), command)[0] == 0
    whole, steps = content(), trap.steps
    assert steps > 1
    for at, sign in ((1, signal.SIGTERM), ((steps + 1) // 2, signal.SIGINT)):
        machine = fresh(f"at{at}")
        code, said = trap.run(machine, command, at, sign)
        assert (code, said.splitlines()[-1]) == (130, LINE)
        assert "Traceback" not in said
        assert not psutil.Process().children()
        assert content() is None
        code, said = trap.run(machine, command)
        assert code == 0, said
        assert content() == whole


def test_a_training_interrupted_while_its_run_is_written_is_resumed(
    scene: Path, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facetl.runs import training_run

    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    shutil.copytree(scene, tmp_path / "here", copy_function=copy_with_holes)
    monkeypatch.chdir(tmp_path / "here")
    machine = Machine(tmp_path / "here")
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "write_documents", stop)
        assert trap.run(machine, (*TRAIN, "new"))[0] == 130
    assert not Path("models/new").exists()
    done = machine.run_here(*TRAIN, "new", "--resume")
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stderr, "no epoch is trained again"
    assert not (Path("models/new") / "checkpoint.npz").exists()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_interrupted_as_soon_as_it_starts(sign: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import signal, sys; from facetl import __main__ as facetl\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'typer': signal.raise_signal({int(sign)})\n"
        "sys.meta_path.insert(0, Finder()); facetl.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "facetl: interrupted; nothing was begun\n")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_file_takes_the_number_of_a_closed_stream(number: int, tmp_path: Path) -> None:
    code = (
        "import os, sys; from facetl import __main__ as facetl, _tensorflow; from facetl.cli import app\n"
        "def verb(_):\n"
        "    with _tensorflow.held_back_stderr(): os._exit(min(os.open(os.devnull, 0), 9))\n"
        "app.app = verb; facetl.main()"
    )
    command = f'exec "$0" -c "$1" {number}>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable, code], capture_output=True, text=True, check=False)
    assert done.returncode > 2, done.stderr
