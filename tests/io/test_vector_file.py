"""Files of vectors, read back by the libraries that people read them with."""

from __future__ import annotations

import csv
import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facetl.errors import DataError
from facetl.io import vector_file as vector_file_module
from facetl.io.vector_file import check_vector_path, vector_file

ROWS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
PATHS = [f"a/{name}.jpg" for name in ("one", "tw,o", 'th"ree', "fo\nur", "fünf", "s\udcffx", "seven")]
LEFT = [0.0, 1.5, np.nan, 3.0, 4.0, 5.0, 6.0]
KNOWN = [(path, "" if np.isnan(x) else x) for path, x in zip(PATHS, LEFT, strict=True)]


def write(path: Path, rows: np.ndarray = ROWS) -> None:
    with vector_file(path) as file:
        for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
            file.append({"path": PATHS[part], "left": LEFT[part]}, rows[part])


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", errors="surrogateescape") as stream:
        return list(csv.reader(stream))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_npy_holds_the_vectors_and_a_table_beside_it_the_rest(tmp_path: Path, dtype: type) -> None:
    write(tmp_path / "x.npy", ROWS.astype(dtype))
    found = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ROWS.astype(dtype))
    assert read_csv(tmp_path / "x.rows.csv") == [["path", "left"], *([path, str(x)] for path, x in KNOWN)]


def test_csv_gives_the_same_numbers(tmp_path: Path) -> None:
    write(tmp_path / "x.csv")
    head, *lines = read_csv(tmp_path / "x.csv")
    assert head == ["path", "left", "e0", "e1", "e2"]
    assert [line[:2] for line in lines] == [[path, str(x)] for path, x in KNOWN]
    np.testing.assert_array_equal(np.array([line[2:] for line in lines], np.float32), ROWS)


@pytest.mark.parametrize("group_bytes", [1, 2**20])
def test_parquet_gives_the_same_numbers(tmp_path: Path, group_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_file_module, "_GROUP_BYTES", group_bytes)
    write(tmp_path / "x.parquet")
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert list(table) == ["path", "left", "e0", "e1", "e2"]
    assert table["path"].tolist() == [*PATHS[:5], r"a/s\xffx.jpg", PATHS[6]]
    np.testing.assert_array_equal(table["left"], LEFT)
    np.testing.assert_array_equal(table[["e0", "e1", "e2"]], ROWS)
    assert table["e0"].dtype == np.float32


@pytest.mark.parametrize("name", ["x.npy", "x.csv", "x.parquet"])
def test_files_are_the_owners_and_appear_only_when_complete(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in before)
    with pytest.raises(ValueError, match=r"zip\(\)|expected length"):
        write(tmp_path / name, ROWS[:5])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["x.txt", "x", "nowhere/x.npy"])
def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="--out"), vector_file(tmp_path / name):
        pass


@pytest.mark.parametrize(
    ("name", "fits"), [("x" * 246 + ".npy", True), ("x" * 247 + ".npy", False), ("é" * 126 + ".csv", False)]
)
def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path, name: str, fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(DataError, match="at most 255 bytes"):
        check_vector_path(tmp_path / name)


def test_vectors_never_lie_beside_the_rows_of_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x.npy")
    rows = (tmp_path / "x.rows.csv").read_bytes()
    seen = []
    replace = os.replace

    def watch(source: str, target: Path) -> None:
        seen.append((target.name, (tmp_path / "x.npy").exists(), (tmp_path / "x.rows.csv").read_bytes() == rows))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    with vector_file(tmp_path / "x.npy") as file:
        file.append({"path": ["other"]}, ROWS[:1])
    assert seen == [("x.rows.csv", False, True), ("x.npy", False, False)]
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), ROWS[:1])


def test_old_vectors_stay_where_there_is_no_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(tmp_path / "x.npy")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "x.npy", -ROWS)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("taken", ["x.npy", "x.rows.csv"])
def test_a_folder_of_that_name_is_refused_first(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir()
    with pytest.raises(DataError, match=f"{taken} is a folder"):
        check_vector_path(tmp_path / "x.npy")
