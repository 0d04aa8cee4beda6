"""The base of all of facetl's SQLite files: WAL, durable commits, nothing left of what was deleted."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from facetl.errors import CacheCorruptError, CacheError
from facetl.io.files import make_private_folder, open_private, translate_disk_errors

Execute = Callable[..., sqlite3.Cursor]
PATIENCE = 60.0  # seconds for which one writer waits for another
_BRIEFLY = 5  # seconds for which emptying the log waits for readers
PHOTO_TABLE = "CREATE TABLE photos (path BLOB PRIMARY KEY, sha BLOB NOT NULL) WITHOUT ROWID;"
_AT_ONCE = 500  # parameters of one statement; older SQLite allows 999


@dataclass(frozen=True)
class Schema:
    """The tables of one of the cache's files.

    Attributes:
        holds: what lies in such files, for messages.
        version: of the tables; a file of a later one is refused.
        sql: that makes them, statements divided by semicolons.
    """

    holds: str
    version: int
    sql: str


class CacheFile:
    """One of the SQLite files of a cache's folder, for several threads; a context manager. Open it with `open`.

    A kind of file states its name, its tables, and which rule a damaged one breaks and what to do then; `{folder}` and
    `{path}` are filled in.
    """

    FILE_NAME: ClassVar[str]
    SCHEMA: ClassVar[Schema]
    RULE: ClassVar[str]
    REMEDY: ClassVar[str]

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path, *, write: bool) -> Self:
        """Open the file; with `write`, folder and file are made where missing, for their owner alone.

        Raises CacheError where there is none to read or it is of a newer facetl, CacheCorruptError where it is damaged.
        """
        folder = Path(folder)
        path = folder / cls.FILE_NAME
        with translate_disk_errors(folder), cls._translate_damage(folder):
            if write:
                make_private_folder(folder)
                # SQLite gives its -wal and -shm files the mode of this one.
                os.close(open_private(path, os.O_RDWR))
            elif not path.is_file():
                raise cls._missing(folder)
            return cls(folder, connect(path, cls.SCHEMA, write=write, missing=cls._missing(folder)))

    def close(self) -> None:
        """End the use of the file; a second call does nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def vacuum(self) -> None:
        """Write the file anew without a trace of what was deleted, and empty the log."""
        with self._errors():
            vacuum(self._connection)

    @classmethod
    def _missing(cls, folder: Path) -> CacheError:
        """Make the error for a folder without such a file."""
        raise NotImplementedError

    @classmethod
    @contextmanager
    def _translate_damage(cls, folder: Path) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            path = folder / cls.FILE_NAME
            remedy = cls.REMEDY.format(folder=folder, path=path)
            raise CacheCorruptError(f"{cls.RULE}; {path} is damaged ({error}). {remedy}") from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._lock, translate_disk_errors(self.folder), self._translate_damage(self.folder):
            yield

    def _all(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._connection.execute(query, parameters).fetchall()

    def _typed(self, kinds: Sequence[type], query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return records whose columns are of these kinds, whole numbers 0 or more: SQLite itself keeps anything."""
        records = self._all(query, *parameters)
        with self._translate_damage(self.folder):
            if not all(map(_are, records, [kinds] * len(records))):
                raise sqlite3.DatabaseError("a row holds impossible values")
        return records

    @contextmanager
    def _transaction(self) -> Iterator[Execute]:
        with self._errors(), transaction(self._connection) as sql:
            yield sql


class PhotoPathsFile(CacheFile):
    """A file of the cache that also notes where photos were seen, in the table `photos` that PHOTO_TABLE makes."""

    def photos(self) -> list[tuple[str, bytes]]:
        """Return every remembered photo: its path and the sha256 it had."""
        query = "SELECT path, sha FROM photos ORDER BY path"
        return [(os.fsdecode(path), sha) for path, sha in self._typed((bytes, bytes), query)]

    def remember(self, shas: Mapping[Path, str]) -> None:
        """Note where each photo was seen and with which content, for `cache gc` to look there again."""
        photos = _by_path(shas)
        known = self._remembered(photos)
        fresh = [item for item in photos.items() if known.get(item[0]) != item[1]]
        if fresh:
            with self._transaction() as sql:
                for item in fresh:
                    sql("INSERT OR REPLACE INTO photos VALUES (?, ?)", item)

    def remembers(self, shas: Mapping[Path, str]) -> bool:
        """Return whether all of these photos are noted with this content."""
        photos = _by_path(shas)
        return self._remembered(photos) == photos

    def forget(self, paths: Iterable[str]) -> None:
        """Forget that photos were seen there."""
        with self._transaction() as sql:
            for path in paths:
                sql("DELETE FROM photos WHERE path = ?", (os.fsencode(path),))

    def _remembered(self, photos: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for part in parts(list(photos)):
            marks = ",".join("?" * len(part))
            found.update(self._all(f"SELECT path, sha FROM photos WHERE path IN ({marks})", *part))
        return found


def _are(record: Sequence[object], kinds: Sequence[type]) -> bool:
    return all(
        type(value) is kind and not (isinstance(value, int) and value < 0)
        for value, kind in zip(record, kinds, strict=True)
    )


def _by_path(shas: Mapping[Path, str]) -> dict[bytes, bytes]:
    return {os.fsencode(os.path.abspath(path)): bytes.fromhex(sha) for path, sha in shas.items()}


def connect(path: Path, schema: Schema, *, write: bool, missing: CacheError) -> sqlite3.Connection:
    """Open a file; with `write`, its tables are made where it has none, else `missing` is raised then.

    Raises CacheError where the file is of a newer facetl.
    """
    connection = attach(path, "rw" if write else "ro")
    try:
        if write:
            make_durable(connection)
            with transaction(connection) as sql:
                if _version(connection, path, schema) == 0:
                    for statement in schema.sql.split(";"):
                        sql(statement)
                    sql(f"PRAGMA user_version = {schema.version}")
            return connection
        try:
            version = _version(connection, path, schema)
        except sqlite3.OperationalError:
            # WAL writes beside the file; on a read-only medium nobody else can, so it stands still.
            connection.close()
            connection = attach(path, "ro&immutable=1")
            version = _version(connection, path, schema)
        if version == 0:
            raise missing
    except BaseException:
        connection.close()
        raise
    return connection


def attach(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection for all threads that commits only on COMMIT; `mode` as in SQLite's URIs."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)


def make_durable(connection: sqlite3.Connection) -> None:
    """Set how a connection writes: ahead into a log, on the disk when a commit returns, over what is deleted."""
    _log_ahead(connection)
    # In WAL mode only FULL makes a commit survive a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    # Paths carry people's names.
    connection.execute("PRAGMA secure_delete = ON")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[Execute]:
    """Give a function that runs SQL in one transaction, durable when the block ends, or undone."""
    sql = connection.execute
    sql("BEGIN IMMEDIATE")
    try:
        yield sql
        sql("COMMIT")
    except BaseException:
        if connection.in_transaction:
            sql("ROLLBACK")
        raise


def vacuum(connection: sqlite3.Connection) -> None:
    """Write the file anew without a trace of what was deleted, and empty the log as far as readers let it.

    `secure_delete` alone is not enough: a cell that SQLite moved to another page leaves its old bytes behind.
    """
    connection.execute("VACUUM")
    # Who reads just now holds the log back; who reads for ever, for ever.
    connection.execute(f"PRAGMA busy_timeout = {_BRIEFLY * 1000}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")


def find_damage(connection: sqlite3.Connection) -> str | None:
    """Return what of a file nobody wrote through its tables' rules, None where it is sound.

    That is: damaged pages, broken constraints and references, and values of another kind than their column's, which
    SQLite takes from whoever writes them.
    """
    sql = connection.execute
    (found,) = sql("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        return str(found)
    if broken := sql("PRAGMA foreign_key_check").fetchone():
        return f"a row of {broken[0]} refers to one of {broken[2]} that is not there"
    for (table,) in sql("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, column, kind, *_ in sql(f'PRAGMA table_info("{table}")').fetchall():
            query = f"""SELECT 1 FROM "{table}" WHERE typeof("{column}") NOT IN (?, 'null') LIMIT 1"""
            if kind and sql(query, (kind.lower(),)).fetchone():
                return f"{table}.{column} holds a value that is no {kind}"
    return None


def parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut values into as many at a time as one statement takes as parameters."""
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL; SQLite itself does not wait for another process that is about to do the same."""
    deadline = time.monotonic() + PATIENCE
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal" and time.monotonic() > deadline:
                raise sqlite3.OperationalError(f"its journal stays {mode}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _version(connection: sqlite3.Connection, path: Path, schema: Schema) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version < 0:
        raise sqlite3.DatabaseError(f"its schema is {version}")
    if version > schema.version:
        raise CacheError(
            f"This facetl reads {schema.holds} up to schema {schema.version}; {path} has schema {version}, of a "
            "newer facetl. Upgrade facetl, or choose another cache folder."
        )
    return version
