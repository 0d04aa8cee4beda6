"""The embedding cache: float16 feature rows on disk, keyed by a photo's bytes and the extractor.

    FOLDER/index.sqlite                              which rows count (SQLite, WAL)
    FOLDER/<fingerprint[:16]>/shard-00000.npy ...    the rows, append-only

A row counts once its bytes are fsynced and its index entry committed, so a process killed at any moment loses
at most the batch in flight. One process writes at a time; any number read meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.embeddings.index import CachedExtractor, Index, turned_key
from facetl.embeddings.shards import DTYPE, CachedRows, Shard, Slot, Tail
from facetl.errors import CacheError
from facetl.io.files import WriterLock, checksum, make_private_folder, translate_disk_errors
from facetl.io.json import JsonFields
from facetl.io.vector_file import vector_file

_FINGERPRINT = re.compile(r"[0-9a-f]{16,}")
_EXPORTED = 512  # rows read at a time: 14 MB of 14,112 numbers
_SHA256 = re.compile(r"[0-9a-f]{64}")


class EmbeddingCache:
    """The rows of one extractor in one cache folder; a context manager.

    Open it with `EmbeddingCache.open`. Photos are named by the sha256 of their bytes, 64 hex digits.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        *,
        index: Index,
        write: bool,
        description: Mapping[str, object],
    ) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.description = description
        self.torn = 0
        self._index = index
        self._write = write
        self._opened = ExitStack()
        self._extractor: CachedExtractor | None = index.extractor(fingerprint)
        self._tail: Tail | None = None
        self._shards: dict[int, Shard] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        fingerprint: str,
        dim: int | None = None,
        description: Mapping[str, object] | None = None,
        write: bool,
    ) -> Self:
        """Open the rows of the extractor `fingerprint` (16 or more hex digits), each of `dim` numbers.

        Without `dim` it is that of the rows there, or of the first that are appended. With `write` the folder
        is created where missing, for its owner alone, and rows that a damaged file no longer holds whole are
        forgotten (`torn` counts them), so that they are computed again.

        Raises `CacheLockedError` where another process writes, `CacheError` where there is no cache to read,
        where it is of a newer facetl or where `dim` differs.
        """
        folder = Path(folder)
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise CacheError(
                f"A fingerprint is 16 or more hex digits; received {fingerprint!r}. Use ExtractorSpec.fingerprint."
            )
        with ExitStack() as opened:
            if write:
                with translate_disk_errors(folder):
                    make_private_folder(folder)
                    lock = WriterLock(folder / "writer.lock")
                    lock.acquire()
                opened.callback(lock.release)
            index = opened.enter_context(Index.open(folder, write=write))
            cache = cls(folder, fingerprint, index=index, write=write, description=description or {})
            cache._expect(dim)
            if write:
                cache._mend()
            cache._opened = opened.pop_all()
            return cache

    def close(self) -> None:
        """End writing and give the lock back; rows gathered before stay usable."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        extractor = self._known()
        return self._index.count(extractor.id) if extractor else 0

    @property
    def dim(self) -> int | None:
        """Numbers in a row; None before the first row."""
        extractor = self._known()
        return extractor.dim if extractor else None

    @property
    def stored_description(self) -> Mapping[str, object]:
        """The extractor's description, stored with its first row; empty before."""
        extractor = self._known()
        return extractor.description if extractor else {}

    def has(self, shas: Sequence[str]) -> NDArray[np.bool_]:
        """Return which photos have a whole, committed row [n]."""
        found = self._resolve(shas)
        return np.fromiter((sha in found for sha in shas), dtype=bool, count=len(shas))

    def rows(self, shas: Sequence[str]) -> NDArray[np.float16]:
        """Return the rows of these photos, float16 [n, dim], in their order.

        Raises `CacheError` where a photo has none, `CacheCorruptError` where bytes changed on the disk.
        """
        return self.gather(shas).array()

    def gather(self, shas: Sequence[str]) -> CachedRows:
        """Return the rows of these photos as an array on disk: found once, read (and checked) when indexed."""
        found = self._resolve(shas)
        missing = [sha for sha in shas if sha not in found]
        if missing:
            raise CacheError(
                f"Every photo must have a row in the cache; {len(missing)} of {len(shas)} have none in "
                f"{self.folder} (the first has sha256 {missing[0]}). Run `facetl cache` on the photos first."
            )
        slots = [found[sha] for sha in shas]
        shards = [self._shards[number] for number in sorted({slot.shard for slot in slots})]
        return CachedRows(shards, [bytes.fromhex(sha) for sha in shas], slots, dim=self.dim or 0)

    def batches(self, size: int) -> Iterator[tuple[list[str], NDArray[np.float16]]]:
        """Yield all rows as they lie on the disk, up to `size` at a time: their photos' sha256, float16 [n, dim].

        Raises CacheCorruptError where bytes changed on the disk.
        """
        extractor = self._known()
        for number in self._index.shards(extractor.id) if extractor else ():
            assert extractor is not None
            shas = [key.hex() for key, _ in self._index.rows_of(extractor.id, number)]
            for start in range(0, len(shas), size):
                part = shas[start : start + size]
                yield part, self.rows(part)

    def remembered_paths(self) -> dict[str, list[str]]:
        """Return where photos were seen, by the sha256 of their bytes."""
        paths: dict[str, list[str]] = {}
        for path, key in self._index.photos():
            paths.setdefault(key.hex(), []).append(path)
        return paths

    def append(self, shas: Sequence[str], rows: ArrayLike) -> None:
        """Add the rows [n, dim] of these photos as one durable batch: when it returns, they count.

        They are kept as float16. A photo that has a row keeps it; one given twice gets its first.

        Raises `CacheError` on a wrong shape or on rows that are not finite in float16, `CacheFullError` where
        the disk takes no more; then no row of the batch counts.
        """
        self._expect_writer()
        halves = self._checked_halves(shas, rows)
        first = {sha: place for place, sha in reversed(list(enumerate(shas)))}
        found = self._resolve(shas)
        places = [place for sha, place in first.items() if sha not in found]
        if not places:
            return
        places.sort()
        if self._extractor is None:
            self._extractor = self._index.register(self.fingerprint, halves.shape[1], self.description)
        try:
            with translate_disk_errors(self.folder):
                self._append_new([bytes.fromhex(shas[place]) for place in places], halves[places])
        except BaseException:
            # What was written past the last commit counts for nothing: begin there again.
            if self._tail is not None:
                self._tail.close()
                self._tail = None
            raise

    def remember_paths(self, shas: Mapping[Path, str]) -> None:
        """Note where each photo was seen and with which content, for `gc` to look there again."""
        self._expect_writer()
        self._index.remember(shas)

    def remembers(self, shas: Mapping[Path, str]) -> bool:
        """Return whether all of these photos are noted with this content."""
        return self._index.remembers(shas)

    def _append_new(self, keys: list[bytes], halves: NDArray[np.float16]) -> None:
        assert self._extractor is not None
        if self._tail is None:
            self._tail = self._index.tail(self._extractor)
        places = self._tail.write(halves)
        slots = {
            key: Slot(shard, row, checksum(key, half))
            for key, (shard, row), half in zip(keys, places, halves, strict=True)
        }
        self._index.commit(self._extractor.id, slots, next_shard=self._tail.next_shard)

    def _checked_halves(self, shas: Sequence[str], rows: ArrayLike) -> NDArray[np.float16]:
        given = np.asarray(rows)
        dim = self.dim
        if given.ndim != 2 or given.shape != (len(shas), dim or given.shape[1]) or not given.shape[1]:
            raise CacheError(
                f"Rows for {len(shas)} photos must be an array [{len(shas)}, {dim or 'dim'}]; received shape "
                f"{list(given.shape)}. Was the cache filled by another extractor under the same fingerprint?"
            )
        with np.errstate(over="ignore"):
            halves = np.ascontiguousarray(given, dtype=DTYPE)
        bad = np.flatnonzero(~np.isfinite(halves).all(axis=1))
        if len(bad):
            worst = float(np.abs(given[bad[0]].astype(np.float64)).max())
            raise CacheError(
                f"Features must be finite and at most 65504 in size (float16); {len(bad)} of {len(shas)} "
                f"rows are not (photo sha256 {shas[bad[0]]}, largest {worst:g}). Check the extractor and "
                "its weights."
            )
        return halves

    def _known(self) -> CachedExtractor | None:
        # A writer in another process may have entered it since.
        if self._extractor is None:
            self._extractor = self._index.extractor(self.fingerprint)
        return self._extractor

    def _expect_writer(self) -> None:
        if not self._write:
            raise CacheError(
                f"A cache must be opened for writing before it is changed; {self.folder} was opened for "
                "reading. Use EmbeddingCache.open(..., write=True)."
            )

    def _expect(self, dim: int | None) -> None:
        extractor = self._known()
        if extractor and dim is not None and extractor.dim != dim:
            raise CacheError(
                f"A row of extractor {self.fingerprint[:16]} in {self.folder} has {extractor.dim} numbers; "
                f"{dim} were asked for. Use the extractor that filled it, or another cache folder."
            )

    def _mend(self) -> None:
        """Forget rows that are no longer whole, and give damaged files their shape back."""
        if self._extractor is None:
            return
        layout = self._extractor.shard_format(self.folder)
        with translate_disk_errors(self.folder):
            for number in self._index.shards(self._extractor.id):
                whole = layout.whole_rows(number)
                if whole < layout.capacity:
                    self.torn += self._index.drop_torn(self._extractor.id, number, max(0, whole))
                if whole < 0:
                    self._index.drop_shard(self._extractor.id, number)
                elif whole < layout.capacity or not layout.header_matches(number):
                    layout.mend(number)

    def _resolve(self, shas: Sequence[str]) -> dict[str, Slot]:
        """Return the slots of those photos that have a whole row; every shard named is open afterwards."""
        names = {_key(sha): sha for sha in shas}
        extractor = self._known()
        if extractor is None:
            return {}
        while True:
            found = self._index.find(extractor.id, names)
            whole = self._open_shards(extractor, found)
            # gc may have moved rows meanwhile: then their shard is gone, and the index says where to.
            if all(whole.values()) or found == self._index.find(extractor.id, names):
                break
        return {names[key]: slot for key, slot in found.items() if slot.row < whole[slot.shard]}

    def _open_shards(self, extractor: CachedExtractor, found: Mapping[bytes, Slot]) -> dict[int, int]:
        """Open the shards of these slots; return how many whole rows each has, 0 where it is missing."""
        needed: dict[int, int] = {}
        for slot in found.values():
            needed[slot.shard] = max(needed.get(slot.shard, 0), slot.row + 1)
        for number, rows in needed.items():
            shard = self._shards.get(number)
            if shard is None or len(shard) < rows:
                self._shards.pop(number, None)
                with suppress(FileNotFoundError):
                    self._shards[number] = Shard(extractor.shard_format(self.folder), number)
        return {number: len(self._shards.get(number, ())) for number in needed}


