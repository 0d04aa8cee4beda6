"""A folder of people with a cached feature for every photo: what training and measuring start from."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.backbone import Backbone
from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.data.splits import SIDES
from facetl.embeddings.fill import FillReport, PhotoFeatures, Progress, photo_features
from facetl.errors import DataError
from facetl.io.arrays import RowView
from facetl.io.system import user_cache_folder


def default_cache_folder() -> Path:
    """Return where features are cached by default: FACETL_CACHE, or below the user's cache folder."""
    given = os.environ.get("FACETL_CACHE")
    return Path(given) if given else user_cache_folder() / "embeddings"


class LabelledFeatures(NamedTuple):
    """Some photos of a Collection.

    Attributes:
        features: [photos, dim] float16 rows on disk.
        labels: who is on each photo, int32 [photos], as in the whole Collection.
        manifest: the photos.
    """

    features: RowView
    labels: NDArray[np.int32]
    manifest: Manifest

    @property
    def paths(self) -> tuple[Path, ...]:
        """The path of each photo [photos]."""
        return self.manifest.paths


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
    features: RowView
    layout: FeatureMap
    spec: ExtractorSpec
    weights: Weights
    report: FillReport

    @property
    def labels(self) -> NDArray[np.int32]:
        """The person on each photo, int32 [photos]; an index into `manifest.identities`."""
        return self.manifest.labels

    @property
    def paths(self) -> tuple[Path, ...]:
        """The path of each photo [photos]."""
        return self.manifest.paths

    @classmethod
    def of(cls, every: PhotoFeatures, spec: ExtractorSpec, weights: Weights) -> Collection:
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

    def side(self, split: str) -> LabelledFeatures:
        """Return features, labels and the manifest of one side of the split: train, validation or test."""
        if split not in SIDES:
            raise DataError(f"a side is one of {', '.join(SIDES)}, got {split!r}.")
        chosen = np.array([photo.split == split for photo in self.manifest.photos])
        return self.rows(chosen)

    def rows(self, which: np.ndarray) -> LabelledFeatures:
        """Return features, labels and the manifest of a mask or of indices of photos; labels stay those of all."""
        rows = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return LabelledFeatures(self.features.subset(rows), self.manifest.labels[rows], self.manifest.select(rows))

    def with_splits(self, *, seed: int, validation: float, test: float) -> Collection:
        """Put every person on one side."""
        return replace(self, manifest=self.manifest.with_splits(seed=seed, validation=validation, test=test))

    def split_for_training(self, *, seed: int, validation: float, test: float) -> Collection:
        """Put every person on one side or, of few people, some photos of each; see the manifest's method."""
        return replace(self, manifest=self.manifest.split_for_training(seed=seed, validation=validation, test=test))


def embed(
    manifest: Manifest,
    backbone: Backbone,
    *,
    cache: Path | str | None = None,
    batch_size: int = 32,
    on_progress: Progress | None = None,
    on_faces: Progress | None = None,
) -> Collection:
    """Give a manifest's photos their features, computing only what the cache lacks.

    TensorFlow is imported only if a feature is missing. A photo that cannot be read, or that shows no face where faces
    are aligned, is counted in `report.skipped`. A photo that stands twice under one person counts once (`repeated`);
    one that stands under several people is left out (`mislabelled`): on both sides of a split it would leak.

    Args:
        cache: folder of the cache, by default FACETL_CACHE or the user's cache folder.
        batch_size: photos a forward pass.
        on_progress, on_faces: called with photos done and photos in all, of features and of finding faces.

    Raises DataError when no photo can be read, WeightsError, CacheError.
    """
    every = photo_features(
        manifest,
        backbone.spec,
        backbone.weights,
        make_net=backbone.view,
        cache=default_cache_folder() if cache is None else Path(cache).expanduser(),
        batch_size=batch_size,
        on_progress=on_progress,
        on_faces=on_faces,
        on_notice=backbone.notify,
    )
    return Collection.of(every, backbone.spec, backbone.weights)


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
