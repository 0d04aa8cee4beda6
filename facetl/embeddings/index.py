"""The index of a cache: an SQLite file (WAL) with the rows of the shards that count, each with its photo."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetl.embeddings.shards import LARGEST_SHARD, ShardFormat, Slot, Tail, capacity
from facetl.errors import CacheCorruptError, CacheError
from facetl.io.files import sha256_of
from facetl.io.json import parse_json
from facetl.io.sqlite_file import PHOTO_TABLE, PhotoPathsFile, Schema, parts

FILE_NAME = "index.sqlite"

_TABLES = f"""
CREATE TABLE extractors (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    folder TEXT NOT NULL UNIQUE,
    dim INTEGER NOT NULL,
    capacity INTEGER NOT NULL,
    next_shard INTEGER NOT NULL DEFAULT 0,
    description TEXT NOT NULL
);
CREATE TABLE shards (
    extractor INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    PRIMARY KEY (extractor, shard)
) WITHOUT ROWID;
CREATE TABLE rows (
    extractor INTEGER NOT NULL,
    sha BLOB NOT NULL,
    shard INTEGER NOT NULL,
    row INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (extractor, sha)
) WITHOUT ROWID;
CREATE UNIQUE INDEX slots ON rows (extractor, shard, row);
{PHOTO_TABLE}
CREATE INDEX photos_by_sha ON photos (sha);
"""
_SCHEMA = Schema("caches", 1, _TABLES)
_EXTRACTOR = (int, str, str, int, int, int, str)
# Not OR REPLACE: two photos in one slot must be an error.
_PUT_ROW = """
INSERT INTO rows (extractor, sha, shard, row, checksum) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (extractor, sha)
DO UPDATE SET shard = excluded.shard, row = excluded.row, checksum = excluded.checksum
"""


class MissingCacheError(CacheError):
    """There is no cache in this folder, or its first writer ended before it was one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"A cache must be filled before it is read; {folder} holds none. Run `facetl cache`.")


def turned_key(sha: str) -> str:
    """Return the key of an aligned photo's row where its face was found with the photo turned.

    An earlier facetl looked at photos upright alone, and may have left a row of another face under the photo's sha256.
    """
    return sha256_of(bytes.fromhex(sha) + b"turned")


@dataclass(frozen=True)
class CachedExtractor:
    """An extractor as the index knows it."""

    id: int
    fingerprint: str
    folder: str
    dim: int
    capacity: int
    next_shard: int
    description: Mapping[str, object]

    def shard_format(self, cache_folder: Path) -> ShardFormat:
        return ShardFormat(cache_folder / self.folder, self.dim, self.capacity)


