"""Found faces on disk: exact, each photo searched once, kept when killed, gone with the photo, never wrong."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.maintenance import gc, info, verify
from facetl.errors import CacheCorruptError, CacheError, PhotoError
from facetl.faces.detection import Detection, detect_all
from facetl.faces.detectors import Detector, DetectorSpec, Face
from facetl.faces.landmark_store import FILE_NAME, LandmarkStore, MissingLandmarksError
from facetl.io.files import checksum

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
EYES = "ee" * 32
HATS = "ff" * 32


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: SIGKILL spares the page cache, so a disk adds only waiting."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def a_face(seed: int) -> Face:
    numbers = np.random.default_rng(seed).normal(100, 50, 15).astype(np.float32)
    left, top, right, bottom = numbers[:4].tolist()
    return Face((left, top, right, bottom), numbers[4:14].reshape(5, 2), float(numbers[14]))


def as_before(cache: Path, *shas: str) -> None:
    """Make of photos what facetl stored of them when it looked at photos upright alone."""
    with closing(sqlite3.connect(cache / FILE_NAME, isolation_level=None)) as store:
        for key in map(bytes.fromhex, shas):
            [(content,)] = store.execute("SELECT faces FROM searched WHERE sha = ?", (key,)).fetchall()
            old = content[: len(content) // 60 * 60]
            store.execute("UPDATE searched SET faces = ?, checksum = ? WHERE sha = ?", (old, checksum(key, old), key))


def plain(faces: Sequence[Face]) -> list[dict[str, object]]:
    return [face.to_json() for face in faces]


class Counting(DetectorSpec):
    """A detector, and its settings: as many faces as the photo's first byte says, told apart by its second."""

    def __init__(self, *, fingerprint: str = EYES, interrupt_at: int | None = None) -> None:
        self._fingerprint = fingerprint
        self.interrupt_at = interrupt_at
        self.made = 0
        self.batches: list[int] = []

    def fingerprint(self) -> str:
        return self._fingerprint

    def to_json(self) -> dict[str, object]:
        return {"name": "counting", "version": "1"}

    def make(self) -> Detector:
        self.made += 1
        return self

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        if len(self.batches) == self.interrupt_at:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        return [[a_face(100 * n + int(image[0, 0, 1])) for n in range(image[0, 0, 0])] for image in images]


def decode(data: bytes) -> np.ndarray:
    if not data.startswith(b"photo"):
        raise PhotoError("not-an-image", "expected a photo")
    return np.frombuffer(data[5:8], np.uint8).reshape(1, 1, 3)


