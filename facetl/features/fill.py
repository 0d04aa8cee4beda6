"""Fills the embedding cache: photos are hashed, and only those whose bytes have no row pass the extractor."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facetl.errors import PhotoError
from facetl.features.cache import EmbeddingCache
from facetl.features.digests import digests, sha256_of
from facetl.features.index import MissingCacheError

_DECODED_BYTES = 256 * 2**20  # decoded photos held at a time; phone photos take 36 MB each


class Fingerprinted(Protocol):
    """An extractor's settings, of which the cache needs the fingerprint."""

    def fingerprint(self, weights_sha256: str) -> str: ...


class Extractor(Protocol):
    """A frozen net: uint8 RGB photos [h, w, 3] of any size in, float32 features [n, dim] out."""

    @property
    def dim(self) -> int: ...

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class FillReport:
    """What a fill did.

    `photos` were looked at: `computed` got a row now, `reused` had one (or share another's bytes), the rest
    are in `skipped` (reason → count), together with what was skipped before the fill. `seconds` is all of it,
    `rate` the photos computed per second once the extractor stood.
    """

    photos: int
    computed: int
    reused: int
    skipped: dict[str, int]
    seconds: float
    rate: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Fill:
    """The report of a fill, and the sha256 by which the cache knows each photo that has a row."""

    report: FillReport
    shas: dict[Path, str]


@dataclass
class _Work:
    """A fill under way."""

    shas: dict[Path, str]
    waiting: dict[str, list[Path]]
    total: int
    done: int
    on_progress: Callable[[int, int], None] | None
    skipped: Counter[str]
    computed: int = 0
    started: float = field(default_factory=time.perf_counter)

    def advance(self, photos: int) -> None:
        self.done += photos
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


@dataclass(frozen=True)
class _Decoded:
    """A photo read again: its sha256, and its pixels uint8 [h, w, 3] or the reason for none."""

    sha: str
    image: NDArray[np.uint8] | None
    reason: str = ""


def fill(
    photos: Sequence[Path],
    *,
    cache_folder: Path,
    spec: Fingerprinted,
    weights_sha256: str,
    make_extractor: Callable[[], Extractor],
    decode: Callable[[bytes], NDArray[np.uint8]],
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
    skipped: Mapping[str, int] | None = None,
) -> Fill:
    """Gives every readable photo a row in the cache, computing only what is missing.

    `make_extractor` is called only if a row is missing. `decode` turns a photo's bytes into uint8 RGB
    [h, w, 3] or raises `PhotoError`, whose reason is counted; such photos are tried again on every run. Each
    batch is durable when it is done: an interrupted fill (Ctrl-C, kill, full disk) goes on where it stopped.
    `on_progress(done, total)` counts photos; its first call has those that need no work.

    Raises `CacheLockedError` where rows are missing and another process writes, `CacheFullError` where the
    disk is, `CacheError`.
    """
    began = time.perf_counter()
    unique = list(dict.fromkeys(photos))
    reasons = Counter(dict(skipped or {}))
    shas: dict[Path, str] = {}
    for photo, sha in zip(unique, digests(unique), strict=True):
        if sha is None:
            reasons["unreadable"] += 1
        else:
            shas[photo] = sha
    fingerprint = spec.fingerprint(weights_sha256)
    computed, rate = 0, 0.0
    unreadable = len(unique) - len(shas)
    if _all_there(cache_folder, fingerprint, shas):
        if on_progress is not None:
            on_progress(len(unique), len(unique))
    else:
        description = {**_settings(spec), "weights_sha256": weights_sha256}
        with EmbeddingCache.open(cache_folder, fingerprint=fingerprint, description=description, write=True) as cache:
            cache.remember_paths(shas)
            work = _plan(cache, shas, len(unique), unreadable, on_progress, reasons)
            work.advance(0)
            if work.waiting:
                _compute(work, cache, make_extractor(), decode, batch_size)
                rate = work.computed / max(time.perf_counter() - work.started, 1e-9)
            computed = work.computed
    report = FillReport(
        photos=len(unique),
        computed=computed,
        reused=len(shas) - computed,
        skipped={reason: count for reason, count in sorted(reasons.items()) if count},
        seconds=time.perf_counter() - began,
        rate=rate,
    )
    return Fill(report, shas)


