"""The library's SQLite file: one writer at a time, any number of readers, and errors that a user can read."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from facetl.errors import FacetlError, LibraryError
from facetl.io.files import open_private
from facetl.io.sqlite_file import Execute, attach, find_damage, make_durable, parts, transaction, vacuum

_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}

# The tables, step by step: a file of an older facetl is taken through the steps that it lacks.
# Photos, faces, and the ledger: what cannot be computed again.
_COLLECTION = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE detectors (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, description TEXT NOT NULL);
CREATE TABLE photos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sha BLOB NOT NULL UNIQUE CHECK (length(sha) = 32),
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    taken_at TEXT,
    phash INTEGER,
    duplicate_of INTEGER REFERENCES photos ON DELETE SET NULL,
    detector INTEGER REFERENCES detectors
);
CREATE INDEX photos_by_time ON photos (taken_at IS NULL, taken_at, id);
CREATE INDEX photos_by_original ON photos (duplicate_of);
CREATE TABLE paths (path BLOB PRIMARY KEY, photo INTEGER NOT NULL REFERENCES photos ON DELETE CASCADE) WITHOUT ROWID;
CREATE INDEX paths_by_photo ON paths (photo);
CREATE TABLE faces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    photo INTEGER NOT NULL REFERENCES photos ON DELETE CASCADE,
    numbers BLOB NOT NULL CHECK (length(numbers) = 60),
    size REAL NOT NULL,
    sharpness REAL NOT NULL,
    yaw REAL NOT NULL,
    pitch REAL NOT NULL,
    roll REAL NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('good', 'poor'))
);
CREATE INDEX faces_by_photo ON faces (photo);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('name', 'same', 'different', 'not-a-face', 'stranger', 'rename')),
    origin TEXT NOT NULL CHECK (origin IN ('user', 'region')),
    name TEXT,
    old TEXT,
    state INTEGER NOT NULL DEFAULT 0,
    moves TEXT
);
CREATE TABLE answer_faces (
    answer INTEGER NOT NULL REFERENCES answers ON DELETE CASCADE,
    side INTEGER NOT NULL,
    face INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE,
    PRIMARY KEY (answer, side, face)
) WITHOUT ROWID;
CREATE INDEX answer_faces_by_face ON answer_faces (face);
"""

# What follows from the ledger and from clustering, so that a page is one query.
_DERIVED = """
CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE labels (
    face INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
    label TEXT NOT NULL CHECK (label IN ('name', 'not-a-face', 'stranger')),
    person INTEGER REFERENCES people
);
CREATE INDEX labels_by_person ON labels (person, face);
CREATE TABLE stacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cover INTEGER REFERENCES faces ON DELETE SET NULL,
    size INTEGER NOT NULL,
    confidence REAL NOT NULL,
    person INTEGER REFERENCES people,
    suggestion TEXT
);
CREATE INDEX stacks_by_size ON stacks (size DESC, id);
CREATE INDEX stacks_by_person ON stacks (person);
CREATE INDEX stacks_by_cover ON stacks (cover);
CREATE TABLE members (
    face INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
    stack INTEGER NOT NULL REFERENCES stacks ON DELETE CASCADE,
    confidence REAL NOT NULL
);
CREATE INDEX members_by_stack ON members (stack, face);
CREATE VIEW shown AS
    SELECT face, person, 1 AS said FROM labels WHERE label = 'name'
    UNION ALL
    SELECT members.face, stacks.person, 0 FROM stacks JOIN members ON members.stack = stacks.id
    WHERE stacks.person IS NOT NULL AND members.face NOT IN (SELECT face FROM labels)
"""

# Which photo lies now where another lay: the end of an import decides whether it is that one, edited.
_REPLACED = """
CREATE TABLE replaced (
    photo INTEGER PRIMARY KEY REFERENCES photos ON DELETE CASCADE,
    successor INTEGER NOT NULL REFERENCES photos ON DELETE CASCADE
);
CREATE INDEX replaced_by_successor ON replaced (successor)
"""

MIGRATIONS: tuple[str, ...] = (_COLLECTION, _DERIVED, _REPLACED)


