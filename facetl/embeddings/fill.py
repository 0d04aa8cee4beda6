"""Fills the embedding cache: photos are hashed, and only those whose bytes have no row pass the extractor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from facetl.backbones.feature_map import maps_of
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.index import MissingCacheError
from facetl.images.reader import Decode, ReadPhoto, read_batches
from facetl.io.digests import digests
from facetl.io.json import JsonFields

if TYPE_CHECKING:
    from facetl.backbones.photo_net import PhotoNet


class Fingerprinted(Protocol):
    """An extractor's settings, of which the cache needs the fingerprint."""

    def fingerprint(self, weights_sha256: str) -> str: ...


@dataclass(frozen=True)
class FillReport(JsonFields):
    """What a fill did.

    `photos` were looked at: `computed` got a row now, `reused` had one (or share another's bytes), the rest
    are in `skipped` (reason → count), together with what was skipped before the fill. `seconds` is all of it,
    `rate` the photos computed per second once the extractor stood. `flagged` (reason → count) are those computed now
    whose feature is to be doubted.
    """

    photos: int
    computed: int
    reused: int
    skipped: dict[str, int]
    seconds: float
    rate: float
    flagged: dict[str, int] = field(default_factory=dict)


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


def fill(
    photos: Sequence[Path],
    *,
    cache_folder: Path,
    spec: Fingerprinted,
    weights_sha256: str,
    make_extractor: Callable[[], PhotoNet],
    decode: Decode,
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
    flagged: dict[str, int] = {}
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
                extractor = make_extractor()
                if (maps := maps_of(extractor)) is not None:
                    cache.description = {**description, "layout": maps.to_json()}
                _compute(work, cache, extractor, decode, batch_size)
                flagged = dict(extractor.flagged)
                rate = work.computed / max(time.perf_counter() - work.started, 1e-9)
            computed = work.computed
    report = FillReport(
        photos=len(unique),
        computed=computed,
        reused=len(shas) - computed,
        skipped={reason: count for reason, count in sorted(reasons.items()) if count},
        seconds=time.perf_counter() - began,
        rate=rate,
        flagged=flagged,
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


def _compute(work: _Work, cache: EmbeddingCache, extractor: PhotoNet, decode: Decode, batch_size: int) -> None:
    work.started = time.perf_counter()
    with closing(read_batches(work.waiting, decode, batch_size=batch_size)) as batches:
        for batch in batches:
            images = {photo.sha: photo.image for photo in batch if photo.image is not None}
            for photo in batch:
                if photo.image is None:
                    _skip(work, photo)
            if images:
                cache.append(list(images), extractor.extract(list(images.values())))
                work.computed += len(images)
                work.advance(sum(len(work.waiting[sha]) for sha in images))


def _skip(work: _Work, photo: ReadPhoto) -> None:
    paths = work.waiting[photo.sha]
    work.skipped[photo.reason] += len(paths)
    for path in paths:
        del work.shas[path]
    work.advance(len(paths))
