"""A library: one folder with the faces of a photo collection, and all answers about them.

    LIBRARY/people.sqlite        photos, faces, people, stacks, the ledger of answers (SQLite, WAL)
    LIBRARY/cache/               features and landmarks
    LIBRARY/thumbs/ab/<key>.jpg  a small picture of each face
    LIBRARY/models/<n>/          runs that were learnt from the people who were named

The photos stay where they are and are never written. An answer is on the disk when the call returns.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from facetl.errors import LibraryError
from facetl.people.assignments import Assignments
from facetl.people.store import persons, stack_rows
from facetl.people.store import photos as photos_module
from facetl.people.store.database import Database
from facetl.people.store.models import LibraryFace, Member, Person, Photo, Stack, StackDraft

FILE_NAME = "people.sqlite"
_CACHE, _THUMBS, _MODELS = "cache", "thumbs", "models"


class Library(Assignments):
    """A photo collection and its people; a context manager. Open it with `Library.open`.

    Any number of threads and processes may use a library at a time. Every method raises LibraryError where the file
    cannot be read or written, or where it is asked for what is not there.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(database)
        self.folder = folder

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cache_folder(self) -> Path:
        """Where features and landmarks are kept."""
        return self.folder / _CACHE

    @property
    def thumbs_folder(self) -> Path:
        """Where the small pictures are kept."""
        return self.folder / _THUMBS

    @property
    def models_folder(self) -> Path:
        """Where the runs are kept that were learnt here."""
        return self.folder / _MODELS

    def thumb(self, key: str) -> Path:
        """Return where the small picture of the face with this key lies."""
        return self.thumbs_folder / key[:2] / f"{key}.jpg"

    def setting(self, name: str) -> str | None:
        """Return a setting, `run` for the folder of the run in use; None where it was never set."""
        with self.database.read() as sql:
            found = sql("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def set_setting(self, name: str, value: str | None) -> None:
        """Keep a setting; None forgets it."""
        with self.database.write() as sql:
            if value is None:
                sql("DELETE FROM settings WHERE name = ?", (name,))
            else:
                sql("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def counts(self) -> dict[str, int]:
        """Return how many photos, faces, people, stacks and answers there are."""
        with self.database.read() as sql:
            return persons.counts(sql)

    # Photos and faces

    def photos(self, *, offset: int = 0, limit: int = 100, name: str | None = None) -> list[Photo]:
        """Return a page of photos, oldest first, those without a date last; with `name`, those that show somebody."""
        with self.database.read() as sql:
            return photos_module.photos_by_time(sql, person=name, offset=offset, limit=limit)

    def photo(self, photo: int) -> Photo:
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
            return photos_module.face_ids(sql, kind)

    # People

    def people(self) -> list[Person]:
        """Return everybody who was named and has a face, by name."""
        with self.database.read() as sql:
            return persons.everybody(sql)

    def person(self, name: str) -> Person | None:
        """Return who has this name, None where nobody has."""
        return next((person for person in self.people() if person.name == name), None)

    def named(self) -> dict[int, str]:
        """Return the name of each face that was given one by an answer."""
        return dict(self.resolved().names)

    def shown(self) -> dict[int, str]:
        """Return the name under which each face is shown: that of an answer, or else the name of its stack."""
        with self.database.read() as sql:
            return persons.shown(sql)

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
            return stack_rows.count(sql, named=named)

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

    def _catch_up(self) -> None:
        """Bring what follows from the ledger in line with it, after a migration."""
        with self.database.read() as sql:
            if self.ledger.derived(sql):
                return
        with self.database.write() as sql:
            self.ledger.derive(sql)


def _make(folder: Path) -> None:
    """Make a library's folder, for its owner alone."""
    own = {_CACHE, _THUMBS, _MODELS, FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
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