def _settings(spec: object) -> dict[str, Any]:
    return asdict(spec) if is_dataclass(spec) and not isinstance(spec, type) else {"extractor": str(spec)}


def _all_there(folder: Path, fingerprint: str, shas: Mapping[Path, str]) -> bool:
    """Whether nothing has to be written; then a fill needs no lock, and works beside another one."""
    try:
        cache = EmbeddingCache.open(folder, fingerprint=fingerprint, write=False)
    except MissingCacheError:
        return False
    with cache:
        return bool(cache.has(list(shas.values())).all()) and cache.remembers(shas)


def _plan(
    cache: EmbeddingCache,
    shas: dict[Path, str],
    total: int,
    unreadable: int,
    on_progress: Callable[[int, int], None] | None,
    skipped: Counter[str],
) -> _Work:
    present = cache.has(list(shas.values()))
    waiting: dict[str, list[Path]] = {}
    for (photo, sha), there in zip(shas.items(), present, strict=True):
        if not there:
            waiting.setdefault(sha, []).append(photo)
    done = unreadable + int(present.sum())
    return _Work(shas, waiting, total, done, on_progress, skipped)


def _compute(
    work: _Work,
    cache: EmbeddingCache,
    extractor: Extractor,
    decode: Callable[[bytes], NDArray[np.uint8]],
    batch_size: int,
) -> None:
    work.started = time.perf_counter()
    batch: list[_Decoded] = []
    held = 0
    with closing(_decoded(work.waiting, decode, batch_size)) as decoded:
        for photo in decoded:
            if photo.image is None:
                _skip(work, photo)
                continue
            batch.append(photo)
            held += photo.image.nbytes
            if len(batch) >= batch_size or held >= _DECODED_BYTES:
                _extract(work, cache, extractor, batch)
                batch, held = [], 0
    if batch:
        _extract(work, cache, extractor, batch)


def _extract(work: _Work, cache: EmbeddingCache, extractor: Extractor, batch: list[_Decoded]) -> None:
    images = [photo.image for photo in batch if photo.image is not None]
    rows = extractor.extract(images)
    cache.append([photo.sha for photo in batch], rows)
    work.computed += len(batch)
    work.advance(sum(len(work.waiting[photo.sha]) for photo in batch))


def _skip(work: _Work, photo: _Decoded) -> None:
    paths = work.waiting[photo.sha]
    work.skipped[photo.reason] += len(paths)
    for path in paths:
        del work.shas[path]
    work.advance(len(paths))


def _decoded(
    waiting: Mapping[str, Sequence[Path]],
    decode: Callable[[bytes], NDArray[np.uint8]],
    batch_size: int,
) -> Generator[_Decoded, None, None]:
    """Photos in order, read and decoded ahead by threads: about a batch, fewer when they are large."""
    workers = min(8, max(2, os.cpu_count() or 1))
    ahead: deque[Future[_Decoded]] = deque()
    largest = 1
    pool = ThreadPoolExecutor(workers)
    try:
        for sha, paths in waiting.items():
            ahead.append(pool.submit(_read, sha, paths, decode))
            while len(ahead) >= max(workers, min(batch_size, _DECODED_BYTES // largest)):
                photo = ahead.popleft().result()
                largest = max(largest, photo.image.nbytes if photo.image is not None else 0)
                yield photo
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(sha: str, paths: Sequence[Path], decode: Callable[[bytes], NDArray[np.uint8]]) -> _Decoded:
    reason = "unreadable"
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError:
            continue
        # A photo may change between hashing and decoding: then these bytes are not those that name the row.
        if sha256_of(data) != sha:
            reason = "changed-meanwhile"
            continue
        try:
            return _Decoded(sha, decode(data))
        except PhotoError as error:
            return _Decoded(sha, None, error.reason)
    return _Decoded(sha, None, reason)
