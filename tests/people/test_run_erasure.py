"""Somebody is forgotten in a run: and every byte of its files is searched to see it."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from patches import write_run
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.index import turned_key
from facetl.errors import DataError, RunError
from facetl.faces.detectors import Face, MtcnnSpec
from facetl.faces.landmark_store import LandmarkStore
from facetl.people.run_erasure import PICTURES, forget_in_run
from facetl.recognition.embedded_face import EmbeddedFace
from facetl.recognition.run_folder import PEOPLE, RunFolder

ZOE = unicodedata.normalize("NFC", "Zoë Quist")
FINGERPRINT = "ab" * 32


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("models") / "family")


@pytest.fixture
def run(run_once: Path, tmp_path: Path) -> Path:
    """Return a run with a gallery, lists of people and pictures of those held out."""
    folder = Path(shutil.copytree(run_once, tmp_path / "family"))
    gallery = RunFolder(folder).gallery()
    rng = np.random.default_rng(0)
    for place, name in enumerate([ZOE, "Ann Lee", ZOE]):
        row = rng.normal(size=4).astype(np.float32)
        box = (place * 50.0, 0.0, place * 50.0 + 40, 40.0)
        face = EmbeddedFace(Face(box, np.zeros((5, 2), np.float32), 1.0), row / np.linalg.norm(row), None)
        gallery, _ = gallery.with_faces(name, [("a" * 64, face)])
    RunFolder(folder).write_gallery(gallery)
    RunFolder(folder).write_people({"train": ["Ann Lee", "Bob"], "validation": ["Cas"], "test": [ZOE, "Dan"]})
    for name in PICTURES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("a picture")
    (folder / "logs/names.tsv").write_text(f"Dan\n{ZOE}\n")
    return folder


def holds(folder: Path, name: str) -> list[str]:
    """Search every file by plain means."""
    texts = [name.encode(), json.dumps(name)[1:-1].encode(), name.encode("utf-32-le")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(text in path.read_bytes() for text in texts)]


def test_who_is_forgotten_is_in_no_file_any_more(run: Path) -> None:
    assert set(holds(run, ZOE)) == {"gallery.npz", "people.json", "names.tsv"}
    gone = [row.tobytes() for row in RunFolder(run).gallery().embeddings[[0, 2]]]
    done = forget_in_run(run, unicodedata.normalize("NFD", ZOE), photos=None, cache=None)
    assert done is not None
    assert (done.faces, done.side, done.rows, done.remains) == (2, "test", 0, ())
    assert done.deleted == PICTURES
    assert holds(run, ZOE) == []
    everything = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert not any(row in everything for row in gone)
    assert RunFolder(run).gallery().counts() == {"Ann Lee": 1}
    assert RunFolder(run).people() == {
        "train": frozenset({"Ann Lee", "Bob"}),
        "validation": frozenset({"Cas"}),
        "test": frozenset({"Dan"}),
    }
    assert stat.S_IMODE((run / PEOPLE).stat().st_mode) == 0o600
    assert not any("train anew" in line for line in done.advice)
    assert forget_in_run(run, ZOE, photos=None, cache=None) is None


def test_who_was_trained_on_needs_a_new_head_and_pictures_of_others_stay(run: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "Ann Lee").mkdir(parents=True)
    done = forget_in_run(run, "Ann Lee", photos=photos, cache=None)
    assert done is not None
    assert (done.faces, done.side, done.deleted, done.remains) == (1, "train", (), ())
    assert (run / "report.html").exists()
    assert any("learnt from" in line and "train anew" in line for line in done.advice)
    assert any(f"delete {photos / 'Ann Lee'}" in line for line in done.advice)
    chosen = forget_in_run(run, "Cas", photos=None, cache=None)
    assert chosen is not None
    assert any("calibrated by" in line for line in chosen.advice)


def test_a_report_that_names_somebody_goes_whatever_the_lists_say(run: Path) -> None:
    (run / "report.html").write_text("<p>Ann Lee &amp; Bob</p>")
    done = forget_in_run(run, "Ann Lee", photos=None, cache=None)
    assert done is not None
    assert "report.html" in done.deleted
    (run / "notes.txt").write_text("Bob and Bobby")
    done = forget_in_run(run, "Bob", photos=None, cache=None)
    assert done is not None
    assert [(one.file, one.what, one.times) for one in done.remains] == [("notes.txt", "name", 1)]
    assert any("notes.txt" in line for line in done.advice)


def test_features_of_the_persons_photos_alone_leave_the_cache(run: Path, tmp_path: Path) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    paths = {"own": photos / ZOE / "1.jpg", "shared": photos / ZOE / "2.jpg", "other": photos / "Bob" / "1.jpg"}
    shas = {name: hashlib.sha256(name.encode()).hexdigest() for name in paths}
    seen = {path: shas[name] for name, path in paths.items()} | {photos / "Bob" / "2.jpg": shas["shared"]}
    rows = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
    with EmbeddingCache.open(cache, fingerprint=FINGERPRINT, write=True) as opened:
        # The person lies on their side: the row has a key of its own.
        opened.append([turned_key(shas["own"]), shas["shared"], turned_key(shas["other"])], rows)
        opened.remember_paths(seen)
    detector = MtcnnSpec()
    face = Face((1.0, 2.0, 3.0, 4.0), np.ones((5, 2), np.float32), 0.5)
    with LandmarkStore.open(cache, write=True) as store:
        store.remember(seen)
        store.put("f" * 64, detector.to_json(), {sha: [face] for sha in shas.values()})
    done = forget_in_run(run, ZOE, photos=photos, cache=cache)
    assert done is not None
    assert done.rows == 2
    with EmbeddingCache.open(cache, fingerprint=FINGERPRINT, write=False) as opened:
        keys = [turned_key(shas["own"]), shas["shared"], turned_key(shas["other"])]
        assert opened.has(keys).tolist() == [False, True, True]
        np.testing.assert_array_equal(opened.rows(keys[1:]), rows[1:])
    with LandmarkStore.open(cache, write=False) as store:
        assert set(store.find("f" * 64, shas.values())) == {shas["shared"], shas["other"]}
    everything = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    assert rows[0].astype(np.float16).tobytes() not in everything
    assert bytes.fromhex(shas["own"]) not in everything


def test_features_are_found_where_people_do_not_lie_in_folders(run: Path, tmp_path: Path) -> None:
    photos, cache = tmp_path / "AgeDB", tmp_path / "cache"
    photos.mkdir()
    paths = [photos / f"{number}_{who}_30_f.jpg" for number, who in enumerate((ZOE, "Bob"))]
    shas = [hashlib.sha256(path.name.encode()).hexdigest() for path in paths]
    for path in paths:
        path.write_bytes(path.name.encode())
    with EmbeddingCache.open(cache, fingerprint=FINGERPRINT, write=True) as opened:
        opened.append(shas, np.arange(8, dtype=np.float32).reshape(2, 4) + 1)
        opened.remember_paths(dict(zip(paths, shas, strict=True)))
    done = forget_in_run(run, ZOE, photos=photos, cache=cache, layout="agedb")
    assert done is not None
    assert done.rows == 1
    with EmbeddingCache.open(cache, fingerprint=FINGERPRINT, write=False) as opened:
        assert opened.has(shas).tolist() == [False, True]
    # Without the photos nobody knows whose features those are, and the report has that.
    shutil.rmtree(photos)
    done = forget_in_run(run, "Bob", photos=photos, cache=cache, layout="agedb")
    assert done is not None
    assert any("facetl cache gc" in line for line in done.advice)


def test_the_command_reports_and_refuses(run: Path) -> None:
    result = CliRunner().invoke(app, ["forget", str(run), ZOE, "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert (printed["faces"], printed["side"], printed["remains"]) == (2, "test", [])
    again = CliRunner().invoke(app, ["forget", str(run), ZOE])
    assert isinstance(again.exception, RunError)
    assert "whom this run lacks" in str(again.exception)
    shown = CliRunner().invoke(app, ["forget", str(run), "Ann Lee"])
    assert "nothing was found in any file" in shown.stdout
    assert isinstance(CliRunner().invoke(app, ["forget", str(run), ""]).exception, DataError)