def photos_in(folder: Path, count: int) -> dict[Path, str]:
    """Photo i has i % 3 faces."""
    folder.mkdir(exist_ok=True)
    shas = {}
    for i in range(count):
        path = folder / f"Jane_Doe_{i} é.jpg"
        path.write_bytes(b"photo" + bytes([i % 3, i, 0]))
        shas[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return shas


def search(cache: Path, shas: dict[Path, str], detector: Counting, **options: object) -> Detection:
    return detect_all(shas, cache_folder=cache, detector=detector, decode=decode, batch_size=4, **options)  # type: ignore[arg-type]


def expected(shas: dict[Path, str]) -> dict[str, list[dict[str, object]]]:
    return {sha: plain([a_face(100 * n + i) for n in range(i % 3)]) for i, sha in enumerate(shas.values())}


def stored(cache: Path, shas: dict[Path, str], fingerprint: str = EYES) -> dict[str, list[dict[str, object]]]:
    with LandmarkStore.open(cache, write=False) as store:
        return {sha: plain(faces) for sha, faces in store.find(fingerprint, shas.values()).items()}


class TestStore:
    def test_faces_come_back_exactly(self, tmp_path: Path) -> None:
        faces = (a_face(1), a_face(2))
        with LandmarkStore.open(tmp_path, write=True) as store:
            store.put(EYES, {"name": "x"}, {A: faces, B: ()})
        with LandmarkStore.open(tmp_path, write=False) as store:
            found = store.find(EYES, [B, A, C, A])
            assert found.keys() == {A, B}
            assert plain(found[A]) == plain(faces)
            assert found[A][0].landmarks.dtype == np.float32
            assert found[B] == ()
            assert store.find(HATS, [A]) == {}

    def test_detectors_are_kept_apart_and_listed(self, tmp_path: Path) -> None:
        with LandmarkStore.open(tmp_path, write=True) as store:
            store.put(EYES, {"name": "eyes"}, {A: [a_face(1)] * 3, B: (), C: ()})
            store.put(HATS, {"name": "hats"}, {A: [a_face(9)]})
            store.put(HATS, {"name": "hats"}, {A: [a_face(5)]})
            assert plain(store.find(HATS, [A])[A]) == plain([a_face(5)])
            told = [(d.fingerprint, d.description, d.photos, d.without_face, d.faces) for d in store.detectors()]
        assert told == [(EYES, {"name": "eyes"}, 3, 2, 3), (HATS, {"name": "hats"}, 1, 0, 1)]

    def test_a_photo_seen_upright_alone_is_looked_at_again_where_its_face_is_in_doubt(self, tmp_path: Path) -> None:
        sure, unsure = (replace(a_face(1), confidence=confidence) for confidence in (0.75, 0.5))
        with LandmarkStore.open(tmp_path, write=True) as store:
            store.put(EYES, {}, {A: [unsure, sure], B: (), C: [unsure], D: [unsure]})
        as_before(tmp_path, A, B, C)
        with LandmarkStore.open(tmp_path, write=False) as store:
            assert store.find(EYES, [A, B, C, D], doubt=0.0).keys() == {A, C, D}
            assert store.find(EYES, [A, B, C, D], doubt=0.75).keys() == {A, D}
            assert store.find(EYES, [A, B, C, D], doubt=0.76).keys() == {D}
            every = store.find(EYES, [A, B, C, D])
            assert {sha: plain(faces) for sha, faces in every.items()} == {
                A: plain([unsure, sure]),
                B: [],
                C: plain([unsure]),
                D: plain([unsure]),
            }
            assert store.damaged() == 0
            assert [(info.photos, info.without_face, info.faces) for info in store.detectors()] == [(4, 1, 4)]

    def test_many_photos_at_once(self, tmp_path: Path) -> None:
        shas = [hashlib.sha256(bytes([i % 251, i // 251])).hexdigest() for i in range(1203)]
        with LandmarkStore.open(tmp_path, write=True) as store:
            store.put(EYES, {}, {sha: [a_face(i)] * (i % 2) for i, sha in enumerate(shas)})
            store.remember({tmp_path / sha: sha for sha in shas})
            assert len(store.find(EYES, shas)) == 1203
            assert store.remembers({tmp_path / sha: sha for sha in shas})
            assert not store.remembers({tmp_path / shas[3]: shas[4]})

    def test_a_batch_is_stored_whole_or_not_at_all(self, tmp_path: Path) -> None:
        with LandmarkStore.open(tmp_path, write=True) as store:
            with pytest.raises(ValueError, match="hexadecimal"):
                store.put(EYES, {}, {A: [a_face(1)], "no sha": ()})
            assert store.find(EYES, [A]) == {}
            store.put(EYES, {}, {A: ()})
            assert store.find(EYES, [A]) == {A: ()}

    def test_it_is_its_owners_alone(self, tmp_path: Path) -> None:
        with LandmarkStore.open(tmp_path / "c", write=True) as store:
            store.put(EYES, {}, {A: ()})
            modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "c").iterdir()}
        assert modes == {0o600}
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700

    def test_two_processes_may_make_it_at_once(self, tmp_path: Path) -> None:
        # The other one has made the file, and is about to write to it.
        other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, other.execute, ["COMMIT"])
        ending.start()
        with LandmarkStore.open(tmp_path, write=True) as store:
            store.put(EYES, {}, {A: ()})
            assert store.find(EYES, [A]) == {A: ()}
        ending.join()
        other.close()

    def test_what_stays_locked_is_reported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facetl.io.sqlite_file.PATIENCE", 0.05)
        other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="database is locked"):
            LandmarkStore.open(tmp_path, write=True)
        other.close()

    def test_none_to_read(self, tmp_path: Path) -> None:
        with pytest.raises(MissingLandmarksError, match="Detect them first"):
            LandmarkStore.open(tmp_path, write=False)
        (tmp_path / FILE_NAME).touch()  # left by a first writer that was killed
        with pytest.raises(MissingLandmarksError):
            LandmarkStore.open(tmp_path, write=False)
        LandmarkStore.open(tmp_path, write=True).close()
        LandmarkStore.open(tmp_path, write=False).close()

    def test_of_a_newer_facetl(self, tmp_path: Path) -> None:
        LandmarkStore.open(tmp_path, write=True).close()
        with sqlite3.connect(tmp_path / FILE_NAME) as connection:
            connection.execute("PRAGMA user_version = 2")
        connection.close()
        for write in (True, False):
            with pytest.raises(CacheError, match="Upgrade facetl"):
                LandmarkStore.open(tmp_path, write=write)

    def test_a_damaged_file_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).write_bytes(b"no database, but long enough to be taken for one" * 99)
        for write in (True, False):
            with pytest.raises(CacheCorruptError, match="Delete it and run the same command again"):
                LandmarkStore.open(tmp_path, write=write)


