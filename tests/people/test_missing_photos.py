"""Photos whose files are gone: deleted ones go when asked, those on a disk that is not connected stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scenes import Reader, draft, lying, save, scene

from facetl.embeddings.maintenance import gc
from facetl.faces.landmark_store import LandmarkStore
from facetl.people.library import Library
from facetl.people.missing_photos import missing_photos, prune
from facetl.people.photo_import import import_photos


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """Photos 0 to 3, one face each: two in one folder, two below another."""
    for number, name in enumerate(("a/0.png", "a/1.png", "disk/b/2.png", "disk/c/3.png")):
        save(tmp_path / "album" / name, scene([(40, 60, 100, number)], seed=number))
    with Library.open(tmp_path / "lib", create=True) as opened:
        import_photos(opened, [tmp_path / "album"], detector=Reader())
        yield opened


def faces_of(library: Library, name: str) -> list[int]:
    photos = (photo for photo in library.photos() if any(path.name == name for path in photo.paths))
    return [face.id for photo in photos for face in library.faces_of(photo.id)]


def test_a_deleted_photo_goes_when_asked(library: Library, tmp_path: Path) -> None:
    [gone], [stays], [other] = (faces_of(library, f"{number}.png") for number in range(3))
    library.assign_name([gone, other], "Ann")
    library.assign_name([stays], "Bob")
    library.mark_same([gone, stays])
    library.write_stacks([draft(gone, stays), draft(other)])
    library.mark_not_a_face([gone])
    picture = library.thumb(library.face(gone).key)
    (tmp_path / "album/a/0.png").unlink()
    first = prune(library)
    assert (first.photos, first.faces, first.answered, first.names, first.applied) == (1, 1, 1, {}, False)
    assert library.counts()["photos"] == 4
    assert picture.is_file()
    report = prune(library, apply=True)
    assert (report.photos, report.places, report.kept, report.applied) == (1, 1, {}, True)
    assert library.counts()["photos"] == 3
    assert not picture.exists()
    assert lying(library) == {frozenset({stays}), frozenset({other})}
    assert library.named() == {stays: "Bob", other: "Ann"}
    # Answers about it alone are no more, the others lack it: undoing them puts nothing back that is gone.
    assert [answer.kind for answer in library.answers()] == ["name", "name"]
    while library.undo():
        assert gone not in library.resolved().names
    assert prune(library, apply=True).photos == 0
    with LandmarkStore.open(library.cache_folder, write=False) as store:
        assert store.detectors()[0].photos == 3


def test_a_disk_that_is_not_there_drops_nothing(library: Library, tmp_path: Path) -> None:
    disk = tmp_path / "album/disk"
    disk.rename(tmp_path / "unplugged")
    found = missing_photos(library)
    assert (found.deleted, found.absent, found.places) == ((), {str(disk): 2}, ())
    disk.mkdir()  # an empty mount point
    report = prune(library, apply=True)
    assert (report.photos, report.kept, library.counts()["photos"]) == (0, {str(disk): 2}, 4)
    report = prune(library, dropped=[disk / "b"], apply=True)
    assert (report.photos, report.kept, library.counts()["photos"]) == (1, {str(disk): 1}, 3)
    disk.rmdir()
    (tmp_path / "unplugged").rename(disk)
    assert missing_photos(library).absent == {}


def test_a_link_to_a_disk_that_is_not_there(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "album/a/0.png"
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "unplugged/elsewhere.png")
    assert prune(library).kept == {str(path.parent): 1}


def test_of_a_photo_that_lies_elsewhere_too_the_path_goes(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "album/a/0.png"
    (tmp_path / "album/a/copy.png").write_bytes(path.read_bytes())
    import_photos(library, [tmp_path / "album"], detector=Reader())
    path.unlink()
    [photo] = {library.face(face).photo for face in faces_of(library, "copy.png")}
    assert library.photo(photo).path == tmp_path / "album/a/copy.png"
    report = prune(library, apply=True)
    assert (report.photos, report.places) == (0, 1)
    assert library.photo(photo).paths == (tmp_path / "album/a/copy.png",)


def test_the_cache_keeps_what_the_library_has(library: Library) -> None:
    faces, photos = library.cached_keys()
    assert (len(faces), len(photos)) == (4, 4)
    report = gc(library.cache_folder, faces=faces, photos=photos)
    assert report.faces_dropped == 0
    with LandmarkStore.open(library.cache_folder, write=False) as store:
        assert store.detectors()[0].photos == 4


def test_what_comes_back_meanwhile_stays(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, away = tmp_path / "album/a/0.png", tmp_path / "0.png"
    photo.rename(away)

    def meanwhile(*arguments, **options):
        found = missing_photos(*arguments, **options)
        away.rename(photo)
        return found

    monkeypatch.setattr("facetl.people.missing_photos.missing_photos", meanwhile)
    report = prune(library, apply=True)
    assert report.photos == 0
    assert len(faces_of(library, "0.png")) == 1
    assert library.counts()["photos"] == 4
