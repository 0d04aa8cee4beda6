"""Care of a cache: `verify` checks all rows, `gc` drops those of photos that are gone, `info` gives sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetl.embeddings.index import FILE_NAME, CachedExtractor, Index, MissingCacheError, turned_key
from facetl.embeddings.shards import Shard, Slot, Tail
from facetl.faces.landmark_store import FILE_NAME as LANDMARKS
from facetl.faces.landmark_store import DetectorInfo, existing_store
from facetl.io.files import WriterLock, checksum, digests, disk_bytes, sync_folder, translate_disk_errors
from facetl.io.json import JsonFields

_BLOCK = 2**24  # bytes copied, and synced, at a time while compacting


@dataclass(frozen=True)
class ExtractorInfo(JsonFields):
    """One extractor of a cache: what it is, numbers in a row, rows, shards and their bytes on disk."""

    fingerprint: str
    description: Mapping[str, object]
    dim: int
    rows: int
    shards: int
    bytes: int


@dataclass(frozen=True)
class InfoReport(JsonFields):
    """A cache's extractors, the photos that it knows, the bytes it takes on disk, and the detectors of faces."""

    extractors: tuple[ExtractorInfo, ...]
    photos: int
    bytes: int
    detectors: tuple[DetectorInfo, ...] = ()


@dataclass(frozen=True)
class ExtractorCheck:
    """One extractor's committed rows, and how many are corrupt (bytes changed) or torn (bytes missing)."""

    fingerprint: str
    rows: int
    corrupt: int
    torn: int
    shards: int
    bytes: int


