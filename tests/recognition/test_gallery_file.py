"""A run's gallery on disk: what goes in comes out, nothing else is read, and it belongs to one head."""

from __future__ import annotations

import io
import shutil
import stat
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from patches import write_run

from facetl.errors import DataError, RunError
from facetl.faces.detectors import Face
from facetl.io import files
from facetl.recognition.embedded_face import EmbeddedFace
from facetl.recognition.run_folder import RunFolder

JOSE = unicodedata.normalize("NFC", "José")
BOX = (10.0, 20.0, 50.0, 70.0)


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("models") / "family")


@pytest.fixture
def run(run_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_once, tmp_path / "family"))


def seen(*vector: float, box: tuple[float, float, float, float] = BOX) -> EmbeddedFace:
    row = np.array(vector, np.float32) / np.linalg.norm(vector).astype(np.float32)
    return EmbeddedFace(Face(box, np.zeros((5, 2), np.float32), 0.9), row, None)


def test_what_is_written_is_read_again_and_for_its_owner_alone(run: Path) -> None:
    gallery, done = (
        RunFolder(run).gallery().with_faces("Ann", [("a" * 64, seen(1, 2, 2, 0)), ("b" * 64, seen(0, 3, 0, 4))])
    )
    assert (done.faces, done.known, done.moved) == (2, 0, {})
    gallery, _ = gallery.with_faces(unicodedata.normalize("NFD", JOSE), [("c" * 64, seen(0, 0, 1, 0))])
    RunFolder(run).write_gallery(gallery)
    back = RunFolder(run).gallery()
    assert back.names == ("Ann", "Ann", JOSE)
    assert back.photos == ("a" * 64, "b" * 64, "c" * 64)
    np.testing.assert_array_equal(back.boxes, [BOX] * 3)
    np.testing.assert_allclose(back.embeddings, [[1 / 3, 2 / 3, 2 / 3, 0], [0, 0.6, 0, 0.8], [0, 0, 1, 0]], rtol=1e-6)
    assert back.counts() == {"Ann": 2, JOSE: 1}
    assert stat.S_IMODE((run / "gallery.npz").stat().st_mode) == 0o600
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


def test_a_face_is_one_persons_the_last_one_named(run: Path) -> None:
    gallery, _ = RunFolder(run).gallery().with_faces("Ann", [("a" * 64, seen(1, 0, 0, 0))])
    nearly = (11.0, 21.0, 51.0, 71.0)
    gallery, done = gallery.with_faces("Ann", [("a" * 64, seen(0, 1, 0, 0, box=nearly))])
    assert (done.faces, done.known, len(gallery)) == (0, 1, 1)
    beside = (60.0, 20.0, 100.0, 70.0)
    gallery, done = gallery.with_faces("Bob", [("a" * 64, seen(0, 0, 0, 1, box=beside)), ("a" * 64, seen(0, 0, 1, 0))])
    assert (done.faces, done.known, done.moved) == (1, 0, {"Ann": 1})
    assert gallery.counts() == {"Bob": 2}
    # The same box in another photo is another face.
    gallery, done = gallery.with_faces("Ann", [("b" * 64, seen(0, 1, 0, 0))])
    assert gallery.counts() == {"Ann": 1, "Bob": 2}


def test_who_is_forgotten_leaves_no_row_and_nobody_is_no_file(run: Path) -> None:
    gallery, _ = RunFolder(run).gallery().with_faces("Ann", [("a" * 64, seen(1, 0, 0, 0))])
    gallery, _ = gallery.with_faces("Bob", [("b" * 64, seen(0, 1, 0, 0))])
    left = gallery.without("Ann")
    assert (left.names, left.photos) == (("Bob",), ("b" * 64,))
    np.testing.assert_array_equal(left.embeddings, [[0, 1, 0, 0]])
    RunFolder(run).write_gallery(gallery)
    RunFolder(run).write_gallery(left.without("Bob"))
    assert not (run / "gallery.npz").exists()
    assert RunFolder(run).stored_gallery() is None
    RunFolder(run).write_gallery(left.without("Bob"))


def test_a_gallery_of_another_head_is_refused(run: Path, tmp_path: Path) -> None:
    gallery, _ = RunFolder(run).gallery().with_faces("Ann", [("a" * 64, seen(1, 0, 0, 0))])
    RunFolder(run).write_gallery(gallery)
    other = write_run(tmp_path / "other" / "family", seed=2)
    assert RunFolder(other).head_digest() != RunFolder(run).head_digest()
    (other / "gallery.npz").write_bytes((run / "gallery.npz").read_bytes())
    with pytest.raises(RunError, match="belongs to the head that made it"):
        RunFolder(other).gallery()
    kept = RunFolder(other).stored_gallery()
    assert kept is not None
    assert kept.names == ("Ann",)


def saved(**arrays: object) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


GOOD = {
    "version": np.int64(1),
    "head": np.str_("x"),
    "names": np.array(["Ann"]),
    "photos": np.array(["a" * 64]),
    "boxes": np.zeros((1, 4)),
    "embeddings": np.array([[0, 1.0]], np.float32),
}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04 no more", "cannot be read"),
        (saved(a=np.zeros(2)), "cannot be read"),
        (saved(**GOOD | {"names": np.array([{"a": 1}], object)}), "cannot be read"),
        (saved(**GOOD | {"names": np.array(["Ann", "Bob"])}), "do not belong together"),
        (saved(**GOOD | {"boxes": np.zeros((1, 3))}), "do not belong together"),
        (saved(**GOOD | {"embeddings": np.array([[3.0, 1.0]], np.float32)}), "unit norm"),
        (saved(**GOOD | {"version": np.int64(2)}), "up to version 1, got 2"),
    ],
    ids=["empty", "torn", "other", "pickle", "lengths", "boxes", "norm", "newer"],
)
def test_a_damaged_gallery_is_one_clear_line(run: Path, content: bytes, told: str) -> None:
    (run / "gallery.npz").write_bytes(content)
    with pytest.raises(RunError, match=told):
        RunFolder(run).gallery()


def test_no_other_process_changes_it_meanwhile(run: Path) -> None:
    changing = RunFolder(run).changing_gallery
    with changing(), pytest.raises(RunError, match="one process at a time"), changing():
        pass
    with RunFolder(run).changing_gallery():
        pass


def test_nobody_is_enrolled_by_a_head_that_was_replaced_meanwhile(run: Path) -> None:
    folder, head = RunFolder(run), RunFolder(run).head_digest()
    with folder.changing_gallery(head=head):
        pass
    (run / "head.keras").write_bytes(b"another")
    with pytest.raises(RunError, match="changed by another process"), folder.changing_gallery(head=head):
        pass
    folder.write_config(folder.config() | {"compatible_heads": [head]})
    with folder.changing_gallery(head=head):
        pass


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb\x07", "x" * 201, "Unknown", "\udcff"])
def test_what_cannot_be_a_name_is_refused(run: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"name|called"):
        RunFolder(run).gallery().with_faces(name, [("a" * 64, seen(1, 0, 0, 0))])


def test_an_interrupted_write_leaves_the_old_gallery(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, _ = RunFolder(run).gallery().with_faces("Ann", [("a" * 64, seen(1, 0, 0, 0))])
    RunFolder(run).write_gallery(gallery)
    more, _ = gallery.with_faces("Bob", [("b" * 64, seen(0, 1, 0, 0))])

    def fail(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(run).write_gallery(more)
    assert RunFolder(run).gallery().names == ("Ann",)


def test_a_folder_that_is_no_run_has_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="complete run folder"):
        RunFolder(tmp_path).gallery()
