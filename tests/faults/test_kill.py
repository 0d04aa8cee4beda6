"""A process that fills the cache is killed with SIGKILL: committed rows stay, no row is ever wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import nursery
import pytest
from sparse_copy import copy_with_holes

from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.maintenance import verify
from facetl.errors import CacheError

PHOTOS = 40
KILLS = int(os.environ.get("FACETL_KILLS", "24")) // 4

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


Order = Callable[..., int]


@pytest.fixture(scope="module")
def nursery_process(start_nursery: Callable[[str], Order]) -> Order:
    """A function that carries out an order in a process of its own; returns its exit status, -9 when it was killed."""
    return start_nursery("nursery.py")


def make_photos(folder: Path, count: int) -> dict[str, np.ndarray]:
    """Photos on disk; returns the right row of each, by its sha256."""
    folder.mkdir()
    rng = np.random.default_rng(11)
    right = {}
    for i in range(count):
        data = rng.integers(0, 256, 4 * 5 * 3, dtype=np.uint8).tobytes()
        (folder / f"{i:03d}.jpg").write_bytes(data)
        right[hashlib.sha256(data).hexdigest()] = nursery.feature(nursery.decode(data)).astype(np.float16)
    return right


def open_cache(folder: Path) -> EmbeddingCache:
    fingerprint = nursery.Spec().fingerprint(nursery.WEIGHTS)
    return EmbeddingCache.open(folder, fingerprint=fingerprint, write=False)


def reported(log: Path) -> list[list[str]]:
    """The batches of which `append` had returned."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines()]


def look(folder: Path, log: Path, right: dict[str, np.ndarray]) -> tuple[int, int, int]:
    """Rows lost of the batches reported, rows present that are wrong, and rows present."""
    promised = [sha for batch in reported(log) for sha in batch]
    try:
        cache = open_cache(folder)
    except CacheError:
        assert not promised, "a cache of which rows were reported cannot be opened"
        return 0, 0, 0
    with cache:
        lost = int((~cache.has(promised)).sum())
        present = [sha for sha, there in zip(right, cache.has(list(right)), strict=True) if there]
        rows = cache.rows(present)
        wrong = sum(not np.array_equal(row, right[sha]) for sha, row in zip(present, rows, strict=True))
        return lost, wrong, len(present)


def test_kills_at_random_moments(tmp_path: Path, nursery_process: Order) -> None:
    right = make_photos(tmp_path / "photos", PHOTOS)
    order = {"do": "fill", "photos": str(tmp_path / "photos"), "pause": 0.004}
    began = time.perf_counter()
    assert nursery_process(cache=str(tmp_path / "clean"), log=str(tmp_path / "clean.log"), **order) == 0
    whole = time.perf_counter() - began
    with open_cache(tmp_path / "clean") as cache:
        clean = cache.rows(list(right))
    np.testing.assert_array_equal(clean, np.stack(list(right.values())))
    rng = np.random.default_rng(2024)
    lost = wrong = killed = halfway = runs = 0
    # On a busy machine a moment may fall before or behind the filling: more are drawn until enough fall into it.
    while killed < KILLS or (halfway < KILLS // 4 and runs < 10 * KILLS):
        folder, log = tmp_path / f"c{runs}", tmp_path / f"{runs}.log"
        # Every third cache is killed again while it goes on from the first kill.
        for _ in range(2 if runs % 3 == 0 else 1):
            moment = float(rng.uniform(0, whole))
            status = nursery_process(cache=str(folder), log=str(log), kill_after=moment, **order)
            killed += status == -signal.SIGKILL
            found = look(folder, log, right)
            lost, wrong = lost + found[0], wrong + found[1]
            halfway += 0 < found[2] < PHOTOS
        again = tmp_path / f"{runs}.again.log"
        assert nursery_process(cache=str(folder), log=str(again), **order) == 0
        with open_cache(folder) as cache:
            wrong += int((cache.rows(list(right)) != clean).any(axis=1).sum())
        assert sum(map(len, reported(again))) == PHOTOS - found[2], "each row is computed once"
        assert verify(folder).sound
        runs += 1
        # The machine may have been busy at the clean fill: then the moments came too late.
        whole *= 1 if status == -signal.SIGKILL else 0.9
    print(f"kills {killed}, halfway {halfway}, rows lost {lost}, wrong rows {wrong}")
    assert (lost, wrong) == (0, 0)
    assert halfway >= KILLS // 4, "the moments must fall into the filling"


def test_killed_before_every_single_step(quick_path: Path, nursery_process: Order) -> None:
    right = make_photos(quick_path / "photos", 14)
    order = {"do": "fill", "photos": str(quick_path / "photos")}
    for step in range(1, 1000):
        folder, log = quick_path / f"c{step}", quick_path / f"{step}.log"
        status = nursery_process(cache=str(folder), log=str(log), die_at=step, **order)
        assert look(folder, log, right)[:2] == (0, 0), f"killed at step {step}"
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert nursery_process(cache=str(folder), log=str(log), **order) == 0
        assert look(folder, log, right) == (0, 0, 14), f"killed at step {step}"
        assert verify(folder).sound
    assert step > 60, "a fill has many steps; were they counted?"


def test_gc_killed_before_every_single_step(quick_path: Path, nursery_process: Order) -> None:
    right = make_photos(quick_path / "photos", 25)
    files = sorted((quick_path / "photos").iterdir())
    dead = {1, 3, 12}
    full = quick_path / "full"
    log = str(quick_path / "log")
    assert nursery_process(do="fill", photos=str(quick_path / "photos"), cache=str(full), log=log) == 0
    for i in dead:
        files[i].unlink()
    alive = {sha: row for i, (sha, row) in enumerate(right.items()) if i not in dead}
    for step in range(1, 1000):
        folder = quick_path / f"c{step}"
        shutil.copytree(full, folder, copy_function=copy_with_holes)
        status = nursery_process(do="gc", cache=str(folder), die_at=step)
        assert look(folder, quick_path / "none", alive) == (0, 0, 22), f"killed at step {step}"
        assert nursery_process(do="gc", cache=str(folder)) == 0
        assert look(folder, quick_path / "none", right) == (0, 0, 22), f"killed at step {step}"
        assert verify(folder).sound
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert step > 20, "gc has many steps; were they counted?"
