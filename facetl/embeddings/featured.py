"""From a manifest to features: faces are found and aligned where the extractor asks for it, the cache is filled, and
its rows are opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.feature_map import FeatureMap
from facetl.backbones.photo_net import PhotoNet
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.fill import Fill, FillReport, fill
from facetl.errors import DataError
from facetl.faces.aligner import NO_FACE, aligned
from facetl.faces.detection import detect_all
from facetl.faces.detectors import MtcnnSpec
from facetl.images.decode import read_photo
from facetl.io.arrays import RowView, concat_columns
from facetl.io.digests import digests, sha256_of

Progress = Callable[[int, int], None]
Decode = Callable[[bytes], NDArray[np.uint8]]


@dataclass(frozen=True)
class Featured:
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


def featured(
    manifest: Manifest,
    spec: ExtractorSpec,
    weights: Weights,
    *,
    make_net: Callable[[ExtractorSpec], PhotoNet],
    cache: Path,
    batch_size: int = 32,
    on_progress: Progress | None = None,
    on_faces: Progress | None = None,
) -> Featured:
    """Give every photo that can be read its feature, from the cache where it is there.

    Args:
        make_net: builds the net of a view of `spec`; called only if a feature is missing.
        on_progress, on_faces: called with photos done and photos in all, of features and of finding faces.

    Raises DataError when no photo can be read, CacheError.
    """
    photos, skipped = list(manifest.paths), dict(manifest.skipped)
    decode: Decode = read_photo
    if spec.align != "none":
        photos, decode, skipped = with_faces(manifest, cache, on_faces)
    fills = [
        fill(
            photos,
            cache_folder=cache,
            spec=view,
            weights_sha256=weights.sha256,
            make_extractor=lambda view=view: make_net(view),  # type: ignore[misc]
            decode=decode,
            batch_size=batch_size,
            on_progress=on_progress,
            skipped=skipped,
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
            parts.append(rows.gather(contents))
            layouts.append(stored_layout(rows.stored_description, parts[-1].shape[1]))
    features = concat_columns(parts)
    return Featured(kept, features, FeatureMap.joined(layouts), contents, report)


def with_faces(
    manifest: Manifest, cache: Path, on_progress: Progress | None
) -> tuple[list[Path], Decode, dict[str, int]]:
    """Return the photos that show a face or cannot be read, how to decode them aligned, and what is skipped, why."""
    shas = {path: sha for path, sha in zip(manifest.paths, digests(list(manifest.paths)), strict=True) if sha}
    found = detect_all(shas, cache_folder=cache, detector=MtcnnSpec(), decode=read_photo, on_progress=on_progress).faces
    faceless = {path for path, sha in shas.items() if sha in found and not found[sha]}
    skipped = Counter(dict(manifest.skipped))
    if faceless:
        skipped[NO_FACE] += len(faceless)

    def decode(data: bytes) -> NDArray[np.uint8]:
        return aligned(read_photo(data), found.get(sha256_of(data), ()))

    return [path for path in manifest.paths if path not in faceless], decode, dict(skipped)


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