@dataclass(frozen=True)
class FeatureExport(JsonFields):
    """The result of an export: the extractor's fingerprint, rows, those of them that have a path, numbers in a row."""

    fingerprint: str
    rows: int
    with_path: int
    dim: int


def export_features(folder: Path, out: Path, *, fingerprint: str | None = None) -> FeatureExport:
    """Write the features of one extractor to a `.npy` (float16), `.parquet` or `.csv` file, for its owner alone.

    Beside the feature a row has the path at which the photo was seen last, and the sha256 of its bytes. A photo that
    lies at several paths has a row for each; a row of no remembered path, as those of a library's faces, has an empty
    one.

    Args:
        folder: the cache.
        fingerprint: which extractor's rows, by the start of its fingerprint; None for the only one.

    Raises CacheError where there is no such cache or extractor, or more than one; CacheCorruptError where bytes changed
    on the disk; DataError for another ending of `out`.
    """
    with Index.open(folder, write=False) as index:
        chosen = _chosen(index.extractors(), folder, fingerprint or "")
    rows = with_path = 0
    with EmbeddingCache.open(folder, fingerprint=chosen.fingerprint, write=False) as cache, vector_file(out) as file:
        remembered = cache.remembered_paths()
        paths = {
            key: [(path, sha) for path in places]
            for sha, places in remembered.items()
            for key in (sha, turned_key(sha))
        }
        for shas, features in cache.batches(_EXPORTED):
            lines = [(place, path, sha) for place, key in enumerate(shas) for path, sha in paths.get(key, [("", key)])]
            places, named, digests = zip(*lines, strict=True)
            file.append({"path": named, "sha256": digests}, features[list(places)])
            rows += len(lines)
            with_path += sum(path != "" for path in named)
        if not rows:
            raise CacheError(
                f"{folder}: expected rows of extractor {chosen.fingerprint[:16]}, got none. Fill the cache."
            )
    return FeatureExport(chosen.fingerprint, rows, with_path, chosen.dim)


def _chosen(extractors: list[CachedExtractor], folder: Path, start: str) -> CachedExtractor:
    found = [one for one in extractors if one.fingerprint.startswith(start)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(one.fingerprint[:16] for one in found or extractors) or "none"
    what = f"start with {start!r}" if start else "are in the cache"
    raise CacheError(
        f"--fingerprint: expected the start of one extractor's fingerprint; {len(found)} {what} ({folder} has "
        f"{listed}). facetl cache info tells what each is."
    )


def _key(sha: str) -> bytes:
    if not _SHA256.fullmatch(sha):
        raise CacheError(f"A photo is named by its sha256, 64 hex digits; received {sha!r}. Hash the photo's bytes.")
    return bytes.fromhex(sha)