class TestDetectAll:
    def test_each_photo_is_searched_once(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 10)
        told: list[tuple[int, int]] = []
        detector = Counting()
        first = search(tmp_path / "c", shas, detector, on_progress=lambda *at: told.append(at))
        assert {sha: plain(faces) for sha, faces in first.faces.items()} == expected(shas)
        report = first.report
        assert (report.photos, report.searched, report.reused) == (10, 10, 0)
        assert (report.faces, report.without_face, report.skipped) == (9, 4, {})
        assert detector.batches == [4, 4, 2]
        assert told == [(0, 10), (4, 10), (8, 10), (10, 10)]
        assert json.loads(json.dumps(report.to_json()))["faces"] == 9

        again = search(tmp_path / "c", shas, detector, on_progress=lambda *at: told.append(at))
        assert detector.made == 1
        assert {sha: plain(faces) for sha, faces in again.faces.items()} == expected(shas)
        assert (again.report.searched, again.report.reused, again.report.rate) == (0, 10, 0.0)
        assert told[-1] == (10, 10)

        other = Counting(fingerprint=HATS)
        assert search(tmp_path / "c", shas, other).report.searched == 10

    def test_copies_and_moved_photos_are_not_searched_again(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 3)
        (path, sha), *_ = shas.items()
        copy = tmp_path / "copy.jpg"
        copy.write_bytes(path.read_bytes())
        detector = Counting()
        found = search(tmp_path / "c", {**shas, copy: sha}, detector)
        assert (found.report.photos, found.report.searched, found.report.reused) == (4, 3, 1)
        copy.unlink()
        moved = path.rename(tmp_path / "moved.jpg")
        assert search(tmp_path / "c", {moved: sha}, detector).report.reused == 1
        assert detector.made == 1
        assert gc(tmp_path / "c").faces_dropped == 0

    def test_photos_that_cannot_be_read_are_counted_and_tried_again(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 4)
        text, gone, changed = (tmp_path / "p" / name for name in ("text.jpg", "gone.jpg", "changed.jpg"))
        text.write_bytes(b"no")
        changed.write_bytes(b"photo\2\2\2")
        bad = {text: hashlib.sha256(b"no").hexdigest(), gone: A, changed: B}
        told: list[tuple[int, int]] = []
        found = search(tmp_path / "c", {**shas, **bad}, Counting(), on_progress=lambda *at: told.append(at))
        assert found.report.skipped == {"changed-meanwhile": 1, "not-an-image": 1, "unreadable": 1}
        assert (found.report.searched, found.report.reused) == (4, 0)
        assert told[-1] == (7, 7)
        assert found.faces.keys() == set(shas.values())
        text.write_bytes(b"photo\1\1\1")
        mended = {text: hashlib.sha256(text.read_bytes()).hexdigest()}
        assert search(tmp_path / "c", {**shas, **mended}, Counting()).report.searched == 1

    def test_an_interrupted_search_goes_on(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 11)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "c", shas, Counting(interrupt_at=2))
        assert len(stored(tmp_path / "c", shas)) == 8
        rest = Counting()
        assert search(tmp_path / "c", shas, rest).report.reused == 8
        assert rest.batches == [3]
        assert stored(tmp_path / "c", shas) == expected(shas)

    def test_what_is_known_is_read_without_writing(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 5)
        search(tmp_path / "c", shas, Counting())
        path = tmp_path / "c" / FILE_NAME
        before = (path.read_bytes(), path.stat().st_mtime_ns)
        detector = Counting()
        search(tmp_path / "c", shas, detector)
        assert (path.read_bytes(), path.stat().st_mtime_ns, detector.made) == (*before, 0)

    def test_what_was_seen_upright_alone_is_searched_once_more(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 6)
        search(tmp_path / "c", shas, Counting())
        as_before(tmp_path / "c", *shas.values())
        # Photos 0 and 3 have no face.
        assert search(tmp_path / "c", shas, Counting()).report.searched == 2
        assert search(tmp_path / "c", shas, Counting()).report.searched == 0

    def test_a_disk_that_cannot_be_written_gives_what_it_holds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shas = photos_in(tmp_path / "p", 6)
        search(tmp_path / "c", shas, Counting())
        as_before(tmp_path / "c", *list(shas.values())[:4])
        opened = LandmarkStore.open

        def reading(folder: Path, *, write: bool) -> LandmarkStore:
            if write:
                raise CacheError("read-only")
            return opened(folder, write=False)

        monkeypatch.setattr(LandmarkStore, "open", reading)
        lines: list[str] = []
        moved = {tmp_path / "elsewhere" / path.name: sha for path, sha in shas.items()}
        found = search(tmp_path / "c", moved, Counting(), on_notice=lines.append)
        assert {sha: plain(faces) for sha, faces in found.faces.items()} == expected(shas)
        assert (found.report.reused, found.report.searched, found.report.without_face) == (6, 0, 2)
        assert len(lines) == 1
        assert "2 photos that an earlier facetl searched upright alone" in lines[0]
        search(tmp_path / "c", dict(list(moved.items())[4:]), Counting(), on_notice=lines.append)
        assert len(lines) == 1
        with pytest.raises(CacheError, match="read-only"):
            search(tmp_path / "c", {**shas, tmp_path / "new.jpg": A}, Counting())

    def test_changed_bytes_are_searched_again(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 9)
        search(tmp_path / "c", shas, Counting())
        connection = sqlite3.connect(tmp_path / "c" / FILE_NAME)
        # One face is moved, one lost, one given to another photo.
        blobs = dict(connection.execute("SELECT sha, faces FROM searched").fetchall())
        keys = [bytes.fromhex(sha) for sha in shas.values()]
        for target, blob in ((1, blobs[keys[1]][:-1] + b"!"), (2, blobs[keys[2]][:60]), (4, blobs[keys[7]])):
            connection.execute("UPDATE searched SET faces = ? WHERE sha = ?", (blob, keys[target]))
        connection.commit()
        connection.close()
        assert len(stored(tmp_path / "c", shas)) == 6
        again = Counting()
        assert search(tmp_path / "c", shas, again).report.searched == 3
        assert stored(tmp_path / "c", shas) == expected(shas)


