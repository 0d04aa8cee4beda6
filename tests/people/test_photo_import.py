"""Photos into a library: each once, whatever it is called, with the answers about it, and never written to."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from albums import enter_faces, enter_photo
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scenes import Reader, draft, lying, new_face, person, save, scene, stack_with

from facetl.data.metadata.regions import Region, read_regions
from facetl.data.metadata.sidecar import write_sidecar
from facetl.faces.landmark_store import LandmarkStore
from facetl.faces.quality import QualityRule
from facetl.people.ingest import SearchedPhoto, add_photo
from facetl.people.library import Library
from facetl.people.people_export import export
from facetl.people.photo_import import ImportReport, import_photos
from facetl.people.store.models import NewPhoto
from facetl.people.store.photos import put_detector

ANN, BOB, CLEO = 1, 2, 3


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Ann; Ann and Bob; Bob; nobody; Ann again, larger; and what is no photo."""
    folder = tmp_path / "album"
    save(folder / "2001" / "ann.png", scene([(40, 60, 100, ANN)], seed=1))
    save(folder / "2001" / "both.png", scene([(20, 40, 90, ANN), (180, 60, 100, BOB)], seed=2))
    save(folder / "bob.png", scene([(70, 80, 110, BOB)], seed=3))
    save(folder / "sea.png", scene([], seed=4))
    save(folder / "tiny.png", scene([(100, 100, 20, CLEO), (20, 20, 120, ANN)], seed=5))
    (folder / "notes.txt").write_text("no photo")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "lib", create=True) as opened:
        yield opened


def bring(library: Library, *folders: Path, detector: Reader | None = None, **options: Any) -> ImportReport:
    return import_photos(library, folders, detector=detector or Reader(), batch_size=2, **options)


def where(library: Library) -> dict[str, list[int]]:
    """The faces' ids of each photo, by the name of the file where it lies."""
    photos = library.photos(limit=1000)
    return {path.name: [face.id for face in library.faces_of(photo.id)] for photo in photos for path in photo.paths}


def test_photos_and_faces(library: Library, album: Path) -> None:
    calls: list[tuple[int, int]] = []
    seen: list[str] = []
    report = bring(
        library,
        album,
        on_progress=lambda *call: calls.append(call),
        on_photo=lambda photo: seen.append(photo.paths[0].name),
    )
    assert (report.photos, report.added, report.known, report.moved) == (6, 5, 0, 0)
    assert (report.faces, report.poor, report.without_face) == (6, 1, 1)
    assert report.skipped == {"broken": 1, "not-an-image": 1}
    assert (report.duplicates, report.near_duplicates, report.named_from_regions) == (0, 0, 0)
    assert json.loads(json.dumps(report.to_json())) == report.to_json()
    assert (calls[0], calls[-1]) == ((0, 6), (6, 6))
    assert sorted(seen) == ["ann.png", "bob.png", "both.png", "sea.png", "tiny.png"]
    photo = next(photo for photo in library.photos() if photo.paths[0].name == "both.png")
    assert photo.sha == hashlib.sha256((album / "2001" / "both.png").read_bytes()).hexdigest()
    assert (photo.width, photo.height) == (320, 240)
    ann, bob = library.faces_of(photo.id)
    assert (ann.face.box, bob.face.box) == ((20, 40, 109, 129), (180, 60, 279, 159))
    assert (ann.kind, ann.size, abs(ann.roll) < 5, ann.face.confidence) == ("good", 89, True, np.float32(0.9))
    kinds = [face.kind for face in library.faces_of(library.photos()[-1].id)]
    assert sorted(kinds) == ["good", "poor"]


