"""The interface of an extractor, the maps that its features are made of, and a net of TensorFlow operations.

No TensorFlow is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.spec import ExtractorSpec, InputForm, Weights

# Below it a map's cells are too coarse to be parts of a face.
_SMALLEST_GRID = 3


class PhotoNet(Protocol):
    """A frozen net: photos in, features out.

    Attributes:
        spec, weights: its settings, and which weights it holds.
        dim: length of a feature.
        flagged: reason → how many of the photos extracted so far got a feature that is to be doubted.
    """

    @property
    def spec(self) -> ExtractorSpec: ...

    @property
    def weights(self) -> Weights: ...

    @property
    def dim(self) -> int: ...

    @property
    def flagged(self) -> Mapping[str, int]: ...

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of photos of any sizes: [height, width, 3] uint8 RGB each → [n, dim] float32."""
        ...


@dataclass(frozen=True)
class FeatureMap:
    """The maps that were pooled, flattened and joined.

    Attributes:
        maps: (grid, channels) of each, in order; a feature holds grid × grid × channels numbers of each map, by row,
            column and channel. A vector is a map of one cell.
    """

    maps: tuple[tuple[int, int], ...]

    @property
    def dim(self) -> int:
        """Length of the feature."""
        return sum(grid * grid * channels for grid, channels in self.maps)

    @classmethod
    def flat(cls, dim: int) -> FeatureMap:
        """Return the layout of a feature of which nothing is known but its length."""
        return cls(((1, dim),))

    @classmethod
    def joined(cls, layouts: Sequence[FeatureMap]) -> FeatureMap:
        """Return the layout of features laid side by side."""
        return cls(tuple(one for layout in layouts for one in layout.maps))

    def regions(self) -> tuple[tuple[NDArray[np.int64], ...], ...]:
        """Return the places [n] int64, in the feature, of nine regions of each map, which overlap: a tuple for a map.

        The whole, its four corners, its centre, and three bands: brow, eyes and nose, mouth, in a face that fills the
        map. A map of fewer than 3 × 3 cells is one region.
        """
        found = []
        start = 0
        for grid, channels in self.maps:
            cells = np.arange(start, start + grid * grid * channels).reshape(grid, grid, channels)
            start += cells.size
            found.append(tuple(cells[rows, columns].ravel() for rows, columns in _windows(grid)))
        return tuple(found)

    def to_json(self) -> list[list[int]]:
        """Return the maps as plain lists."""
        return [list(one) for one in self.maps]


@dataclass(frozen=True)
class TensorFlowNet:
    """A net as TensorFlow operations.

    Attributes:
        held: what a SavedModel must track.
        trunk: [batch, height, width, 3] float32 RGB in 0–255 → [batch, h, w, channels] or [batch, dim].
        size: side of its square input, pixels; None where it takes whole photos of any size.
    """

    held: object
    trunk: Callable[[Any], Any]
    size: int | None


def formed(pixels: Any, form: InputForm) -> Any:
    """Bring pixels, [..., 3] float32 RGB in 0–255, an array or a tensor, to the scale and order a net takes."""
    scaled = (pixels - np.asarray(form.mean, np.float32)) / np.asarray(form.std, np.float32)
    return scaled[..., ::-1] if form.channels == "bgr" else scaled


def maps_of(net: object) -> FeatureMap | None:
    """Return of which maps a net's features are made; None where it does not have them."""
    found = getattr(net, "layout", None)
    return found if isinstance(found, FeatureMap) else None


def _windows(grid: int) -> list[tuple[slice, slice]]:
    """Return the nine windows of a map, as rows and columns."""
    every = slice(0, grid)
    if grid < _SMALLEST_GRID:
        return [(every, every)]
    low, high = slice(0, grid // 2 + 1), slice(grid - grid // 2 - 1, grid)
    band = max(1, (grid - 1) // 2)
    top, bottom = slice(0, band), slice(grid - band, grid)
    middle = slice(grid // 2 - 1, grid - grid // 2 + 1)
    inner = slice(1, grid - 1)
    corners = [(rows, columns) for rows in (low, high) for columns in (low, high)]
    return [(every, every), *corners, (middle, inner), (top, every), (middle, every), (bottom, every)]
