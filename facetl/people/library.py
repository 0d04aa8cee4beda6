"""A library: one folder with the faces of a photo collection, and all answers about them.

    LIBRARY/people.sqlite        photos, faces, people, stacks, the ledger of answers (SQLite, WAL)
    LIBRARY/cache/               features and landmarks
    LIBRARY/thumbs/ab/<key>.jpg  a small picture of each face
    LIBRARY/models/<n>/          runs that were learnt from the people who were named

The photos stay where they are and are never written. An answer is on the disk when the call returns.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from facetl.data.manifest import person_name
from facetl.errors import LibraryError
from facetl.io.json import parse_json
from facetl.io.sqlite_file import Execute
from facetl.people.store import answer_log, stack_rows
from facetl.people.store import photos as photos_module
from facetl.people.store.database import Database
from facetl.people.store.models import (
    LibraryAnswer,
    LibraryFace,
    LibraryPhoto,
    Member,
    Person,
    ResolvedAnswers,
    Stack,
    StackDraft,
)
from facetl.people.store.resolve import DIFFERENT, NAME, NOT_A_FACE, RENAME, SAME, STRANGER

FILE_NAME = "people.sqlite"
_FOLDERS = ("cache", "thumbs", "models")

# The cover is a face that the user named so, a good one, and the largest of those: SQLite takes the other
# columns from the row that has the maximum.
_EVERYBODY = """
SELECT people.id, people.name, count(*), count(DISTINCT faces.photo), faces.id, sum(shown.said),
    max(shown.said * 2e6 + (faces.kind = 'good') * 1e6 + min(faces.size, 99999))
