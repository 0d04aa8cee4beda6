"""A folder of people with a cached feature for every photo: what training and measuring start from."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facetl.data.manifest import Manifest
from facetl.errors import DataError
from facetl.features import weights as weights_module
from facetl.features.cache import EmbeddingCache
from facetl.features.fill import FillReport, fill
from facetl.features.rows import CachedRows
from facetl.features.spec import ExtractorSpec
from facetl.features.weights import Weights
from facetl.imaging.decode import read_photo


def default_cache_folder() -> Path:
    """Return where features are cached unless told otherwise: FACETL_CACHE, or below the user's cache folder."""
    given = os.environ.get("FACETL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "facetl" / "embeddings"


@dataclass(frozen=True)
class Collection:
    """Photos that have features, in the manifest's order.

    Attributes:
        manifest: the photos that could be read, each content once.
        features: [photos, dim] float16 rows on disk.
        spec, weights: what made them.
        report: what the fill did; its `skipped` also counts repeated photos.
    """

    manifest: Manifest
    features: CachedRows
    spec: ExtractorSpec
    weights: Weights
    report: FillReport

    @classmethod
    def open(
        cls,
        manifest: Manifest,
        spec: ExtractorSpec,
        *,
        cache: Path,
        weights: Path | None = None,
        batch_size: int = 32,
        on_progress: Callable[[int, int], None] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> Collection:
        """Fill the cache for a manifest's photos and open their features.

        TensorFlow is imported only if a feature is missing. A photo that stands twice under one person counts
        once (`repeated`); one that stands under several people is nobody's and is left out (`mislabelled`): on
        both sides of a split it would leak.

        Raises DataError when no photo can be read, WeightsError, CacheError.
        """
        found = weights_module.resolve(spec, given=weights, say=say)

        def make_extractor() -> Any:
            from facetl.startup import start_tensorflow

            start_tensorflow()
            from facetl.features.extractor import make_extractor

            return make_extractor(spec, found)

        filled = fill(
            manifest.paths,
            cache_folder=cache,
            spec=spec,
            weights_sha256=found.sha256,
            make_extractor=make_extractor,
            decode=read_photo,
            batch_size=batch_size,
            on_progress=on_progress,
            skipped=manifest.skipped,
        )
        if not filled.shas:
            reasons = ", ".join(f"{count} {reason}" for reason, count in filled.report.skipped.items())
            raise DataError(f"{manifest.root}: expected photos that can be read, got none ({reasons}).")
        kept, repeated = _one_of_each(manifest, filled.shas)
        skipped = dict(sorted((Counter(filled.report.skipped) + repeated).items()))
        with EmbeddingCache.open(cache, fingerprint=spec.fingerprint(found.sha256), write=False) as rows:
            features = rows.gather([filled.shas[path] for path in kept.paths])
        return cls(kept, features, spec, found, replace(filled.report, skipped=skipped))

    def side(self, split: str) -> tuple[CachedRows, np.ndarray, Manifest]:
        """Return features, labels [photos] int32 and the manifest of one side of the split."""
        chosen = np.array([photo.split == split for photo in self.manifest.photos])
        return self.rows(chosen)

    def rows(self, which: np.ndarray) -> tuple[CachedRows, np.ndarray, Manifest]:
        """Return features, labels and the manifest of a mask or of indices of photos; labels stay those of all."""
        rows = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return self.features.subset(rows), self.manifest.labels[rows], self.manifest.select(rows)

    def with_splits(self, *, seed: int, validation: float, test: float) -> Collection:
        """Put every person on one side."""
        return replace(self, manifest=self.manifest.with_splits(seed=seed, validation=validation, test=test))


def _one_of_each(manifest: Manifest, shas: dict[Path, str]) -> tuple[Manifest, Counter[str]]:
    owners: dict[str, set[str]] = defaultdict(set)
    for photo in manifest.photos:
        if photo.path in shas:
            owners[shas[photo.path]].add(photo.identity)
    seen: set[str] = set()
    keep = np.zeros(len(manifest), bool)
    counted: Counter[str] = Counter()
    for index, photo in enumerate(manifest.photos):
        sha = shas.get(photo.path)
        if sha is None:
            continue
        if len(owners[sha]) > 1:
            counted["mislabelled"] += 1
        elif sha in seen:
            counted["repeated"] += 1
        else:
            seen.add(sha)
            keep[index] = True
    return manifest.select(keep), counted
