"""Fills, sorts and names a library in processes that the tests kill; forks them: NumPy and OpenCV are imported once.

Reads a JSON order a line from stdin, forks, does it in the child and, when that has ended, prints its exit status.
Orders: {"do": "live" | "import" | "name", "library", "album", "log", "seed", "kill_after", "talk_for",
"die_at"}. `log` gets a
line for each photo and each answer once it is durable. The child is killed after `kill_after` seconds; with `talk_for`
it kills itself so many seconds after the import, with `die_at` just before its n-th SQL statement.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from forking import serve

from facetl.faces.alignment import template
from facetl.faces.detectors import Detector, DetectorSpec, Face
from facetl.people.library import Library
from facetl.people.photo_import import import_photos
from facetl.people.store.models import LibraryAnswer, LibraryPhoto, StackDraft

SIDE = 40
PEOPLE = ("Ann", "Bob", "Cleo", "Dora")


class Quick(DetectorSpec):
    """A detector, and its settings: two faces where the photo's first byte is odd, else one."""

    def fingerprint(self) -> str:
        return hashlib.sha256(b"quick").hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"name": "quick"}

    def make(self) -> Detector:
        return self

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        return [[face(place) for place in range(1 + int(image[0, 0, 0]) % 2)] for image in images]


def face(place: int) -> Face:
    left = 2.0 + place * (SIDE + 4)
    landmarks = (template(SIDE) + np.array([left, 2.0])).astype(np.float32)
    return Face((left, 2.0, left + SIDE - 1, 1.0 + SIDE), landmarks, 0.75)


class Log:
    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def photo(self, photo: LibraryPhoto) -> None:
        self._write({"photo": photo.sha})

    def answer(self, answer: LibraryAnswer) -> None:
        self._write({"answer": answer.id, "kind": answer.kind, "left": answer.left, "right": answer.right,
                     "name": answer.name, "old": answer.old})  # fmt: skip

    def turned(self, answer: LibraryAnswer | None) -> None:
        if answer is not None:
            self._write({"turned": answer.id, "undone": answer.undone})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self.descriptor, (json.dumps(line) + "\n").encode())


def bring(library: Library, album: str, log: Log) -> None:
    import_photos(library, [Path(album)], detector=Quick(), batch_size=2, on_photo=log.photo)


def talk(library: Library, log: Log, rng: np.random.Generator) -> None:
    """Say something, as the page does."""
    faces = library.face_ids(None).tolist()
    some = rng.permutation(faces)[: rng.integers(2, 6)].tolist()
    stacks = [stack.id for stack in library.stacks(limit=1000)]
    kind = int(rng.integers(9))
    if kind == 0 or not stacks:
        library.write_stacks(clustering(faces, rng))
    elif kind == 1:
        log.answer(library.name_stack(int(rng.choice(stacks)), str(rng.choice(PEOPLE))))
    elif kind == 2 and len(stacks) > 1:
        log.answer(library.merge_stacks(*rng.choice(stacks, 2, replace=False).tolist()))
    elif kind == 3:
        log.answer(library.mark_different(some[:1], some[1:]))
    elif kind == 4:
        log.answer(library.mark_stranger(some[:1]))
    elif kind == 5:
        log.turned(library.undo())
    elif kind == 6:
        log.turned(library.redo())
    else:
        log.answer(library.assign_name(some, str(rng.choice(PEOPLE))))


def die_after(seconds: float) -> None:
    """Kills this process in a while, whatever it is doing then."""

    def die() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()


def clustering(faces: Sequence[int], rng: np.random.Generator) -> list[StackDraft]:
    order = rng.permutation(faces).tolist()
    cuts = [*sorted(rng.choice(np.arange(1, len(order)), min(8, len(order) - 1), replace=False).tolist()), len(order)]
    parts = [tuple(order[start:end]) for start, end in zip([0, *cuts], cuts, strict=False)]
    return [StackDraft(part, (0.5,) * len(part), part[0], float(rng.random())) for part in parts]


def die_before(die_at: int) -> None:
    """Kills this process just before its `die_at`-th SQL statement."""
    left = [die_at]
    connect = sqlite3.connect

    def count(statement: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect_counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = connect_counted  # type: ignore[assignment]


def apply(order: dict[str, Any]) -> None:
    if order.get("die_at"):
        die_before(order["die_at"])
    log = Log(order["log"])
    with Library.open(Path(order["library"]), create=True) as library:
        if order["do"] == "name":
            log.answer(library.assign_name(order["faces"], "Ann"))
            return
        bring(library, order["album"], log)
        rng = np.random.default_rng(order.get("seed", 0))
        if "talk_for" in order:
            die_after(order["talk_for"])
        while order["do"] == "live":
            talk(library, log, rng)


if __name__ == "__main__":
    serve(apply)