FROM shown JOIN people ON people.id = shown.person JOIN faces ON faces.id = shown.face
GROUP BY people.id ORDER BY people.name COLLATE NOCASE, people.id
"""
_COUNTS = {
    "photos": "SELECT count(*) FROM photos",
    "faces": "SELECT count(*) FROM faces",
    "good": "SELECT count(*) FROM faces WHERE kind = 'good'",
    "poor": "SELECT count(*) FROM faces WHERE kind = 'poor'",
    "without_face": "SELECT count(*) FROM photos WHERE id NOT IN (SELECT photo FROM faces)",
    "near_duplicates": "SELECT count(*) FROM photos WHERE duplicate_of IS NOT NULL",
    "people": "SELECT count(DISTINCT person) FROM shown",
    "named": "SELECT count(*) FROM labels WHERE label = 'name'",
    "not_faces": "SELECT count(*) FROM labels WHERE label = 'not-a-face'",
    "strangers": "SELECT count(*) FROM labels WHERE label = 'stranger'",
    "stacks": "SELECT count(*) FROM stacks",
    "unnamed_stacks": "SELECT count(*) FROM stacks WHERE person IS NULL",
    "stacked": "SELECT count(*) FROM members",
    "answers": "SELECT count(*) FROM answers WHERE state = 0",
}
_SHOWN = "SELECT face, name FROM shown JOIN people ON people.id = shown.person ORDER BY face"


class Library:
    """A photo collection and its people; a context manager. Open it with `Library.open`.

    Any number of threads and processes may use a library at a time. Every method raises LibraryError where the file
    cannot be read or written, or where it is asked for what is not there.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self.database = database
        self.ledger = answer_log.Ledger()
        self.folder = folder
        self.cache_folder, self.thumbs_folder, self.models_folder = (folder / name for name in _FOLDERS)

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> Self:
        """Open the library in a folder; with `create`, one is made where the folder is missing or empty.

        Raises LibraryError where there is none, or it is damaged or of a newer facetl.
        """
        folder = Path(os.path.abspath(folder))
        if not (folder / FILE_NAME).is_file():
            if not create:
                raise LibraryError(f"{folder}: expected a library with {FILE_NAME}. Run facetl people import first.")
            _make(folder)
        library = cls(folder, Database(folder / FILE_NAME))
        library._catch_up()
        return library

    def close(self) -> None:
        """Close the library; all answers are on the disk already."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self.close()
        if isinstance(error, Exception):
            with self.database.translate_errors():
                raise error

    def thumb(self, key: str) -> Path:
        """Return where the small picture of the face with this key lies."""
        return self.thumbs_folder / key[:2] / f"{key}.jpg"

    def setting(self, name: str) -> str | None:
        """Return a setting, `run` for the folder of the run in use; None where it was never set."""
        with self.database.read() as sql:
            found = sql("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
            # A path that is no UTF-8 is stored as its bytes.
            value = os.fsdecode(found[0]) if found and isinstance(found[0], bytes) else found and found[0]
            if found and (not isinstance(value, str) or "\0" in value):
                raise sqlite3.DatabaseError(f"the setting {name} is no text")
        return value

    def set_setting(self, name: str, value: str | None) -> None:
        """Keep a setting; None forgets it."""
        with self.database.write() as sql:
            if value is None:
                sql("DELETE FROM settings WHERE name = ?", (name,))
            else:
                plain = value == value.encode(errors="replace").decode()
                sql("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value if plain else os.fsencode(value)))

    def counts(self) -> dict[str, int]:
        """Return how many photos, faces, people, stacks and answers there are."""
        with self.database.read() as sql:
            return {name: int(sql(query).fetchone()[0]) for name, query in _COUNTS.items()}

    # Photos and faces

    def photos(self, *, offset: int = 0, limit: int = 100, name: str | None = None) -> list[LibraryPhoto]:
        """Return a page of photos, oldest first, those without a date last; with `name`, those that show somebody."""
        with self.database.read() as sql:
            return photos_module.photos_by_time(sql, person=name, offset=offset, limit=limit)

    def photo(self, photo: int) -> LibraryPhoto:
        """Return a photo."""
        with self.database.read() as sql:
            return photos_module.photos_of(sql, [photo])[0]

    def faces_of(self, photo: int) -> list[LibraryFace]:
        """Return the faces of a photo."""
        with self.database.read() as sql:
            return photos_module.faces_by(sql, "photo", [photo])

    def face(self, face: int) -> LibraryFace:
        """Return a face."""
        return self.faces([face])[0]

    def faces(self, faces: Sequence[int]) -> list[LibraryFace]:
        """Return faces, in the order of their ids given."""
        with self.database.read() as sql:
            return photos_module.faces_of_ids(sql, [int(face) for face in faces])

    def face_ids(self, kind: str | None = "good") -> NDArray[np.int64]:
        """Return the ids [n] int64 of the faces of a kind, ascending; of all with None."""
        with self.database.read() as sql:
            found = sql("SELECT id FROM faces WHERE ? IS NULL OR kind = ? ORDER BY id", (kind, kind))
            return np.array([face for (face,) in found], np.int64)

    def cached_keys(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the keys of all faces and the sha256 of all photos: what the library's cache is kept for."""
        with self.database.read() as sql:
            faces, photos = (sql(f"SELECT {one}").fetchall() for one in ("key FROM faces", "sha FROM photos"))
        return frozenset(key.hex() for (key,) in faces), frozenset(sha.hex() for (sha,) in photos)

    # People

    def people(self) -> list[Person]:
        """Return everybody who was named and has a face, by name."""
        with self.database.read() as sql:
            return [Person(*record[:-1]) for record in sql(_EVERYBODY)]

    def person(self, name: str) -> Person | None:
        """Return who has this name, None where nobody has."""
        return next((person for person in self.people() if person.name == name), None)

    def named(self) -> dict[int, str]:
        """Return the name of each face that was given one by an answer."""
        return dict(self.resolved().names)

    def shown(self) -> dict[int, str]:
        """Return the name under which each face is shown: that of an answer, or else the name of its stack."""
        with self.database.read() as sql:
            return dict(sql(_SHOWN).fetchall())

    # Stacks

    def write_stacks(self, drafts: Sequence[StackDraft], *, touched: Collection[int] | None = None) -> None:
        """Replace all stacks by those of a clustering, or those of the faces in `drafts` and `touched` alone.

        Answers win, also those given while the clustering was computed: faces that are none are left out,
        and stacks are divided and joined as answers ask. A stack that stays mostly the same keeps its number.
        """
        with self.database.write() as sql:
            stack_rows.write_drafts(sql, drafts, self.ledger.resolved(sql), touched=touched)

    def stacks(
        self, *, order: stack_rows.Order = "size", named: bool | None = None, offset: int = 0, limit: int = 60
    ) -> list[Stack]:
        """Return a page of stacks: the biggest first, the least certain first, or by name."""
        with self.database.read() as sql:
            return stack_rows.page(sql, order=order, named=named, offset=offset, limit=limit)

    def stack_count(self, *, named: bool | None = None) -> int:
        """Return how many stacks there are, of all or of those with or without a name."""
        with self.database.read() as sql:
            return int(sql(f"SELECT count(*) FROM stacks {stack_rows.which(named)}").fetchone()[0])

    def stack(self, stack: int) -> tuple[Stack, list[Member]]:
        """Return a stack and its faces, the surest first."""
        with self.database.read() as sql:
            return stack_rows.one_stack(sql, stack)

    def stack_of(self, face: int) -> int | None:
        """Return the stack in which a face lies, None where it lies in none."""
        return self.stacks_of([face]).get(face)

    def stacks_of(self, faces: Sequence[int]) -> dict[int, int]:
        """Return the stack of each of these faces that lies in one."""
        with self.database.read() as sql:
            return stack_rows.stacks_of(sql, faces)

    # Answers: a call returns when the answer is on the disk; DataError for what is no name

    def assign_name(self, faces: Collection[int], name: str, *, origin: str = "user") -> LibraryAnswer:
        """Name faces; the origin is `region` where a photo's metadata gives the name."""
        return self._mark(NAME, faces, name=person_name(name), origin=origin)

    def mark_same(self, faces: Collection[int]) -> LibraryAnswer:
        """Mark faces as one person's."""
        return self._mark(SAME, faces, at_least=2)

    def mark_different(self, left: Collection[int], right: Collection[int]) -> LibraryAnswer:
        """Mark every face on the left as another person's than every face on the right."""
        return self._mark(DIFFERENT, left, right)

    def mark_not_a_face(self, faces: Collection[int]) -> LibraryAnswer:
        """Mark detections that are no faces."""
        return self._mark(NOT_A_FACE, faces)

    def mark_stranger(self, faces: Collection[int]) -> LibraryAnswer:
        """Mark faces as of nobody to be named."""
        return self._mark(STRANGER, faces)

    def rename(self, old: str, new: str) -> LibraryAnswer:
        """Rename a person; where somebody has the new name already, the two become one."""
        cleaned = person_name(new)
        with self.database.write() as sql:
            if old not in set(self.ledger.resolved(sql).names.values()):
                raise LibraryError(
                    f"Only somebody who has a name can be renamed; nobody has the name {old!r}. Check its spelling."
                )
            if old == cleaned:
                raise LibraryError(f"The new name must differ from the old one; received {old!r} for both.")
            return self._answer(sql, RENAME, (), name=cleaned, old=old)

    def undo(self) -> LibraryAnswer | None:
        """Take the last answer back; return it, None where there is none."""
        with self.database.write() as sql:
            answer = self.ledger.undo(sql)
            if answer is not None:
                if answer.old and answer.name and answer.name not in self.ledger.resolved(sql).names.values():
                    _change_name(sql, answer.name, answer.old)
                (moves,) = sql("SELECT moves FROM answers WHERE id = ?", (answer.id,)).fetchone()
                self._settle(sql, _stored_moves(moves))
            return answer

    def redo(self) -> LibraryAnswer | None:
        """Apply again the answer that was undone last; None where there is none, or another was given since."""
        with self.database.write() as sql:
            answer = self.ledger.redo(sql)
            if answer is not None:
                self._apply(sql, answer)
            return answer

    def answers(self, *, offset: int = 0, limit: int = 100) -> list[LibraryAnswer]:
        """Return a page of all answers, newest first."""
        with self.database.read() as sql:
            return answer_log.newest(sql, offset=offset, limit=limit)

    def resolved(self) -> ResolvedAnswers:
        """Return what follows from all answers together."""
        with self.database.read() as sql:
            return self.ledger.resolved(sql)

    def name_stack(self, stack: int, name: str) -> LibraryAnswer:
        """Name all faces of a stack."""
        cleaned = person_name(name)
        with self.database.write() as sql:
            return self._answer(sql, NAME, _faces(sql, stack), name=cleaned)

    def split_stack(self, stack: int, faces: Collection[int]) -> int:
        """Mark some faces of a stack as another person's than the rest; return the stack in which they lie now."""
        with self.database.write() as sql:
            members = _faces(sql, stack)
            part = set(faces)
            if not part or not part < members:
                raise LibraryError(
                    f"To split a stack, choose some of its faces, not all; received {len(part & members)} of "
                    f"{len(members)}, and {len(part - members)} others."
                )
            self._answer(sql, DIFFERENT, part, members - part)
            return stack_rows.stacks_of(sql, [min(part)])[min(part)]

    def merge_stacks(self, first: int, second: int) -> LibraryAnswer:
        """Mark two stacks as one person's; the first takes in the second."""
        if first == second:
            raise LibraryError(f"Merging takes two stacks; received number {first} twice.")
        with self.database.write() as sql:
            return self._answer(sql, SAME, _faces(sql, first) | _faces(sql, second), keep=first)

    # For callers with a transaction under way

    def assign_by_metadata(self, sql: Execute, names: Mapping[int, str]) -> int:
        """Take over the names that photos' metadata gives to faces; return how many are new."""
        known = answer_log.names_by_metadata(sql, list(names))
        fresh: dict[str, list[int]] = {}
        for face, name in names.items():
            if known.get(face) != name:
                fresh.setdefault(name, []).append(face)
        answers = [self.ledger.add(sql, NAME, faces, name=name, origin="region") for name, faces in fresh.items()]
        if answers:
            changed = self.ledger.derive(sql)
            for answer in answers:
                stack_rows.apply_answer(sql, answer, self.ledger.resolved(sql), changed & set(answer.left))
        return sum(map(len, fresh.values()))

    def resolve_again(self, sql: Execute) -> None:
        """Bring labels and stacks in line with the answers, after some were deleted."""
        self.ledger.touch(sql)
        self._settle(sql)

    def drop_faces(self, sql: Execute, faces: Collection[int]) -> int:
        """Delete faces, with their places in answers and stacks; return how many answers are void by it, and go."""
        stack_rows.drop_faces(sql, faces, self.ledger.resolved(sql))
        answers = answer_log.answers_about(sql, faces)
        for face in faces:
            sql("DELETE FROM faces WHERE id = ?", (face,))
        if answers:
            self.ledger.touch(sql)
        return answer_log.drop_void(sql, answers)

    def drop_photos(self, sql: Execute, photos: Collection[int]) -> None:
        """Delete photos with their faces and the answers that are void without them."""
        self.drop_faces(sql, [face.id for face in photos_module.faces_by(sql, "photo", list(photos))])
        for photo in photos:
            sql("DELETE FROM photos WHERE id = ?", (photo,))
        self.resolve_again(sql)

    def _mark(self, kind: str, *listed: Collection[int], at_least: int = 1, **options: Any) -> LibraryAnswer:
        sides = [{int(face) for face in side} for side in listed]
        if any(len(side) < at_least for side in sides):
            raise LibraryError(f"The answer {kind!r} takes at least {at_least} faces; received {min(map(len, sides))}.")
        if len(sides) > 1 and sides[0] & sides[1]:
            raise LibraryError(
                f"A face cannot differ from itself; received face {min(sides[0] & sides[1])} on both sides."
            )
        with self.database.write() as sql:
            return self._answer(sql, kind, *sides, **options)

    def _answer(
        self,
        sql: Execute,
        kind: str,
        left: Collection[int],
        right: Collection[int] = (),
        *,
        keep: int | None = None,
        **options: Any,
    ) -> LibraryAnswer:
        answer = self.ledger.add(sql, kind, left, right, **options)
        self._apply(sql, answer, keep=keep)
        return answer

    def _apply(self, sql: Execute, answer: LibraryAnswer, *, keep: int | None = None) -> None:
        # Before the labels are derived: has somebody else the new name?
        query = "SELECT 1 FROM people JOIN labels ON labels.person = people.id WHERE people.name = ? LIMIT 1"
        if answer.old and answer.name and sql(query, (answer.name,)).fetchone() is None:
            _change_name(sql, answer.old, answer.name)
        changed = self.ledger.derive(sql)
        moved = stack_rows.apply_answer(sql, answer, self.ledger.resolved(sql), changed, keep=keep)
        sql("UPDATE answers SET moves = ? WHERE id = ?", (json.dumps(moved), answer.id))

    def _settle(self, sql: Execute, moved: dict[str, Any] | None = None) -> None:
        """Bring labels and stacks in line with the answers; `moved` is what an answer did that is undone."""
        changed = self.ledger.derive(sql)
        stack_rows.settle(sql, self.ledger.resolved(sql), changed, moved)

    def _catch_up(self) -> None:
        """Bring what follows from the ledger in line with it, after a migration."""
        with self.database.read() as sql:
            if self.ledger.derived(sql):
                return
        with self.database.write() as sql:
            self.ledger.derive(sql)