@dataclass(frozen=True)
class VerifyReport(JsonFields):
    """The result of `verify`: sums over all extractors, each extractor, and a line for each damage.

    `corrupt` also counts the photos whose found faces were changed on the disk.
    """

    rows: int
    corrupt: int
    torn: int
    shards: int
    bytes: int
    extractors: tuple[ExtractorCheck, ...]
    damage: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.damage

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and `sound`."""
        return super().to_json() | {"sound": self.sound}


@dataclass(frozen=True)
class GcReport(JsonFields):
    """Rows dropped (corrupt and torn among them) and kept, photos forgotten, bytes before and after.

    `faces_dropped` counts the photos whose found faces were dropped.
    """

    dropped: int
    kept: int
    corrupt: int
    torn: int
    photos_forgotten: int
    bytes_before: int
    bytes_after: int
    faces_dropped: int = 0


def info(folder: Path) -> InfoReport:
    """Return the extractors, rows, photos and bytes of the cache in `folder`; CacheError where there is none."""
    with Index.open(folder, write=False) as index, existing_store(index.folder, write=False) as landmarks:
        extractors = tuple(_extractor_info(index, extractor) for extractor in index.extractors())
        detectors = tuple(landmarks.detectors()) if landmarks else ()
        return InfoReport(extractors, index.count_photos(), _bytes(index), detectors)


def verify(folder: Path) -> VerifyReport:
    """Recompute the checksum of every committed row of every extractor; change nothing.

    Raises `CacheError` where there is no cache, `CacheCorruptError` where its index cannot be read.
    """
    with Index.open(folder, write=False) as index, existing_store(index.folder, write=False) as landmarks:
        damage: list[str] = []
        if not index.sound():
            damage.append(f"{FILE_NAME}: SQLite finds it damaged")
        checks = tuple(_verify_extractor(index, extractor, damage) for extractor in index.extractors())
        totals = {
            name: sum(getattr(check, name) for check in checks)
            for name in ("rows", "corrupt", "torn", "shards", "bytes")
        }
        changed = landmarks.damaged() if landmarks else 0
        if changed:
            damage.append(f"{LANDMARKS}: changed bytes, the faces of {changed} photos")
        totals["corrupt"] += changed
        return VerifyReport(**totals, extractors=checks, damage=tuple(damage))


def gc(folder: Path, *, faces: Collection[str] = (), photos: Collection[str] = ()) -> GcReport:
    """Drop damaged rows and those whose photo no longer exists anywhere with the same content; compact the shards.

    The faces found in such photos are dropped, too. In the cache of a library of people, `faces` are the keys of its
    faces and `photos` the sha256 of its photos: what was computed of them stays, wherever the photos are.

    A shard with dead rows is copied into a new one, the index switched over, and only then the old file
    removed: killed at any moment, the cache stays whole. Photos on a disk that is not connected are gone.

    Raises `CacheLockedError` where another process writes, `CacheFullError` where the disk has no room for
    the copies.
    """
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file() and not (folder / LANDMARKS).is_file():
        raise MissingCacheError(folder)
    with _locked_index(folder) as index, existing_store(folder, write=True) as landmarks:
        index.settle()
        before = _bytes(index)
        seen = index.photos()
        searched = landmarks.photos() if landmarks else []
        paths = list(dict.fromkeys(path for path, _ in seen + searched))
        now = dict(zip(paths, digests([Path(path) for path in paths]), strict=True))
        living = {sha for path, sha in seen + searched if now[path] == sha.hex()} | {*map(bytes.fromhex, photos)}
        gone = [[path for path, sha in photos if now[path] != sha.hex()] for photos in (seen, searched)]
        index.forget(gone[0])
        faces_dropped = 0
        if landmarks:
            landmarks.forget(gone[1])
            faces_dropped = landmarks.keep(living)
        wanted = living | {bytes.fromhex(turned_key(sha.hex())) for sha in living} | {*map(bytes.fromhex, faces)}
        dropped = kept = corrupt = torn = 0
        for extractor in index.extractors():
            rows = index.count(extractor.id)
            found = _gc_extractor(index, extractor, wanted)
            corrupt, torn = corrupt + found[0], torn + found[1]
            left = index.count(extractor.id)
            dropped, kept = dropped + rows - left, kept + left
        index.settle()
        forgotten = len(set(gone[0] + gone[1]))
        return GcReport(dropped, kept, corrupt, torn, forgotten, before, _bytes(index), faces_dropped)


def keep(folder: Path, living: Collection[str]) -> int:
    """Drop the rows of all keys but these, in every extractor, and every trace of them; return how many.

    Shards that hold any are written anew, as `gc` does, and what a killed writer left behind the last row is blanked.
    Raises `CacheError` where there is no cache, `CacheLockedError` where another process writes.
    """
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file():
        raise MissingCacheError(folder)
    wanted = {bytes.fromhex(key) for key in living}
    with _locked_index(folder) as index:
        index.forget([path for path, sha in index.photos() if sha not in wanted])
        dropped = 0
        for extractor in index.extractors():
            rows = index.count(extractor.id)
            _gc_extractor(index, extractor, wanted)
            dropped += rows - index.count(extractor.id)
            layout, tail = extractor.shard_format(folder), index.tail(extractor)
            if tail.shard is not None:
                layout.blank(tail.shard, tail.used)
        index.vacuum()
        return dropped


@contextmanager
def _locked_index(folder: Path) -> Iterator[Index]:
    """Open the index to write, under the writer's lock."""
    lock = WriterLock(folder / "writer.lock")
    lock.acquire()
    try:
        with translate_disk_errors(folder), Index.open(folder, write=True) as index:
            yield index
    finally:
        lock.release()


def _gc_extractor(index: Index, extractor: CachedExtractor, living: set[bytes]) -> tuple[int, int]:
    """Compact one extractor; return how many rows were corrupt and how many torn."""
    layout = extractor.shard_format(index.folder)
    corrupt: set[bytes] = set()
    torn = 0
    stale: list[int] = []
    underfull: list[int] = []
    for number in index.shards(extractor.id):
        entries = index.rows_of(extractor.id, number)
        shard = _open(extractor, index, number)
        bad = [key for key, _ in _damaged(shard, entries)]
        lost = [key for key, slot in entries if shard is None or slot.row >= len(shard)]
        corrupt.update(bad)
        torn += len(lost)
        alive = [key for key, _ in entries if key in living]
        if bad or lost or len(alive) < len(entries) or not entries:
            stale.append(number)
        elif len(entries) < extractor.capacity:
            underfull.append(number)
        index.drop_rows(extractor.id, lost + bad + [key for key, _ in entries if key not in living])
    shard = None  # Windows removes no file that is mapped
    if stale:
        tail = Tail(layout, shard=None, used=0, next_shard=extractor.next_shard)
        try:
            for number in sorted(stale + underfull):
                _move(index, extractor, number, tail)
        finally:
            tail.close()
    _remove_strays(index, extractor)
    return len(corrupt), torn


