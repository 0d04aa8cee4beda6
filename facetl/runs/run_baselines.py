"""A run's baselines, kept with it: what a photo's embedding would be without the trained head.

They were fitted on the training photos, which need not be at hand any more when other photos are evaluated.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np

from facetl.errors import RunError
from facetl.io.arrays import Rows
from facetl.io.files import write_arrays
from facetl.metrics.baselines import Baselines
from facetl.metrics.linalg import Float32s, blocks, check_dim, normalised, projected
from facetl.training import layers  # noqa: F401 - registers the layer that a stored head may hold
from facetl.training.fit import Embedder
from facetl.training.head import embed

BASELINES = "baselines.npz"
UNTRAINED = "untrained.keras"
RUN_BASELINES = ("raw", "whitened", "lda", "untrained")
_MAPS = ("whitened", "lda")


@dataclass(frozen=True)
class RunBaselines:
    """The baselines of one run, each from features to unit embeddings.

    Attributes:
        mean: of the training features, float32 [dim].
        centre: what the raw features lose before they are normalised, that mean or zeros (see Raw).
        maps: `whitened` and `lda`, float32 [dim, width] each, applied to features minus the mean.
        untrained: the head with random weights, features [batch, dim] → [batch, width].
        thresholds: baseline → squared distance up to which two photos count as one person, as chosen in training.
    """

    mean: Float32s
    centre: Float32s
    maps: Mapping[str, Float32s]
    untrained: keras.Model
    thresholds: Mapping[str, float]

    @classmethod
    def of(cls, baselines: Baselines, untrained: keras.Model, thresholds: Mapping[str, float]) -> RunBaselines:
        """Take them from fitted baselines; `thresholds` may hold more than the baselines."""
        whitened, lda = baselines.whitened.projection, baselines.lda.projection
        mean, centre = baselines.raw.mean, baselines.raw.centre
        if whitened is None or lda is None or mean is None or centre is None:
            raise RunError("A run's baselines are fitted ones. Received: baselines before fit.")
        kept = {name: thresholds[name] for name in RUN_BASELINES}
        return cls(mean, centre, {"whitened": whitened, "lda": lda}, untrained, kept)

    def embedders(self) -> Mapping[str, Embedder]:
        """Return baseline → its way from features, float [photos, dim], to unit-norm float32 [photos, width].

        Each raises DataError where the features have another length than those of training.
        """
        linear = {name: partial(self._mapped, name) for name in _MAPS}
        return {"raw": self._centred, **linear, "untrained": self._untrained}

    def _centred(self, features: Rows) -> Float32s:
        check_dim(features, len(self.mean))
        rows = np.empty((features.shape[0], len(self.mean)), np.float32)
        for part, block in blocks(features):
            rows[part] = normalised(block - self.centre)
        return rows

    def _mapped(self, name: str, features: Rows) -> Float32s:
        check_dim(features, len(self.mean))
        return normalised(projected(features, self.maps[name], self.mean @ self.maps[name]))

    def _untrained(self, features: Rows) -> np.ndarray:
        check_dim(features, len(self.mean))
        return embed(self.untrained, features)

    def save(self, folder: Path) -> None:
        """Write `baselines.npz` and `untrained.keras` into a run folder, readable by their owner alone."""
        arrays: dict[str, np.ndarray] = {"mean": self.mean, "centre": self.centre}
        for name in _MAPS:
            # Columns of one size: float16 then keeps three digits of each, in half the space.
            scale = np.abs(self.maps[name]).max(axis=0)
            scale = np.where(scale > 0, scale, 1).astype(np.float32)
            arrays |= {f"{name}_axes": (self.maps[name] / scale).astype(np.float16), f"{name}_scale": scale}
        arrays["thresholds"] = np.array([self.thresholds[name] for name in RUN_BASELINES], np.float64)
        write_arrays(folder / BASELINES, **arrays)
        self.untrained.save(folder / UNTRAINED)
        (folder / UNTRAINED).chmod(0o600)

    @classmethod
    def load(cls, folder: Path) -> RunBaselines | None:
        """Load a run's baselines; None for a run that was made before they were kept.

        Raises RunError where a file is damaged, or one of the two is missing.
        """
        if not (folder / BASELINES).exists() and not (folder / UNTRAINED).exists():
            return None
        try:
            with np.load(folder / BASELINES, allow_pickle=False) as stored:
                mean, centre = stored["mean"].astype(np.float32), stored["centre"].astype(np.float32)
                maps = {
                    name: stored[f"{name}_axes"].astype(np.float32) * stored[f"{name}_scale"].astype(np.float32)
                    for name in _MAPS
                }
                thresholds = dict(zip(RUN_BASELINES, stored["thresholds"].tolist(), strict=True))
            untrained = keras.models.load_model(folder / UNTRAINED)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise RunError(f"{folder}: the run's baselines cannot be read ({error}). Train again.") from error
        shapes = [axes.shape[:1] for axes in maps.values()]
        if [centre.shape, *shapes] != [mean.shape] * (1 + len(_MAPS)) or untrained.input_shape[1:] != mean.shape:
            raise RunError(f"{folder}: the run's baselines are of different lengths. Train again.")
        return cls(mean, centre, maps, untrained, thresholds)
