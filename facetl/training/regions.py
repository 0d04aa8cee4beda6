"""A discriminant for each region of the feature's maps, joined: the front that has measured best.

One principal component analysis over a whole map spends its few hundred components on what varies over all of the
face; the eyes' own part of it is lost. Each region gets components of its own, its own discriminant, and an equal say
in the distance, as in the patch-wise pipelines of Chen, Cao, Wen, Sun: Blessing of Dimensionality, CVPR 2013.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from facetl.evaluation.projection import Float32s, Rows, leading, principal_axes
from facetl.features.layout import Layout
from facetl.training.discriminant import supervised
from facetl.training.settings import TrainingSettings

# Directions kept of a region: the ones behind hardly tell people apart (benchmarks/recipes).
_KEPT = 150
_PHOTOS_PER_COMPONENT = 2
_BLOCK = 1024
# Photos up to which inner products between photos (nine times 144 MB) are cheaper than iterating over long features.
_MOST_PHOTOS = 6000


class Axes(NamedTuple):
    """Directions of the standardised features: `joined` [dim, settings.joined] and `whitened` [dim, components]."""

    joined: Float32s
    whitened: Float32s


def region_axes(
    features: Rows,
    labels: np.ndarray,
    layout: Layout,
    settings: TrainingSettings,
    *,
    mean: Float32s,
    scale: Float32s,
    rng: np.random.Generator,
) -> Axes:
    """Return the directions of all regions' discriminants, and those that whiten without a label; float32.

    There are fewer than the settings ask for where photos are few.

    Args:
        features: [photos, dim] float, of which `mean` and `scale` are the moments, [dim] float32 each.
        labels: [photos] int, the person of each.
        layout: of which maps a feature is made.
    """
    regions = _components(features, layout, settings, mean=mean, scale=scale, rng=rng)
    mappings = joined_discriminants(regions.whitened(), labels, settings, rng)
    return Axes(regions.directions(mappings), regions.whitening())


def joined_discriminants(
    whitened: Iterable[Float32s], labels: np.ndarray, settings: TrainingSettings, rng: np.random.Generator
) -> list[Float32s]:
    """Return a map [components, kept] for each region, the sum of which tells people apart; leading directions first.

    whitened: rows of each region, [photos, components] float32. labels: [photos] int, the person of each photo.
    """
    mappings, embedded = [], []
    for rows in whitened:
        mapping = supervised(rows, labels, settings)[:, :_KEPT]
        part = rows @ mapping
        # Each region counts the same, however many directions it has.
        level = np.float32(1 / max(np.sqrt(np.mean(np.sum(np.square(part), axis=1))), 1e-12))
        mappings.append(mapping * level)
        embedded.append(part * level)
    joined = np.concatenate(embedded, axis=1)
    kept = min(settings.joined, joined.shape[1], max(len(joined) - 1, 2))
    turn, _ = principal_axes(joined, joined.mean(axis=0), np.ones(joined.shape[1], np.float32), kept, rng)
    # Photos of the training have a mean square of 1, as the other fronts give.
    turn /= np.sqrt(np.mean(np.square(joined @ turn)))
    turns = np.split(turn, np.cumsum([mapping.shape[1] for mapping in mappings])[:-1])
    return [mapping @ part for mapping, part in zip(mappings, turns, strict=True)]


def region_whitening(
    features: Rows,
    layout: Layout,
    settings: TrainingSettings,
    *,
    mean: Float32s,
    scale: Float32s,
    rng: np.random.Generator,
) -> list[Float32s]:
    """Return the directions that whiten each region, [its columns, components] float32; arguments as above."""
    regions = _components(features, layout, settings, mean=mean, scale=scale, rng=rng)
    for _ in regions.whitened():
        pass  # the directions are found on the way
    return regions.axes()


def _components(
    features: Rows,
    layout: Layout,
    settings: TrainingSettings,
    *,
    mean: Float32s,
    scale: Float32s,
    rng: np.random.Generator,
) -> _InnerProducts | _Iterated:
    photos = features.shape[0]
    components = min(settings.components, max(photos // _PHOTOS_PER_COMPONENT, 2))
    rows = _standardised(features, mean, scale)
    return (_InnerProducts if photos <= _MOST_PHOTOS else _Iterated)(rows, layout, components, rng)


class _InnerProducts:
    """Components of regions by the inner products between photos (Sirovich and Kirby, 1987).

    Those over a region are the sum of those over its cells, so that cells which regions share are multiplied once.
    """

    def __init__(self, rows: np.ndarray, layout: Layout, components: int, rng: np.random.Generator) -> None:
        self._rows = rows
        self._maps = layout.regions()
        self._components = components
        self._rng = rng
        self._all = np.zeros((len(rows), len(rows)), np.float32)
        # Of each region: with them, weighted sums of the photos' features are its whitening directions.
        self._weights: list[Float32s] = []

    def whitened(self) -> Iterator[Float32s]:
        """Yield each region's rows, whitened, [photos, components]."""
        for regions in self._maps:
            grams = np.zeros((len(regions), *self._all.shape), np.float32)
            for columns, members in _cells(regions):
                block = self._rows[:, columns].astype(np.float32)
                product = block @ block.T
                self._all += product
                for region in members:
                    grams[region] += product
            for gram, columns in zip(grams, regions, strict=True):
                weights, whitened = self._components_of(gram, len(columns))
                self._weights.append(weights)
                yield whitened

    def axes(self) -> list[Float32s]:
        """Return each region's whitening directions, [its columns, components]."""
        regions = [columns for regions in self._maps for columns in regions]
        return [
            self._rows[:, columns].astype(np.float32).T @ weights
            for columns, weights in zip(regions, self._weights, strict=True)
        ]

    def directions(self, mappings: list[Float32s]) -> Float32s:
        """Return the sum of all regions' whitening directions under a mapping [components, kept] each: [dim, kept]."""
        axes = np.zeros((self._rows.shape[1], mappings[0].shape[1]), np.float32)
        weights = [np.asarray(own @ mapping) for own, mapping in zip(self._weights, mappings, strict=True)]
        for regions in self._maps:
            own, weights = weights[: len(regions)], weights[len(regions) :]
            for columns, members in _cells(regions):
                axes[columns] = self._rows[:, columns].astype(np.float32).T @ sum(own[region] for region in members)
        return axes

    def whitening(self) -> Float32s:
        """Return the whitening directions of the whole feature, [dim, components]."""
        weights, _ = self._components_of(self._all, self._rows.shape[1])
        axes = np.empty((self._rows.shape[1], weights.shape[1]), np.float32)
        for start in range(0, len(axes), _BLOCK):
            block = slice(start, start + _BLOCK)
            axes[block] = self._rows[:, block].astype(np.float32).T @ weights
        return axes

    def _components_of(self, gram: Float32s, dim: int) -> tuple[Float32s, Float32s]:
        vectors, values = leading(gram, min(self._components, dim), self._rng)
        whitened = vectors * np.float32(np.sqrt(len(gram)))
        return whitened / np.maximum(values, 1e-6 * values[0]), whitened


