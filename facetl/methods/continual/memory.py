"""The memory from which a run learns more people, and the head that is solved from it in closed form.

The best linear head for the people at hand is known without a step of gradient descent: a discriminant of each region,
joined. It is free to turn as a whole, which no distance notices; turned to the old embeddings, its own stay comparable
with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.backbones.feature_map import FeatureMap
from facetl.io.arrays import Rows, take
from facetl.methods.continual.exemplars import Exemplars
from facetl.methods.continual.linear_head import Affine, LinearHead, rotation
from facetl.methods.continual.pca_basis import Basis
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.metrics.linalg import Float32s, normalised
from facetl.training.region_lda import joined_discriminants
from facetl.training.whitening import MAX_PHOTOS

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
