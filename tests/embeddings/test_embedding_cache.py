"""The embedding cache: what goes in comes out, under its own photo's name, durable, private and checked."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from facetl.embeddings import shards
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.shards import CachedRows
from facetl.errors import CacheCorruptError, CacheError, CacheLockedError
from facetl.io import files

FINGERPRINT = "0123456789abcdef" * 4
DIM = 5


def sha(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def numbers(count: int, dim: int = DIM, start: int = 0) -> np.ndarray:
    """Rows that differ in every place and are exact in float16."""
    return (np.arange(count * dim).reshape(count, dim) + 100 * start).astype(np.float32) / 4


def filled(folder: Path, count: int = 12, dim: int = DIM, fingerprint: str = FINGERPRINT) -> list[str]:
    names = [sha(i) for i in range(count)]
    with EmbeddingCache.open(folder, fingerprint=fingerprint, dim=dim, write=True) as cache:
        cache.append(names, numbers(count, dim))
    return names


def reader(folder: Path, fingerprint: str = FINGERPRINT) -> EmbeddingCache:
    return EmbeddingCache.open(folder, fingerprint=fingerprint, write=False)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> int:
    """Shards of 4 rows of 5 numbers."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * DIM * 2)
    return 4


def test_rows_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    names = filled(tmp_path / "c")
    with reader(tmp_path / "c") as cache:
        assert cache.dim == DIM
        assert len(cache) == 12
        wanted = [names[7], names[0], names[7], names[11]]
        got = cache.rows(wanted)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, numbers(12)[[7, 0, 7, 11]].astype(np.float16))


def test_has_says_which_photos_have_a_row(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 3)
    with reader(tmp_path / "c") as cache:
        assert cache.has([names[2], sha("x"), names[0]]).tolist() == [True, False, True]
        assert cache.has([]).shape == (0,)
        assert cache.rows([]).shape == (0, DIM)


def test_a_missing_photo_is_named_with_what_to_do(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 3)
    with reader(tmp_path / "c") as cache, pytest.raises(CacheError, match="1 of 2") as caught:
        cache.rows([names[0], sha("x")])
    assert sha("x") in str(caught.value)
    assert "facetl cache" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_photo_keeps_its_first_row(tmp_path: Path) -> None:
    a, b, c = sha("a"), sha("b"), sha("c")
    with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True) as cache:
        cache.append([a, b, a], numbers(3))
        cache.append([b, c, a], numbers(3, start=1))
        assert len(cache) == 3
        got = cache.rows([a, b, c])
    np.testing.assert_array_equal(
        got, np.stack([numbers(3)[0], numbers(3)[1], numbers(3, start=1)[1]]).astype(np.float16)
    )


def test_batches_run_over_the_ends_of_shards(tmp_path: Path, small_shards: int) -> None:
    names = [sha(i) for i in range(11)]
    for start, stop in ((0, 3), (3, 9), (9, 11)):  # a session each
        with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True) as cache:
            cache.append(names[start:stop], numbers(11)[start:stop])
    files = sorted((tmp_path / "c" / FINGERPRINT[:16]).iterdir())
    assert [file.name for file in files] == [f"shard-{i:05d}.npy" for i in range(3)]
    with reader(tmp_path / "c") as cache:
        np.testing.assert_array_equal(cache.rows(names[::-1]), numbers(11)[::-1])


def test_shards_are_plain_npy_files_of_full_size(tmp_path: Path, small_shards: int) -> None:
    filled(tmp_path / "c", 6)
    first, second = sorted((tmp_path / "c" / FINGERPRINT[:16]).iterdir())
    np.testing.assert_array_equal(np.load(first, mmap_mode="r"), numbers(6)[:4])
    loaded = np.load(second, mmap_mode="r")
    assert loaded.shape == (4, DIM)
    assert loaded.dtype == np.float16
    np.testing.assert_array_equal(loaded[:2], numbers(6)[4:])
    assert not loaded[2:].any()


def test_a_full_shard_takes_no_disk_before_it_is_written(tmp_path: Path) -> None:
    filled(tmp_path / "c", 2, dim=14112)
    (file,) = (tmp_path / "c" / FINGERPRINT[:16]).iterdir()
    assert file.stat().st_size > 200 * 2**20
    assert files.disk_bytes(file) < 2**20


