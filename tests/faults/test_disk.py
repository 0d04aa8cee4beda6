"""Disks that fill up, flip, cut and mix bytes: said, never returned as features, mended by the next fill."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetl.embeddings import shards
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.maintenance import gc, verify
from facetl.errors import CacheCorruptError, CacheError, CacheFullError, CacheLockedError

FINGERPRINT = "0123456789abcdef" * 4
DIM = 8
HEADER = 128


def names(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(b"%d" % i).hexdigest() for i in range(start, start + count)]


def rows_for(shas: list[str]) -> np.ndarray:
    return np.array([list(bytes.fromhex(sha)[:DIM]) for sha in shas], np.float16)


def writer(folder: Path) -> EmbeddingCache:
    return EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=True)


def reader(folder: Path) -> EmbeddingCache:
    return EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=False)


def shard(folder: Path, number: int = 0) -> Path:
    return folder / FINGERPRINT[:16] / f"shard-{number:05d}.npy"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of 10 rows in shards of 4."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * DIM * 2)
    with writer(tmp_path / "cache") as cache:
        cache.append(names(10), rows_for(names(10)))
    return tmp_path / "cache"


def flip(path: Path, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


Write = Callable[[int, Any], int]


def full_after(write: Write, room: int, code: int) -> Write:
    """An `os.write` that writes short and, when `room` bytes are used up, fails as a full disk does."""
    left = [room]

    def short(descriptor: int, data: Any) -> int:
        if left[0] <= 0:
            raise OSError(code, os.strerror(code))
        count = min(len(data), left[0], 37)
        left[0] -= count
        return write(descriptor, bytes(data[:count]))

    return short


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("room", [0, 1, 16, 20, 40, 100, 150, 170, 187])
def test_a_full_disk_keeps_what_was_committed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, room: int, code: int
) -> None:
    late = names(6, 10)  # 32 bytes into shard 2, then a header and 64 bytes into shard 3
    with writer(folder) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full_after(os.write, room, code))
            with pytest.raises(CacheFullError, match="make room") as caught:
                cache.append(late, rows_for(late))
        assert "\n" not in str(caught.value)
        assert not cache.has(late).any()
        np.testing.assert_array_equal(cache.rows(names(10)), rows_for(names(10)))
        if room % 2:  # go on in the same process, or in another
            cache.append(late, rows_for(late))
    with writer(folder) as cache:
        cache.append(late, rows_for(late))
        np.testing.assert_array_equal(cache.rows(names(16)), rows_for(names(16)))
    assert verify(folder).sound


def test_short_writes_are_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = names(6, 10)
    with writer(folder) as cache, monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after(os.write, 10**6, errno.ENOSPC))
        cache.append(late, rows_for(late))
    with reader(folder) as cache:
        np.testing.assert_array_equal(cache.rows(late), rows_for(late))


def test_a_disk_that_is_full_only_at_fsync_commits_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    late = names(1, 10)
    with writer(folder) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(CacheFullError):
                cache.append(late, rows_for(late))
        assert not cache.has(late).any()


def test_a_full_disk_under_the_index(folder: Path) -> None:
    late = names(120, 10)
    with writer(folder) as cache:
        connection = cache._index._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(CacheFullError, match="full"):
            cache.append(late, rows_for(late))
        assert len(cache) == 10
        connection.execute("PRAGMA max_page_count = 1000000")
        cache.append(late, rows_for(late))
        np.testing.assert_array_equal(cache.rows(late), rows_for(late))
    assert verify(folder).sound


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_real_disk_that_fills_up(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * 2**20)
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(64, 16384)).astype(np.float16)  # 2 MiB; the shard says 256, and is sparse
    shas = names(64)
    done = 0

    def go_on(cache: EmbeddingCache) -> None:
        nonlocal done
        while True:
            cache.append(shas[done : done + 4], rows[done : done + 4])
            done += 4

    with writer(tiny_disk / "c") as cache, pytest.raises(CacheFullError):
        go_on(cache)
    assert done >= 16
    with reader(tiny_disk / "c") as cache:
        assert cache.has(shas).tolist() == [i < done for i in range(64)]
        np.testing.assert_array_equal(cache.rows(shas[:done]), rows[:done])
    ballast.unlink()
    with writer(tiny_disk / "c") as cache:
        cache.append(shas[done : done + 12], rows[done : done + 12])
        np.testing.assert_array_equal(cache.rows(shas[: done + 12]), rows[: done + 12])


@pytest.mark.parametrize("place", [0, 1, 2 * DIM - 1])
def test_a_flipped_byte_is_never_a_feature(folder: Path, place: int) -> None:
    flip(shard(folder, 1), HEADER + 2 * (2 * DIM) + place)  # row 2 of shard 1: the seventh photo
    bad = names(10)[6]
    with reader(folder) as cache:
        with pytest.raises(CacheCorruptError) as caught:
            cache.rows(names(10))
        for part in (bad, "row 2", "shard-00001.npy", "facetl cache verify"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)
        gathered = cache.gather(names(10))
        with pytest.raises(CacheCorruptError):
            gathered[np.array([1, 6])]
        with pytest.raises(CacheCorruptError):
            gathered[6]
        np.testing.assert_array_equal(gathered[[5, 7]], rows_for(names(10))[[5, 7]])
    assert (verify(folder).corrupt, verify(folder).torn) == (1, 0)


def test_rows_that_changed_places_are_noticed(folder: Path) -> None:
    data = bytearray(shard(folder).read_bytes())
    first, second = slice(HEADER, HEADER + 16), slice(HEADER + 16, HEADER + 32)
    data[first], data[second] = data[second], data[first]
    shard(folder).write_bytes(data)
    with reader(folder) as cache:
        for sha in names(2):
            with pytest.raises(CacheCorruptError):
                cache.rows([sha])
        cache.rows(names(8, 2))
    assert verify(folder).corrupt == 2


def test_index_entries_that_changed_places_are_noticed(folder: Path) -> None:
    """Each checksum still fits the bytes it points at; only the photos' names are wrong."""
    connection = sqlite3.connect(folder / "index.sqlite")
    one, two = (bytes.fromhex(sha) for sha in names(2))
    for old, new in ((one, b"?" * 32), (two, one), (b"?" * 32, two)):
        connection.execute("UPDATE rows SET sha = ? WHERE sha = ?", (new, old))
    connection.commit()
    connection.close()
    with reader(folder) as cache:
        for sha in names(2):
            with pytest.raises(CacheCorruptError):
                cache.rows([sha])


