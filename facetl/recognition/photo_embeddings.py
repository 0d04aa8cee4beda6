"""Many photos through a Recognizer: features from the embedding cache, then the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facetl.backbones.extractor import make_extractor
from facetl.data.manifest import Manifest
from facetl.embeddings.fill import PhotoFeatures, photo_features
from facetl.recognition.recognizer import Recognizer, refuse_other_weights
from facetl.training.head import embed


@dataclass(frozen=True)
class Embedded(PhotoFeatures):
    """Photos with their features and their `embeddings`, [photos, width] float32 unit vectors."""

    embeddings: np.ndarray

    def select(self, which: np.ndarray) -> Embedded:
        """Keep the photos of a mask, bool [photos]."""
        rows = np.flatnonzero(which)
        return replace(
            self,
            manifest=self.manifest.select(rows),
            features=self.features.subset(rows),
            contents=tuple(self.contents[row] for row in rows),
            embeddings=self.embeddings[rows],
        )


def embed_manifest(
    recognizer: Recognizer,
    manifest: Manifest,
    *,
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Embedded:
    """Embed a manifest's photos, computing only the features that the cache of the run's extractor lacks.

    Raises RunError when the extractor's weights are no longer those of the training (their features would spoil the
    cache), WeightsError when they are gone, DataError when no photo can be read, CacheError.
    """
    extractor = recognizer.backbone
    spec, weights = extractor.spec, extractor.weights
    refuse_other_weights(spec, weights)
    found = photo_features(
        manifest,
        spec,
        weights,
        # Of several crops each is cached by itself, for which the run's net is not made.
        make_net=lambda view: extractor if view == spec else make_extractor(view, weights),
        cache=cache,
        on_progress=on_progress,
        on_faces=on_progress,
    )
    return Embedded(**vars(found), embeddings=embed(recognizer.head, found.features))
