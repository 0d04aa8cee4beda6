from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from facetl.data.fetch import orl, sources, tfds
from facetl.errors import DataError

Write = Callable[..., None]


def write_two(out: Path, *, progress: sources.Progress | None = None) -> str:
    for done, name in enumerate(("Ann/a.png", "Bob/b.png"), start=1):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(name.encode())
        if progress is not None:
            progress(done, 2)
    return orl.TERMS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of two photos, with no download."""
    monkeypatch.setattr(orl, "write", write_two)
    monkeypatch.setattr(orl, "complete", lambda folder: (folder / "Bob/b.png").is_file())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_sample_is_written_with_its_terms(small: None, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    fetched = sources.fetch("sample", tmp_path / "data/sample", progress=lambda *state: told.append(state))
    assert (fetched.name, fetched.people, fetched.photos) == ("sample", 2, 2)
    assert fetched.root == tmp_path / "data/sample"
    assert fetched.skipped == {}
    assert fetched.terms == orl.TERMS
    assert told == [(1, 2), (2, 2)]
    assert files(tmp_path / "data") == [
        "sample", "sample/Ann", "sample/Ann/a.png", "sample/Bob", "sample/Bob/b.png", "sample/TERMS.txt",
    ]  # fmt: skip
    note = (fetched.root / "TERMS.txt").read_text()
    assert note == f"Source: sample, 2 photos of 2 people.\n\n{orl.TERMS}"
    assert json.loads(json.dumps(fetched.to_json()))["root"] == str(fetched.root)


def test_a_complete_source_is_returned_at_once(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sources.fetch("sample", tmp_path / "out")
    monkeypatch.setattr(orl, "write", lambda *args, **options: pytest.fail("written again"))
    assert sources.fetch("sample", tmp_path / "out") == first
    assert sources.fetch("sample", os.path.relpath(tmp_path / "out")) == first


def test_a_folder_that_holds_something_else_is_left_alone(small: None, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(DataError, match="out holds something else"):
        sources.fetch("sample", tmp_path / "out")
    assert files(tmp_path) == ["out", "out/mine.txt"]
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DataError, match="file holds something else"):
        sources.fetch("sample", tmp_path / "file")


def test_a_damaged_sample_is_not_taken_for_complete(small: None, tmp_path: Path) -> None:
    root = sources.fetch("sample", tmp_path / "out").root
    (root / "Bob/b.png").unlink()
    with pytest.raises(DataError, match="holds something else"):
        sources.fetch("sample", root)


def test_an_empty_folder_is_used(small: None, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert sources.fetch("sample", tmp_path / "out").photos == 2


def test_an_interrupted_fetch_shows_nothing_and_is_gone_on_with(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(out: Path, *, progress: sources.Progress | None = None) -> None:
        write_two(out)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(orl, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sources.fetch("sample", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    sources.fetch("sample", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_reported(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(out: Path, *, progress: sources.Progress | None = None) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(orl, "write", full)
    with pytest.raises(DataError, match=r"cannot be written to .*: No space left on device"):
        sources.fetch("sample", tmp_path / "out")


def test_the_slower_of_two_processes_takes_the_faster_ones_folder(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beaten(out: Path, *, progress: sources.Progress | None = None) -> str:
        write_two(out)
        monkeypatch.setattr(orl, "write", write_two)
        (tmp_path / "elsewhere").mkdir()
        sources.fetch("sample", tmp_path / "elsewhere/out")
        (tmp_path / "elsewhere/out").rename(tmp_path / "out")
        return orl.TERMS

    monkeypatch.setattr(orl, "write", beaten)
    assert sources.fetch("sample", tmp_path / "out").photos == 2
    assert files(tmp_path / "out") == ["Ann", "Ann/a.png", "Bob", "Bob/b.png", "TERMS.txt"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["lfw", "tfds:lfw", "tfds:vgg_face2"])
def test_tfds_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def write(dataset: str, out: Path, *, progress: sources.Progress | None = None) -> str:
        asked.append(dataset)
        write_two(out)
        return "their terms\n\nin two parts\n"

    monkeypatch.setattr(tfds, "write", write)
    first = sources.fetch(name, tmp_path / "out")
    again = sources.fetch(name, tmp_path / "out")
    assert asked == [name.removeprefix("tfds:")]
    assert first == again
    assert again.terms == "their terms\n\nin two parts\n"
    with pytest.raises(DataError, match=r"tfds:other is written into a new folder, but .* holds something else"):
        sources.fetch("tfds:other", tmp_path / "out")
    (tmp_path / "out/Ann/a.png").unlink()
    with pytest.raises(DataError, match="holds something else"):
        sources.fetch(name, tmp_path / "out")


def test_a_local_folder_is_checked_and_stays_where_it_is(tmp_path: Path) -> None:
    write_two(tmp_path / "faces")
    (tmp_path / "faces/Ann/notes.txt").write_text("x")
    before = files(tmp_path)
    fetched = sources.fetch(str(tmp_path / "faces"), tmp_path / "out")
    assert (fetched.root, fetched.people, fetched.photos) == (tmp_path / "faces", 2, 2)
    assert fetched.skipped == {"not-an-image": 1}
    assert fetched.terms == ""
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["smaple", "tfds:", ""])
def test_unknown_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="a source is sample, lfw, tfds:NAME or a folder of people"):
        sources.fetch(name, tmp_path / "out")


def test_a_missing_or_empty_local_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        sources.fetch(f"{tmp_path}/nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="photos must lie in a folder per person"):
        sources.fetch(str(tmp_path), tmp_path / "out")