def test_an_index_that_names_one_row_twice_is_noticed(folder: Path) -> None:
    """The first photo's check must not vouch for the second."""
    connection = sqlite3.connect(folder / "index.sqlite")
    connection.execute("DROP INDEX slots")
    shas = [bytes.fromhex(sha) for sha in names(2)]
    connection.execute("UPDATE rows SET row = 0 WHERE sha = ?", shas[1:])
    connection.commit()
    connection.close()
    with reader(folder) as cache:
        cache.rows(names(1))
        with pytest.raises(CacheCorruptError, match=names(2)[1]):
            cache.rows(names(2))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rows SET row = -3 WHERE shard = 1 AND row = 2",
        "UPDATE rows SET shard = 'x' WHERE shard = 1 AND row = 2",
        "UPDATE extractors SET folder = '../../elsewhere'",
        "UPDATE extractors SET description = '{'",
        "UPDATE extractors SET dim = 0",
        "UPDATE extractors SET description = CAST(x'ff41' AS TEXT)",
        "DROP TABLE rows",
    ],
)
def test_an_index_of_impossible_values_is_reported(folder: Path, change: str) -> None:
    connection = sqlite3.connect(folder / "index.sqlite")
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(CacheError) as caught, reader(folder) as cache:
        cache.rows(names(10))
    assert "\n" not in str(caught.value)


def test_a_shard_of_zeros_is_noticed(folder: Path) -> None:
    data = shard(folder).read_bytes()
    shard(folder).write_bytes(data[:HEADER] + bytes(len(data) - HEADER))
    with reader(folder) as cache, pytest.raises(CacheCorruptError):
        cache.rows(names(1))


