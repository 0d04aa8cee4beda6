"""`facetl embed` and `facetl cache export`: what lies in the files, as other programs read them."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from invoked import answer, facetl, refused
from patches import PEOPLE, PatchSpec, photo, use_colours, write_run

from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.io.files import sha256_of_file
from facetl.recognition.recognizer import Recognizer

ANN, BOB, EVE, _ = PEOPLE.values()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a run and an album; `--detector mtcnn` finds patches."""
    use_colours(monkeypatch)
    monkeypatch.setattr("facetl.faces.detectors.MtcnnSpec", PatchSpec)
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "models" / "family")
    photo(tmp_path / "album" / "ann.png", ANN, seed=1)
    photo(tmp_path / "album" / "more" / "both.png", BOB, ANN, seed=2)
    photo(tmp_path / "album" / "nobody.png")
    (tmp_path / "album" / "notes.txt").write_text("not a photo")
    return tmp_path


@pytest.mark.parametrize("faces", ["one", "all"])
def test_three_formats_hold_the_same(room: Path, faces: str) -> None:
    options = ("--detector", "mtcnn", f"--{faces}-face{'s' if faces == 'all' else ''}", "--batch-size", 2)
    for name in ("x.npy", "x.csv", "x.parquet"):
        done = answer("embed", "family", "album", "--out", name, *options)
        assert done == {
            "photos": 3,
            "faces": 2 if faces == "one" else 3,
            "width": 4,
            "skipped": {"not-an-image": 1, "no-face": 1},
            "out": name,
        }
    recognizer = replace(Recognizer.load(room / "models/family"), detector=PatchSpec())
    expected = [
        face.embedding for name in ("ann.png", "more/both.png") for face in recognizer.faces(room / "album" / name)
    ]
    rows, table, csv = np.load("x.npy"), pd.read_parquet("x.parquet"), pd.read_csv("x.csv")
    assert rows.dtype == np.float32
    assert list(csv) == list(table) == ["path", "left", "top", "right", "bottom", "e0", "e1", "e2", "e3"]
    np.testing.assert_array_equal(table.filter(regex="^e"), rows)
    np.testing.assert_allclose(csv.filter(regex="^e"), rows, atol=1e-7)
    beside = pd.read_csv("x.rows.csv")
    assert beside.equals(csv[list(beside)])
    album = room / "album"
    assert beside["path"].tolist() == [str(album / "ann.png")] + [str(album / "more/both.png")] * (len(rows) - 1)
    assert beside.loc[0, "left":].tolist() == [20, 20, 59, 59]
    np.testing.assert_allclose(rows, expected[: len(rows)], atol=1e-6)


def test_files_are_the_owners_and_the_screen_says_what_was_done(room: Path) -> None:
    result = facetl("embed", "family", "album", "--out", "x.npy", "--detector", "mtcnn")
    assert result.exit_code == 0, result.output
    assert "photos    3\n" in result.stdout
    assert "2 embeddings of 4 numbers" in result.stdout
    assert "1 no-face" in result.stdout
    for name in ("x.npy", "x.rows.csv"):
        assert stat.S_IMODE((room / name).stat().st_mode) == 0o600


def test_what_cannot_be_done_is_one_clear_line_and_no_file(room: Path) -> None:
    assert ".npy, .parquet, .csv" in refused("embed", "family", "album", "--out", "x.txt")
    assert "is no folder" in refused("embed", "family", "album", "--out", "gone/x.npy")
    nobody = refused("embed", "family", "album/nobody.png", "--out", "x.npy", "--detector", "mtcnn")
    assert "got none (1 no-face)" in nobody
    assert sorted(path.name for path in room.iterdir()) == ["album", "models"]


FINGERPRINTS = ("0123456789abcdef" * 4, "fedcba9876543210" * 4)


@pytest.fixture
def cache(room: Path) -> Path:
    """Return a cache of two extractors; a photo lies at two paths, one was never listed."""
    photos = [room / "album" / name for name in ("ann.png", "more/both.png")]
    shas = [sha256_of_file(path) for path in photos]
    for fingerprint, dim in zip(FINGERPRINTS, (3, 2), strict=True):
        with EmbeddingCache.open(room / "cache", fingerprint=fingerprint, write=True) as cache:
            cache.remember_paths({photos[0]: shas[0], photos[1]: shas[1], room / "copy.png": shas[0]})
            cache.append([shas[1], "ab" * 32, shas[0]], np.arange(3 * dim).reshape(3, dim) / 8)
    return room / "cache"


@pytest.mark.parametrize("name", ["f.npy", "f.csv", "f.parquet"])
def test_the_features_of_an_extractor_come_with_their_paths(room: Path, cache: Path, name: str) -> None:
    done = answer("cache", "export", "--cache", cache, "--fingerprint", "0123", "--out", name)
    assert done == {"fingerprint": FINGERPRINTS[0], "rows": 4, "with_path": 3, "dim": 3, "out": name}
    if name == "f.npy":
        rows, table = np.load(name), pd.read_csv("f.rows.csv", keep_default_na=False)
        assert rows.dtype == np.float16
    else:
        table = pd.read_parquet(name) if name == "f.parquet" else pd.read_csv(name, keep_default_na=False)
        rows = table[["e0", "e1", "e2"]].to_numpy()
    both, ann, copy = (str(room / path) for path in ("album/more/both.png", "album/ann.png", "copy.png"))
    assert table["path"].tolist() == [both, "", ann, copy]
    assert table["sha256"].tolist()[1:3] == ["ab" * 32, sha256_of_file(Path(ann))]
    np.testing.assert_array_equal(rows * 8, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [6, 7, 8]])
    assert stat.S_IMODE((room / name).stat().st_mode) == 0o600


def test_the_extractor_must_be_one(room: Path, cache: Path) -> None:
    both = refused("cache", "export", "--cache", cache, "--out", "f.npy")
    assert f"2 are in the cache ({cache} has {FINGERPRINTS[0][:16]}, {FINGERPRINTS[1][:16]})" in both
    assert "0 start with '77'" in refused("cache", "export", "--cache", cache, "--out", "f.npy", "--fingerprint", "77")
    assert "holds none" in refused("cache", "export", "--cache", room / "gone", "--out", "f.npy")