class Database:
    """Connections to one file, for all threads of a process.

    What `write` did is on the disk when its block ends: it survives a killed process and a power cut.
    """

    def __init__(self, path: Path) -> None:
        """Open (or make, for its owner alone) the file and bring it to today's schema; LibraryError."""
        self.path = path
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._all: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._closed = False
        try:
            # SQLite gives its -wal and -shm files the mode of this one.
            os.close(open_private(path, os.O_RDWR))
        except OSError as error:
            raise LibraryError(
                f"A library must be on a disk that can be read and written; {path} gave: {error.strerror}. Check its "
                "permissions and the disk, or copy the library's folder to where you may write."
            ) from error
        with self.translate_errors():
            self._writer = self._connect()
            try:
                self._migrate()
            except BaseException:
                self._writer.close()
                raise

    def close(self) -> None:
        """Close every connection."""
        with self._pool, self._writing:
            self._closed = True
            for connection in [*self._all, self._writer]:
                connection.close()
            self._all.clear()
            self._idle.clear()

    @contextmanager
    def read(self) -> Iterator[Execute]:
        """Give a function that runs SQL on one unchanging state of the file."""
        with self.translate_errors():
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection.execute
            finally:
                with suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                with self._pool:
                    self._idle.append(connection)

    @contextmanager
    def write(self) -> Iterator[Execute]:
        """Give a function that runs SQL in one transaction, which is durable when the block ends, or undone."""
        with self.translate_errors(), self._writing:
            self._expect_open()
            with transaction(self._writer) as sql:
                yield sql

    def vacuum(self) -> None:
        """Write the file anew without a trace of what was deleted, and empty the log."""
        with self.translate_errors(), self._writing:
            self._expect_open()
            vacuum(self._writer)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn the errors of SQLite into LibraryError, and any others that damage in the file is behind."""
        try:
            yield
        except FacetlError:
            raise
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "") in _FULL:
                raise LibraryError(
                    f"A library needs room on its disk; {self.path} gave: {error}. Earlier answers are safe: make "
                    "room and go on."
                ) from error
            raise LibraryError(
                f"A library must be on a disk that can be read and written; {self.path} gave: {error}. Check its "
                "permissions, the disk, and whether another program holds it."
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        except Exception as error:
            # A value that no facetl wrote ends in whatever error the code around it meets.
            if damage := self._damage():
                raise self._damaged(damage) from error
            raise

    def _damage(self) -> str | None:
        try:
            # Of a connection that only reads, SQLite checks no constraints.
            with closing(attach(self.path, "rw")) as connection:
                return find_damage(connection)
        except sqlite3.Error as error:
            return str(error)

    def _damaged(self, what: object) -> LibraryError:
        return LibraryError(f"A library must be a sound SQLite file; {self.path} gave: {what}. Restore it from a copy.")

    def _expect_open(self) -> None:
        if self._closed:
            raise LibraryError(f"A library is used while it is open; {self.path.parent} was closed. Open it again.")

    def _take(self) -> sqlite3.Connection:
        with self._pool:
            self._expect_open()
            if not self._idle:
                connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
                self._all.append(connection)
                self._idle.append(connection)
            return self._idle.pop()

    def _connect(self) -> sqlite3.Connection:
        connection = attach(self.path, "rw")
        make_durable(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _migrate(self) -> None:
        """Take the file, in one transaction a step, from the schema it has to the newest."""
        sql = self._writer.execute
        while True:
            sql("BEGIN IMMEDIATE")
            try:
                version = int(sql("PRAGMA user_version").fetchone()[0])
                if version > len(MIGRATIONS):
                    raise LibraryError(
                        f"This facetl reads libraries up to schema {len(MIGRATIONS)}; {self.path} has schema "
                        f"{version}, of a newer facetl. Upgrade facetl."
                    )
                if version == len(MIGRATIONS):
                    return
                if version < 0:
                    raise sqlite3.DatabaseError(f"its schema is {version}")
                for statement in MIGRATIONS[version].split(";"):
                    sql(statement)
                sql(f"PRAGMA user_version = {version + 1}")
                sql("COMMIT")
            finally:
                if self._writer.in_transaction:
                    sql("ROLLBACK")


def rows_of(sql: Execute, query: str, values: Sequence[Any], *before: Any) -> list[tuple[Any, ...]]:
    """Run a SELECT whose `{marks}` takes any number of values, after the parameters `before`."""
    found: list[tuple[Any, ...]] = []
    for part in parts(values):
        found += sql(query.format(marks=",".join("?" * len(part))), (*before, *part)).fetchall()
    return found
