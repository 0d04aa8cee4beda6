"""What a net that was trained on faces gives on the same pairs: how far above a frozen ImageNet net one can get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.backbones.extractor import make_extractor
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.backbones.weights import resolve
from facetl.data.manifest import Manifest
from facetl.embeddings.featured import featured
from facetl.errors import DataError
from facetl.metrics.pairs import Pairs
from facetl.metrics.roc import Floats, squared_distances

# Name → the squared distance up to which its own authors call two photos one person.
PUBLISHED = {"dlib": 0.6**2}


@dataclass(frozen=True)
class ReferenceNet:
    """A face-trained net in its own pipeline: its own alignment, no head, distances between its plain vectors.

    Attributes:
        name: which.
        threshold: its authors' own, a squared distance; the vectors are not of unit norm.
    """

    name: str
    threshold: float
    spec: ExtractorSpec
    weights: Weights

    @classmethod
    def open(cls, name: str) -> ReferenceNet:
        """Find a net by name; raises DataError for another name, WeightsError when it is not installed."""
        if name not in PUBLISHED:
            raise DataError(f"--ceiling: expected one of {', '.join(PUBLISHED)}, got {name!r}.")
        spec = ExtractorSpec.of(name, mirror=False)
        return cls(name, PUBLISHED[name], spec, resolve(spec))

    def distances(
        self,
        manifest: Manifest,
        pairs: Pairs,
        *,
        cache: Path,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Floats:
        """Squared distances of pairs of a manifest's photos, all of which can be read: float64 [pairs]."""
        found = featured(
            manifest,
            self.spec,
            self.weights,
            make_net=lambda view: make_extractor(view, self.weights),
            cache=cache,
            on_progress=on_progress,
        )
        if len(found.manifest) != len(manifest):
            raise DataError(f"{manifest.root}: {len(manifest) - len(found.manifest)} photos have gone meanwhile.")
        rows = np.asarray(found.features.array(), np.float32)
        return squared_distances(rows[pairs.first], rows[pairs.second])
