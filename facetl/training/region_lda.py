"""A discriminant for each region of the feature's maps, joined: the front that has measured best.

One principal component analysis over a whole map spends its few hundred components on what varies over all of the
face; the eyes' own part of it is lost. Each region gets components of its own, its own discriminant, and an equal
weight in the distance, as in the patch-wise pipelines of Chen, Cao, Wen, Sun: Blessing of Dimensionality, CVPR 2013.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from facetl.backbones.photo_net import FeatureMap
from facetl.io.arrays import Rows, take_columns
from facetl.metrics.linalg import Float32s, blocks, leading, principal_axes

# Directions kept of a region: the ones behind hardly separate people (benchmarks/recipes).
_KEPT = 150
# Components may not use up the photos: the last ones would hold single people's noise.
PHOTOS_PER_COMPONENT = 2
_BLOCK = 1024
# Photos up to which inner products between photos (nine times 144 MB) are cheaper than iterating over long features.
_MOST_PHOTOS = 6000


def region_axes(
    features: Rows,
    labels: np.ndarray,
    layout: FeatureMap,
    *,
    components: int,
    joined: int,
    shrinkage: float,
    mean: Float32s,
    scale: Float32s,
    rng: np.random.Generator,
) -> tuple[Float32s, Float32s]:
    """Return the directions of all regions' discriminants [dim, joined], and those that whiten without a label.

    The latter are [dim, components], both float32; there are fewer of either where photos are few.

    Args:
        features: [photos, dim] float, of which `mean` and `scale` are the moments, [dim] float32 each.
        labels: [photos] int, the person of each.
        layout: of which maps a feature is made.
    """
    regions = _components(_standardised(features, mean, scale), layout, components, rng)
    mappings, _ = joined_discriminants(regions.whitened(), labels, rng, joined=joined, shrinkage=shrinkage)
    return regions.directions(mappings), regions.whitening()


def joined_discriminants(
    whitened: Iterable[NDArray[np.floating]],
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    joined: int,
    shrinkage: float,
    near: Float32s | None = None,
) -> tuple[list[Float32s], Float32s]:
    """Return a map [components, kept] for each region, the sum of which separates people; leading directions first.

    With them come the photos so mapped, [photos, kept] float32.

    Args:
        whitened: rows of each region, [photos, components] float.
        labels: [photos] int, the person of each photo.
        rng: for directions of many photos, which are iterated from random ones.
        joined: directions kept at most.
        shrinkage: of the scatter within a person, see `supervised`.
        near: embeddings of the photos, [photos, kept] float32, to iterate from instead.
    """

    def discriminant(rows: NDArray[np.floating]) -> tuple[Float32s, Float32s]:
        rows = rows.astype(np.float32, copy=False)
        mapping = supervised(rows, labels, shrinkage=shrinkage)[:, :_KEPT]
        part = rows @ mapping
        # Each region counts the same, however many directions it has.
        level = np.float32(1 / max(np.sqrt(np.mean(np.sum(np.square(part), axis=1))), 1e-12))
        return mapping * level, part * level

    found = _each(discriminant, list(whitened))
    mappings = [mapping for mapping, _ in found]
    side_by_side = np.concatenate([part for _, part in found], axis=1)
    photos, width = side_by_side.shape
    kept = min(joined, width, max(photos - 1, 2))
    begin = None if near is None or near.shape[1] != kept else near
    mean, unit = side_by_side.mean(axis=0), np.ones(width, np.float32)
    turn, _ = principal_axes(side_by_side, mean, unit, kept, rng, near=begin)
    made = side_by_side @ turn
    # Photos of the training have a mean square of 1, as the other fronts give.
    level = np.float32(1 / np.sqrt(np.mean(np.square(made))))
    turn *= level
    turns = np.split(turn, np.cumsum([mapping.shape[1] for mapping in mappings])[:-1])
    return [mapping @ part for mapping, part in zip(mappings, turns, strict=True)], made * level


def region_whitening(
    rows: NDArray[np.float16], layout: FeatureMap, components: int, *, rng: np.random.Generator
) -> tuple[list[Float32s], Float32s]:
    """Return the directions that whiten each region, [its columns, components] float32, without a label.

    With them come the photos along them, all regions' side by side: [photos, all components] float32.

    rows: standardised features, [photos, dim]. The other arguments are as above.
    """
    regions = _components(rows, layout, components, rng)
    whitened = list(regions.whitened())  # the directions are found on the way
    return regions.axes(), np.concatenate(whitened, axis=1)


def _components(
    rows: np.ndarray, layout: FeatureMap, components: int, rng: np.random.Generator
) -> _InnerProducts | _Iterated:
    components = min(components, max(len(rows) // PHOTOS_PER_COMPONENT, 2))
    return (_InnerProducts if len(rows) <= _MOST_PHOTOS else _Iterated)(rows, layout, components, rng)


def _each(function: Callable[[Any], Any], regions: Iterable[Any]) -> list[Any]:
    """Return what a function makes of each region; their matrices are too small for a BLAS to share among the cores."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, regions))


