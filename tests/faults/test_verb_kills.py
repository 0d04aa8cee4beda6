"""Every verb that writes is killed with SIGKILL: nothing is wrong or lost then, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparse_copy import copy_with_holes
from tiny_onnx import corner_net

from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.index import MissingCacheError
from facetl.embeddings.maintenance import verify
from facetl.people.library import Library
from facetl.recognition.run_folder import RunFolder

KILLS = int(os.environ.get("FACETL_KILLS", "24")) // 2  # the other half is the cache's and the library's own
NET = "--extractor onnx:net.onnx"
WHO = "Annegret"
NAMES = (WHO, "Bob", "Dora", "Emil", "Fay", "Gil", "Hal", "Ida")
VERBS = (
    "cache photos --extractor onnx:net.onnx?std=99 --batch-size 4",
    "cache export --out made.npy",
    "cache export --out made.csv",
    "align photos aligned --detector none --batch-size 4",
    "calibrate family",
    "enroll family Bob photos/Person_02",
    f"forget family {WHO}",
    "update family late --method none",
    "export family --out made --photos 4",
    "embed family photos --out made.npy",
    "embed family photos --out made.csv",
    "cluster family photos --out made.csv",
    "people import photos --library new --run family --detector none",
    "people cluster library",
    "people name library 9 Cleo",
    "people undo library",
    "people export library out --as csv --as xmp --as folders",
    "people learn library",
    "people prune library --apply",
    f"forget library {WHO}",
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


Run = Callable[..., int]


@pytest.fixture(scope="module")
def run(start_nursery: Callable[[str], Callable[..., int]]) -> Run:
    """A function that carries out a command line in a process of its own; returns its exit status, -9 when killed."""
    order = start_nursery("verb_nursery.py")
    return lambda command, folder, **words: order(command=command.split(), folder=str(folder), **words)


@pytest.fixture(scope="module")
def scene(quick_room: Path, run: Run, make_people: Callable[..., Path]) -> Path:
    """Return a folder with photos, a run with a gallery, and a library with answers and a photo that is gone."""
    folder = quick_room / "scene"
    make_people(folder / "photos", people=10, photos=4, noise=60)
    make_people(folder / "late", people=6, photos=4, seed=9)
    for number, path in enumerate(sorted((folder / "late").iterdir())):
        path.rename(path.with_name(f"Late_{number}"))
    weights = np.random.default_rng(0).normal(size=(3 * 8 * 8, 16)).astype(np.float32) / 20
    corner_net(folder / "net.onnx", weights, size=8)
    for command in (
        f"train photos {NET} --epochs 9 --run family",
        f"enroll family {WHO} photos/Person_01",
        "people import photos --library library --run family --detector none",
        *(f"people name library {stack} {name}" for stack, name in enumerate(NAMES, start=1)),
        "embed family late --out made.npy",
    ):
        assert run(command, folder) == 0, (folder / "err").read_text()
    (folder / "photos" / "Person_09" / "03.png").unlink()
    return folder


@dataclass
class Found:
    """What a folder holds: files that are the same in each call, rows of caches, enrolled faces and answers."""

    files: dict[str, bytes]
    rows: dict[tuple[str, str, bytes], bytes]
    enrolled: set[tuple[str, bytes]]
    answers: dict[int, tuple[Any, ...]]
    named: dict[int, str]


def look(folder: Path, scene: Path) -> Found:
    """Open and read all that lies in a folder; an error of any file fails the test."""
    rows = {}
    for index in folder.rglob("index.sqlite"):
        with suppress(MissingCacheError):  # an index whose tables are not made yet
            assert verify(index.parent).sound
        for fingerprint, shas in _cached(index).items():
            with EmbeddingCache.open(index.parent, fingerprint=fingerprint, write=False) as cache:
                place = str(index.parent.relative_to(folder))
                rows |= {
                    (place, fingerprint, sha): row.tobytes()
                    for sha, row in zip(shas, cache.rows([sha.hex() for sha in shas]), strict=True)
                }
    answers, named = {}, {}
    if (folder / "library").exists():
        with Library.open(folder / "library") as library:
            with library.database.read() as sql:
                assert sql("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert sql("PRAGMA foreign_key_check").fetchall() == []
            named = dict(library.named())
            answers = {one.id: (one.kind, one.left, one.right, one.name) for one in library.answers(limit=10**6)}
    gallery = RunFolder(folder / "models" / "family").gallery()
    enrolled = {(name, row.tobytes()) for name, row in zip(gallery.names, gallery.embeddings, strict=True)}
    return Found(_files(folder, scene), rows, enrolled, answers, named)


def _files(folder: Path, scene: Path) -> dict[str, bytes]:
    made = [path for place in ("made*", "out/**/*", "aligned/**/*") for path in folder.glob(place) if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        .replace(os.fsencode(folder), b"")
        .replace(os.fsencode(scene), b"")
        for path in made
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix not in (".sqlite", ".json", ".pid", ".lock", ".jsonl")
    }


def _without(content: bytes, *folders: Path) -> bytes:
    for folder in folders:
        content = content.replace(os.fsencode(folder), b"")
    return content


def _cached(index: Path) -> dict[str, list[bytes]]:
    connection = sqlite3.connect(index)
    query = "SELECT fingerprint, sha FROM rows JOIN extractors ON extractors.id = extractor"
    found: dict[str, list[bytes]] = {}
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone()
    for fingerprint, sha in connection.execute(query) if there else ():
        found.setdefault(fingerprint, []).append(sha)
    connection.close()
    return found


@pytest.mark.parametrize("place", range(len(VERBS)), ids=lambda place: VERBS[place].replace(" --", "-").split("/")[0])
def test_a_killed_verb_goes_on(quick_room: Path, scene: Path, run: Run, place: int) -> None:
    command = VERBS[place]
    kills = (KILLS + place) // len(VERBS)  # so that they sum to KILLS
    if not kills:
        pytest.skip("FACETL_KILLS=1000 kills every verb")
    clean = quick_room / "clean"

    def fresh(folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(scene, folder, copy_function=copy_with_holes)
        return folder

    counted = quick_room / "steps"
    assert run(command, fresh(clean), steps=str(counted)) == 0, (clean / "err").read_text()
    steps = int(counted.read_text())
    before, after = look(scene, scene), look(clean, scene)
    erases = command.startswith(("forget", "people prune"))
    rng, killed = np.random.default_rng(place), 0
    for moment in np.linspace(0, 1, kills, endpoint=False) + rng.uniform(0, 1 / max(kills, 1), kills):
        folder = fresh(quick_room / "killed")
        at = 1 + int(moment * steps)
        if run(command, folder, die_at=at) != -signal.SIGKILL:
            continue  # a call may need a step or two less than the other
        killed += 1
        found = look(folder, scene)
        where = f"killed before step {at} of {steps}"
        for name, content in found.files.items():
            assert content in (before.files.get(name), after.files.get(name)), f"{name}, {where}"
        if {"made.npy", "made.rows.csv"} <= set(found.files):
            assert any(
                all(found.files[name] == one.files.get(name) for name in ("made.npy", "made.rows.csv"))
                for one in (before, after)
            ), where
        wrong = [key for key, row in found.rows.items() if row not in (before.rows.get(key), after.rows.get(key))]
        assert not wrong, where
        if erases:
            before_or_after = after.answers.items() <= found.answers.items() and after.enrolled <= found.enrolled
        else:
            before_or_after = before.answers.items() <= found.answers.items() and before.enrolled <= found.enrolled
            assert before.rows.keys() <= found.rows.keys(), where
        assert before_or_after, where
        assert found.named in (before.named, after.named), where
        status = run(command, folder)
        if command.startswith("forget"):
            assert status in (0, 1), where  # 1: nothing names the person any more
            assert WHO not in _text_of(folder / command.split()[1] if "library" in command else folder / "models"), (
                where
            )
        elif not (command.startswith("people export") and found.files == after.files):  # it takes no folder twice
            assert status == 0, f"{where}: {(folder / 'err').read_text()}"
        again = look(folder, scene)
        if command.startswith("people undo"):
            continue  # the killed call may have taken one back already
        assert again.files == after.files, where
        assert again.rows == after.rows, where
        assert again.enrolled == after.enrolled, where
        assert again.named == after.named, where
    print(f"{command}: {steps} steps, {killed} kills")
    assert killed


def _text_of(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())