class TestUpkeep:
    def test_faces_of_photos_that_are_gone_are_forgotten(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 6)
        LandmarkStore.open(tmp_path / "c", write=True).close()
        # While somebody reads, SQLite does not tidy up its log by itself.
        reader = LandmarkStore.open(tmp_path / "c", write=False)
        search(tmp_path / "c", shas, Counting())
        search(tmp_path / "c", shas, Counting(fingerprint=HATS))
        paths = list(shas)
        paths[1].unlink()
        paths[4].write_bytes(b"another photo")
        report = gc(tmp_path / "c")
        assert (report.faces_dropped, report.photos_forgotten) == (2, 2)
        left = {path: sha for i, (path, sha) in enumerate(shas.items()) if i not in (1, 4)}
        for fingerprint in (EYES, HATS):
            assert stored(tmp_path / "c", shas, fingerprint).keys() == set(left.values())
        files = b"".join(path.read_bytes() for path in (tmp_path / "c").glob(f"{FILE_NAME}*"))
        assert b"Jane_Doe_0" in files
        assert b"Jane_Doe_1" not in files
        assert bytes.fromhex(shas[paths[1]]) not in files
        reader.close()
        assert gc(tmp_path / "c").faces_dropped == 0

    def test_a_photo_lives_where_either_has_seen_it(self, tmp_path: Path) -> None:
        shas = photos_in(tmp_path / "p", 2)
        search(tmp_path / "c", shas, Counting())
        (one, sha), (two, other) = shas.items()
        moved = one.rename(tmp_path / "moved.jpg")
        with EmbeddingCache.open(tmp_path / "c", fingerprint="1" * 16, write=True) as cache:
            cache.remember_paths({moved: sha})
            cache.append([sha, other], np.zeros((2, 3)))
        report = gc(tmp_path / "c")
        assert (report.dropped, report.kept, report.faces_dropped, report.photos_forgotten) == (0, 2, 0, 1)
        two.unlink()
        report = gc(tmp_path / "c")
        assert (report.dropped, report.kept, report.faces_dropped) == (1, 1, 1)

    def test_info_tells_detectors_and_verify_finds_damage(self, tmp_path: Path) -> None:
        with EmbeddingCache.open(tmp_path / "c", fingerprint="1" * 16, write=True) as cache:
            cache.append([A], np.zeros((1, 3)))
        before = info(tmp_path / "c")
        assert before.detectors == ()
        shas = photos_in(tmp_path / "p", 6)
        search(tmp_path / "c", shas, Counting())
        report = info(tmp_path / "c")
        (detector,) = report.detectors
        assert (detector.photos, detector.faces, detector.without_face) == (6, 6, 2)
        assert json.loads(json.dumps(report.to_json()))["detectors"][0]["description"]["name"] == "counting"
        assert report.bytes >= before.bytes + (tmp_path / "c" / FILE_NAME).stat().st_size
        assert verify(tmp_path / "c").sound
        connection = sqlite3.connect(tmp_path / "c" / FILE_NAME)
        connection.execute("UPDATE searched SET checksum = 1 WHERE sha = ?", (bytes.fromhex([*shas.values()][2]),))
        connection.commit()
        connection.close()
        found = verify(tmp_path / "c")
        assert (found.corrupt, found.rows, found.sound) == (1, 1, False)
        assert any("faces of 1 photo" in line for line in found.damage)
        assert gc(tmp_path / "c").faces_dropped == 1
        assert verify(tmp_path / "c").sound


_KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from facetl.io import sqlite_file
from test_landmark_store import Counting, search

shas = {Path(path): sha for path, sha in json.load(sys.stdin).items()}
attach = sqlite_file.attach

def die_before(step):
    left = [step]
    def count(statement):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def counted(path, mode):
        connection = attach(path, mode)
        connection.set_trace_callback(count)
        return connection
    sqlite_file.attach = counted

for step in range(1, 1000):
    pid = os.fork()
    if pid == 0:
        die_before(step)
        search(Path(sys.argv[2]) / str(step), shas, Counting())
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(step, status, flush=True)
    if status == 0:
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_before_every_single_statement(quick_path: Path) -> None:
    shas = photos_in(quick_path / "p", 6)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(Path(__file__).parent), str(quick_path)],
        input=json.dumps({str(path): sha for path, sha in shas.items()}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [status for _, status in steps] == [-9] * (len(steps) - 1) + [0]
    right = expected(shas)
    seen = set()
    for step, _ in steps:
        cache = quick_path / str(step)
        try:
            found = stored(cache, shas)
        except MissingLandmarksError:
            found = {}
        seen.add(len(found))
        assert all(faces == right[sha] for sha, faces in found.items()), f"killed at step {step}"
        rest = Counting()
        assert search(cache, shas, rest).report.reused == len(found)
        assert sum(rest.batches) == 6 - len(found)
        assert stored(cache, shas) == right
    assert seen == {0, 4, 6}, "a batch counts whole or not at all"
