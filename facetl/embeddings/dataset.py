"""A folder of people with a cached feature for every photo: what training and measuring start from."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facetl.backbones import weights as weights_module
from facetl.backbones.feature_map import Layout
from facetl.backbones.photo_net import PhotoNet
from facetl.backbones.spec import ExtractorSpec
from facetl.backbones.weights import Weights
from facetl.data.manifest import Manifest
from facetl.embeddings.featured import Featured, Progress, featured
from facetl.embeddings.fill import FillReport
from facetl.embeddings.rows import CachedRows, JoinedRows


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
        layout: of which maps a feature is made.
        spec, weights: what made them.
        report: what the fill did; its `skipped` also counts repeated photos.
    """

    manifest: Manifest
    features: CachedRows | JoinedRows
    layout: Layout
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
        on_progress: Progress | None = None,
        on_faces: Progress | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> Collection:
        """Fill the cache for a manifest's photos and open their features.

        TensorFlow is imported only if a feature is missing. A photo that stands twice under one person counts
        once (`repeated`); one that stands under several people is nobody's and is left out (`mislabelled`): on
        both sides of a split it would leak.

        Raises DataError when no photo can be read, WeightsError, CacheError.
        """
        found = weights_module.resolve(spec, given=weights, say=say)

        def make_net(view: ExtractorSpec) -> PhotoNet:
            from facetl._tensorflow import start_tensorflow

            start_tensorflow()
            from facetl.backbones.extractor import make_extractor

            return make_extractor(view, found)

        every = featured(
            manifest,
            spec,
            found,
            make_net=make_net,
            cache=cache,
            batch_size=batch_size,
            on_progress=on_progress,
            on_faces=on_faces,
        )
        return cls.of(every, spec, found)

    @classmethod
    def of(cls, every: Featured, spec: ExtractorSpec, weights: Weights) -> Collection:
        """Keep of photos with features those that stand once, or first, under one person."""
        rows, repeated = _one_of_each(every.manifest, every.contents)
        skipped = dict(sorted((Counter(every.report.skipped) + repeated).items()))
        return cls(
            every.manifest.select(rows),
            every.features.subset(rows),
            every.layout,
            spec,
            weights,
            replace(every.report, skipped=skipped),
        )

    def side(self, split: str) -> tuple[CachedRows | JoinedRows, np.ndarray, Manifest]:
        """Return features, labels [photos] int32 and the manifest of one side of the split."""
        chosen = np.array([photo.split == split for photo in self.manifest.photos])
        return self.rows(chosen)

    def rows(self, which: np.ndarray) -> tuple[CachedRows | JoinedRows, np.ndarray, Manifest]:
        """Return features, labels and the manifest of a mask or of indices of photos; labels stay those of all."""
        rows = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return self.features.subset(rows), self.manifest.labels[rows], self.manifest.select(rows)

    def with_splits(self, *, seed: int, validation: float, test: float) -> Collection:
        """Put every person on one side."""
        return replace(self, manifest=self.manifest.with_splits(seed=seed, validation=validation, test=test))


def _one_of_each(manifest: Manifest, contents: Sequence[str]) -> tuple[np.ndarray, Counter[str]]:
    """Return the rows [kept] int64 of photos that are there once, or first, under one person; and what goes, why."""
    owners: dict[str, set[str]] = defaultdict(set)
    for photo, sha in zip(manifest.photos, contents, strict=True):
        owners[sha].add(photo.identity)
    seen: set[str] = set()
    keep = np.zeros(len(manifest), bool)
    counted: Counter[str] = Counter()
    for index, sha in enumerate(contents):
        if len(owners[sha]) > 1:
            counted["mislabelled"] += 1
        elif sha in seen:
            counted["repeated"] += 1
        else:
            seen.add(sha)
            keep[index] = True
    return np.flatnonzero(keep), counted
