"""A process that fills, sorts and names a library is killed with SIGKILL: what it had confirmed is there afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import library_nursery as nursery
import numpy as np
import pytest
from sparse_copy import copy_with_holes

from facetl.people.library import FILE_NAME, Library
from facetl.people.store.resolve import resolve_answers

PHOTOS = 24
KILLS = int(os.environ.get("FACETL_KILLS", "24")) // 4
KILLS_A_LIBRARY = 5

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


@pytest.fixture(scope="module")
def run(start_nursery: Callable[[str], Callable[..., int]]) -> Callable[..., int]:
    """A function that carries out an order in a process of its own; returns its exit status, -9 when it was killed."""
    return start_nursery("library_nursery.py")


@pytest.fixture(scope="module")
def album(quick_room: Path) -> Path:
    folder = quick_room / "album"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for place in range(PHOTOS):
        image = rng.integers(0, 256, (48, 96, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{place:02d}.png"), image)
    return folder


@dataclass
class Promised:
    """What the killed processes had confirmed, by their logs."""

    photos: set[str] = field(default_factory=set)
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    undone: dict[int, bool] = field(default_factory=dict)

    def read(self, log: Path) -> None:
        for line in log.read_text().splitlines() if log.exists() else ():
            promise = json.loads(line)
            if "photo" in promise:
                self.photos.add(promise["photo"])
            elif "turned" in promise:
                self.undone[promise["turned"]] = promise["undone"]
            else:
                self.answers[promise.pop("answer")] = promise
                self.undone[max(self.answers)] = False


def look(folder: Path, promised: Promised) -> tuple[int, int]:
    """Check a library after a kill; return how many answers are in it, and how many of those promised are lost."""
    if not (folder / FILE_NAME).is_file():
        assert not promised.photos
        return 0, 0
    with Library.open(folder) as library:
        with library.database.read() as sql:
            assert sql("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert sql("PRAGMA foreign_key_check").fetchall() == []
        photos = library.photos(limit=1000)
        assert promised.photos <= {photo.sha for photo in photos}
        faces = [face for photo in photos for face in library.faces_of(photo.id)]
        assert all(library.thumb(face.key).stat().st_size for face in faces), "no face without its picture"
        answers = {answer.id: answer for answer in library.answers(limit=10**6)}
        lost = sum(not _is_there(answers.get(number), promise) for number, promise in promised.answers.items())
        # The last answer, undo or redo may be done and not confirmed.
        turned = [number for number, undone in promised.undone.items() if answers[number].undone != undone]
        assert len(turned) <= 1
        promised.undone.update((number, answer.undone) for number, answer in answers.items())
        _check_derived(library)
        return len(answers), lost


def _is_there(answer: Any, promise: dict[str, Any]) -> bool:
    return (
        answer is not None
        and {
            "kind": answer.kind,
            "left": list(answer.left),
            "right": list(answer.right),
            "name": answer.name,
            "old": answer.old,
        }
        == promise
    )


def _check_derived(library: Library) -> None:
    """Names and stacks are in line with the ledger: they are written with the answer, or not at all."""
    resolved = resolve_answers(library.answers(limit=10**6))
    with library.database.read() as sql:
        labels = dict(sql("SELECT face, name FROM labels JOIN people ON people.id = person").fetchall())
    assert labels == resolved.names
    for stack in library.stacks(limit=1000):
        _, members = library.stack(stack.id)
        faces = {member.face for member in members}
        assert stack.size == len(faces)
        assert stack.cover in faces
        assert not faces & (resolved.strangers | resolved.not_faces)
        names = {resolved.names[face] for face in faces if face in resolved.names}
        assert names == ({stack.name} if stack.name else set())


def test_kills_at_random_moments(quick_room: Path, album: Path, run: Any) -> None:
    clean = quick_room / "clean"
    began = time.perf_counter()
    assert run(do="import", library=str(clean), album=str(album), log=str(quick_room / "clean.log")) == 0
    whole = time.perf_counter() - began
    right = contents(clean)
    assert len(right) == PHOTOS
    rng = np.random.default_rng(2026)
    killed = answers = lost = in_import = 0
    while killed < KILLS:
        folder = quick_room / f"lib{killed}"
        promised = Promised()
        for turn in range(KILLS_A_LIBRARY):
            log = folder.with_suffix(f".{killed}.log")
            # Two of five are killed while they import, the others while they talk.
            moment = {"kill_after": rng.uniform(0, whole)} if turn < 2 else {"talk_for": rng.uniform(0, 0.06)}
            status = run(do="live", library=str(folder), album=str(album), log=str(log), seed=killed, **moment)
            assert status == -signal.SIGKILL
            killed += 1
            promised.read(log)
            found, missing = look(folder, promised)
            lost += missing
            if turn < 2:
                # How fast an import is depends on what else the machine does.
                whole *= {0: 1.3, PHOTOS: 0.7}.get(len(promised.photos), 1)
                in_import += len(promised.photos) < PHOTOS
        answers += found
        assert run(do="import", library=str(folder), album=str(album), log=str(log)) == 0
        assert contents(folder) == right, "the import goes on where it was stopped"
        assert look(folder, promised)[1] == 0
        shutil.rmtree(folder)
    print(f"kills {killed}, in the import {in_import}, answers {answers}, answers lost {lost}")
    assert lost == 0
    assert in_import >= KILLS // 20, "some moments must fall into the import"
    assert answers >= KILLS, "and most into answers"


def contents(folder: Path) -> dict[str, list[str]]:
    """Each photo's faces, by their keys."""
    with Library.open(folder) as library:
        photos = library.photos(limit=1000)
        return {photo.sha: sorted(face.key for face in library.faces_of(photo.id)) for photo in photos}


def test_killed_before_every_statement_of_an_answer(quick_room: Path, album: Path, run: Any) -> None:
    full = quick_room / "full"
    assert run(do="import", library=str(full), album=str(album), log=str(quick_room / "full.log")) == 0
    with Library.open(full) as library:
        faces = library.face_ids(None).tolist()
        library.write_stacks(nursery.clustering(faces, np.random.default_rng(1)))
        library.assign_name(faces[2:6], "Bob")
        before = library.named()
    seen = set()
    for step in range(1, 1000):
        folder, log = quick_room / f"step{step}", quick_room / f"step{step}.log"
        shutil.copytree(full, folder, copy_function=copy_with_holes)
        status = run(do="name", library=str(folder), log=str(log), faces=faces[:4], die_at=step)
        promised = Promised()
        promised.read(log)
        found, lost = look(folder, promised)
        assert (found, lost) in {(1, 0), (2, 0)}, f"killed before statement {step}"
        with Library.open(folder) as library:
            assert library.named() == before | (dict.fromkeys(faces[:4], "Ann") if found == 2 else {})
        seen.add(found)
        shutil.rmtree(folder)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert step > 20, "an answer has many statements; were they counted?"
    assert seen == {1, 2}
