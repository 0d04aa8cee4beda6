"""The basis of linear heads: principal components of each region of the feature, learnt without names.

A head's front keeps of these the few hundred directions that separate its first people. New people may
differ in others, so an update begins from all of them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.feature_map import FeatureMap
from facetl.errors import RunError
from facetl.io.arrays import Rows
from facetl.io.files import write_arrays
from facetl.methods.continual.linear_head import Moments
from facetl.metrics.linalg import Float32s
from facetl.training.region_lda import region_whitening

BASIS = "basis.npz"


@dataclass(frozen=True, eq=False)
class Basis:
    """Whitening directions of the regions of standardised features.

    Attributes:
        moments: of the features.
        columns: places [n] int64 of each region in the feature; regions overlap.
        axes: of each region, [n, components] float32; stored in half of that.
    """

    moments: Moments
    columns: tuple[NDArray[np.int64], ...]
    axes: tuple[Float32s, ...]

    @classmethod
    def learnt(
        cls, rows: NDArray[np.float16], *, moments: Moments, layout: FeatureMap | None, components: int, seed: int
    ) -> tuple[Basis, Float32s]:
        """Learn it from photos, and return what `rows` does of them.

        Args:
            rows: features [photos, dim], standardised by the moments.
            layout: of whose maps regions are made; None for one region, the whole feature.
            components: directions kept of each region, at most.
        """
        seen = FeatureMap.flat(rows.shape[1]) if layout is None else layout
        axes, made = region_whitening(rows, seen, components, rng=np.random.default_rng([seed, 1]))
        return cls(moments, tuple(region for regions in seen.regions() for region in regions), tuple(axes)), made

    def rows(self, features: Rows) -> NDArray[np.float16]:
        """Return every region's components side by side: [photos, dim] float → [photos, all components]."""
        rows = np.empty((features.shape[0], sum(own.shape[1] for own in self.axes)), np.float16)
        for at, block in self.moments.standardised(features):
            parts = [block[:, columns] @ own for columns, own in zip(self.columns, self.axes, strict=True)]
            rows[at] = np.concatenate(parts, axis=1)
        return rows

    def parted(self, rows: NDArray[np.floating]) -> list[NDArray[np.floating]]:
        """Return each region's own components of rows, [photos, components] of the same type."""
        return np.split(rows, np.cumsum([own.shape[1] for own in self.axes])[:-1], axis=1)

    def directions(self, mappings: Sequence[Float32s]) -> Float32s:
        """Return the map of the feature, [dim, width], that maps of each region, [components, width], make together."""
        directions = np.zeros((len(self.moments.mean), mappings[0].shape[1]), np.float32)
        for columns, own, mapping in zip(self.columns, self.axes, mappings, strict=True):
            directions[columns] += own @ mapping
        return directions

    def write(self, folder: Path) -> None:
        """Write it into a run folder, for its owner alone; no pickle."""
        parts: dict[str, Any] = {f"columns_{place}": own for place, own in enumerate(self.columns)}
        parts |= {f"axes_{place}": own.astype(np.float16) for place, own in enumerate(self.axes)}
        write_arrays(folder / BASIS, **self.moments._asdict(), **parts)

    @classmethod
    def read(cls, folder: Path) -> Basis | None:
        """Read that of a run folder, None where it keeps none; RunError where the file is damaged."""
        path = folder / BASIS
        if not path.exists():
            return None
        with stored_arrays(path) as stored:
            moments = Moments(bool(stored["root"]), stored["mean"], stored["scale"])
            count = sum(name.startswith("axes_") for name in stored)
            columns = tuple(stored[f"columns_{place}"] for place in range(count))
            axes = tuple(stored[f"axes_{place}"].astype(np.float32) for place in range(count))
            if not count or any(len(one) != len(own) for one, own in zip(columns, axes, strict=True)):
                raise ValueError("its regions do not belong together")
        return cls(moments, columns, axes)


@contextmanager
def stored_arrays(path: Path) -> Iterator[Any]:
    """Yield a file's arrays by name; RunError where they, or a ValueError of what is made of them, are damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: it cannot be read ({error}). Delete the file: the next update makes it anew from the run's "
            "photos."
        ) from error
