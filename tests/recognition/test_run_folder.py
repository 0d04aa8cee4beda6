"""What a run does to the folders around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from facetl.errors import RunError
from facetl.recognition import run_folder


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match="found other files"):
        run_folder.begin(folder, resume=False)
    assert (folder / "chapter.txt").read_text() == "years of work"


def test_work_in_progress_is_private_and_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "family"
    partial = run_folder.begin(folder, resume=False)
    (partial / "checkpoint.npz").write_bytes(b"state")
    assert partial.stat().st_mode & 0o077 == 0
    assert run_folder.begin(folder, resume=True) == partial
    assert (partial / "checkpoint.npz").is_file()
    run_folder.begin(folder, resume=False)
    assert not (partial / "checkpoint.npz").exists()


def test_a_complete_run_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "family"
    for content in ("first", "second"):
        partial = run_folder.begin(folder, resume=False)
        (partial / "config.json").write_text(content)
        run_folder.complete(partial, folder)
    assert (folder / "config.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["family"]