class Index(PhotoPathsFile):
    """The SQLite file of one cache folder, opened for reading or, under the writer's lock, for writing."""

    FILE_NAME = FILE_NAME
    SCHEMA = _SCHEMA
    RULE = "The cache's index must be a sound SQLite file"
    REMEDY = "Delete the folder {folder} and run `facetl cache` to compute its rows again."

    @classmethod
    def _missing(cls, folder: Path) -> CacheError:
        return MissingCacheError(folder)

    def extractors(self) -> list[CachedExtractor]:
        """Return all extractors that have ever had rows here."""
        return [self._extractor(record) for record in self._typed(_EXTRACTOR, "SELECT * FROM extractors ORDER BY id")]

    def extractor(self, fingerprint: str) -> CachedExtractor | None:
        records = self._typed(_EXTRACTOR, "SELECT * FROM extractors WHERE fingerprint = ?", fingerprint)
        return self._extractor(records[0]) if records else None

    def register(self, fingerprint: str, dim: int, description: Mapping[str, object]) -> CachedExtractor:
        """Enter a new extractor; its shards will lie in a folder named by the start of its fingerprint."""
        text = json.dumps(dict(description), sort_keys=True, default=str)
        with self._transaction() as sql:
            sql(
                "INSERT INTO extractors (fingerprint, folder, dim, capacity, description) VALUES (?,?,?,?,?)",
                (fingerprint, fingerprint[:16], dim, capacity(dim), text),
            )
        found = self.extractor(fingerprint)
        assert found is not None
        return found

    def find(self, extractor: int, keys: Collection[bytes]) -> dict[bytes, Slot]:
        """Return the slots of those photos (sha256 as 32 bytes) that have a committed row."""
        found: dict[bytes, Slot] = {}
        for part in parts(list(dict.fromkeys(keys))):
            marks = ",".join("?" * len(part))
            query = f"SELECT sha, shard, row, checksum FROM rows WHERE extractor = ? AND sha IN ({marks})"
            found.update(self._slots(query, extractor, *part))
        # A damaged index may answer with what was not asked for.
        wanted = set(keys)
        return {key: slot for key, slot in found.items() if key in wanted}

    def rows_of(self, extractor: int, shard: int) -> list[tuple[bytes, Slot]]:
        """Return all committed rows of one shard, in the order in which they lie."""
        query = "SELECT sha, shard, row, checksum FROM rows WHERE extractor = ? AND shard = ? ORDER BY row"
        return self._slots(query, extractor, shard)

    def count(self, extractor: int) -> int:
        return int(self._all("SELECT count(*) FROM rows WHERE extractor = ?", extractor)[0][0])

    def shards(self, extractor: int) -> list[int]:
        query = "SELECT shard FROM shards WHERE extractor = ? ORDER BY shard"
        return [shard for (shard,) in self._typed((int,), query, extractor)]

    def tail(self, extractor: CachedExtractor) -> Tail:
        """Return the place of the next rows of an extractor: after its last committed row."""
        shards = self.shards(extractor.id)
        used = 0
        if shards:
            query = "SELECT coalesce(max(row) + 1, 0) FROM rows WHERE extractor = ? AND shard = ?"
            [(used,)] = self._typed((int,), query, extractor.id, shards[-1])
        last = shards[-1] if shards else None
        [(next_shard,)] = self._typed((int,), "SELECT next_shard FROM extractors WHERE id = ?", extractor.id)
        return Tail(extractor.shard_format(self.folder), shard=last, used=used, next_shard=next_shard)

    def commit(self, extractor: int, slots: Mapping[bytes, Slot], *, next_shard: int) -> None:
        """Make rows count, all or none; a photo that had a row elsewhere has only the new one."""
        with self._transaction() as sql:
            # Numbers of shards are never used twice, so a reader's open map never changes its meaning.
            sql("UPDATE extractors SET next_shard = ? WHERE id = ?", (next_shard, extractor))
            for shard in {slot.shard for slot in slots.values()}:
                sql("INSERT OR IGNORE INTO shards VALUES (?, ?)", (extractor, shard))
            for key, slot in slots.items():
                sql(_PUT_ROW, (extractor, key, *slot))

    def drop_rows(self, extractor: int, keys: Iterable[bytes]) -> None:
        with self._transaction() as sql:
            for key in keys:
                sql("DELETE FROM rows WHERE extractor = ? AND sha = ?", (extractor, key))

    def drop_torn(self, extractor: int, shard: int, whole: int) -> int:
        """Forget the rows of a shard from row `whole` on; return how many those were."""
        with self._transaction() as sql:
            query = "DELETE FROM rows WHERE extractor = ? AND shard = ? AND row >= ?"
            return sql(query, (extractor, shard, whole)).rowcount

    def drop_shard(self, extractor: int, shard: int) -> None:
        with self._transaction() as sql:
            sql("DELETE FROM rows WHERE extractor = ? AND shard = ?", (extractor, shard))
            sql("DELETE FROM shards WHERE extractor = ? AND shard = ?", (extractor, shard))

    def count_photos(self) -> int:
        """Count the remembered photos that have a row of at least one extractor."""
        keys = {key for (key,) in self._all("SELECT DISTINCT sha FROM rows")}
        shas = [sha for _, sha in self.photos()]
        return sum(sha in keys or bytes.fromhex(turned_key(sha.hex())) in keys for sha in shas)

    def sound(self) -> bool:
        """Return whether SQLite finds no damage in its own file."""
        try:
            return self._all("PRAGMA quick_check(1)") == [("ok",)]
        except CacheCorruptError:
            return False

    def settle(self) -> None:
        """Take what is committed over into the main file and empty the log, as far as readers let it."""
        self._all("PRAGMA wal_checkpoint(TRUNCATE)")

    def _extractor(self, record: tuple[Any, ...]) -> CachedExtractor:
        number, fingerprint, folder, dim, rows, next_shard, description = record
        with self._translate_damage(self.folder):
            try:
                settings = dict(parse_json(description))
            except (TypeError, ValueError) as error:
                raise sqlite3.DatabaseError(f"extractor {number}: {error}") from error
            # A shard of one row may be as long as the row; any other was made of a size that facetl gives them.
            if folder != fingerprint[:16] or not dim * rows or (rows > 1 and dim * rows * 2 > LARGEST_SHARD):
                raise sqlite3.DatabaseError(f"extractor {number} has impossible values")
        return CachedExtractor(number, fingerprint, folder, dim, rows, next_shard, settings)

    def _slots(self, query: str, *parameters: object) -> list[tuple[bytes, Slot]]:
        return [(key, Slot(*slot)) for key, *slot in self._typed((bytes, int, int, int), query, *parameters)]
