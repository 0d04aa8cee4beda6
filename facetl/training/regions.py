"""A discriminant for each region of the feature's maps, joined: the front that has measured best.

One principal component analysis over a whole map spends its few hundred components on what varies over all of the
face; the eyes' own part of it is lost. Each region gets components of its own, its own discriminant, and an equal say
in the distance, as in the patch-wise pipelines of Chen, Cao, Wen, Sun: Blessing of Dimensionality, CVPR 2013.
"""

from __future__ import annotations

import numpy as np

from facetl.evaluation.projection import Float32s, Rows, principal_axes
from facetl.features.layout import Layout
from facetl.training.discriminant import supervised
from facetl.training.settings import TrainingSettings

# Directions kept of a region: the ones behind hardly tell people apart (benchmarks/recipes).
_KEPT = 150
_PHOTOS_PER_COMPONENT = 2
_BLOCK = 1024


def region_axes(
    features: Rows,
    labels: np.ndarray,
    layout: Layout,
    settings: TrainingSettings,
    *,
    mean: Float32s,
    scale: Float32s,
    rng: np.random.Generator,
) -> Float32s:
    """Return directions of the standardised features, [dim, settings.joined] float32, fewer where photos are few.

    Args:
        features: [photos, dim] float, of which `mean` and `scale` are the moments, [dim] float32 each.
        labels: [photos] int, the person of each.
        layout: of which maps a feature is made.
    """
    photos = features.shape[0]
    components = min(settings.components, max(photos // _PHOTOS_PER_COMPONENT, 2))
    rows = _standardised(features, mean, scale)
    maps, embedded = [], []
    for columns in layout.regions():
        region = _Columns(rows, columns)
        zero, one = np.zeros(len(columns), np.float32), np.ones(len(columns), np.float32)
        axes, deviation = principal_axes(region, zero, one, min(components, len(columns)), rng)
        axes /= np.maximum(deviation, 1e-6)
        whitened = region[np.arange(photos)].astype(np.float32) @ axes
        mapping = supervised(whitened, labels, settings)[:, :_KEPT]
        part = whitened @ mapping
        # Each region counts the same, however many directions it has.
        level = np.float32(1 / max(np.sqrt(np.mean(np.sum(np.square(part), axis=1))), 1e-12))
        maps.append(axes @ mapping * level)
        embedded.append(part * level)
    joined = np.concatenate(embedded, axis=1)
    kept = min(settings.joined, joined.shape[1], max(photos - 1, 2))
    turn, _ = principal_axes(joined, joined.mean(axis=0), np.ones(joined.shape[1], np.float32), kept, rng)
    axes = np.zeros((layout.dim, kept), np.float32)
    start = 0
    for columns, mapping in zip(layout.regions(), maps, strict=True):
        axes[columns] += mapping @ turn[start : start + mapping.shape[1]]
        start += mapping.shape[1]
    # Photos of the training have a mean square of 1, as the other fronts give.
    return np.asarray(axes / np.sqrt(np.mean(np.square(joined @ turn))), np.float32)


def _standardised(features: Rows, mean: Float32s, scale: Float32s) -> np.ndarray:
    """Read all rows once, [photos, dim] float16: the regions overlap, and a disk is slower than memory."""
    rows = np.empty(features.shape, np.float16)
    for start in range(0, features.shape[0], _BLOCK):
        block = np.arange(start, min(start + _BLOCK, features.shape[0]))
        rows[block] = (np.asarray(features[block], np.float32) - mean) / scale
    return rows


class _Columns:
    """Some columns of rows in memory."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray) -> None:
        self._rows = rows
        self._columns = columns
        self.shape = (len(rows), len(columns))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._rows[rows[:, None], self._columns]
