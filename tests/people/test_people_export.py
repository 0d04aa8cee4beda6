"""People out of a library: folders, a table, sidecars; photos stay as they are."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import stat
import unicodedata
from pathlib import Path

import pytest
from albums import SIDE, put_photo

from facetl.data.metadata.regions import read_regions
from facetl.errors import DataError, LibraryError
from facetl.people.library import Library
from facetl.people.people_export import COLUMNS, export, folder_name
from facetl.people.store.models import StackDraft

JOSE = unicodedata.normalize("NFC", "José")


@pytest.fixture
def library(tmp_path: Path):
    with Library.open(tmp_path / "library", create=True) as opened:
        yield opened


@pytest.fixture
def faces(library: Library, tmp_path: Path) -> dict[str, list[int]]:
    """Return photo → faces: Ann is named on one and both, José by his stack on two and both; nobody on none."""
    album = tmp_path / "album"
    found = {
        "one": put_photo(library, album / "2020" / "img.png", taken_at="2020-05-01T10:00:00")[1],
        "two": put_photo(library, album / "2021" / "img.png")[1],
        "both": put_photo(library, album / "both.png", faces=2)[1],
        "none": put_photo(library, album / "none.png", faces=0)[1],
        "other": put_photo(library, album / "other.png")[1],
    }
    library.assign_name([found["one"][0], found["both"][0]], "Ann")
    library.assign_name(found["two"], JOSE)
    members = (found["two"][0], found["both"][1])
    drafts = [
        StackDraft(members, (0.9, 0.75), members[0], 0.8),
        StackDraft((found["one"][0], found["both"][0]), (1.0, 0.5), found["one"][0], 0.7),
        StackDraft((found["other"][0],), (0.4,), found["other"][0], 0.4),
    ]
    library.write_stacks(drafts)
    return found


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_each_person_has_a_folder_with_the_photos(
    library: Library, faces: dict[str, list[int]], tmp_path: Path
) -> None:
    done = export(library, tmp_path / "out", kinds=["folders"])
    assert files(tmp_path / "out") == ["Ann/both.png", "Ann/img.png", f"{JOSE}/both.png", f"{JOSE}/img.png"]
    assert (done.people, done.photos, done.files, done.rows, done.sidecars) == (2, 3, 4, 0, 0)
    assert os.path.samefile(tmp_path / "out/Ann/img.png", tmp_path / "album/2020/img.png")
    assert stat.S_IMODE((tmp_path / "out/Ann").stat().st_mode) == 0o700
    confirmed = export(library, tmp_path / "confirmed", kinds=["folders"], confirmed_only=True, links="copy")
    assert files(tmp_path / "confirmed") == ["Ann/both.png", "Ann/img.png", f"{JOSE}/img.png"]
    assert confirmed.files == 3
    copy, photo = tmp_path / "confirmed/Ann/img.png", tmp_path / "album/2020/img.png"
    assert copy.read_bytes() == photo.read_bytes()
    assert not os.path.samefile(copy, photo)
    export(library, tmp_path / "ann", kinds=["folders"], names=["Ann"], links="symbolic")
    assert files(tmp_path / "ann") == ["Ann/both.png", "Ann/img.png"]
    assert (tmp_path / "ann/Ann/img.png").readlink() == photo


def test_names_that_collide_get_numbers(library: Library, tmp_path: Path) -> None:
    for number, year in enumerate(("2019", "2020", "2021")):
        _, [face] = put_photo(library, tmp_path / "album" / year / ("IMG.png" if number else "img.png"))
        library.assign_name([face], "a/b" if number else "A_B")
    export(library, tmp_path / "out", kinds=["folders"])
    assert files(tmp_path / "out") == ["A_B/img.png", "a_b_2/IMG.png", "a_b_2/IMG_2.png"]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Ann", "Ann"),
        ("..", "_"),
        ("a/../b", "a_.._b"),
        (" .x. ", "x"),
        ('C:"x"\t', "C__x__"),
        ("x" * 300, "x" * 120),
        ("山" * 100, "山" * 80),
        ("Con", "_Con"),
        ("nul .b", "_nul .b"),
        ("Cone", "Cone"),
    ],
)
def test_a_name_is_no_path(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def test_the_table_has_every_face(library: Library, faces: dict[str, list[int]], tmp_path: Path) -> None:
    done = export(library, tmp_path / "out", kinds=["csv"])
    with (tmp_path / "out/faces.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert done.rows == len(rows) == 5
    found = [(Path(row["path"]).name, row["name"], row["said"], row["confidence"]) for row in rows]
    assert sorted(found) == [
        ("both.png", "Ann", "yes", "0.5000"),
        ("both.png", JOSE, "no", "0.7500"),
        ("img.png", "Ann", "yes", "1.0000"),
        ("img.png", JOSE, "yes", "0.9000"),
        ("other.png", "", "no", "0.4000"),
    ]
    first = next(row for row in rows if row["confidence"] == "1.0000")
    assert [first[side] for side in ("left", "top", "right", "bottom")] == ["12.0", "12.0", "51.0", "51.0"]
    assert first["taken_at"] == "2020-05-01T10:00:00"
    assert int(first["stack"]) == library.stack_of(faces["one"][0])
    ann = export(library, tmp_path / "ann", kinds=["csv"], names=["Ann"])
    assert ann.rows == 2
    assert stat.S_IMODE((tmp_path / "ann/faces.csv").stat().st_mode) == 0o600


def test_sidecars_mark_the_faces_and_photos_stay_as_they_are(
    library: Library, faces: dict[str, list[int]], tmp_path: Path
) -> None:
    def digest() -> dict[str, str]:
        photos = sorted((tmp_path / "album").rglob("*.png"))
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in photos}

    before = digest()
    done = export(library, tmp_path / "out", kinds=["xmp"])
    assert files(tmp_path / "out") == ["2020/img.png.xmp", "2021/img.png.xmp", "both.png.xmp"]
    assert done.sidecars == 3
    regions = read_regions(tmp_path / "album/both.png", sidecar=tmp_path / "out/both.png.xmp")
    assert {region.name for region in regions} == {"Ann", JOSE}
    ann = next(region for region in regions if region.name == "Ann")
    assert ann.box == pytest.approx((12.5 / (2 * SIDE), 12.5 / SIDE, 51.5 / (2 * SIDE), 51.5 / SIDE), abs=1e-5)
    assert files(tmp_path / "album") == ["2020/img.png", "2021/img.png", "both.png", "none.png", "other.png"]
    export(library, tmp_path / "beside", kinds=["xmp"], names=["Ann"], beside=True)
    assert files(tmp_path / "beside") == []
    assert (tmp_path / "album/2020/img.png.xmp").is_file()
    assert {region.name for region in read_regions(tmp_path / "album/both.png")} == {"Ann"}
    assert digest() == before


def test_photos_that_are_gone_are_counted_and_the_rest_goes_on(
    library: Library, faces: dict[str, list[int]], tmp_path: Path
) -> None:
    (tmp_path / "album/both.png").unlink()
    seen: list[tuple[int, int]] = []
    done = export(library, tmp_path / "out", kinds=["folders", "csv"], on_progress=lambda *at: seen.append(at))
    assert done.skipped == {"gone": 1}
    assert (done.files, done.rows) == (2, 3)
    assert seen[-1] == (5, 5)


def test_names_as_long_as_can_be_are_exported(library: Library, tmp_path: Path) -> None:
    album, name = tmp_path / "album", "ä" * 125 + ".png"  # 254 bytes, 129 characters
    for year in ("2019", "2020"):
        put_photo(library, album / year / name)
    put_photo(library, album / "short.png")
    library.assign_name(library.face_ids(None).tolist(), "ü" * 120)
    done = export(library, tmp_path / "out", kinds=["folders", "xmp", "csv"])
    assert done.skipped == {}
    assert (done.photos, done.files, done.rows, done.sidecars) == (3, 3, 3, 3)
    folder, sidecar = "ü" * 120, "ä" * 125 + ".xmp"
    second = "ä" * 124 + "_2.png"
    names = {f"{folder}/{name}", f"{folder}/{second}", f"{folder}/short.png"}
    assert set(files(tmp_path / "out")) == names | {
        f"2019/{sidecar}", f"2020/{sidecar}", "short.png.xmp", "faces.csv",
    }  # fmt: skip
    export(library, tmp_path / "beside", kinds=["xmp"], beside=True)
    assert read_regions(album / "2019" / name)[0].name == folder
    assert (album / "2020" / sidecar).is_file()


def test_a_photo_that_cannot_be_linked_is_counted(
    library: Library, faces: dict[str, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, elsewhere = os.link, [tmp_path / "album/both.png"]

    def link(source: Path, target: Path) -> None:
        if source in elsewhere:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    done = export(library, tmp_path / "out", kinds=["folders"])
    assert (done.photos, done.files, done.skipped) == (2, 2, {"on-another-disk": 1})
    assert files(tmp_path / "out") == ["Ann/img.png", f"{JOSE}/img.png"]
    elsewhere += [tmp_path / "album/2020/img.png", tmp_path / "album/2021/img.png"]
    with pytest.raises(DataError, match=r"none: no hard link of .*img\.png can be made .*\. Take copies"):
        export(library, tmp_path / "none", kinds=["folders"])
    assert not (tmp_path / "none").exists()


def test_an_export_that_stops_leaves_nothing_in_the_way(
    library: Library, faces: dict[str, list[int]], tmp_path: Path
) -> None:
    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        with pytest.raises(KeyboardInterrupt):
            export(library, tmp_path / name, kinds=["folders"], on_progress=stop)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
    # One that was killed, of somebody who has no name any more.
    (tmp_path / "new/.partial-export/Old").mkdir(parents=True)
    (tmp_path / "new/.partial-export/Old/img.png").touch()
    assert export(library, tmp_path / "new", kinds=["folders"]).files == 4
    assert files(tmp_path / "new") == ["Ann/both.png", "Ann/img.png", f"{JOSE}/both.png", f"{JOSE}/img.png"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"Ann", JOSE}


def test_an_export_killed_between_its_moves_is_made_again(
    library: Library, faces: dict[str, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def stop(source: Path, target: Path) -> None:
        if (tmp_path / "new/Ann").exists() or (tmp_path / "new/people.csv").exists():
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            export(library, tmp_path / "new", kinds=["folders", "csv"])
    (tmp_path / "new/thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="empty or not there yet"):
        export(library, tmp_path / "new", kinds=["folders"])
    (tmp_path / "new/thesis.txt").unlink()
    export(library, tmp_path / "new", kinds=["folders"])
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"Ann", JOSE}


def test_what_cannot_be_is_refused(library: Library, faces: dict[str, list[int]], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="empty or not there yet"):
        export(library, tmp_path / "full", kinds=["csv"])
    with pytest.raises(DataError, match=r"cannot be written here \(File name too long\)"):
        export(library, tmp_path / ("x" * 300), kinds=["csv"])
    with pytest.raises(DataError, match="some of folders, csv, xmp"):
        export(library, tmp_path / "out", kinds=["pdf"])
    with pytest.raises(DataError, match="received soft"):
        export(library, tmp_path / "out", kinds=["csv"], links="soft")
    with pytest.raises(LibraryError, match="nobody has the name 'Zoe'"):
        export(library, tmp_path / "out", kinds=["csv"], names=["Zoe"])
    assert not (tmp_path / "out").exists()