def test_the_picture_of_a_face_shows_it_and_is_its_owners_alone(library: Library, album: Path) -> None:
    bring(library, album)
    face = library.face(where(library)["bob.png"][0])
    path = library.thumb(face.key)
    assert path == library.folder / "thumbs" / face.key[:2] / f"{face.key}.jpg"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, path.parent.parent)] == [
        0o600,
        0o700,
        0o700,
    ]
    picture = cv2.imread(str(path))
    assert picture.shape == (160, 160, 3)
    assert len(list(library.thumbs_folder.glob("*/*"))) == 6
    # The template's middle, at a zoom of 0.62, is the middle of Bob's pattern.
    middle = cv2.resize(person(BOB, 110)[22:88, 22:88], (16, 16), interpolation=cv2.INTER_AREA)[..., ::-1]
    shown = cv2.resize(picture[50:110, 50:110], (16, 16), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(middle.ravel(), shown.ravel())[0, 1] > 0.95


def test_nothing_is_done_twice(library: Library, album: Path) -> None:
    detector = Reader()
    bring(library, album, detector=detector)
    before = (where(library), detector.searched)
    report = bring(library, album, detector=detector)
    assert (report.added, report.known, report.moved, report.faces) == (0, 5, 0, 0)
    assert (where(library), detector.searched) == before
    save(album / "new.png", scene([(50, 50, 100, CLEO)], seed=9))
    assert bring(library, album, detector=detector).added == 1
    assert detector.searched == before[1] + 1


def test_moved_renamed_and_copied_photos_are_the_same_ones(library: Library, album: Path) -> None:
    bring(library, album)
    ids = where(library)
    library.assign_name(ids["ann.png"], "Ann")
    (album / "2001").rename(album / "summer")
    (album / "summer" / "ann.png").rename(album / "summer" / "on the beach.png")
    shutil.copy(album / "bob.png", album / "copy of bob.png")
    detector = Reader()
    report = bring(library, album, detector=detector)
    assert (report.photos, report.added, report.known, report.moved, report.duplicates) == (7, 0, 5, 2, 1)
    assert detector.searched == 0
    assert where(library) == {
        "on the beach.png": ids["ann.png"],
        "both.png": ids["both.png"],
        "bob.png": ids["bob.png"],
        "copy of bob.png": ids["bob.png"],
        "sea.png": [],
        "tiny.png": ids["tiny.png"],
    }
    assert library.named() == {ids["ann.png"][0]: "Ann"}
    # Elsewhere too is not elsewhere instead.
    save(album.parent / "other" / "bob.png", scene([(70, 80, 110, BOB)], seed=3))
    assert bring(library, album.parent / "other").moved == 0
    assert sorted(where(library)) == sorted(where(library).keys() | {"bob.png", "copy of bob.png"})
    photo = library.photo(library.face(ids["bob.png"][0]).photo)
    assert len(photo.paths) == 3
    # A copy that goes leaves the photo where the other lies.
    (album / "copy of bob.png").unlink()
    assert bring(library, album).moved == 0


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_copies_in_one_import(library: Library, album: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("facetl.people.photo_import._AT_ONCE", at_once)
    for number in range(3):
        shutil.copy(album / "bob.png", album / f"bob {number}.png")
        shutil.copy(album / "broken.jpg", album / f"broken {number}.jpg")
    report = bring(library, album)
    assert (report.photos, report.added, report.duplicates, report.skipped["broken"]) == (12, 5, 3, 4)
    assert report.photos == report.added + report.known + report.changed + report.duplicates + 4


def test_another_detector_keeps_who_a_face_is(library: Library, album: Path) -> None:
    bring(library, album)
    ids = where(library)
    library.assign_name(ids["both.png"][:1], "Ann")
    library.mark_different(ids["both.png"][:1], ids["bob.png"])
    before = {face: library.face(face) for face in ids["both.png"] + ids["bob.png"]}
    # It sees all boxes elsewhere, and of "both" the second face alone.
    report = bring(library, album, detector=Reader("hats", shift=7.0, skip=1))
    assert (report.added, report.known, report.searched_again, report.faces) == (0, 5, 5, 2)
    assert where(library)["both.png"] == ids["both.png"], "a face somebody spoke of stays, found or not"
    assert where(library)["ann.png"] == [], "one nobody spoke of goes"
    assert where(library)["bob.png"] == ids["bob.png"]
    assert library.named() == {ids["both.png"][0]: "Ann"}
    after = library.face(ids["both.png"][1])
    assert after.face.box == (187, 67, 286, 166)
    assert after.key != before[after.id].key
    assert library.thumb(after.key).is_file()
    assert not library.thumb(before[after.id].key).exists()
    pictures = {path.stem for path in library.thumbs_folder.glob("*/*")}
    assert pictures == {face.key for face in library.faces(library.face_ids(None).tolist())}
    # And back again.
    detector = Reader()
    report = bring(library, album, detector=detector)
    assert (detector.searched, report.searched_again) == (0, 5)
    assert library.face(ids["both.png"][1]).key == before[ids["both.png"][1]].key
    assert library.named() == {ids["both.png"][0]: "Ann"}
    assert library.resolved().different == [((ids["both.png"][0],), tuple(ids["bob.png"]))]


def test_a_photo_whose_metadata_changed_is_the_same_one(library: Library, album: Path) -> None:
    bring(library, album)
    ids = where(library)
    library.assign_name(ids["both.png"], "Ann")
    path = album / "2001" / "both.png"
    before = path.read_bytes()
    with Image.open(path) as image:
        image.save(path, compress_level=1)
    assert path.read_bytes() != before
    report = bring(library, album)
    assert (report.added, report.changed, report.known) == (0, 1, 4)
    assert where(library)["both.png"] == ids["both.png"]
    assert library.named() == dict.fromkeys(ids["both.png"], "Ann")
    assert len(library.photos()) == 5
    # The same picture in another size is another photo, and so is another picture.
    with Image.open(path) as image:
        image.resize((300, 225)).save(path)
    report = bring(library, album)
    assert (report.added, report.changed) == (1, 0)
    save(path, scene([(30, 30, 100, CLEO)], seed=77))
    report = bring(library, album)
    assert (report.added, report.changed) == (1, 0)
    assert not set(where(library)["both.png"]) & set(ids["both.png"])


class TestEditedPhotos:
    """A photo that is edited and saved over itself, and what only looks like it."""

    @pytest.fixture
    def named(self, library: Library, album: Path) -> dict[str, list[int]]:
        bring(library, album)
        ids = where(library)
        ann, bob = ids["both.png"]
        library.assign_name([ann], "Ann")
        library.assign_name([bob], "Bob")
        library.mark_different([ann], ids["bob.png"])
        library.write_stacks([draft(ann, *ids["ann.png"]), draft(bob)])
        return ids

    def test_a_cropped_one_keeps_its_faces(self, library: Library, album: Path, named: dict[str, list[int]]) -> None:
        ann, bob = named["both.png"]
        before = library.face(ann).key
        save(album / "2001" / "both.png", scene([(10, 20, 96, ANN), (150, 40, 104, BOB)], size=(200, 270), seed=2))
        report = bring(library, album)
        assert (report.added, report.replaced, report.carried, report.missing) == (1, 1, 2, 0)
        assert where(library) == named
        assert library.named() == {ann: "Ann", bob: "Bob"}
        assert library.resolved().different == [((ann,), tuple(named["bob.png"]))]
        assert library.face(ann).face.box == (10, 20, 105, 115)
        assert stack_with(library, ann) == stack_with(library, named["ann.png"][0])
        assert not library.thumb(before).exists()
        assert library.thumb(library.face(ann).key).is_file()
        assert library.counts()["photos"] == 5
        report = bring(library, album)
        assert (report.known, report.replaced, report.carried) == (5, 0, 0)

    def test_a_face_that_was_cut_off_stays_missing_with_its_answers(
        self, library: Library, album: Path, named: dict[str, list[int]]
    ) -> None:
        ann, bob = named["both.png"]
        save(album / "2001" / "both.png", scene([(10, 20, 90, ANN)], size=(200, 150), seed=2))
        report = bring(library, album)
        assert (report.replaced, report.carried, report.missing, report.absent) == (0, 1, 1, {})
        assert where(library)["both.png"] == [ann]
        assert library.named() == {ann: "Ann", bob: "Bob"}
        assert library.photo(library.face(bob).photo).path is None

    def test_a_face_of_which_nothing_was_answered_goes_with_its_photo(self, library: Library, album: Path) -> None:
        bring(library, album)
        [bob] = where(library)["bob.png"]
        save(album / "bob.png", scene([(20, 30, 120, CLEO)], seed=30))
        report = bring(library, album)
        assert (report.added, report.replaced, report.carried, report.missing) == (1, 1, 0, 0)
        assert bob not in library.face_ids(None)
        assert len(list(library.thumbs_folder.glob("*/*"))) == library.counts()["faces"] == 6

    @pytest.mark.parametrize("name", ["a original.png", "z original.png"])
    def test_an_original_that_is_kept_keeps_its_faces(
        self, library: Library, album: Path, named: dict[str, list[int]], name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("facetl.people.photo_import._AT_ONCE", 1)
        path = album / "2001" / "both.png"
        path.rename(path.with_name(name))
        save(path, scene([(10, 20, 96, ANN), (150, 40, 104, BOB)], size=(200, 270), seed=2))
        report = bring(library, album)
        assert (report.added, report.replaced, report.carried, report.missing) == (1, 0, 0, 0)
        assert where(library)[name] == named["both.png"]
        assert not set(where(library)["both.png"]) & set(named["both.png"])

    def test_another_picture_under_the_name_takes_no_answers(
        self, library: Library, album: Path, named: dict[str, list[int]]
    ) -> None:
        before = (album / "2001" / "both.png").read_bytes()
        save(album / "2001" / "both.png", scene([(20, 40, 90, CLEO), (180, 60, 100, ANN + 8)], seed=2))
        report = bring(library, album)
        assert (report.replaced, report.carried, report.missing) == (0, 0, 1)
        assert library.named() == {named["both.png"][0]: "Ann", named["both.png"][1]: "Bob"}
        # It comes back under another name.
        (album / "found.png").write_bytes(before)
        assert bring(library, album).missing == 0
        assert where(library)["found.png"] == named["both.png"]

    def test_an_import_that_stopped_before_it_was_decided(
        self, library: Library, album: Path, named: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(album / "2001" / "both.png", scene([(10, 20, 96, ANN), (150, 40, 104, BOB)], size=(200, 270), seed=2))
        with monkeypatch.context() as patch:
            patch.setattr("facetl.people.ingest.carry_replaced", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                bring(library, album)
        assert bring(library, album).carried == 2
        assert where(library) == named


def test_a_copy_that_is_changed_leaves_the_other(library: Library, album: Path) -> None:
    shutil.copy(album / "bob.png", album / "copy.png")
    bring(library, album)
    ids = where(library)
    with Image.open(album / "copy.png") as image:
        image.save(album / "copy.png", compress_level=1)
    report = bring(library, album)
    assert (report.added, report.changed, report.known) == (1, 0, 5)
    assert where(library)["bob.png"] == ids["bob.png"] != where(library)["copy.png"]


def test_two_faces_may_change_keys(library: Library) -> None:
    photo = NewPhoto("ab" * 32, 100, 80)
    one, other = new_face(1), new_face(2)
    apart = replace(other, face=replace(other.face, box=(60.0, 0.0, 99.0, 40.0)))
    number = enter_photo(library, photo.sha, width=100, height=80)
    ids = enter_faces(library, number, [one, apart])
    swapped = (replace(one, key=apart.key), replace(apart, key=one.key))
    with library.database.write() as sql:
        detector = put_detector(sql, "hats", {})
        added = add_photo(sql, library, SearchedPhoto(photo, (), swapped, ()), detector)
    assert (added.photo, added.how, added.stale) == (number, "searched_again", ())
    assert [face.key for face in library.faces(ids)] == [apart.key, one.key]


def test_near_duplicates(library: Library, album: Path) -> None:
    with Image.open(album / "bob.png") as image:
        image.resize((160, 120), Image.Resampling.LANCZOS).save(album / "a bob small.jpg", quality=80)
    report = bring(library, album)
    assert report.near_duplicates == 1
    photos = {photo.paths[0].name: photo for photo in library.photos()}
    assert photos["a bob small.jpg"].duplicate_of == photos["bob.png"].id, "of the two the larger is the original"
    assert all(photo.duplicate_of is None for name, photo in photos.items() if name != "a bob small.jpg")
    assert bring(library, album).near_duplicates == 0


def test_dates_and_turned_photos(library: Library, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2011:05:06 07:08:09"
    (tmp_path / "album").mkdir()
    Image.fromarray(scene([], size=(60, 90))).save(tmp_path / "album" / "turned.jpg", exif=exif)
    bring(library, tmp_path / "album")
    [photo] = library.photos()
    assert (photo.width, photo.height, photo.taken_at) == (60, 90, "2011-05-06T07:08:09")


class TestNamesInMetadata:
    def test_they_are_no_answers_of_the_user(self, library: Library, album: Path) -> None:
        both = album / "2001" / "both.png"
        # Drawn by hand, larger than the face; and one where no face is.
        mark = {"Ann": (10, 20, 130, 150), "Bob": (170, 50, 290, 170), "Nobody": (0, 200, 60, 239)}
        write_sidecar(both, [Region.of_pixels(name, box, width=320, height=240) for name, box in mark.items()])
        pet = Region.of_pixels("Rex", (20, 20, 140, 140), width=320, height=240)
        write_sidecar(album / "tiny.png", [replace(pet, kind="pet")])
        before = {path: path.read_bytes() for path in album.rglob("*") if path.is_file()}
        report = bring(library, album)
        ann, bob = where(library)["both.png"]
        assert library.named() == {ann: "Ann", bob: "Bob"}
        assert (report.named_from_regions, report.damaged_metadata) == (2, 0)
        assert {answer.origin for answer in library.answers()} == {"region"}
        assert library.undo() is None
        library.assign_name([ann], "Anna")
        report = bring(library, album)
        assert report.named_from_regions == 0
        assert library.named() == {ann: "Anna", bob: "Bob"}
        assert {path: path.read_bytes() for path in album.rglob("*") if path.is_file()} == before

    def test_a_sidecar_that_comes_later_counts(self, library: Library, album: Path) -> None:
        bring(library, album)
        [bob] = where(library)["bob.png"]
        library.mark_stranger(where(library)["ann.png"])
        region = Region.of_pixels("Bob", (70, 80, 180, 190), width=320, height=240)
        write_sidecar(album / "bob.png", [region])
        write_sidecar(album / "2001" / "ann.png", [Region.of_pixels("Ann", (40, 60, 140, 160), width=320, height=240)])
        assert bring(library, album).named_from_regions == 2
        assert library.named() == {bob: "Bob"}, "the user has marked the other as nobody to be named"
        assert bring(library, album).named_from_regions == 0

    def test_what_the_user_answered_and_did_stays(self, library: Library, album: Path) -> None:
        bring(library, album)
        [bob], [ann] = where(library)["bob.png"], where(library)["ann.png"]
        library.write_stacks([draft(ann, bob), draft(*where(library)["both.png"])])
        library.name_stack(stack_with(library, bob), "Bob")
        write_sidecar(album / "bob.png", [Region.of_pixels("Ann", (70, 80, 180, 190), width=320, height=240)])
        first = where(library)["both.png"][0]
        write_sidecar(album / "2001" / "both.png", [Region.of_pixels("Ann", (20, 40, 110, 130), width=320, height=240)])
        assert bring(library, album).named_from_regions == 2
        assert library.named() == {ann: "Bob", bob: "Bob", first: "Ann"}
        # Only the face without an answer leaves its stack.
        second = where(library)["both.png"][1]
        assert lying(library) == {frozenset({ann, bob}), frozenset({first}), frozenset({second})}

    def test_damaged_metadata_is_counted_and_the_rest_of_it_is_read(self, library: Library, album: Path) -> None:
        write_sidecar(album / "bob.png", [Region.of_pixels("Bob", (70, 80, 180, 190), width=320, height=240)])
        (album / "bob.png.xmp").rename(album / "bob.xmp")
        (album / "bob.png.xmp").write_text("<no xml")
        messages: list[str] = []
        report = bring(library, album, on_damaged=lambda error: messages.append(str(error)))
        assert (report.added, report.damaged_metadata) == (5, 1)
        assert library.named() == {where(library)["bob.png"][0]: "Bob"}
        assert [message.split(": ")[0] for message in messages] == [str(album / "bob.png.xmp")]

    @pytest.mark.parametrize("at_once", [1, 256])
    def test_of_contradictory_sidecars_of_copies_the_first_path_wins(
        self, library: Library, album: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
    ) -> None:
        monkeypatch.setattr("facetl.people.photo_import._AT_ONCE", at_once)
        bring(library, album)
        [bob] = where(library)["bob.png"]
        for folder, name in (("z", "Zoe"), ("c", "Cleo"), ("d", "Dora")):
            copy = album.parent / folder / "copy.png"
            copy.parent.mkdir()
            shutil.copy(album / "bob.png", copy)
            write_sidecar(copy, [Region.of_pixels(name, (70, 80, 180, 190), width=320, height=240)])
        report = bring(library, album.parent / "z")
        assert (report.named_from_regions, report.contradictory_names) == (1, 0)
        report = bring(library, album.parent / "c", album.parent / "d")
        assert report.contradictory_names == (1 if at_once == 256 else 2)
        assert library.named() == {bob: "Cleo"}
        for folder in ("z", "d", "c"):
            assert bring(library, album.parent / folder).named_from_regions == 0
            assert library.named() == {bob: "Cleo"}
        # What was saved over a copy has a sidecar of its own.
        save(album.parent / "c" / "copy.png", scene([(20, 20, 150, CLEO)], seed=40))
        bring(library, album.parent / "z")
        assert library.named() == {bob: "Dora"}

    def test_the_sidecar_of_a_copy_counts(self, library: Library, album: Path) -> None:
        copy = album / "zzz.png"
        copy.write_bytes((album / "bob.png").read_bytes())
        write_sidecar(copy, [Region.of_pixels("Bob", (70, 80, 180, 190), width=320, height=240)])
        assert bring(library, album).named_from_regions == 1


# How a photo that is upright is stored so that its orientation turns it back (EXIF 2.32, section 4.6.4).
STORED_AS = {
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
MARKS = {"Ann": (20, 40, 110, 130), "Bob": (180, 60, 280, 160)}


def marked(program: str, orientation: int) -> bytes:
    """Return a packet that names Ann and Bob on a turned photo of 320 × 240 pixels, as a program writes it."""
    boxes, sizes = {}, {}
    for name, (left, top, right, bottom) in MARKS.items():
        # The box turned as the pixels are, by Pillow.
        mask = np.zeros((240, 320), np.uint8)
        mask[top:bottom, left:right] = 255
        seen = Image.fromarray(mask)
        for form, picture in {"upright": seen, "stored": seen.transpose(STORED_AS[orientation])}.items():
            sizes[form] = picture.size
            boxes[form, name] = np.array(picture.getbbox()) / (*picture.size, *picture.size)
    form = "upright" if program in ("Picasa", "digiKam 5") else "stored"
    mwg = microsoft = ""
    for name in MARKS:
        left, top, right, bottom = boxes[form, name]
        width, height = right - left, bottom - top
        area = f'a:x="{left + width / 2}" a:y="{top + height / 2}" a:w="{width}" a:h="{height}" a:unit="normalized"'
        mwg += f'<rdf:li><rdf:Description r:Name="{name}" r:Type="Face"><r:Area {area}/></rdf:Description></rdf:li>'
        rectangle = f"{left}, {top}, {width}, {height}"
        microsoft += f'<rdf:li p:Rectangle="{rectangle}" p:PersonDisplayName="{name}"/>'
    mwg = f"""<r:Regions rdf:parseType="Resource">
        <r:AppliedToDimensions d:w="{sizes[form][0]}" d:h="{sizes[form][1]}" d:unit="pixel"/>
        <r:RegionList><rdf:Bag>{mwg}</rdf:Bag></r:RegionList></r:Regions>"""
    microsoft = f"""<m:RegionInfo rdf:parseType="Resource"><i:Regions><rdf:Bag>{microsoft}</rdf:Bag></i:Regions>
        </m:RegionInfo>"""
    written = {"Windows Photo Gallery": microsoft, "Lightroom": mwg, "Picasa": mwg}.get(program, mwg + microsoft)
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
        <rdf:Description rdf:about="" xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/"
        xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:a="http://ns.adobe.com/xmp/sType/Area#"
        xmlns:m="http://ns.microsoft.com/photo/1.2/" xmlns:i="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"
        xmlns:p="http://ns.microsoft.com/photo/1.2/t/Region#">{written}</rdf:Description></rdf:RDF></x:xmpmeta>""".encode()


# With the upright photo's dimensions, which half a turn does not change, nobody could tell the form.
@pytest.mark.parametrize(
    ("program", "orientation"),
    [
        *[(program, turn) for program in ("Lightroom", "digiKam", "Windows Photo Gallery") for turn in STORED_AS],
        *[(program, turn) for program in ("Picasa", "digiKam 5") for turn in STORED_AS if turn != 3],
    ],
)
def test_a_turned_photo_has_each_name_on_its_face(
    library: Library, tmp_path: Path, program: str, orientation: int
) -> None:
    upright = Image.fromarray(scene([(20, 40, 90, ANN), (180, 60, 100, BOB)], seed=2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "album").mkdir()
    photo = tmp_path / "album" / "both.png"
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", marked(program, orientation).decode())
    upright.transpose(STORED_AS[orientation]).save(photo, exif=exif, pnginfo=text)
    bring(library, photo.parent)
    left, right = sorted(library.faces_of(library.photos()[0].id), key=lambda face: face.face.box)
    assert library.named() == {left.id: "Ann", right.id: "Bob"}
    # What is written into a sidecar of its own comes back the same by the same rule.
    export(library, tmp_path / "out", kinds=["xmp"])
    found = {region.name: region for region in read_regions(photo, sidecar=tmp_path / "out" / "both.png.xmp")}
    for face, name in ((left, "Ann"), (right, "Bob")):
        np.testing.assert_allclose(found[name].pixels(320, 240), face.face.box, atol=0.01)


def test_an_interrupted_import_goes_on(library: Library, album: Path) -> None:
    detector = Reader()

    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(library, album, detector=detector, on_progress=stop)
    there = len(library.photos())
    assert 2 <= there < 5
    report = bring(library, album, detector=detector)
    assert (report.added, report.known) == (5 - there, there)
    assert detector.searched == 5


def test_what_was_searched_and_not_entered_is_not_searched_again(library: Library, album: Path) -> None:
    with LandmarkStore.open(library.cache_folder, write=True) as store:
        sha = hashlib.sha256((album / "bob.png").read_bytes()).hexdigest()
        store.put(Reader().fingerprint(), {}, {sha: ()})
    detector = Reader()
    bring(library, album, detector=detector)
    assert detector.searched == 4
    assert where(library)["bob.png"] == []


def test_lost_pictures_are_made_again(library: Library, album: Path) -> None:
    bring(library, album)
    ids = where(library)
    [face] = library.faces(ids["bob.png"])
    whole = library.thumb(face.key).read_bytes()
    library.thumb(face.key).write_bytes(b"")
    report = bring(library, album)
    assert (report.known, report.searched_again, report.faces) == (5, 0, 0)
    assert library.thumb(face.key).read_bytes() == whole
    assert where(library) == ids


def test_the_rule_tells_poor_faces(library: Library, album: Path) -> None:
    report = bring(library, album, rule=QualityRule(min_size=95))
    assert (report.faces, report.poor) == (6, 2)


def test_landmarks_in_one_place_are_a_poor_face(library: Library, album: Path) -> None:
    class Confused(Reader):
        def _face(self, left: int, top: int, side: int) -> Any:
            face = super()._face(left, top, side)
            face.landmarks[:] = face.landmarks[0]
            return face

    report = bring(library, album, detector=Confused())
    assert (report.faces, report.poor) == (6, 6)
    assert len(list(library.thumbs_folder.glob("*/*.jpg"))) == 6