def _move(index: Index, extractor: CachedExtractor, number: int, tail: Tail) -> None:
    """Copy what still counts in a shard to the tail, switch the index over, and remove the file."""
    entries = index.rows_of(extractor.id, number)
    if entries:
        shard = Shard(tail.layout, number)
        moved: dict[bytes, Slot] = {}
        step = max(1, _BLOCK // tail.layout.row_bytes)
        for start in range(0, len(entries), step):
            part = entries[start : start + step]
            places = tail.write(shard.table[[slot.row for _, slot in part]])
            for (key, slot), (to_shard, to_row) in zip(part, places, strict=True):
                moved[key] = Slot(to_shard, to_row, slot.checksum)
        index.commit(extractor.id, moved, next_shard=tail.next_shard)
        del shard  # Windows removes no file that is mapped
    index.drop_shard(extractor.id, number)
    tail.layout.path(number).unlink(missing_ok=True)


def _remove_strays(index: Index, extractor: CachedExtractor) -> None:
    """Remove shards that a killed writer or gc left and the index does not know."""
    folder = extractor.shard_format(index.folder).folder
    if not folder.is_dir():
        return
    known = {extractor.shard_format(index.folder).path(number).name for number in index.shards(extractor.id)}
    for path in folder.glob("shard-*.npy*"):
        if path.name not in known:
            path.unlink(missing_ok=True)
    sync_folder(folder)


def _verify_extractor(index: Index, extractor: CachedExtractor, damage: list[str]) -> ExtractorCheck:
    layout = extractor.shard_format(index.folder)
    rows = corrupt = torn = bytes_on_disk = 0
    shards = index.shards(extractor.id)
    for number in shards:
        entries = index.rows_of(extractor.id, number)
        shard = _open(extractor, index, number)
        if shard is None and number not in index.shards(extractor.id):
            continue  # gc moved its rows to a later shard meanwhile
        lost = len(entries) if shard is None else sum(slot.row >= len(shard) for _, slot in entries)
        bad = _damaged(shard, entries)
        name = layout.path(number).relative_to(index.folder)
        if lost:
            damage.append(f"{name}: {'missing' if shard is None else 'cut short'}, {lost} rows torn")
        if shard is not None and not layout.header_matches(number):
            damage.append(f"{name}: its .npy header was changed")
        damage += [f"{name}, row {slot.row}: changed bytes, photo sha256 {key.hex()}" for key, slot in bad]
        rows, corrupt, torn = rows + len(entries), corrupt + len(bad), torn + lost
        bytes_on_disk += disk_bytes(layout.path(number))
    return ExtractorCheck(extractor.fingerprint, rows, corrupt, torn, len(shards), bytes_on_disk)


def _damaged(shard: Shard | None, entries: list[tuple[bytes, Slot]]) -> list[tuple[bytes, Slot]]:
    """Return those rows that are there but no longer match their checksums."""
    if shard is None:
        return []
    present = ((key, slot) for key, slot in entries if slot.row < len(shard))
    return [(key, slot) for key, slot in present if checksum(key, shard.table[slot.row]) != slot.checksum]


def _open(extractor: CachedExtractor, index: Index, number: int) -> Shard | None:
    try:
        return Shard(extractor.shard_format(index.folder), number)
    except FileNotFoundError:
        return None


def _extractor_info(index: Index, extractor: CachedExtractor) -> ExtractorInfo:
    layout = extractor.shard_format(index.folder)
    shards = index.shards(extractor.id)
    size = sum(disk_bytes(layout.path(number)) for number in shards)
    rows = index.count(extractor.id)
    return ExtractorInfo(extractor.fingerprint, extractor.description, extractor.dim, rows, len(shards), size)


def _bytes(index: Index) -> int:
    """Return the bytes that the index, the found faces and all shards take on disk."""
    paths = [*index.folder.glob(f"{FILE_NAME}*"), *index.folder.glob(f"{LANDMARKS}*")]
    for extractor in index.extractors():
        paths += extractor.shard_format(index.folder).folder.glob("shard-*.npy*")
    return sum(map(disk_bytes, paths))
