"""The photos of known people that an update rehearses: the few that stand best for each, by herding."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.errors import DataError, RunError
from facetl.io.files import stored_arrays, write_arrays

EXEMPLARS = "exemplars.npz"
MAKE_ANEW = "Delete the file: the next update makes it anew from the run's photos."
_VERSION = 2
_DTYPE = np.float16


def herd(embeddings: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows whose running mean stays nearest to the mean of all, in the order chosen: [min(count, n)] int64.

    embeddings: [n, dim]. iCaRL's construction of an exemplar set (Rebuffi et al., CVPR 2017, algorithm 4): the k-th
    exemplar is the row that brings the mean of the first k nearest to the mean of everything.
    """
    rows = np.asarray(embeddings, np.float64)
    mean, total = rows.mean(axis=0), np.zeros(rows.shape[1])
    left = np.ones(len(rows), bool)
    chosen = []
    for place in range(min(count, len(rows))):
        distances = np.sum(np.square(mean - (total + rows) / (place + 1)), axis=1)
        nearest = int(np.argmin(np.where(left, distances, np.inf)))
        chosen.append(nearest)
        left[nearest] = False
        total += rows[nearest]
    return np.array(chosen, np.int64)


def herd_each(embeddings: NDArray[np.float32], names: NDArray[np.str_], per_person: int) -> NDArray[np.int64]:
    """Return at most so many rows of each person, people sorted, those of each in the order chosen: int64 [kept]."""
    owners = [np.flatnonzero(names == name) for name in np.unique(names)]
    return np.concatenate([np.zeros(0, np.int64), *(own[herd(embeddings[own], per_person)] for own in owners)])


def first_of_each(names: NDArray[np.str_], most: int) -> NDArray[np.int64]:
    """Return the rows of the first photos of everybody, at most so many each, in their order: int64 [kept]."""
    order = np.argsort(names, kind="stable")
    ordered = names[order]
    return np.sort(order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < most])


@dataclass(frozen=True, eq=False)
class Exemplars:
    """A few photos that are kept of each person.

    Attributes:
        rows: [photos, components] float16, as a basis gives them; see `facetl.methods.continual.memory`.
        embeddings: [photos, width] float16 unit vectors, as galleries have them.
        names: whose each is, str [photos].
    """

    rows: NDArray[np.float16]
    embeddings: NDArray[np.float16]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, rows: NDArray[np.floating], embeddings: NDArray[np.floating], names: ArrayLike) -> Exemplars:
        """Take photos as they are, people sorted."""
        owners = np.asarray(names, np.str_)
        order = np.argsort(owners, kind="stable")
        return cls(np.asarray(rows[order], _DTYPE), np.asarray(embeddings[order], _DTYPE), owners[order])

    def herded(self, per_person: int) -> Exemplars:
        """Return at most `per_person` photos of each person, in order of importance: fewer are its first ones."""
        if per_person < 1:
            raise DataError(f"A memory keeps 1 photo a person or more. Received: {per_person}.")
        return self._of(herd_each(self.embeddings.astype(np.float32), self.names, per_person))

    def joined(self, others: Exemplars) -> Exemplars:
        """Return these and others, people sorted; of a person in both, these come first."""
        return Exemplars.of(
            np.concatenate([self.rows, others.rows]),
            np.concatenate([self.embeddings, others.embeddings]),
            np.concatenate([self.names, others.names]),
        )

    def at_most(self, per_person: int) -> Exemplars:
        """Return the first ones of each person, those that stand best for all."""
        return self._of(first_of_each(self.names, per_person))

    def without(self, names: Collection[str]) -> Exemplars:
        """Return those of nobody named."""
        return self._of(np.flatnonzero(~np.isin(self.names, sorted(names))))

    @property
    def people(self) -> tuple[str, ...]:
        """The people that are remembered, sorted."""
        return tuple(np.unique(self.names).tolist())

    @property
    def bytes_per_person(self) -> float:
        """Bytes that a person takes on average."""
        return (self.rows.nbytes + self.embeddings.nbytes) / max(len(self.people), 1)

    def write(self, folder: Path) -> None:
        """Write them into a run folder, for its owner alone; no pickle."""
        write_arrays(
            folder / EXEMPLARS,
            version=np.int64(_VERSION),
            rows=self.rows,
            embeddings=self.embeddings,
            names=self.names,
        )

    @classmethod
    def read(cls, folder: Path) -> Exemplars | None:
        """Read those of a run folder, None where it keeps none; RunError where the file is damaged."""
        path = folder / EXEMPLARS
        if not path.exists():
            return None
        with stored_arrays(path, "the memory", MAKE_ANEW) as stored:
            if int(stored["version"]) > _VERSION:
                raise RunError(f"{path}: this facetl reads version {_VERSION}, got {stored['version']}. Upgrade.")
            rows, embeddings = (stored[name].astype(_DTYPE) for name in ("rows", "embeddings"))
            names = stored["names"].astype(np.str_)
            if not rows.ndim == embeddings.ndim == 2 or not len(rows) == len(embeddings) == len(names):
                raise ValueError("its rows do not belong together")
            if not np.isfinite(rows).all() or not np.isfinite(embeddings).all():
                raise ValueError("a number is not finite")
        return cls(rows, embeddings, names)

    def _of(self, rows: NDArray[np.int64]) -> Exemplars:
        return Exemplars(self.rows[rows], self.embeddings[rows], self.names[rows])
