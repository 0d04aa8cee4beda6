"""`verify`, `gc` and `info` on caches sound, damaged, and half dead."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from facetl.embeddings import shards
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.maintenance import gc, info, keep, verify
from facetl.errors import CacheError, CacheLockedError
from facetl.io.files import digests, sha256_of_file

FINGERPRINT = "0123456789abcdef" * 4
DIM = 6


def rows_for(names: list[str]) -> np.ndarray:
    return np.array([[int(name[i : i + 2], 16) for i in range(0, 2 * DIM, 2)] for name in names], np.float32)


def make(tmp_path: Path, count: int = 10, fingerprint: str = FINGERPRINT) -> tuple[Path, list[Path], list[str]]:
    """A cache of `count` little files, in shards of 4 rows."""
    folder = tmp_path / "photos"
    folder.mkdir(exist_ok=True)
    photos = [folder / f"{i} é.jpg" for i in range(count)]
    for i, photo in enumerate(photos):
        photo.write_bytes(b"photo %d" % i)
    names = [hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photos]
    with EmbeddingCache.open(
        tmp_path / "c", fingerprint=fingerprint, description={"net": "tiny", "grid": 7}, write=True
    ) as cache:
        cache.remember_paths(dict(zip(photos, names, strict=True)))
        cache.append(names, rows_for(names))
    return tmp_path / "c", photos, names


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * DIM * 2)


def shard_path(folder: Path, number: int) -> Path:
    return folder / FINGERPRINT[:16] / f"shard-{number:05d}.npy"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def all_right(folder: Path, names: list[str]) -> bool:
    with EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=False) as cache:
        return bool((cache.rows(names) == rows_for(names)).all())


def test_info_tells_extractors_rows_and_bytes(tmp_path: Path) -> None:
    folder, _, _ = make(tmp_path, 5)
    make(tmp_path, 3, fingerprint="e" * 64)
    report = info(folder)
    assert [(e.fingerprint, e.dim, e.rows, e.shards) for e in report.extractors] == [
        (FINGERPRINT, DIM, 5, 2),
        ("e" * 64, DIM, 3, 1),
    ]
    assert report.extractors[0].description == {"net": "tiny", "grid": 7}
    assert report.photos == 5
    assert 0 < report.extractors[0].bytes < report.bytes
    assert json.loads(json.dumps(report.to_json()))["extractors"][1]["rows"] == 3


def test_verify_finds_a_sound_cache_sound(tmp_path: Path) -> None:
    folder, _, _ = make(tmp_path, 10)
    report = verify(folder)
    assert (report.rows, report.corrupt, report.torn, report.shards) == (10, 0, 0, 3)
    assert report.sound
    assert report.damage == ()
    assert json.loads(json.dumps(report.to_json()))["sound"] is True


def test_verify_counts_each_damage(tmp_path: Path) -> None:
    folder, _, names = make(tmp_path, 10)
    flip(shard_path(folder, 0), -1)  # the last row of the first shard
    shard_path(folder, 1).unlink()
    path = shard_path(folder, 2)
    path.write_bytes(path.read_bytes()[: 128 + 2 * DIM + 3])  # row 0 whole, row 1 cut
    report = verify(folder)
    assert (report.rows, report.corrupt, report.torn) == (10, 1, 4 + 1)
    assert not report.sound
    assert any("row 3" in line and names[3] in line for line in report.damage)
    assert any("missing, 4 rows" in line for line in report.damage)
    assert any("cut short, 1 row" in line for line in report.damage)


def test_a_changed_header_is_found_and_mended(tmp_path: Path) -> None:
    folder, _, names = make(tmp_path, 3)
    flip(shard_path(folder, 0), 30)
    assert "header" in " ".join(verify(folder).damage)
    assert all_right(folder, names)
    EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=True).close()
    assert verify(folder).sound
    assert np.load(shard_path(folder, 0), mmap_mode="r").shape == (4, DIM)


def test_gc_keeps_what_lives_and_drops_what_does_not(tmp_path: Path) -> None:
    folder, photos, names = make(tmp_path, 10)
    photos[1].unlink()
    photos[5].write_bytes(b"another picture")
    moved = photos[6].rename(tmp_path / "moved.jpg")
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(photos[7].read_bytes())
    with EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=True) as cache:
        cache.remember_paths({moved: names[6], copy: names[7]})
    photos[7].unlink()
    old = EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=False)
    before = old.gather(names)
    report = gc(folder)
    alive = [names[i] for i in (0, 2, 3, 4, 6, 7, 8, 9)]
    assert (report.dropped, report.kept, report.corrupt, report.torn) == (2, 8, 0, 0)
    assert report.photos_forgotten == 4
    assert all_right(folder, alive)
    with EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=True) as cache:
        assert cache.has(names).sum() == 8
        cache.append([names[1]], rows_for([names[1]]))
    assert all_right(folder, [*alive, names[1]])
    assert sorted(path.name for path in shard_path(folder, 0).parent.iterdir()) == [
        "shard-00003.npy",
        "shard-00004.npy",
        "shard-00005.npy",
    ], "two shards of living rows under new numbers, and the new row's"
    # A reader from before still has its maps, and finds the rows' new places.
    np.testing.assert_array_equal(before.array(), rows_for(names))
    np.testing.assert_array_equal(old.rows(alive), rows_for(alive))
    old.close()


def test_gc_of_a_living_cache_changes_nothing(tmp_path: Path) -> None:
    folder, _, names = make(tmp_path, 10)
    inodes = [path.stat().st_ino for path in sorted(shard_path(folder, 0).parent.iterdir())]
    report = gc(folder)
    assert (report.dropped, report.kept) == (0, 10)
    assert [path.stat().st_ino for path in sorted(shard_path(folder, 0).parent.iterdir())] == inodes
    assert all_right(folder, names)


def test_gc_drops_damaged_rows_and_strays(tmp_path: Path) -> None:
    folder, _, names = make(tmp_path, 10)
    flip(shard_path(folder, 0), 128 + 2 * DIM + 1)
    shard_path(folder, 2).unlink()
    stray = shard_path(folder, 77)
    stray.write_bytes(b"left by a killed writer")
    report = gc(folder)
    assert (report.dropped, report.kept, report.corrupt, report.torn) == (3, 7, 1, 2)
    assert not stray.exists()
    assert all_right(folder, [names[i] for i in (0, 2, 3, 4, 5, 6, 7)])
    assert verify(folder).sound


def test_gc_of_a_dead_cache_leaves_an_empty_one_that_works(tmp_path: Path) -> None:
    folder, photos, names = make(tmp_path, 10)
    for photo in photos:
        photo.unlink()
    report = gc(folder)
    assert (report.dropped, report.kept) == (10, 0)
    assert report.bytes_after < report.bytes_before
    assert not list(shard_path(folder, 0).parent.iterdir())
    assert info(folder).extractors[0].rows == 0
    with EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=True) as cache:
        cache.append(names, rows_for(names))
    assert not shard_path(folder, 0).exists(), "a shard's number is never used again"
    assert all_right(folder, names)


def test_gc_waits_for_no_writer(tmp_path: Path) -> None:
    folder, _, _ = make(tmp_path, 2)
    with (
        EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=True),
        pytest.raises(CacheLockedError),
    ):
        gc(folder)


def test_upkeep_of_no_cache_is_an_error_and_makes_none(tmp_path: Path) -> None:
    for verb in (verify, gc, info):
        with pytest.raises(CacheError, match="facetl cache"):
            verb(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_keys_dropped_are_not_left_in_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this seed SQLite's secure_delete alone leaves a key behind, in a cell that it moved to another page."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 * 2 * 2)
    seed, folder = 24, tmp_path / "c"
    rng = np.random.default_rng(seed)
    names = [hashlib.sha256(f"{seed} {i}".encode()).hexdigest() for i in range(int(rng.integers(30, 400)))]
    alive: set[str] = set()
    for _ in range(4):
        new = rng.permutation([name for name in names if name not in alive])[:60].tolist()
        for fingerprint in ("f" * 64, "a" * 64):
            with EmbeddingCache.open(folder, fingerprint=fingerprint, description={}, write=True) as cache:
                cache.remember_paths({Path("/x/" + name[:9]): name for name in new[::3]})
                for start in range(0, len(new), 13):
                    part = new[start : start + 13]
                    cache.append(part, np.ones((len(part), 2), np.float16))
        alive |= set(new)
        size = max(1, len(alive) - int(rng.integers(1, 30)))
        alive = set(rng.choice(sorted(alive), size, replace=False).tolist())
        keep(folder, alive)
        content = (folder / "index.sqlite").read_bytes()
        assert not [name for name in names if name not in alive and bytes.fromhex(name) in content]


def test_paths_dropped_are_not_left_in_the_file(tmp_path: Path) -> None:
    folder, _, _ = make(tmp_path, 2)
    secret = tmp_path / "Jane_Doe_secret.jpg"
    secret.write_bytes(b"x")
    with EmbeddingCache.open(folder, fingerprint=FINGERPRINT, write=True) as cache:
        cache.remember_paths({secret: sha256_of_file(secret)})
    assert b"Jane_Doe_secret" in (folder / "index.sqlite").read_bytes()
    secret.unlink()
    gc(folder)
    connection = sqlite3.connect(folder / "index.sqlite")
    assert connection.execute("SELECT count(*) FROM photos").fetchone() == (2,)
    connection.close()
    assert b"Jane_Doe_secret" not in b"".join(path.read_bytes() for path in folder.glob("index.sqlite*"))


def test_digests_are_those_of_hashlib(tmp_path: Path) -> None:
    paths = []
    for i in range(150):
        path = tmp_path / f"{i}"
        path.write_bytes(bytes([i]) * i * 7)
        paths.append(path)
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert digests(paths) == expected
    assert digests([tmp_path / "gone", tmp_path, paths[3]]) == [None, None, expected[3]]
    assert digests([]) == []


def test_a_file_of_faces_whose_writer_was_killed_before_its_tables_is_no_damage(tmp_path: Path) -> None:
    cache, _, _ = make(tmp_path)
    (cache / "landmarks.sqlite").touch()
    assert verify(cache).sound
    assert info(cache).detectors == ()
