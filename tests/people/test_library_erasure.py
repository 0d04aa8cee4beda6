"""Somebody is forgotten: no byte of him is left in any file, and everybody else keeps everything."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import SPEC, WEIGHTS, Net, Reader, draft, lying, save, scene

from facetl.data.metadata.regions import Region
from facetl.data.metadata.sidecar import write_sidecar
from facetl.embeddings import shards
from facetl.embeddings.maintenance import verify
from facetl.errors import LibraryError
from facetl.faces.landmark_store import LandmarkStore, packed
from facetl.io.files import checksum
from facetl.people import library_erasure
from facetl.people.byte_search import Trace, Wanted, trace
from facetl.people.library import Library
from facetl.people.library_embeddings import library_features
from facetl.people.library_erasure import forget
from facetl.people.photo_import import import_photos

ANN, BOB, CLEO = 1, 2, 3


@dataclass
class Family:
    """A library of seven photos: Ann's face and Bob's on several, Cleo's on one, features of all."""

    library: Library
    album: Path
    faces: dict[str, list[int]]

    def features(self, faces: list[int]) -> np.ndarray:
        found = library_features(self.library, faces, SPEC, WEIGHTS, make_net=Net)
        assert found.features is not None
        return found.features.array()


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * 48 * 2)
    album = tmp_path / "album"
    for place in range(2):
        save(album / f"Bobs picture {place}.png", scene([(40 + place, 60, 100, BOB)], seed=10 + place))
        save(album / f"ann {place}.png", scene([(40 + place, 60, 110, ANN)], seed=20 + place))
        save(album / f"two {place}.png", scene([(20, 40, 90, ANN), (180, 60 + place, 100, BOB)], seed=30 + place))
    save(album / "cleo.png", scene([(90, 60, 120, CLEO)], seed=40))
    write_sidecar(album / "Bobs picture 1.png", [Region.of_pixels("Bob", (41, 60, 140, 159), width=320, height=240)])
    # Wrong, as the user says below.
    write_sidecar(album / "cleo.png", [Region.of_pixels("Bob", (90, 60, 210, 180), width=320, height=240)])
    with Library.open(tmp_path / "lib", create=True) as library:
        import_photos(library, [album], detector=Reader("hats", shift=3.0))
        import_photos(library, [album], detector=Reader())
        faces = {
            path.name: [face.id for face in library.faces_of(photo.id)]
            for photo in library.photos()
            for path in photo.paths
            if path.suffix == ".png"
        }
        opened = Family(library, album, faces)
        opened.features(library.face_ids(None).tolist())
        bobs = [faces["Bobs picture 0.png"][0], faces["Bobs picture 1.png"][0], faces["two 0.png"][1]]
        anns = [faces["ann 0.png"][0], faces["ann 1.png"][0], faces["two 0.png"][0], faces["two 1.png"][0]]
        rest = [faces["two 1.png"][1], faces["cleo.png"][0]]
        library.write_stacks([draft(*bobs, rest[0]), draft(*anns[:3]), draft(anns[3], rest[1], suggestion="Bob")])
        library.assign_name(anns, "Ann")
        library.assign_name([bobs[0], rest[1]], "Robert")
        library.rename("Robert", "Bob")
        library.assign_name(bobs[2:], "Bob")
        library.mark_different(anns[:2], [bobs[2]])
        library.mark_same(anns[:2])
        library.assign_name(rest[1:], "Bobby")
        library.write_stacks([draft(*bobs, rest[0]), draft(*anns), draft(rest[1], suggestion="Bob")])
        yield opened