@pytest.mark.parametrize("size", [0, 50, HEADER, HEADER + 16 + 15])
def test_a_shard_cut_short_is_computed_again(folder: Path, size: int) -> None:
    whole = max(0, size - HEADER) // 16
    os.truncate(shard(folder, 1), size)
    present = [i < 4 + whole or i >= 8 for i in range(10)]
    with reader(folder) as cache:
        assert cache.has(names(10)).tolist() == present
        with pytest.raises(CacheError, match=f"{present.count(False)} of 10"):
            cache.rows(names(10))
    assert verify(folder).torn == present.count(False)
    with writer(folder) as cache:
        assert cache.torn == present.count(False)
        assert cache.has(names(10)).tolist() == present
        cache.append(names(10), rows_for(names(10)))
        np.testing.assert_array_equal(cache.rows(names(10)), rows_for(names(10)))
    assert verify(folder).sound
    assert np.load(shard(folder, 1), mmap_mode="r").shape == (4, DIM)


def test_the_last_shard_cut_short_under_an_open_reader(folder: Path) -> None:
    with reader(folder) as cache:
        os.truncate(shard(folder, 2), HEADER + 16)
        assert cache.has(names(10)).tolist() == [True] * 9 + [False]
        with writer(folder) as other:
            other.append(names(2, 9), rows_for(names(2, 9)))
        np.testing.assert_array_equal(cache.rows(names(11)), rows_for(names(11)))


def test_a_missing_shard_is_computed_again(folder: Path) -> None:
    shard(folder, 2).unlink()
    shard(folder, 0).unlink()
    with reader(folder) as cache:
        assert cache.has(names(10)).tolist() == [False] * 4 + [True] * 4 + [False] * 2
    assert verify(folder).torn == 6
    with writer(folder) as cache:
        assert cache.torn == 6
        cache.append(names(10), rows_for(names(10)))
        np.testing.assert_array_equal(cache.rows(names(10)), rows_for(names(10)))
    assert verify(folder).sound


@pytest.mark.parametrize("place", [*range(100, 24000, 1499), *range(24100, 24500, 13)])
def test_a_flipped_byte_of_the_index_gives_no_wrong_row(folder: Path, place: int) -> None:
    path = folder / "index.sqlite"
    flip(path, place % path.stat().st_size)
    with contextlib.suppress(CacheError), reader(folder) as cache:
        present = [sha for sha, there in zip(names(10), cache.has(names(10)), strict=True) if there]
        rows = cache.rows(present)
        if present:
            np.testing.assert_array_equal(rows, rows_for(present))


def test_a_lock_left_behind_locks_nothing(folder: Path) -> None:
    (folder / "writer.lock").write_text("99999999\n")
    writer(folder).close()


def test_a_killed_writer_gives_its_lock_back(folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from facetl.embeddings.embedding_cache import EmbeddingCache\n"
        f"cache = EmbeddingCache.open(Path(sys.argv[1]), fingerprint={FINGERPRINT!r}, write=True)\n"
        "print('open', flush=True); time.sleep(60)\n"
    )
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(CacheLockedError, match=f"process {process.pid}"):
        writer(folder)
    with pytest.raises(CacheLockedError):
        gc(folder)
    with reader(folder) as cache:
        np.testing.assert_array_equal(cache.rows(names(10)), rows_for(names(10)))
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    writer(folder).close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_that_may_not_be_written_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CacheError, match="permissions"):
            writer(tmp_path / "cache")
    finally:
        tmp_path.chmod(0o700)


def test_other_errors_of_the_disk_are_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, data: bytes) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with writer(folder) as cache, monkeypatch.context() as patch:
        patch.setattr(os, "write", broken)
        with pytest.raises(CacheError, match="Input/output error") as caught:
            cache.append(names(1, 10), rows_for(names(1, 10)))
    assert not isinstance(caught.value, CacheFullError)


def test_two_photos_never_share_a_row(folder: Path) -> None:
    """Should a writer ever lose count, the index refuses."""
    with writer(folder) as cache:
        extractor = cache._index.extractor(FINGERPRINT)
        assert extractor is not None
        with pytest.raises((CacheError, sqlite3.IntegrityError)):
            cache._index.commit(extractor.id, {b"k" * 32: shards.Slot(0, 0, 1)}, next_shard=3)
        np.testing.assert_array_equal(cache.rows(names(1)), rows_for(names(1)))