def test_rows_after_the_last_committed_are_never_returned(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 2)
    layout = shards.ShardFormat(tmp_path / "c" / FINGERPRINT[:16], DIM, shards.capacity(DIM))
    shards.Tail(layout, shard=0, used=2, next_shard=1).write(numbers(3, start=5).astype(np.float16))
    with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True) as cache:
        assert len(cache) == 2
        cache.append([sha("new")], numbers(1, start=9))
        np.testing.assert_array_equal(cache.rows([sha("new"), names[1]])[0], numbers(1, start=9)[0])
    assert (np.load(layout.path(0), mmap_mode="r")[2] == numbers(1, start=9)[0]).all()


def test_extractors_share_a_folder_and_nothing_else(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 3)
    other = "f" * 64
    with reader(tmp_path / "c", other) as cache:
        assert cache.dim is None
        assert not cache.has(names).any()
        filled(tmp_path / "c", 3, dim=2, fingerprint=other)
        assert cache.has(names).all(), "a reader opened before the extractor's first row sees it"
        np.testing.assert_array_equal(cache.rows(names), numbers(3, 2))
    with reader(tmp_path / "c") as cache:
        np.testing.assert_array_equal(cache.rows(names), numbers(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 70000.0])
def test_rows_that_are_not_finite_in_float16_are_refused(tmp_path: Path, bad: float) -> None:
    rows = numbers(3)
    rows[1, 2] = bad
    with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True) as cache:
        with pytest.raises(CacheError, match="finite") as caught:
            cache.append([sha(i) for i in range(3)], rows)
        assert sha(1) in str(caught.value)
        assert len(cache) == 0


@pytest.mark.parametrize("shape", [(3, DIM + 1), (2, DIM), (3,), (3, 0), (3, DIM, 1)])
def test_rows_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    filled(tmp_path / "c", 2)
    with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True) as cache:
        with pytest.raises(CacheError, match=r"\[3, 5\]"):
            cache.append([sha(f"n{i}") for i in range(3)], np.zeros(shape))
        assert len(cache) == 2


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="Run `facetl cache`"):
        reader(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(CacheError, match="fingerprint"):
        reader(tmp_path, "../../etc")
    filled(tmp_path / "c")
    with pytest.raises(CacheError, match="has 5 numbers; 6 were asked for"):
        EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, dim=6, write=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="is a file"):
        EmbeddingCache.open(tmp_path / "file", fingerprint=FINGERPRINT, write=True)
    with reader(tmp_path / "c") as cache:
        with pytest.raises(CacheError, match="opened for reading"):
            cache.append([sha("x")], numbers(1))
        with pytest.raises(CacheError, match="64 hex digits"):
            cache.has(["short"])


def test_a_newer_schema_is_refused_unchanged(tmp_path: Path) -> None:
    filled(tmp_path / "c")
    with sqlite3.connect(tmp_path / "c" / "index.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for write in (False, True):
        with pytest.raises(CacheError, match="schema 99"):
            EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=write)


def test_a_file_that_is_no_index_is_reported(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"not a database at all, and long enough to be read" * 100)
    for write in (False, True):
        with pytest.raises(CacheCorruptError, match="SQLite"):
            EmbeddingCache.open(tmp_path, fingerprint=FINGERPRINT, write=write)


def test_an_index_left_empty_by_a_killed_first_writer_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "index.sqlite").touch()
    with pytest.raises(CacheError, match="holds none"):
        reader(tmp_path / "c")
    names = filled(tmp_path / "c", 2)
    with reader(tmp_path / "c") as cache:
        assert cache.has(names).all()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_are_for_their_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        filled(tmp_path / "c")
        with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True) as cache:
            cache.append([sha("more")], numbers(1))
            found = [tmp_path / "c", *(tmp_path / "c").rglob("*")]
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in found}
            folders = {path.name for path in found if path.is_dir()}
    finally:
        os.umask(before)
    assert {"index.sqlite", "index.sqlite-wal", "writer.lock", "shard-00000.npy"} <= set(modes)
    assert modes == {name: 0o700 if name in folders else 0o600 for name in modes}


def test_one_writer_at_a_time_and_readers_meanwhile(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 2)
    with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True) as writer:
        with pytest.raises(CacheLockedError, match=f"process {os.getpid()}"):
            EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True)
        with reader(tmp_path / "c") as one, reader(tmp_path / "c") as two:
            writer.append([sha("late")], numbers(1, start=3))
            for cache in (one, two):
                np.testing.assert_array_equal(cache.rows([sha("late"), names[0]])[0], numbers(1, start=3)[0])
    with EmbeddingCache.open(tmp_path / "c", fingerprint=FINGERPRINT, write=True):
        pass


