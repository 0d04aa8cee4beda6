"""A run's folder: what writing does to the folders around it, and what is missing or damaged in it."""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.errors import FacetlError, RunError
from facetl.recognition.run_folder import (
    CALIBRATION,
    CHECKPOINT,
    CONFIG,
    GALLERY,
    HEAD,
    PEOPLE,
    RunFolder,
    extractor_record,
)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match="found other files"), RunFolder.new(folder):
        pass
    assert (folder / "chapter.txt").read_text() == "years of work"


def test_work_in_progress_is_private_and_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "family"
    with pytest.raises(RunError, match="no interrupted run of family"), RunFolder.new(folder, resume=True):
        pass
    with suppress(KeyboardInterrupt), RunFolder.new(folder, keep=True) as first:
        (first.path / CHECKPOINT).write_bytes(b"state")
        assert first.path.stat().st_mode & 0o077 == 0
        raise KeyboardInterrupt
    with suppress(KeyboardInterrupt), RunFolder.new(folder, keep=True, resume=True) as resumed:
        assert resumed == first
        assert (resumed.path / CHECKPOINT).is_file()
        raise KeyboardInterrupt
    with suppress(KeyboardInterrupt), RunFolder.new(folder) as anew:
        assert not (anew.path / CHECKPOINT).exists()
        raise KeyboardInterrupt
    assert list(folder.parent.iterdir()) == []


def test_a_complete_run_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "family")
    for content in ("first", "second"):
        with RunFolder.new(run.path) as partial:
            partial.write_config({"name": content})
    assert run.config() == {"name": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["family"]


def test_a_replacement_that_was_cut_short_is_undone(tmp_path: Path) -> None:
    run, old = RunFolder(tmp_path / "family"), RunFolder(tmp_path / ".family.old")
    run.recover()
    assert not run.path.exists()
    old.path.mkdir()
    old.write_config({"name": "first"})
    with run.changing_gallery():  # another process puts a new one in its place
        run.recover()
    assert not run.path.exists()
    run.recover()
    assert run.config() == {"name": "first"}
    assert not old.path.exists()


def test_a_config_that_shares_its_bytes_is_replaced_not_changed(tmp_path: Path) -> None:
    for name in ("now", "before"):
        (tmp_path / name).mkdir()
    now, before = RunFolder(tmp_path / "now"), RunFolder(tmp_path / "before")
    before.write_config({"version": 1})
    os.link(before.path / CONFIG, now.path / CONFIG)
    now.write_config({"version": 2})
    assert (before.config(), now.config()) == ({"version": 1}, {"version": 2})
    assert stat.S_IMODE((now.path / CONFIG).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_folder_without_a_config_is_no_complete_run(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / CONFIG).write_bytes(content)
    run = RunFolder(tmp_path)
    assert run.is_run is (content is not None)
    for read in (run.config, run.training_config, run.extractor, run.head_digest, run.compatible_heads, run.gallery):
        with pytest.raises(RunError, match=r"expected a complete run folder \(.*\)\. Run facetl train\.$"):
            read()


@pytest.mark.parametrize(
    "config",
    [{"extractor": None}, {"extractor": {"spec": {}}}, {"extractor": [], "data": "faces", "settings": {}}],
)
def test_a_config_that_lacks_the_extractor_is_incomplete(tmp_path: Path, config: dict[str, object]) -> None:
    run = RunFolder(tmp_path)
    run.write_config({"data": "faces", "settings": {"seed": 1}} | config)
    for read in (run.training_config, run.extractor, run.head_digest):
        with pytest.raises(FacetlError, match=r"expected a complete run folder|expected the settings of this version"):
            read()


def test_a_run_without_a_folder_of_people_cannot_be_calibrated_anew(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_config({"extractor": {}})
    with pytest.raises(RunError, match="was not made from a folder of people"):
        RunFolder(tmp_path).training_config()


def test_a_head_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config({"extractor": {"fingerprint": "x"}})
    for read in (run.head, run.head_digest):
        with pytest.raises(RunError, match="expected a complete run folder"):
            read()
    (tmp_path / HEAD).write_bytes(b"no head")
    with pytest.raises(RunError, match="expected a complete run folder"):
        run.head()


def test_a_threshold_in_the_config_is_that_of_a_net_as_its_authors_left_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config({"threshold": 0.25})
    assert run.published_threshold() == 0.25
    run.write_config({"threshold": "low"})
    with pytest.raises(RunError, match="expected a complete run folder"):
        run.published_threshold()
    run.write_config({})
    assert run.published_threshold() is None
    with pytest.raises(RunError, match=r"calibration.json: expected the run's calibration .*Run facetl calibrate\.$"):
        run.calibration()
    (tmp_path / CALIBRATION).write_text(json.dumps([1]))
    with pytest.raises(RunError, match=r"calibration.json: .*Run facetl calibrate\.$"):
        run.calibration()


def test_nobody_enrolled_is_no_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config({"extractor": {"fingerprint": "x"}})
    (tmp_path / HEAD).write_bytes(b"a head")
    gallery = run.gallery()
    assert (len(gallery), gallery.head) == (0, run.head_digest())
    run.write_gallery(gallery)
    assert not (tmp_path / GALLERY).exists()
    assert run.stored_gallery() is None


def test_the_people_of_each_side_come_back(tmp_path: Path) -> None:
    run, jose = RunFolder(tmp_path), unicodedata.normalize("NFC", "José")
    run.write_people({"train": ["Dan", "Ann"], "validation": {jose}})
    assert run.people() == {"train": frozenset({"Ann", "Dan"}), "validation": frozenset({jose}), "test": frozenset()}
    assert stat.S_IMODE((tmp_path / PEOPLE).stat().st_mode) == 0o600


def test_a_run_made_before_people_were_kept_has_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.people() is None
    with pytest.raises(RunError, match=r"does not say who its test people are .* Train it again"):
        run.people_of("who its test people are")


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"train": 1, "validation": [], "test": []}', b"\xff\xfe"])
def test_people_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PEOPLE).write_bytes(content)
    with pytest.raises(RunError, match="expected the people of train, validation, test"):
        RunFolder(tmp_path).people()


def test_a_net_of_its_own_is_named_from_the_run_by_relative_paths_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = ExtractorSpec.of("inception_v3")
    for path in (Path("models/net.keras"), tmp_path / "models" / "net.keras"):
        record = extractor_record(spec, Weights("file", "0" * 64, path), 8, inside=Path("models"))
        assert record["weights"]["path"] == "net.keras"
    record = extractor_record(spec, Weights("file", "0" * 64, tmp_path / "net.keras"), 8, inside=Path("models"))
    assert record["weights"]["path"] == str((tmp_path / "net.keras").resolve())