class _Iterated:
    """Components of regions by iteration over their rows, for photos by the ten thousand."""

    def __init__(self, rows: np.ndarray, layout: Layout, components: int, rng: np.random.Generator) -> None:
        self._rows = rows
        self._regions = tuple(region for regions in layout.regions() for region in regions)
        self._components = components
        self._rng = rng
        self._axes: list[Float32s] = []

    def whitened(self) -> Iterator[Float32s]:
        """Yield each region's rows, whitened, [photos, components]."""
        for columns in self._regions:
            region = _Columns(self._rows, columns)
            self._axes.append(self._whitening(region))
            yield region[np.arange(len(self._rows))].astype(np.float32) @ self._axes[-1]

    def axes(self) -> list[Float32s]:
        """Return each region's whitening directions, [its columns, components]."""
        return self._axes

    def directions(self, mappings: list[Float32s]) -> Float32s:
        """Return the sum of all regions' whitening directions under a mapping [components, kept] each: [dim, kept]."""
        axes = np.zeros((self._rows.shape[1], mappings[0].shape[1]), np.float32)
        for columns, own, mapping in zip(self._regions, self._axes, mappings, strict=True):
            axes[columns] += own @ mapping
        return axes

    def whitening(self) -> Float32s:
        """Return the whitening directions of the whole feature, [dim, components]."""
        return self._whitening(self._rows)

    def _whitening(self, rows: Rows) -> Float32s:
        zero, one = np.zeros(rows.shape[1], np.float32), np.ones(rows.shape[1], np.float32)
        axes, deviation = principal_axes(rows, zero, one, min(self._components, rows.shape[1]), self._rng)
        return np.asarray(axes / np.maximum(deviation, 1e-6))


def _cells(regions: tuple[np.ndarray, ...]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield the columns that lie in the same regions, and which regions those are."""
    first = min(int(columns.min()) for columns in regions)
    code = np.zeros(max(int(columns.max()) for columns in regions) + 1 - first, np.int64)
    for place, columns in enumerate(regions):
        code[columns - first] |= 1 << place
    for value in np.unique(code):
        yield first + np.flatnonzero(code == value), [place for place in range(len(regions)) if value >> place & 1]


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