def test_gather_follows_every_numpy_index(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 6)
    with reader(tmp_path / "c") as cache:
        gathered = cache.gather([names[i] for i in (4, 2, 0, 5)])
    expected = numbers(6)[[4, 2, 0, 5]]  # the cache is closed by now
    assert gathered.shape == (4, DIM)
    assert gathered.dtype == np.float16
    assert len(gathered) == 4
    np.testing.assert_array_equal(gathered[np.array([3, 0, 3])], expected[[3, 0, 3]])
    np.testing.assert_array_equal(gathered[np.array([[1, -1], [2, 0]])], expected[[[1, -1], [2, 0]]])
    np.testing.assert_array_equal(gathered[1:3], expected[1:3])
    np.testing.assert_array_equal(gathered[np.array([True, False, False, True])], expected[[0, 3]])
    np.testing.assert_array_equal(gathered[2], expected[2])
    np.testing.assert_array_equal(gathered[np.array([], dtype=int)], expected[:0])
    np.testing.assert_array_equal(gathered.array(), expected)
    np.testing.assert_array_equal(np.asarray(gathered), expected)
    with pytest.raises(IndexError):
        gathered[np.array([4])]
    out = np.empty((2, DIM), np.float16)
    assert gathered.take([1, 1], out=out) is out
    np.testing.assert_array_equal(out, expected[[1, 1]])
    with pytest.raises(ValueError, match="out must be"):
        gathered.take([1], out=out)


def test_a_subset_of_rows_counts_from_its_own_beginning(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 6)
    with reader(tmp_path / "c") as cache:
        gathered = cache.gather([names[i] for i in (4, 2, 0, 5)])
    expected = numbers(6)[[4, 2, 0, 5]][[3, 1, 1]]
    part = gathered.subset([3, 1, 1])
    assert part.shape == (3, DIM)
    np.testing.assert_array_equal(part.array(), expected)
    np.testing.assert_array_equal(part[np.array([2, 0])], expected[[2, 0]])
    np.testing.assert_array_equal(part[-1], expected[-1])
    np.testing.assert_array_equal(part.subset([0]).array(), expected[:1])
    np.testing.assert_array_equal(gathered.array(), numbers(6)[[4, 2, 0, 5]])
    with pytest.raises(IndexError):
        part[3]


@pytest.mark.parametrize("wide", [0, 10**9])
def test_gather_over_many_shards_wide_and_narrow(
    tmp_path: Path, small_shards: int, monkeypatch: pytest.MonkeyPatch, wide: int
) -> None:
    monkeypatch.setattr(shards, "_WIDE", wide)
    monkeypatch.setattr(shards, "_BUFFER", 2 * DIM * 2)
    names = filled(tmp_path / "c", 19)
    wanted = np.random.default_rng(4).integers(0, 19, 50)
    with reader(tmp_path / "c") as cache:
        gathered = cache.gather(names)
        np.testing.assert_array_equal(gathered[wanted], numbers(19)[wanted])


def test_a_row_is_checked_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = filled(tmp_path / "c", 6)
    sums: list[bytes] = []

    def counted(key: bytes, row: np.ndarray) -> int:
        sums.append(key)
        return files.checksum(key, row)

    monkeypatch.setattr(shards, "checksum", counted)
    with reader(tmp_path / "c") as cache:
        gathered = cache.gather(names)
        gathered[np.array([1, 2, 1])]
        gathered[np.array([2, 3])]
        cache.rows(names[:4])
    assert sorted(sums) == sorted(bytes.fromhex(names[i]) for i in (1, 2, 3, 0))


def test_threads_gather_together(tmp_path: Path, small_shards: int) -> None:
    names = filled(tmp_path / "c", 40)
    wrong: list[int] = []
    with reader(tmp_path / "c") as cache:
        gathered = cache.gather(names)

        def work(seed: int) -> None:
            wanted = np.random.default_rng(seed).integers(0, 40, 200)
            if not (gathered[wanted] == numbers(40)[wanted]).all() or not cache.has(names).all():
                wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_many_photos_are_looked_up_in_parts(tmp_path: Path) -> None:
    names = filled(tmp_path / "c", 1203, dim=1)
    with reader(tmp_path / "c") as cache:
        assert cache.has([*names, sha("no")]).tolist() == [True] * 1203 + [False]
        gathered: CachedRows = cache.gather(names)
        np.testing.assert_array_equal(gathered.array()[:, 0], np.arange(1203) / 4)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("embedding_cache", {"tensorflow", "keras", "pandas", "cv2", "sklearn", "scipy", "matplotlib"}),
        ("fill", {"tensorflow", "keras", "sklearn", "matplotlib"}),
    ],
)
def test_the_cache_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import sys, facetl.embeddings.{module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not heavy & set(out.split())
