"""What a run keeps to learn more people from, and the head that is solved from it in closed form.

The best linear head for the people at hand is known without a step of gradient descent: a discriminant of each region,
joined. It is free to turn as a whole, which no distance notices; turned to the old embeddings, its own stay comparable
with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes

from facetl.evaluation.projection import Float32s, Rows, normalised
from facetl.features.layout import Layout
from facetl.methods.continual.basis import Basis
from facetl.methods.continual.exemplars import Exemplars
from facetl.methods.continual.learning import UpdateSettings
from facetl.methods.continual.linear import Affine, LinearHead
from facetl.training.regions import joined_discriminants
from facetl.training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class Memory:
    """A basis, and a few photos of everybody whom the run has learnt."""

    basis: Basis
    exemplars: Exemplars

    @classmethod
    def learnt(
        cls,
        features: Rows,
        names: ArrayLike,
        settings: TrainingSettings,
        *,
        anchor: LinearHead,
        layout: Layout | None,
        per_person: int,
    ) -> Memory:
        """Make it from all photos of a run: features [photos, dim] float, who is on them, and the run's settings.

        anchor: the head whose embeddings fill galleries.
        """
        basis = Basis.learnt(features, settings, moments=anchor.moments, layout=layout)
        return cls(basis, seen(features, names, basis=basis, anchor=anchor).herded(per_person))

    def relearnt(self, new: Exemplars, settings: TrainingSettings, update: UpdateSettings) -> LinearHead:
        """Return the head of new people, and with `replay` of everybody remembered; see `solve`."""
        taken = self.exemplars.joined(new) if update.has("replay") else new
        mappings = solve(
            self.basis.parted(taken.rows),
            np.unique(taken.names, return_inverse=True)[1],
            old=taken.embeddings.astype(np.float32),
            settings=replace(settings, shrinkage=update.shrinkage),
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


def seen(features: Rows, names: ArrayLike, *, basis: Basis, anchor: LinearHead) -> Exemplars:
    """Return photos as exemplars are kept, all of them: features [photos, dim] float, and who is on each."""
    return Exemplars.of(basis.rows(features), anchor(features), names)


def solve(
    parts: Sequence[Float32s], labels: np.ndarray, *, old: Float32s, settings: TrainingSettings
) -> list[Float32s]:
    """Return a map [components, width] of each region: their joined discriminants, turned to old embeddings.

    The leading directions are turned by the rotation that brings their embeddings nearest to the old ones (Schönemann,
    A Generalized Solution of the Orthogonal Procrustes Problem, 1966): distillation of where people lie, which costs
    nothing of how they are told apart.

    Args:
        parts: rows of each region, [photos, components] float32.
        labels: [photos] int, the person of each.
        old: [photos, width] float32 unit vectors, of the same photos.
        settings: of the discriminants.
    """
    width = old.shape[1]
    chosen = replace(settings, standardise="discriminant", joined=width)
    mappings = joined_discriminants(parts, labels, chosen, np.random.default_rng(settings.seed))
    # Few photos have fewer directions: the others stay empty.
    mappings = [np.pad(mapping, ((0, 0), (0, width - mapping.shape[1]))) for mapping in mappings]
    found = np.concatenate(parts, axis=1) @ np.concatenate(mappings)
    turn, _ = orthogonal_procrustes(normalised(found), old)
    return [np.asarray(mapping @ turn, np.float32) for mapping in mappings]
