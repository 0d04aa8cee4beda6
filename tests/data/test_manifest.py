from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from facetl.data import walk as walk_module
from facetl.data.manifest import Manifest, Photo
from facetl.errors import DataError


def put(root: Path, *names: str, content: bytes = b"pixels") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def listed(manifest: Manifest) -> list[tuple[str, str]]:
    return [(photo.identity, photo.path.relative_to(manifest.root).as_posix()) for photo in manifest.photos]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "faces"


def test_photos_come_sorted_by_person_then_path(root: Path) -> None:
    put(root, "Bob/b.jpg", "Ann/z.png", "Ann/holiday/a.JPG", "Ann/c.webp", "Cy/x.pgm")
    manifest = Manifest.from_folder(root)
    assert listed(manifest) == [
        ("Ann", "Ann/c.webp"),
        ("Ann", "Ann/holiday/a.JPG"),
        ("Ann", "Ann/z.png"),
        ("Bob", "Bob/b.jpg"),
        ("Cy", "Cy/x.pgm"),
    ]
    assert manifest.skipped == {}
    assert manifest.identities == ("Ann", "Bob", "Cy")
    assert manifest.labels.tolist() == [0, 0, 0, 1, 2]
    assert manifest.labels.dtype == np.int32
    assert not manifest.labels.flags.writeable
    assert manifest.counts() == {"Ann": 3, "Bob": 1, "Cy": 1}
    assert len(manifest) == 5
    assert manifest.paths[3] == root / "Bob" / "b.jpg"


@pytest.mark.parametrize(
    "suffix",
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".pgm",
        ".ppm",
        ".pnm",
        ".pbm",
        ".JpG",
    ],
)
def test_every_image_suffix_counts(root: Path, suffix: str) -> None:
    put(root, f"Ann/photo{suffix}")
    assert len(Manifest.from_folder(root)) == 1


def test_paths_are_absolute(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "Ann/a.jpg")
    monkeypatch.chdir(root.parent)
    assert Manifest.from_folder("faces").paths == (root / "Ann/a.jpg",)


def test_what_is_no_photo_is_counted_by_reason(root: Path) -> None:
    put(root, "Ann/a.jpg", "Ann/notes.txt", "Ann/clip.mp4", "Ann/noext", "list.csv")
    put(root, ".git/x.jpg", "Ann/.DS_Store", "Ann/.thumbs/t.jpg", "Ann/Thumbs.db", "__MACOSX/Ann/a.jpg")
    put(root, "Ann/zero.jpg", "Bob/zero.png", content=b"")
    put(root, "loose.jpg", "TERMS.txt")
    (root / "Empty").mkdir()
    (root / "Nested/deep").mkdir(parents=True)
    manifest = Manifest.from_folder(root)
    assert listed(manifest) == [("Ann", "Ann/a.jpg")]
    assert manifest.skipped == {
        "empty-file": 2,
        "empty-folder": 3,  # Bob, Empty, Nested
        "hidden": 5,
        "no-reader[.mp4]": 1,
        "not-an-image": 3,
        "not-in-a-person-folder": 1,
    }


def test_a_pipe_is_no_photo(root: Path) -> None:
    put(root, "Ann/a.jpg")
    os.mkfifo(root / "Ann/pipe.jpg")
    assert Manifest.from_folder(root).skipped == {"not-an-image": 1}


def test_unreadable_files_and_folders_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "Ann/a.jpg", "Ann/secret.jpg", "Bob/b.jpg", "Ann/locked/c.jpg")
    entries, access = walk_module._entries, os.access

    def refuse(folder: Path) -> list[os.DirEntry[str]]:
        if folder.name in ("Bob", "locked"):
            raise PermissionError(13, "Permission denied")
        return entries(folder)

    # Patched rather than chmod-ed: the superuser may read everything.
    monkeypatch.setattr(walk_module, "_entries", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in str(path) and access(path, mode))
    manifest = Manifest.from_folder(root)
    assert listed(manifest) == [("Ann", "Ann/a.jpg")]
    assert manifest.skipped == {"unreadable": 3}


def test_links_are_followed_once(root: Path, tmp_path: Path) -> None:
    put(root, "Bob/b.jpg")
    put(tmp_path / "elsewhere", "Cy/c.jpg", "Cy/more/d.jpg", "single.png")
    (root / "Aa").symlink_to(root / "Bob")  # sorts before Bob, and yet Bob keeps his photo
    (root / "Cy").symlink_to(tmp_path / "elsewhere/Cy")
    (root / "Cy2").symlink_to(tmp_path / "elsewhere/Cy")
    (root / "Bob/alias.jpg").symlink_to(root / "Bob/b.jpg")
    (root / "Bob/single.png").symlink_to(tmp_path / "elsewhere/single.png")
    manifest = Manifest.from_folder(root)
    assert listed(manifest) == [
        ("Bob", "Bob/b.jpg"),
        ("Bob", "Bob/single.png"),
        ("Cy", "Cy/c.jpg"),
        ("Cy", "Cy/more/d.jpg"),
    ]
    assert manifest.skipped == {"repeated-link": 3}


