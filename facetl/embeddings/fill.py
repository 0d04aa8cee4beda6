"""From photos to features: faces are found and aligned where the extractor asks for it, the cache is filled, and its
rows are opened.

Photos are hashed, and only those whose bytes have no row pass the net.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.photo_net import FeatureMap, PhotoNet, maps_of
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.index import MissingCacheError, turned_key
from facetl.errors import DataError
from facetl.faces.alignment import NO_FACE, aligned, read_cropped
from facetl.faces.detection import detect_all
from facetl.faces.detectors import MtcnnSpec, quarters
from facetl.images.decode import Decode, read_batches, read_photo
from facetl.io.arrays import RowView, concat_columns
from facetl.io.files import digests, sha256_of
from facetl.io.json import JsonFields

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FillReport(JsonFields):
    """The result of a fill.

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


def fill(
    photos: Sequence[Path],
    *,
    cache_folder: Path,
    spec: ExtractorSpec,
    weights_sha256: str,
    make_net: Callable[[], PhotoNet],
    decode: Decode,
    batch_size: int = 32,
    on_progress: Progress | None = None,
    skipped: Mapping[str, int] | None = None,
    turned: Collection[str] = (),
) -> Fill:
    """Give every readable photo a row in the cache, computing only what is missing.

    `make_net` is called only if a row is missing. `decode` turns a photo's bytes into uint8 RGB
    [h, w, 3] or raises `PhotoError`, whose reason is counted; such photos are tried again on every run. Each
    batch is durable when it is done: an interrupted fill (Ctrl-C, kill, full disk) goes on where it stopped.
    `on_progress(done, total)` counts photos; its first call has those that need no work. `turned` are the sha256 of
    photos whose row has the key `turned_key`.

    Raises `CacheLockedError` where rows are missing and another process writes, `CacheFullError` where the
    disk is, `CacheError`.
    """
    began = time.perf_counter()
    unique = list(dict.fromkeys(photos))
    shas = {photo: sha for photo, sha in zip(unique, digests(unique), strict=True) if sha is not None}
    work = _Work(shas, len(unique), on_progress or (lambda done, total: None), Counter(dict(skipped or {})), turned)
    work.skipped["unreadable"] += len(unique) - len(shas)
    fingerprint = spec.fingerprint(weights_sha256)
    if _all_there(cache_folder, fingerprint, shas, turned):
        work.advance(len(unique))
    else:
        description = {**asdict(spec), "weights_sha256": weights_sha256}
        with EmbeddingCache.open(cache_folder, fingerprint=fingerprint, description=description, write=True) as cache:
            cache.remember_paths(shas)
            work.run(cache, make_net, decode, batch_size)
    report = FillReport(
        photos=len(unique),
        computed=work.computed,
        reused=len(shas) - work.computed,
        skipped={reason: count for reason, count in sorted(work.skipped.items()) if count},
        seconds=time.perf_counter() - began,
        rate=work.rate,
        flagged=work.flagged,
    )
    return Fill(report, shas)


@dataclass
class _Work:
    """A fill under way; photos that turn out not to be readable leave `shas`."""

    shas: dict[Path, str]
    total: int
    on_progress: Progress
    skipped: Counter[str]
    turned: Collection[str]
    done: int = 0
    computed: int = 0
    rate: float = 0.0
    flagged: dict[str, int] = field(default_factory=dict)

    def run(self, cache: EmbeddingCache, make_net: Callable[[], PhotoNet], decode: Decode, batch_size: int) -> None:
        waiting: dict[str, list[Path]] = {}
        there = cache.has(_keys(self.shas.values(), self.turned))
        for (photo, sha), is_there in zip(self.shas.items(), there, strict=True):
            if not is_there:
                waiting.setdefault(sha, []).append(photo)
        self.advance(self.total - sum(map(len, waiting.values())))
        if not waiting:
            return
        net = make_net()
        if (maps := maps_of(net)) is not None:
            cache.description = {**cache.description, "layout": maps.to_json()}
        started = time.perf_counter()
        with closing(read_batches(waiting, decode, batch_size=batch_size)) as batches:
            for batch in batches:
                images = {photo.sha: photo.image for photo in batch if photo.image is not None}
                for read in batch:
                    if read.image is None:
                        paths = waiting[read.sha]
                        self.skipped[read.reason] += len(paths)
                        for path in paths:
                            del self.shas[path]
                        self.advance(len(paths))
                if images:
                    cache.append(_keys(images, self.turned), net.extract(list(images.values())))
                    self.computed += len(images)
                    self.advance(sum(len(waiting[sha]) for sha in images))
        self.flagged = dict(net.flagged)
        self.rate = self.computed / max(time.perf_counter() - started, 1e-9)

    def advance(self, photos: int) -> None:
        self.done += photos
        self.on_progress(self.done, self.total)


def _keys(shas: Iterable[str], turned: Collection[str]) -> list[str]:
    """Return the keys of photos' rows."""
    return [turned_key(sha) if sha in turned else sha for sha in shas]


