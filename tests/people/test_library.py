"""The library's file: what was put in comes back, answers are there at once, for every thread and process."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from albums import enter_faces, enter_photo
from scenes import digest, draft, lying, made_up, new_face, stack_with

from facetl.errors import DataError, LibraryError
from facetl.people.library import FILE_NAME, Library
from facetl.people.store import database


@pytest.fixture
def library(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Library.open(tmp_path / "lib", create=True) as opened:
        yield opened


class TestFolder:
    def test_it_is_its_owners_alone(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir(mode=0o755)
        for folder in (tmp_path / "new" / "lib", tmp_path / "there"):
            with Library.open(folder, create=True) as library:
                made_up(library, 1)
                modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
            assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})

    def test_none_is_made_unasked_or_among_other_things(self, tmp_path: Path) -> None:
        with pytest.raises(LibraryError, match="facetl people import"):
            Library.open(tmp_path / "lib")
        (tmp_path / "album").mkdir()
        (tmp_path / "album" / "a.jpg").touch()
        with pytest.raises(LibraryError, match=r"empty folder, this one holds a\.jpg"):
            Library.open(tmp_path / "album", create=True)
        (tmp_path / "file").touch()
        with pytest.raises(LibraryError):
            Library.open(tmp_path / "file", create=True)

    @pytest.mark.parametrize("content", [b"no database, but long enough to be one" * 100, b"SQLite format 3\0" * 300])
    def test_a_damaged_file_is_reported_in_one_line(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / FILE_NAME).write_bytes(content)
        with pytest.raises(LibraryError, match="sound SQLite file") as caught:
            Library.open(tmp_path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "damage"),
        [
            ("UPDATE counters SET value = 'many'", "counters.value holds a value that is no INTEGER"),
            ("UPDATE faces SET numbers = x'00'", "CHECK constraint failed in faces"),
            ("UPDATE paths SET path = photo", "paths.path holds a value that is no BLOB"),
            ("DELETE FROM answers; UPDATE answer_faces SET answer = 99", "answer_faces refers to one of answers"),
            ("UPDATE answers SET moves = '[[1]]'", "what an answer did to the stacks cannot be read"),
            ("INSERT INTO settings VALUES ('run', x'00')", "the setting run is no text"),
            ("PRAGMA user_version = -3", "its schema is -3"),
        ],
    )
    def test_a_value_that_no_facetl_wrote_is_reported(self, tmp_path: Path, change: str, damage: str) -> None:
        with Library.open(tmp_path, create=True) as library:
            faces = made_up(library, 3)
            library.write_stacks([draft(*faces)])
            library.assign_name(faces[:2], "Ada")
        with sqlite3.connect(tmp_path / FILE_NAME) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.executescript(change)
        connection.close()

        def use() -> None:
            with Library.open(tmp_path) as library:
                library.faces(faces)
                library.photos()
                library.setting("run")
                library.undo()
                raise ValueError("a command may meet the value later than the library")

        with pytest.raises(LibraryError, match="must be a sound SQLite file") as caught:
            use()
        assert damage in str(caught.value)

    def test_an_error_of_a_sound_library_stays_what_it_is(self, library: Library) -> None:
        with pytest.raises(ZeroDivisionError), Library.open(library.folder):
            _ = 1 / 0

    def test_closed_is_reported(self, library: Library) -> None:
        library.close()
        for use in (library.people, lambda: library.set_setting("a", "b")):
            with pytest.raises(LibraryError, match="closed"):
                use()

    def test_settings(self, library: Library) -> None:
        assert library.setting("run") is None
        library.set_setting("run", "/models/caf\udce9")
        assert library.setting("run") == "/models/caf\udce9"
        library.set_setting("run", "one")
        library.set_setting("run", "two é")
        assert library.setting("run") == "two é"
        library.set_setting("run", None)
        assert library.setting("run") is None


class TestPhotosAndFaces:
    def test_they_come_back_exactly(self, library: Library) -> None:
        paths = [Path("/b/1.jpg"), Path("/a/caf\udce9.jpg")]
        number = enter_photo(
            library,
            digest("p", 1),
            width=30,
            height=20,
            paths=paths,
            taken_at="2001-02-03T04:05:06+02:00",
            phash=-(2**63),
        )
        assert enter_photo(library, digest("p", 1), width=30, height=20, paths=[Path("/c.jpg")]) == number
        photo = library.photo(number)
        assert (photo.sha, photo.width, photo.height, photo.phash) == (digest("p", 1), 30, 20, -(2**63))
        assert (photo.taken_at, photo.paths) == ("2001-02-03T04:05:06+02:00", tuple(sorted([*paths, Path("/c.jpg")])))
        one, other = new_face(1), new_face(2, kind="poor")
        ids = enter_faces(library, number, [one, other])
        assert enter_faces(library, number, [other, one]) == ids[::-1]
        [found] = library.faces([ids[1]])
        assert (found.id, found.photo, found.key, found.kind) == (ids[1], number, other.key, "poor")
        assert found.face.to_json() == other.face.to_json()
        assert (found.size, found.sharpness, found.yaw, found.pitch, found.roll) == (40.0, 55.5, 1.5, -2.5, 3.25)
        assert found.face.confidence == 0.75
        assert [face.id for face in library.faces_of(number)] == ids
        assert library.face_ids().tolist() == [ids[0]]
        assert library.face_ids(None).dtype == np.int64
        assert library.face_ids(None).tolist() == ids

    def test_a_path_is_of_the_photo_seen_there_last(self, library: Library) -> None:
        one = enter_photo(library, digest("p", 1), width=1, height=1, paths=[Path("/x.jpg")])
        other = enter_photo(library, digest("p", 2), width=1, height=1, paths=[Path("/x.jpg")])
        assert (library.photo(one).paths, library.photo(other).paths) == ((), (Path("/x.jpg"),))

    def test_photos_go_by_their_time(self, library: Library) -> None:
        times = [None, "2003-01-01T00:00:00", "2001-01-01T00:00:00", None]
        for number, time in enumerate(times):
            enter_photo(library, digest("p", number), width=1, height=1, taken_at=time)
        assert [photo.id for photo in library.photos()] == [3, 2, 1, 4]
        assert [photo.id for photo in library.photos(offset=1, limit=2)] == [2, 1]

    def test_what_is_not_there_is_reported(self, library: Library) -> None:
        made_up(library, 2)
        for ask in (
            lambda: library.photo(9),
            lambda: library.face(9),
            lambda: library.faces([1, 9]),
            lambda: library.stack(9),
            lambda: library.assign_name([1, 9], "Ann"),
            lambda: library.assign_name([], "Ann"),
            lambda: library.mark_same([1]),
            lambda: library.mark_different([1], [1, 2]),
            lambda: library.rename("Ann", "Bob"),
            lambda: library.stacks(order="colour"),  # type: ignore[arg-type]
            lambda: library.write_stacks([draft(1), draft(1, 2)]),
            lambda: library.write_stacks([draft(9)]),
        ):
            with pytest.raises(LibraryError) as caught:
                ask()
            assert "\n" not in str(caught.value)
        assert library.answers() == []
        for name in ("", " \t", "a\0b", "x" * 201, "Unknown"):
            with pytest.raises(DataError):
                library.assign_name([1], name)

    def test_many_at_once(self, library: Library) -> None:
        ids = made_up(library, 700, 2)
        assert [face.id for face in library.faces(ids[::-1])] == ids[::-1]
        library.assign_name(ids, "Ann")
        assert len(library.named()) == 1400
        assert library.counts()["named"] == 1400
        assert len(library.stacks_of(ids)) == 0


class TestAnswers:
    def test_answers_are_there_at_once(self, library: Library) -> None:
        ids = made_up(library, 3, 2)
        answer = library.assign_name([ids[1], ids[0]], "  Ann   Lee ")
        assert (answer.kind, answer.left, answer.name, answer.undone) == ("name", (ids[0], ids[1]), "Ann Lee", False)
        assert library.named() == {ids[0]: "Ann Lee", ids[1]: "Ann Lee"}
        [ann] = library.people()
        assert (ann.name, ann.faces, ann.photos, ann.confirmed) == ("Ann Lee", 2, 1, 2)
        assert library.person("Ann Lee") == ann
        assert library.person("Ann") is None
        library.mark_different([ids[0]], [ids[2], ids[3]])
        assert library.resolved().different == [((ids[0],), (ids[2], ids[3]))]
        assert [(one.kind, one.left, one.right) for one in library.answers(limit=1)] == [
            ("different", (ids[0],), (ids[2], ids[3]))
        ]

    def test_undo_and_redo(self, library: Library) -> None:
        ids = made_up(library, 3)
        assert (library.undo(), library.redo()) == (None, None)
        for name in ("Ann", "Bob", "Cleo"):
            library.assign_name([ids[0]], name)
        assert [library.undo().name for _ in range(2)] == ["Cleo", "Bob"]  # type: ignore[union-attr]
        assert library.named() == {ids[0]: "Ann"}
        assert library.redo().name == "Bob"  # type: ignore[union-attr]
        assert library.named() == {ids[0]: "Bob"}
        library.mark_stranger([ids[1]])
        assert library.redo() is None, "another answer was given since"
        library.undo()
        assert library.redo().kind == "stranger"  # type: ignore[union-attr]
        assert [(one.kind, one.name, one.undone) for one in library.answers()] == [
            ("stranger", None, False),
            ("name", "Cleo", True),
            ("name", "Bob", False),
            ("name", "Ann", False),
        ]
        library.assign_name([ids[2]], "Dora", origin="region")
        assert library.undo().kind == "stranger", "what a photo's metadata gives is not the user's to undo"  # type: ignore[union-attr]

    def test_every_answer_is_there_after_opening_again(self, tmp_path: Path) -> None:
        with Library.open(tmp_path / "lib", create=True) as library:
            ids = made_up(library, 6)
            library.write_stacks([draft(*ids[:3]), draft(*ids[3:])])
            library.name_stack(stack_with(library, ids[0]), "Ann")
            library.split_stack(stack_with(library, ids[3]), [ids[5]])
            library.mark_not_a_face([ids[1]])
            library.undo()
            before = (library.answers(), library.resolved(), library.stacks(), library.people(), lying(library))
        with Library.open(tmp_path / "lib") as library:
            assert (library.answers(), library.resolved(), library.stacks(), library.people(), lying(library)) == before
            assert library.redo().kind == "not-a-face"  # type: ignore[union-attr]

    def test_a_person_keeps_the_number_through_renames(self, library: Library) -> None:
        ids = made_up(library, 4)
        library.write_stacks([draft(ids[3], suggestion="Ann")])
        library.assign_name(ids[:2], "Ann")
        library.assign_name([ids[2]], "Bob")
        people = {person.name: person.id for person in library.people()}
        library.rename("Ann", "Anna")
        assert {person.name: person.id for person in library.people()} == {"Anna": people["Ann"], "Bob": people["Bob"]}
        assert library.stacks()[0].suggestion == "Anna"
        library.undo()
        assert {person.name: person.id for person in library.people()} == people
        assert library.stacks()[0].suggestion == "Ann"
        library.rename("Ann", "Bob")
        assert [(person.id, person.faces) for person in library.people()] == [(people["Bob"], 3)]
        library.undo()
        assert {person.name: (person.id, person.faces) for person in library.people()} == {
            "Ann": (people["Ann"], 2),
            "Bob": (people["Bob"], 1),
        }
        library.redo()
        with pytest.raises(LibraryError, match="nobody has"):
            library.rename("Ann", "Zoe")
        with pytest.raises(LibraryError, match="must differ"):
            library.rename("Bob", " Bob ")


class TestSharing:
    def test_threads(self, library: Library) -> None:
        ids = made_up(library, 40)
        library.write_stacks([draft(*ids[place : place + 4]) for place in range(0, 40, 4)])
        wrong: list[object] = []

        def talk(number: int) -> None:
            try:
                for place in range(5):
                    library.assign_name([ids[8 * number + place]], f"P{number}")
                    seen = library.named().get(ids[8 * number + place])
                    wrong.extend([seen] if seen != f"P{number}" else [])
                    library.stacks()
                    library.people()
            except Exception as error:  # noqa: BLE001
                wrong.append(error)

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert {person.name: person.confirmed for person in library.people()} == {
            f"P{number}": 5 for number in range(5)
        }
        assert len(library.answers()) == 25

    def test_processes(self, tmp_path: Path) -> None:
        with Library.open(tmp_path / "lib", create=True) as library:
            ids = made_up(library, 30)
            library.write_stacks([draft(*ids)])
            library.resolved()
            context = multiprocessing.get_context("spawn")
            others = [
                context.Process(
                    target=_name_some, args=(tmp_path / "lib", f"P{place}", ids[place * 10 : place * 10 + 10])
                )
                for place in range(3)
            ]
            for other in others:
                other.start()
            for other in others:
                other.join()
            assert [other.exitcode for other in others] == [0, 0, 0]
            assert {person.name: person.confirmed for person in library.people()} == {"P0": 10, "P1": 10, "P2": 10}
            stacks = lying(library)
            assert sorted(face for faces in stacks for face in faces) == ids
            assert all(len({face // 10 for face in np.array(list(faces)) - ids[0]}) == 1 for faces in stacks)

    def test_a_reader_sees_one_state(self, library: Library) -> None:
        ids = made_up(library, 2)
        with library.database.read() as sql:
            before = sql("SELECT count(*) FROM answers").fetchone()
            library.assign_name(ids, "Ann")
            assert sql("SELECT count(*) FROM answers").fetchone() == before == (0,)
        assert len(library.answers()) == 1

    def test_nothing_stays_of_what_failed(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        ids = made_up(library, 2)
        library.assign_name([ids[0]], "Ann")

        def fail(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("facetl.people.store.stack_rows.apply_answer", fail)
            with pytest.raises(KeyboardInterrupt):
                library.assign_name(ids, "Bob")
        assert library.named() == {ids[0]: "Ann"}
        assert len(library.answers()) == 1
        library.assign_name([ids[1]], "Cleo")
        assert library.named() == {ids[0]: "Ann", ids[1]: "Cleo"}

    def test_a_full_disk_is_reported_and_loses_nothing(self, library: Library) -> None:
        ids = made_up(library, 50)
        library.assign_name(ids[:1], "Ann")
        sql = library.database._writer.execute
        sql(f"PRAGMA max_page_count = {sql('PRAGMA page_count').fetchone()[0]}")

        def fill() -> None:
            for place in range(200):
                library.assign_name(ids, f"Person {place} with a long name to fill pages " + "x" * 120)

        with pytest.raises(LibraryError, match="room on its disk"):
            fill()
        sql("PRAGMA max_page_count = 1000000")
        resolved = len(library.answers(limit=500))
        library.assign_name(ids, "Zoe")
        assert len(library.answers(limit=500)) == resolved + 1
        assert set(library.named().values()) == {"Zoe"}


class TestSchema:
    def test_a_file_of_an_older_facetl_is_taken_along(self, tmp_path: Path) -> None:
        """Schema 1 had photos, faces and answers; people and stacks follow from them."""
        folder = tmp_path / "lib"
        folder.mkdir()
        old = sqlite3.connect(folder / FILE_NAME)
        old.executescript(database.MIGRATIONS[0] + ";PRAGMA user_version = 1;")
        old.execute("INSERT INTO photos (id, sha, width, height) VALUES (1, ?, 3, 2)", (bytes(32),))
        for face in (1, 2):
            old.execute(
                "INSERT INTO faces VALUES (?, ?, 1, ?, 1, 1, 0, 0, 0, 'good')", (face, bytes([face] * 32), bytes(60))
            )
        old.execute("INSERT INTO answers (id, at, kind, origin, name) VALUES (7, '2020', 'name', 'user', 'Ann')")
        old.executemany("INSERT INTO answer_faces VALUES (7, 0, ?)", [(1,), (2,)])
        old.execute("INSERT INTO counters VALUES ('ledger', 5)")
        old.commit()
        old.close()
        with Library.open(folder) as library:
            assert library.named() == {1: "Ann", 2: "Ann"}
            assert [(person.name, person.confirmed) for person in library.people()] == [("Ann", 2)]
            library.write_stacks([draft(1, 2)])
            assert library.stacks()[0].name == "Ann"
            assert library.undo().id == 7  # type: ignore[union-attr]
            assert library.people() == []

    def test_steps_are_taken_one_after_the_other_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Library.open(tmp_path / "lib", create=True) as library:
            made_up(library, 2)
        more = "CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('kept')"
        monkeypatch.setattr(
            database, "MIGRATIONS", (*database.MIGRATIONS, more, "INSERT INTO notes VALUES ('no'); no SQL")
        )
        with pytest.raises(LibraryError):
            Library.open(tmp_path / "lib")
        connection = sqlite3.connect(tmp_path / "lib" / FILE_NAME)
        assert connection.execute("SELECT text FROM notes").fetchall() == [("kept",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
        connection.close()

    def test_a_newer_library_is_refused(self, tmp_path: Path) -> None:
        Library.open(tmp_path / "lib", create=True).close()
        connection = sqlite3.connect(tmp_path / "lib" / FILE_NAME)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(LibraryError, match=r"schema 99, of a newer facetl\. Upgrade"):
            Library.open(tmp_path / "lib")

    def test_every_commit_reaches_the_disk(self, library: Library) -> None:
        for name, value in (("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1), ("journal_mode", "wal")):
            assert library.database._writer.execute(f"PRAGMA {name}").fetchone() == (value,)


def _name_some(folder: Path, name: str, faces: list[int]) -> None:
    with Library.open(folder) as library:
        for face in faces:
            library.assign_name([face], name)