def test_loops_and_broken_links_are_counted(root: Path, tmp_path: Path) -> None:
    put(root, "Ann/a.jpg", "Ann/deep/b.jpg")
    put(tmp_path, "outside.jpg", "other/c.jpg")
    (root / "Ann/deep/up").symlink_to(root / "Ann")
    (root / "Ann/root").symlink_to("..")
    (root / "Ann/above").symlink_to(tmp_path)  # would take in everything beside the root
    (root / "self").symlink_to("self")
    (root / "Ann/gone.jpg").symlink_to("nowhere.jpg")
    (root / "gone").symlink_to("nowhere")
    (root / "Bob").symlink_to(tmp_path / "other")
    (tmp_path / "other/back").symlink_to(tmp_path / "other")
    manifest = Manifest.from_folder(root)
    assert listed(manifest) == [("Ann", "Ann/a.jpg"), ("Ann", "Ann/deep/b.jpg"), ("Bob", "Bob/c.jpg")]
    assert manifest.skipped == {"broken-link": 2, "link-loop": 5}


def test_a_linked_folder_cannot_lead_back_above_the_root(tmp_path: Path) -> None:
    put(tmp_path, "home/faces/Ann/a.jpg", "home/private.jpg", "other/c.jpg")
    (tmp_path / "home/faces/Bob").symlink_to(tmp_path / "other")
    (tmp_path / "other/home").symlink_to(tmp_path / "home")
    manifest = Manifest.from_folder(tmp_path / "home/faces")
    assert listed(manifest) == [("Ann", "Ann/a.jpg"), ("Bob", "Bob/c.jpg")]
    assert manifest.skipped == {"link-loop": 1}


def test_a_root_that_is_a_link_works(root: Path, tmp_path: Path) -> None:
    put(root, "Ann/a.jpg")
    (tmp_path / "link").symlink_to(root)
    assert Manifest.from_folder(tmp_path / "link").paths == (tmp_path / "link/Ann/a.jpg",)


def test_hard_links_are_photos_of_their_own(root: Path) -> None:
    put(root, "Ann/a.jpg")
    os.link(root / "Ann/a.jpg", root / "Ann/b.jpg")
    assert len(Manifest.from_folder(root)) == 2


def test_unicode_names_are_one_person_in_either_form(root: Path) -> None:
    put(
        root,
        f"{unicodedata.normalize('NFD', 'José Núñez')}/a.jpg",
        f"{unicodedata.normalize('NFC', 'José Núñez')}/b.jpg",
    )
    put(root, "王小明/照片.jpg")
    manifest = Manifest.from_folder(root)
    assert manifest.identities == ("José Núñez", "王小明")
    assert manifest.counts() == {"José Núñez": 2, "王小明": 1}


def test_very_long_names(root: Path) -> None:
    person, photo = "P" * 255, "x" * 251 + ".jpg"
    put(root, f"{person}/{photo}")
    assert Manifest.from_folder(root).identities == (person,)


def test_names_that_are_not_utf8_stay_apart_and_printable(root: Path) -> None:
    for raw in (b"Jos\xe9", b"Jos\xe8"):
        try:
            (root / os.fsdecode(raw)).mkdir(parents=True)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        (root / os.fsdecode(raw) / "a.jpg").write_bytes(b"pixels")
    manifest = Manifest.from_folder(root)
    assert manifest.identities == (r"Jos\xe8", r"Jos\xe9")
    assert all(identity.encode("utf-8") for identity in manifest.identities)
    assert len(manifest.with_splits(seed=0, validation=0, test=0)) == 2


