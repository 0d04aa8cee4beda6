"""The library's SQLite file: one writer at a time, any number of readers, and errors that a user can read."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from facetl.errors import LibraryError
from facetl.io.files import open_private
from facetl.io.sqlite_file import Execute, attach, make_durable, parts, transaction, vacuum
from facetl.people.store.schema import MIGRATIONS

_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}


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
                "permissions and the disk."
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
        """Turn the errors of SQLite into LibraryError."""
        try:
            yield
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
            raise LibraryError(
                f"A library must be a sound SQLite file; {self.path} gave: {error}. Restore it from a copy."
            ) from error

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
                for statement in MIGRATIONS[version].split(";"):
                    sql(statement)
                sql(f"PRAGMA user_version = {version + 1}")
                sql("COMMIT")
            finally:
                if self._writer.in_transaction:
                    sql("ROLLBACK")


def rows_of(sql: Execute, query: str, values: Sequence[Any], *before: Any) -> list[tuple[Any, ...]]:
    """Run a SELECT whose `{marks}` stands for any number of values, after the parameters `before`."""
    found: list[tuple[Any, ...]] = []
    for part in parts(values):
        found += sql(query.format(marks=",".join("?" * len(part))), (*before, *part)).fetchall()
    return found
