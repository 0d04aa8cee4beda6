"""A run small enough for tests: its extractor gives the mean colours of a photo's quarters, its head is fixed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.images.decode import read_photo
from facetl.metrics.baselines import Baselines
from facetl.recognition.recognizer import Recognizer
from facetl.runs.evaluated_run import EvaluatedRun, RunBaselines

THRESHOLD = 0.02
BASELINE_THRESHOLDS = {"raw": 0.5, "whitened": 1.25, "lda": 0.75, "untrained": 0.01}


@dataclass
class Corners:
    """An extractor that gives the mean colour of each quarter of a photo, and counts the photos it saw."""

    weights: Weights
    spec: ExtractorSpec = field(default_factory=lambda: ExtractorSpec.of("corners"))
    dim: int = 12
    seen: int = 0
    in_tensorflow: bool = False
    flagged: Mapping[str, int] = field(default_factory=dict)

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.seen += len(images)
        small = [cv2.resize(image, (2, 2), interpolation=cv2.INTER_AREA).ravel() for image in images]
        return np.array(small, np.float32) / 255


def make_recognizer(folder: Path, *, threshold: float = THRESHOLD) -> Recognizer:
    """Return a recognizer whose weights file lies in `folder`."""
    path = folder / "net.h5"
    path.write_bytes(b"weights")
    extractor: Any = Corners(Weights("file", hashlib.sha256(b"weights").hexdigest(), path))
    return Recognizer(extractor, _head(seed=1), threshold=threshold)


def make_evaluated_run(folder: Path, photos: Path, *, known: frozenset[str] | None = frozenset()) -> EvaluatedRun:
    """Return a run named `mine` below `folder`, its baselines fitted on the photos of a folder of people."""
    recognizer = make_recognizer(folder)
    paths = sorted(path for path in photos.rglob("*.png"))
    features = recognizer.backbone.extract([read_photo(path) for path in paths])
    labels = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    baselines = RunBaselines.of(Baselines.fit(features, labels, seed=0), _head(seed=2), BASELINE_THRESHOLDS)
    return EvaluatedRun(folder / "mine", recognizer, baselines, known, 0.2)


def embedded(run: EvaluatedRun, paths: Sequence[Path]) -> np.ndarray:
    """Return the embeddings [photos, width] of photos, each by itself and without the cache's float16."""
    features = np.concatenate([run.recognizer.backbone.extract([read_photo(path)]) for path in paths])
    return np.asarray(run.recognizer.head(features), np.float64)


def _head(*, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((12,))
    return keras.Model(inputs, keras.layers.UnitNormalization()(keras.layers.Dense(5)(inputs)))