def everything(folder: Path) -> bytes:
    return b"".join(os.fsencode(path.name) + path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_no_byte_of_the_person_is_left(family: Family) -> None:
    library = family.library
    bobs = [face for face, name in library.shown().items() if name == "Bob"]
    assert len(bobs) == 4, "three named, and one in their stack that nobody confirmed"
    gone = library.faces(bobs)
    alone = [photo for photo in library.photos() if photo.paths[0].name.startswith("Bobs")]
    traces = [packed(face.face) for face in gone]
    traces += [bytes.fromhex(face.key) for face in gone] + [face.key.encode() for face in gone]
    traces += [bytes.fromhex(photo.sha) for photo in alone] + [os.fsencode(photo.paths[0]) for photo in alone]
    traces += [row.tobytes() for row in family.features(bobs)]
    traces += [library.thumb(face.key).read_bytes()[-200:] for face in gone]
    traces += [b"Robert", b"Bobs"]
    before = everything(library.folder)
    assert all(one in before for one in traces)
    names = sorted(before.count(name) for name in (b"Bobby", b"Ann"))
    others = {face.id: face for face in library.faces(library.face_ids(None).tolist()) if face.id not in bobs}
    features = family.features(list(others))

    report = forget(library, "Bob")

    after = everything(library.folder)
    left = [one for one in traces if one in after]
    assert left == []
    assert after.replace(b"Bobby", b"").count(b"Bob") == 0
    assert (report.faces, report.photos, report.thumbnails, report.rows) == (4, 2, 4, 4)
    assert report.remains == ()
    assert len(report.advice) == 1
    assert "importing" in report.advice[0]
    json.dumps(report.to_json())
    assert names[1] > 0
    # Everybody else keeps everything.
    assert {face.id: face.key for face in library.faces(library.face_ids(None).tolist())} == {
        face.id: face.key for face in others.values()
    }
    np.testing.assert_array_equal(family.features(list(others)), features)
    assert set(library.named().values()) == {"Ann", "Bobby"}
    assert sum(name == "Ann" for name in library.named().values()) == 4
    assert library.resolved().same == [tuple(sorted(family.faces["ann 0.png"] + family.faces["ann 1.png"]))]
    assert [one.kind for one in library.answers()] == ["name", "same", "name"]
    assert {len(faces) for faces in lying(library)} == {4, 1}
    assert all(library.thumb(face.key).is_file() for face in others.values())
    assert verify(library.cache_folder).sound
    check = sqlite3.connect(library.folder / "people.sqlite")
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert check.execute("PRAGMA foreign_key_check").fetchall() == []
    check.close()


def test_found_faces_go_from_shared_photos_too(family: Family) -> None:
    library = family.library
    forget(library, "Bob")
    shared = next(photo for photo in library.photos() if photo.paths[0].name == "two 0.png")
    with LandmarkStore.open(library.cache_folder, write=False) as store:
        for detector in store.detectors():
            [faces] = store.find(detector.fingerprint, [shared.sha]).values()
            assert len(faces) == 1
    # A further import brings nobody back: the photos that are there need no work, and Bob's own are new ones.
    report = import_photos(library, [family.album], detector=Reader())
    assert (report.added, report.known) == (2, 5)
    assert set(library.named().values()) == {"Ann", "Bobby", "Bob"}, "the sidecar still has the name"


def test_a_photo_that_an_earlier_facetl_saw_upright_alone_stays_to_be_searched(family: Family) -> None:
    library = family.library
    shared = next(photo for photo in library.photos() if photo.paths[0].name == "two 0.png")
    sha = bytes.fromhex(shared.sha)
    store = sqlite3.connect(library.cache_folder / "landmarks.sqlite")
    with store:
        store.execute("UPDATE searched SET faces = ?, checksum = ? WHERE sha = ?", (b"", checksum(sha, b""), sha))
    store.close()
    forget(library, "Bob")
    with LandmarkStore.open(library.cache_folder, write=False) as landmarks:
        for detector in landmarks.detectors():
            assert landmarks.find(detector.fingerprint, [shared.sha]) == {shared.sha: ()}
            assert landmarks.find(detector.fingerprint, [shared.sha], doubt=0.0) == {}


def test_nobody_of_the_name(family: Family) -> None:
    for name in ("Dora", "bob"):
        with pytest.raises(LibraryError, match="nobody has"):
            forget(family.library, name)
    assert len(family.library.people()) == 3


def test_what_was_renamed_before_and_what_had_the_name_before(family: Family) -> None:
    """Ann became Bob's namesake: an earlier Bob is Zed by now, and stays."""
    library = family.library
    [cleo] = family.faces["cleo.png"]
    library.rename("Bob", "Zed")
    library.rename("Bobby", "Bob")
    report = forget(library, "Bob")
    assert report.faces == 1
    assert set(library.named().values()) == {"Ann", "Zed"}
    assert cleo not in library.face_ids(None)
    after = everything(library.folder)
    assert b"Bobby" not in after
    assert after.count(b"Bob") == after.count(b"Bobs"), "only the paths of other photos hold these letters"
    assert after.count(b"Robert") > 0, "who is Zed by now had that name"


def test_what_is_left_is_reported(family: Family) -> None:
    library = family.library
    run = library.models_folder / "1"
    run.mkdir(parents=True)
    (run / "people.json").write_text(json.dumps({"training": ["Ann", "Bob"]}))
    (run / "others.json").write_text('["Bobby", "Bobo", "bob"]')
    outside = family.album.parent / "run"
    outside.mkdir()
    (outside / "people.json").write_text('["Bob"]')
    library.set_setting("run", str(outside))
    report = forget(library, "Bob")
    assert report.remains == (Trace("models/1/people.json", "name", 1),)
    assert any("models/1" in line and "Learn anew" in line for line in report.advice)
    assert any(str(outside) in line for line in report.advice)


def test_a_reader_that_holds_on_is_reported(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetl.io.sqlite_file._BRIEFLY", 0)
    with family.library.database.read() as sql:
        sql("SELECT count(*) FROM faces").fetchone()
        report = forget(family.library, "Ann")
    assert report.remains
    assert any("Stop it" in line for line in report.advice)


@pytest.mark.parametrize("place", ["keep", "_drop_thumbnails", "trace", "_dead_windows"])
def test_an_interrupted_forgetting_goes_on(family: Family, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def stop(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    library = family.library
    bobs = library.faces([face for face, name in library.shown().items() if name == "Bob"])
    with monkeypatch.context() as patch:
        patch.setattr(library_erasure, place, stop)
        with pytest.raises(KeyboardInterrupt):
            forget(library, "Bob")
    if place == "trace":
        with pytest.raises(LibraryError, match="nobody has"):
            forget(library, "Bob")
    else:
        report = forget(library, "Bob")
        assert (report.faces, report.rows, report.remains) == (0, 0 if place == "_drop_thumbnails" else 4, ())
    after = everything(library.folder)
    assert not any(bytes.fromhex(face.key) in after or face.key.encode() in after for face in bobs)


class TestTracing:
    def test_every_occurrence_in_every_file(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "x.bin").write_bytes(b"..needle....needleneedle")
        (tmp_path / "a" / "needle.txt").write_bytes(b"eedle needl")
        assert trace(tmp_path, [Wanted("n", [b"needle"]), Wanted("e", [b"edl"]), Wanted("no", [b"thread"])]) == [
            Trace("a/b/x.bin", "n", 3),
            Trace("a/b/x.bin", "e", 3),
            Trace("a/needle.txt", "n", 1),
            Trace("a/needle.txt", "e", 3),
        ]

    @pytest.mark.parametrize("shift", range(-9, 3))
    def test_across_blocks_and_holes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
        monkeypatch.setattr("facetl.people.byte_search._BLOCK", 64)
        data = bytearray(b"x" * 64 * 5)
        for block in (1, 2, 4):
            start = 64 * block + shift
            data[start : start + 8] = b"\x01needle\x02"
        (tmp_path / "f").write_bytes(data)
        wanted = [
            Wanted("n", [b"needle"]),
            Wanted("long", [b"\x01needle\x02xxxx"]),
            Wanted("word", [b"needle"], word=True),
        ]
        found = {one.what: one.times for one in trace(tmp_path, wanted)}
        assert found == {"n": 3, "long": 3, "word": 3}
        with (tmp_path / "f").open("r+b") as file:
            file.truncate(10**9)
            file.seek(10**9 - 3)
            file.write(b"end")
        found = {one.what: one.times for one in trace(tmp_path, [*wanted, Wanted("end", [b"end"])])}
        assert found == {"n": 3, "long": 3, "word": 3, "end": 1}

    def test_many_texts_among_much_noise(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, 300_000, np.uint8).tobytes()
        (tmp_path / "f").write_bytes(noise)
        places = rng.integers(0, 299_000, 400)
        texts = [noise[place : place + 32] for place in places]
        absent = [rng.integers(0, 256, 32, np.uint8).tobytes() for _ in range(400)]
        [found] = trace(tmp_path, [Wanted("there", texts), Wanted("absent", absent)])
        assert (found.what, found.times) == ("there", len(set(texts)))

    def test_words_and_longer_names(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b'Ann,"Ann" Anna Joann Ann Lee \xc3\x84Ann Ann')
        assert trace(tmp_path, [Wanted("n", [b"Ann"], word=True)])[0].times == 4
        assert trace(tmp_path, [Wanted("n", [b"Ann"], word=True, within=[b"Ann Lee"])])[0].times == 3

    def test_short_names_are_not_looked_for_among_numbers(self, tmp_path: Path) -> None:
        (tmp_path / "numbers").write_bytes(b"\0\1 Jo \0")
        (tmp_path / "text").write_bytes(b"for Jo only")
        (tmp_path / "base").write_bytes(b"SQLite format 3\0\0 Jo \0")
        assert [one.file for one in trace(tmp_path, [Wanted("n", [b"Jo"], in_numbers=False)])] == ["base", "text"]