class _InnerProducts:
    """Components of regions by the inner products between photos (Sirovich and Kirby, 1987).

    Those over a region are the sum of those over its cells, so that cells which regions share are multiplied once.
    """

    def __init__(self, rows: np.ndarray, layout: FeatureMap, components: int, rng: np.random.Generator) -> None:
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
            grams = np.zeros((len(regions), len(self._rows), len(self._rows)), np.float32)
            for columns, members in _cells(regions):
                block = self._rows[:, columns].astype(np.float32)
                product = block @ block.T
                for region in members:
                    grams[region] += product
            self._all += grams[0]  # a map's first region is the whole
            found = _each(
                self._components_of, zip(grams, map(len, regions), self._rng.spawn(len(regions)), strict=True)
            )
            self._weights += [weights for weights, _ in found]
            yield from (whitened for _, whitened in found)

    def axes(self) -> list[Float32s]:
        """Return each region's whitening directions, [its columns, components]."""
        axes, left = [], list(self._weights)
        for regions in self._maps:
            weights, left = left[: len(regions)], left[len(regions) :]
            found = [
                np.empty((len(columns), own.shape[1]), np.float32)
                for columns, own in zip(regions, weights, strict=True)
            ]
            for columns, members in _cells(regions):
                block = self._rows[:, columns].astype(np.float32)
                for region in members:
                    found[region][np.searchsorted(regions[region], columns)] = block.T @ weights[region]
            axes += found
        return axes

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
        weights, _ = self._components_of((self._all, self._rows.shape[1], self._rng))
        axes = np.empty((self._rows.shape[1], weights.shape[1]), np.float32)
        for start in range(0, len(axes), _BLOCK):
            block = slice(start, start + _BLOCK)
            axes[block] = self._rows[:, block].astype(np.float32).T @ weights
        return axes

    def _components_of(self, region: tuple[Float32s, int, np.random.Generator]) -> tuple[Float32s, Float32s]:
        gram, dim, rng = region
        vectors, values = leading(gram, min(self._components, dim), rng)
        whitened = vectors * np.float32(np.sqrt(len(gram)))
        return whitened / np.maximum(values, 1e-6 * values[0]), whitened


class _Iterated:
    """Components of regions by iteration over their rows, for photos by the ten thousand."""

    def __init__(self, rows: np.ndarray, layout: FeatureMap, components: int, rng: np.random.Generator) -> None:
        self._rows = rows
        self._regions = tuple(region for regions in layout.regions() for region in regions)
        self._components = components
        self._rng = rng
        self._axes: list[Float32s] = []

    def whitened(self) -> Iterator[Float32s]:
        """Yield each region's rows, whitened, [photos, components]."""
        for columns in self._regions:
            region = take_columns(self._rows, columns)
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
    for at, block in blocks(features):
        block -= mean
        block /= scale
        rows[at] = block
    return rows


# The scatter within a person with hundreds of photos must not stand for everyone's.
_WEIGHT = 10
_NO_SCATTER = 1e-9


def supervised(rows: np.ndarray, labels: np.ndarray, *, shrinkage: float, discriminant: bool = True) -> np.ndarray:
    """Return the map [components, components] that whitens within classes; mean square of the rows then 1.

    rows: [photos, components] float32, centred. Within-class covariance normalisation (Hatch, Kajarekar and Stolcke,
    2006); `discriminant` then scales each direction by √(b / (b + 1)), b its variance between people for 1 within
    them (Ioffe, Probabilistic Linear Discriminant Analysis, 2006).
    """
    mapping = _within_whitening(rows, labels, shrinkage)
    photos = len(rows)
    # Of the mapped rows, all that is asked for are moments: those of the rows give them without mapping a single one.
    squares, mean = (rows.T @ rows).astype(np.float64), rows.mean(axis=0, dtype=np.float64)
    if discriminant:
        spread = (squares - photos * np.outer(mean, mean)) / (photos - 1)
        values, vectors = np.linalg.eigh(mapping.T @ spread @ mapping)
        between = np.maximum(values - 1, 1e-3)
        mapping = mapping @ (vectors * np.sqrt(between / (between + 1)))[:, ::-1]
    scale = np.sqrt(np.sum(mapping * (squares @ mapping)) / (photos * mapping.shape[1]))
    return np.asarray(mapping / max(scale, 1e-12), np.float32)


def _within_whitening(rows: np.ndarray, labels: np.ndarray, shrinkage: float) -> np.ndarray:
    """Return the map that makes the scatter within people spherical, of variance 1.

    People with many photos count as _WEIGHT photos at most, those with one do not count.
    """
    _, person, counts = np.unique(labels, return_inverse=True, return_counts=True)
    several = counts[person] > 1
    rows, person = rows[several], np.unique(person[several], return_inverse=True)[1]
    counts = counts[counts > 1]
    together = np.argsort(person, kind="stable")
    sums = np.add.reduceat(rows[together], np.cumsum(counts) - counts, axis=0, dtype=np.float64)
    deviation = rows - (sums / counts[:, None])[person]
    weight = np.minimum(1.0, _WEIGHT / counts)
    freedom = float(np.sum(weight * (counts - 1)))
    within = (deviation * weight[person][:, None]).T @ deviation / max(freedom, 1e-12)
    level = np.trace(within) / len(within)
    if level <= _NO_SCATTER:  # copies of one photo for every person: there is nothing to whiten by
        return np.eye(len(within))
    within *= 1 - shrinkage
    within[np.diag_indices_from(within)] += (shrinkage + _NO_SCATTER) * level
    return np.linalg.inv(np.linalg.cholesky(within)).T