def _make(folder: Path) -> None:
    """Make a library's folder, for its owner alone."""
    own = {*_FOLDERS, FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    try:
        with suppress(FileExistsError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(0o700)
        others = sorted({path.name for path in folder.iterdir()} - own)
        if others:
            raise LibraryError(
                f"{folder}: a new library needs an empty folder, this one holds {others[0]}. Name one that is empty or "
                "not there yet."
            )
        folder.chmod(0o700)
    except OSError as error:
        raise LibraryError(f"{folder}: a library's folder cannot be made here ({error.strerror}).") from error


def _stored_moves(text: str | None) -> dict[str, Any] | None:
    """Return what an answer did to the stacks, as `_apply` wrote it; None where nothing is known."""
    if not text:
        return None
    try:
        moved = parse_json(text)
        numbers = [value for face, *rest in moved["moves"] for value in (face, *rest) if value is not None]
        left = {str(stack) for _, stack, _, _ in moved["moves"] if stack is not None}
        whole = all(abs(number) < 2**63 for number in numbers) and all(len(moved["piles"][one]) == 3 for one in left)
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise sqlite3.DatabaseError("what an answer did to the stacks cannot be read")
    return moved


def _faces(sql: Execute, stack: int) -> set[int]:
    return {member.face for member in stack_rows.one_stack(sql, stack)[1]}


def _change_name(sql: Execute, old: str, new: str) -> None:
    """Change the name of a person, who keeps the id and the suggestions, to one that nobody has now."""
    spare = "\0"  # no name holds it
    for before, after in ((new, spare), (old, new), (spare, old)):
        sql("UPDATE people SET name = ? WHERE name = ?", (after, before))
    sql("UPDATE stacks SET suggestion = ? WHERE suggestion = ?", (new, old))
