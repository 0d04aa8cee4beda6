"""The memory from which a run learns more people, and the head that is solved from it in closed form.

The best linear head for the people at hand is known without a step of gradient descent: a discriminant of each region,
joined. It is free to turn as a whole, which no distance notices; turned to the old embeddings, its own stay comparable
with them. A head's front keeps the few hundred directions that separate its first people; new people may differ in
others, so an update begins from the principal components of each region of the feature, learnt without names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.backbones.photo_net import FeatureMap
from facetl.io.arrays import Rows, take
from facetl.io.files import stored_arrays, write_arrays
from facetl.methods.continual.exemplars import MAKE_ANEW, Exemplars
from facetl.methods.continual.linear_head import Affine, LinearHead, Moments, rotation
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.metrics.linalg import Float32s, normalised
from facetl.training.region_lda import joined_discriminants, region_whitening
from facetl.training.whitening import MAX_PHOTOS

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
        with stored_arrays(path, "the memory", MAKE_ANEW) as stored:
            moments = Moments(bool(stored["root"]), stored["mean"], stored["scale"])
            count = sum(name.startswith("axes_") for name in stored)
            columns = tuple(stored[f"columns_{place}"] for place in range(count))
            axes = tuple(stored[f"axes_{place}"].astype(np.float32) for place in range(count))
            if not count or any(len(one) != len(own) for one, own in zip(columns, axes, strict=True)):
                raise ValueError("its regions do not belong together")
        return cls(moments, columns, axes)


# Photos of others that are looked at, and how many count beside them as if they had spread by 1.
_OTHERS, _PRIOR = 500, 100


@dataclass(frozen=True, eq=False)
class Memory:
    """A basis, and a few photos of everybody that the run has learnt."""

    basis: Basis
    exemplars: Exemplars

    @classmethod
    def learnt(
        cls,
        features: Rows,
        names: ArrayLike,
        *,
        others: Rows,
        anchor: LinearHead,
        layout: FeatureMap | None,
        components: int,
        per_person: int,
        seed: int,
    ) -> Memory:
        """Make it from all photos of a run: features [photos, dim] float, and who is on them.

        Args:
            others: features of people that nothing is learnt from; the first few hundred are used.
            anchor: the head whose embeddings fill galleries.
            layout: of whose maps regions are made; None for none.
            components: directions kept of each region, at most.
            per_person: exemplars kept of each.
        """
        photos, people = features.shape[0], np.asarray(names, np.str_)
        chosen = np.sort(np.random.default_rng(seed).permutation(photos)[:MAX_PHOTOS])
        standardised = np.empty((len(chosen), features.shape[1]), np.float16)
        embeddings = np.empty((len(chosen), len(anchor.affine.bias)), np.float32)
        for at, block in anchor.moments.standardised(take(features, chosen)):
            standardised[at], embeddings[at] = block, anchor.affine(block)
        basis, rows = Basis.learnt(
            standardised, moments=anchor.moments, layout=layout, components=components, seed=seed
        )
        # Photos spread wider along components that were learnt from them than all others do, those of new people too.
        rows *= _spread(basis.rows(take(others, np.arange(min(_OTHERS, others.shape[0])))))
        rest = np.setdiff1d(np.arange(photos), chosen)
        beside = seen(take(features, rest), people[rest], basis=basis, anchor=anchor)
        everything = Exemplars.of(rows, embeddings, people[chosen]).joined(beside)
        return cls(basis, everything.herded(per_person))

    def relearnt(self, new: Exemplars, update: UpdateSettings, *, seed: int) -> LinearHead:
        """Return the head of new people, and with `replay` of everybody remembered; see `solve`."""
        taken = self.exemplars.joined(new) if update.has("replay") else new
        mappings = solve(
            self.basis.parted(taken.rows),
            np.unique(taken.names, return_inverse=True)[1],
            old=taken.embeddings.astype(np.float32),
            shrinkage=update.shrinkage,
            seed=seed,
        )
        width = taken.embeddings.shape[1]
        affine = Affine(self.basis.directions(mappings), np.zeros(width, np.float32))
        return LinearHead(self.basis.moments, affine)

    def with_people(self, new: Exemplars, *, per_person: int) -> Memory:
        """Return it with the photos that stand best for new people."""
        joined = self.exemplars.joined(new.herded(per_person))
        return replace(self, exemplars=joined.at_most(per_person))

    def write(self, folder: Path) -> None:
        """Write it into a run folder."""
        self.basis.write(folder)
        self.exemplars.write(folder)

    @classmethod
    def read(cls, folder: Path) -> Memory | None:
        """Read that of a run folder, None where it keeps none; RunError where a file is damaged."""
        basis, exemplars = Basis.read(folder), Exemplars.read(folder)
        return None if basis is None or exemplars is None else cls(basis, exemplars)


def _spread(rows: NDArray[np.float16]) -> Float32s:
    """Return how far others' photos spread along each component, where those that it was learnt from spread by 1.

    Of few photos it is drawn to 1, as by the prior of a variance: chance alone would make components differ.
    """
    squares = np.sum(np.square(rows, dtype=np.float32), axis=0)
    return np.asarray(np.sqrt((squares + _PRIOR) / (len(rows) + _PRIOR)), np.float32)


def seen(features: Rows, names: ArrayLike, *, basis: Basis, anchor: LinearHead) -> Exemplars:
    """Return photos as exemplars are kept, all of them: features [photos, dim] float, and who is on each."""
    return Exemplars.of(basis.rows(features), anchor(features), names)


def solve(
    parts: Sequence[NDArray[np.floating]], labels: np.ndarray, *, old: Float32s, shrinkage: float, seed: int
) -> list[Float32s]:
    """Return a map [components, width] of each region: their joined discriminants, turned to old embeddings.

    The leading directions are turned by the rotation that brings their embeddings nearest to the old ones: distillation
    of where people lie, which does not change how well they are separated.

    Args:
        parts: rows of each region, [photos, components] float.
        labels: [photos] int, the person of each.
        old: [photos, width] float32 unit vectors, of the same photos.
        shrinkage: of the scatter within a person.
    """
    width = old.shape[1]
    rng = np.random.default_rng(seed)
    mappings, found = joined_discriminants(parts, labels, rng, joined=width, shrinkage=shrinkage, near=old)
    # Few photos have fewer directions: the others stay empty.
    empty = (0, 0), (0, width - found.shape[1])
    turn = rotation(normalised(np.pad(found, empty)), old)
    return [np.pad(mapping, empty) @ turn for mapping in mappings]
