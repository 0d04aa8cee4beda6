"""A walk through folders of photos: everything once, nothing hidden, no loop, no folder that stops it."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from pathlib import Path

import pytest

from facetl.data import walk as walk_module
from facetl.data.walk import walk, walk_people
from facetl.errors import DataError


def photo(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_photos_at_any_depth_in_order(tmp_path: Path) -> None:
    kept = [
        photo(tmp_path / name)
        for name in ("a.JPG", "b/c/d/e.png", "b/f.webp", "g.bmp", "h.tif", "i.TIFF", "j.heic", "k.HEIF", "l.jpeg")
    ]
    kept += [photo(tmp_path / f"m{suffix}") for suffix in (".jfif", ".JFIF", ".mpo", ".pjpeg", ".pjp", ".jpe", ".gif")]
    photo(tmp_path / "notes.txt")
    found = walk([tmp_path])
    assert list(found.paths) == sorted(kept)
    assert found.skipped == {"not-an-image": 1}


def test_pictures_that_nothing_here_reads_are_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("film.MP4", "raw.cr2", "raw2.CR2", "a.jpg_original", "notes"):
        photo(tmp_path / "Ann" / name)
    photo(tmp_path / "Ann" / "a.jpg")
    expected = {"no-reader[.mp4]": 1, "no-reader[.cr2]": 2, "no-reader[.jpg_original]": 1, "not-an-image": 1}
    assert walk([tmp_path]).skipped == walk_people(tmp_path)[2] == expected


def test_a_person_s_photos_are_the_same_as_an_album_s(tmp_path: Path) -> None:
    for name in ("a.heic", "b.avif", "c.jfif", "c.jfif.xmp"):
        photo(tmp_path / "Ann" / name)
    _, photos, skipped = walk_people(tmp_path)
    assert [path for _, path in photos] == list(walk([tmp_path]).paths)
    assert len(photos) == 3
    assert skipped == walk([tmp_path]).skipped == {}


def test_avif_without_its_reader_is_counted_under_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(tmp_path / "a.avif")
    monkeypatch.setattr(walk_module, "can_read_avif", lambda: False)
    assert walk([tmp_path]).skipped == {"needs-pillow>=11.3": 1}


def test_what_is_hidden_empty_or_a_sidecar(tmp_path: Path) -> None:
    photo(tmp_path / ".hidden.jpg")
    photo(tmp_path / ".thumbs" / "a.jpg")
    photo(tmp_path / "Thumbs.db")
    photo(tmp_path / "empty.jpg", b"")
    photo(tmp_path / "a.jpg.xmp")
    kept = photo(tmp_path / "a.jpg")
    found = walk([tmp_path])
    assert found.paths == (kept,)
    assert found.skipped == {"hidden": 3, "empty-file": 1}


def test_links_are_followed_once(tmp_path: Path) -> None:
    album, outside = tmp_path / "album", tmp_path / "outside"
    kept = [photo(album / "a.jpg"), photo(album / "sub" / "b.jpg")]
    photo(outside / "c.jpg")
    (album / "sub" / "up").symlink_to(album)
    (album / "further_up").symlink_to(tmp_path)
    (album / "self").symlink_to(album / "self")
    (album / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (album / "again.jpg").symlink_to(album / "a.jpg")
    (album / "out").symlink_to(outside)
    (album / "out_again").symlink_to(outside)
    (outside / "back").symlink_to(album / "sub")
    found = walk([album])
    assert list(found.paths) == sorted([*kept, album / "out" / "c.jpg"])
    # again.jpg, out_again and back; up and further_up lead out of where they lie, self nowhere.
    assert found.skipped == {"repeated-link": 3, "link-loop": 3, "broken-link": 1}


def test_folders_within_each_other_and_files(tmp_path: Path) -> None:
    inner, outer = photo(tmp_path / "a" / "b" / "c.jpg"), photo(tmp_path / "a" / "d.jpg")
    assert walk([tmp_path / "a" / "b", tmp_path / "a", tmp_path / "a"]).paths == (inner, outer)
    assert walk([outer]).paths == (outer,)
    assert walk([photo(tmp_path / "notes.txt")]).skipped == {"not-an-image": 1}


def test_a_folder_that_is_left_out(tmp_path: Path) -> None:
    kept = photo(tmp_path / "a.jpg")
    photo(tmp_path / "library" / "thumbs" / "b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "library")
    found = walk([tmp_path], leave_out=[tmp_path / "library", tmp_path / "not there"])
    assert found.paths == (kept,)
    assert found.skipped == {"left-out": 2}


def test_a_folder_that_cannot_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = photo(tmp_path / "a.jpg")
    photo(tmp_path / "locked" / "b.jpg")
    honest = os.scandir

    def scandir(path: Path) -> object:
        # Not by chmod: root may read everything.
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = walk([tmp_path])
    assert found.paths == (kept,)
    assert found.skipped == {"unreadable": 1}
    with pytest.raises(DataError, match="locked cannot be read: Permission denied"):
        walk([tmp_path / "locked"])


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        walk([tmp_path / "nowhere"])


def test_hostile_names(tmp_path: Path) -> None:
    names = [
        "a\nb.jpg",
        "🙂 (1).jpg",
        "-rf.jpg",
        unicodedata.normalize("NFD", "Zoë.jpg"),
        "n" * 250 + ".jpg",
        "'; x.jpg",
    ]
    kept = [photo(tmp_path / name) for name in names]
    with contextlib.suppress(OSError):  # some file systems take UTF-8 names only
        kept.append(photo(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))))
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    found = walk([tmp_path])
    assert set(found.paths) == set(kept)
    assert found.skipped == {"not-an-image": 1}


def test_heic_without_its_extra_is_counted_under_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.heic")
    photo(tmp_path / "c.HIF")
    assert len(walk([tmp_path]).paths) == 3
    monkeypatch.setattr(walk_module, "can_read_heif", lambda: False)
    found = walk([tmp_path])
    assert found.paths == (kept,)
    assert found.skipped == {"needs-facetl[heic]": 2}