def _all_there(folder: Path, fingerprint: str, shas: Mapping[Path, str], turned: Collection[str]) -> bool:
    """Return whether nothing has to be written; then a fill needs no lock, and works beside another one."""
    try:
        cache = EmbeddingCache.open(folder, fingerprint=fingerprint, write=False)
    except MissingCacheError:
        return False
    with cache:
        return bool(cache.has(_keys(shas.values(), turned)).all()) and cache.remembers(shas)


@dataclass(frozen=True)
class PhotoFeatures:
    """Photos with their features, in the manifest's order.

    Attributes:
        manifest: the photos that could be read; one that is there twice stays twice.
        features: [photos, dim] float16 rows on disk.
        layout: of which maps a feature is made.
        contents: the sha256 of each photo's bytes, by which copies are found.
        report: what the fill did.
    """

    manifest: Manifest
    features: RowView
    layout: FeatureMap
    contents: tuple[str, ...]
    report: FillReport


def photo_features(
    manifest: Manifest,
    spec: ExtractorSpec,
    weights: Weights,
    *,
    make_net: Callable[[ExtractorSpec], PhotoNet],
    cache: Path,
    batch_size: int = 32,
    on_progress: Progress | None = None,
    on_faces: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> PhotoFeatures:
    """Give every photo that can be read its feature, from the cache where it is there.

    Args:
        make_net: builds the net of a view of `spec`; called only if a feature is missing.
        on_progress, on_faces: called with photos done and photos in all, of features and of finding faces.
        on_notice: called with a line where faces are not as a search would find them now.

    Raises DataError when no photo can be read, CacheError.
    """
    shown = Shown(list(manifest.paths), read_cropped, dict(manifest.skipped))
    if spec.align != "none":
        shown = with_faces(manifest, cache, on_faces, on_notice)
    fills = [
        fill(
            shown.photos,
            cache_folder=cache,
            spec=view,
            weights_sha256=weights.sha256,
            make_net=lambda view=view: make_net(view),  # type: ignore[misc]
            decode=shown.decode,
            batch_size=batch_size,
            on_progress=on_progress,
            skipped=shown.skipped,
            turned=shown.turned,
        )
        for view in spec.views
    ]
    report = _report(fills, len(manifest))
    shas = {path: sha for path, sha in fills[0].shas.items() if all(path in one.shas for one in fills)}
    if not shas:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.skipped.items()) or "none listed"
        raise DataError(f"{manifest.root}: expected photos that can be read, got none ({reasons}).")
    kept = manifest.select(np.array([path in shas for path in manifest.paths]))
    contents = tuple(shas[path] for path in kept.paths)
    parts, layouts = [], []
    for view in spec.views:
        with EmbeddingCache.open(cache, fingerprint=view.fingerprint(weights.sha256), write=False) as rows:
            parts.append(rows.gather(_keys(contents, shown.turned)))
            layouts.append(stored_layout(rows.stored_description, parts[-1].shape[1]))
    features = concat_columns(parts)
    return PhotoFeatures(kept, features, FeatureMap.joined(layouts), contents, report)


@dataclass(frozen=True)
class Shown:
    """The photos that an extractor is shown.

    Attributes:
        photos: those that show a face or cannot be read.
        decode: a photo's bytes to what the extractor is shown.
        skipped: reason → count of the others.
        turned: the sha256 of those whose face is upright only with the photo turned.
    """

    photos: Sequence[Path]
    decode: Decode
    skipped: Mapping[str, int]
    turned: frozenset[str] = frozenset()


def with_faces(
    manifest: Manifest,
    cache: Path,
    on_progress: Progress | None,
    on_notice: Callable[[str], None] | None = None,
) -> Shown:
    """Return the photos that show a face, decoded aligned; faces are looked for where the cache has none of a photo."""
    shas = {path: sha for path, sha in zip(manifest.paths, digests(list(manifest.paths)), strict=True) if sha}
    found = detect_all(
        shas,
        cache_folder=cache,
        detector=MtcnnSpec(),
        decode=read_photo,
        on_progress=on_progress,
        on_notice=on_notice,
    ).faces
    faceless = {path for path, sha in shas.items() if sha in found and not found[sha]}
    skipped = Counter(dict(manifest.skipped))
    if faceless:
        skipped[NO_FACE] += len(faceless)

    def decode(data: bytes) -> NDArray[np.uint8]:
        return aligned(read_photo(data), found.get(sha256_of(data), ()))

    turned = frozenset(sha for sha, faces in found.items() if faces and all(map(quarters, faces)))
    return Shown([path for path in manifest.paths if path not in faceless], decode, skipped, turned)


def _report(fills: list[Fill], photos: int) -> FillReport:
    """Add up the fills of all views; a photo was computed when one of its views was."""
    most = max((one.report for one in fills), key=lambda report: report.computed)
    return replace(most, photos=photos, seconds=sum(one.report.seconds for one in fills))


def stored_layout(description: Mapping[str, object], dim: int) -> FeatureMap:
    """Return of which maps an extractor's features are made, by its description in the cache."""
    maps = description.get("layout")
    if isinstance(maps, list):
        return FeatureMap(tuple((int(grid), int(channels)) for grid, channels in maps))
    return FeatureMap.flat(dim)