def test_folders_that_cannot_serve_are_one_line(root: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Manifest.from_folder(root)
    put(root, "loose.jpg")
    with pytest.raises(DataError, match=r"ROOT/Person_Name/photo.jpg\), got 1 not-in-a-person-folder in"):
        Manifest.from_folder(root)
    with pytest.raises(DataError, match="got the file"):
        Manifest.from_folder(root / "loose.jpg")
    (root / "loose.jpg").unlink()
    with pytest.raises(DataError, match="got nothing in") as error:
        Manifest.from_folder(root)
    assert "\n" not in str(error.value)


def people(tmp_path: Path) -> Manifest:
    photos = [Photo(tmp_path / f"{name}/{k}.jpg", name) for name, n in (("a", 2), ("b", 3), ("c", 1)) for k in range(n)]
    return Manifest(root=tmp_path, photos=tuple(photos), skipped={"hidden": 1})


def test_splits_keep_a_person_together(tmp_path: Path) -> None:
    photos = tuple(Photo(tmp_path / f"p{i}/{k}.jpg", f"p{i}") for i in range(60) for k in range(1 + i % 4))
    manifest = Manifest(root=tmp_path, photos=photos, skipped={}).with_splits(seed=4, validation=0.2, test=0.3)
    sides = {name: manifest.subset(name) for name in ("train", "validation", "test")}
    assert sum(len(each) for each in sides.values()) == len(photos)
    names = [set(each.identities) for each in sides.values()]
    assert all(names)
    assert sum(len(each) for each in names) == len(set.union(*names))
    test = sides["test"]
    assert [test.identities[label] for label in test.labels] == [photo.identity for photo in test.photos]
    with pytest.raises(DataError, match="a side is one of train, validation, test, got 'dev'"):
        manifest.subset("dev")


def test_select_by_mask_and_by_indices(tmp_path: Path) -> None:
    manifest = people(tmp_path)
    by_mask = manifest.select(manifest.labels == 1)
    assert [photo.path.name for photo in by_mask.photos] == ["0.jpg", "1.jpg", "2.jpg"]
    assert by_mask.identities == ("b",)
    assert [photo.identity for photo in manifest.select([5, 0]).photos] == ["c", "a"]
    assert len(manifest.select([])) == 0
    assert len(manifest.select(np.zeros(6, dtype=bool))) == 0


def test_rows_are_found_by_path(tmp_path: Path) -> None:
    manifest = people(tmp_path)
    assert manifest.rows_of([manifest.paths[5], manifest.paths[1]]) == [5, 1]
    with pytest.raises(KeyError):
        manifest.rows_of([tmp_path / "elsewhere.jpg"])


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (np.ones(5, dtype=bool), r"a mask must have one entry a photo, \[6\], got \[5\]"),
        (np.array([0, 6]), "indices must be 0 to 5, got 0 to 6"),
        (np.array([-1]), "indices must be 0 to 5, got -1 to -1"),
        (np.array([0.5]), r"by a mask or by integers \[n\], got float64 \[1\]"),
        (np.array([[1]]), r"by integers \[n\], got int64 \[1, 1\]"),
    ],
)
def test_select_refuses_what_does_not_fit(tmp_path: Path, which: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        people(tmp_path).select(which)


def listed_people(*photos: int) -> Manifest:
    root = Path("/photos")
    return Manifest(
        root, tuple(Photo(root / f"P{n}" / f"{i}.jpg", f"P{n}") for n, count in enumerate(photos) for i in range(count))
    )


@pytest.mark.parametrize(
    ("photos", "validation", "test"),
    [
        ((2,) * 6, "people", "people"),
        ((6, 6), "photos", "photos"),
        ((10,) * 5, "photos", "photos"),
        ((2,) * 5, "people", None),
        ((4, 4, 1), "photos", None),
    ],
)
def test_few_people_are_split_by_photos_or_not_measured(
    photos: tuple[int, ...], validation: str, test: str | None
) -> None:
    split = listed_people(*photos).split_for_training(seed=0, validation=0.2, test=0.2)
    assert split.held_out == {"validation": validation, "test": test}
    assert split.same_people == (validation == "photos")
    assert split.shares == {"validation": 0.2, "test": 0.2}
    assert len(split) == sum(photos)
    assert not len(split.subset(""))
    trained = split.subset("train").counts()
    assert sum(count >= 2 for count in trained.values()) >= 2


@pytest.mark.parametrize(
    ("photos", "found"),
    [
        ((10,), "got 1 person, at most 10 photos of one and 1 with 2 or more"),
        ((1,) * 5, "got 5 people, at most 1 photo of one and 0 with 2 or more"),
        ((3, 3, 3), "got 3 people, at most 3 photos of one and 3 with 2 or more"),
    ],
)
def test_what_cannot_be_trained_is_refused(photos: tuple[int, ...], found: str) -> None:
    with pytest.raises(DataError, match=found):
        listed_people(*photos).split_for_training(seed=0, validation=0.2, test=0.2)


def test_a_run_has_validation_people() -> None:
    with pytest.raises(DataError, match=r"--validation: .* above 0"):
        listed_people(*(4,) * 9).split_for_training(seed=0, validation=0, test=0.2)
