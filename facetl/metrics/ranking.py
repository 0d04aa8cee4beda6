"""A gallery of known people that ranks them for a photo: the part of identification that looks at no probe's name.

Distances are squared Euclidean between unit embeddings. What a gallery learns (its threshold for "unknown", the
shifts of single people) it learns from its own photos, each held out in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from facetl.errors import DataError
from facetl.metrics.linalg import check_unit, normalised
from facetl.metrics.pairs import Ints
from facetl.metrics.roc import Floats, best_threshold

METHODS = ("centroid", "nearest", "personal")
SHRINKAGE = 5.0  # photos; docs/protocols.md has the figures

_BLOCK_BYTES = 1 << 27  # of float64 distances at once
_FARTHEST = 4.0  # of two unit vectors, squared


class Ranked(NamedTuple):
    """The best candidates of each probe: people int64 [probes, top] and distances float64 [probes, top]."""

    people: Ints
    distances: Floats


class Gallery:
    """Known people by their photos' embeddings, ranked for a probe by one of three methods.

    "centroid": by the distance to the person's mean embedding, L2-normalised. "nearest": by how many of the k
    nearest gallery photos are the person's, then by the nearest of them; the distance is that of the person's
    nearest photo. "personal": as centroid, with the person's own threshold: its excess over the common one is
    taken off the distance, so that one threshold on the result is a personal one on the distance.

    embeddings: float [photos, dim] of unit norm; labels: str [photos]. shrinkage is the weight of the common
    threshold in photos: a person with n photos has n / (n + shrinkage) of the measured excess, with one photo none.
    Raises DataError where there is no photo, a name is empty, embeddings are not of unit norm, or k exceeds the
    photos.
    """

    def __init__(
        self,
        embeddings: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        method: str = "centroid",
        k: int = 3,
        shrinkage: float = SHRINKAGE,
    ) -> None:
        if method not in METHODS:
            raise DataError(f"A gallery's method is one of {', '.join(METHODS)}. Received: {method!r}.")
        rows = checked_embeddings(embeddings, "gallery")
        names, person = np.unique(checked_names(labels, len(rows)), return_inverse=True)
        if method == "nearest" and not 1 <= k <= len(rows):
            raise DataError(f"k must be 1 to the {len(rows)} photos of the gallery. Received: {k}.")
        if not shrinkage >= 0.0:
            raise DataError(f"Shrinkage must be 0 photos or more. Received: {shrinkage}.")
        order = np.argsort(person, kind="stable")
        self.people: tuple[str, ...] = tuple(names.tolist())
        self.method = method
        self.k = k
        self.photos = len(rows)
        self._rows = rows[order]
        self._person = person[order].astype(np.int64)
        self._counts = np.bincount(person).astype(np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._sums = np.add.reduceat(self._rows.astype(np.float64), self._starts, axis=0)
        self._centroids = normalised(self._sums.astype(np.float32))
        self.shifts: Floats = np.zeros(len(self.people))
        if method == "personal":
            self.shifts = self._personal_shifts(shrinkage)

    def rank(self, probes: npt.ArrayLike, *, top: int) -> Ranked:
        """Return the `top` best candidates of each probe, or all people where there are fewer, best first.

        probes: float [probes, dim] of unit norm. Equally good candidates stand in order of their names.
        """
        rows = checked_embeddings(probes, "probe", dim=self._rows.shape[1])
        top = min(top, len(self.people))
        people, distances = np.empty((len(rows), top), np.int64), np.empty((len(rows), top))
        for block in self._blocks(len(rows)):
            order, distance = self._candidates(self._distances(rows[block]))
            people[block] = order[:, :top]
            distances[block] = np.take_along_axis(distance, people[block], axis=1)
        return Ranked(people, distances)

    def threshold(self) -> float:
        """Return the distance up to which the best candidate is accepted, learnt from the gallery alone.

        Each photo is held out and asked for twice: with its person's other photos in the gallery, when that
        person should be accepted (unless somebody else is nearer, when no threshold helps), and with its person
        gone, when nobody should. The threshold is the one that is most often right. Raises DataError for fewer
        than 2 people, or where no photo finds its person.
        """
        own, others = [np.empty(0)], [np.empty(0)]
        for found, best in self._held_out() if len(self.people) > 1 else ():
            own.append(found[found <= best])
            others.append(best)
        right = np.concatenate(own)
        if not len(right):
            raise DataError(
                "A threshold from the gallery needs 2 people, and a photo that is nearer to another one of its person "
                f"than to anybody else. Received: {len(self.people)} people, at most {self._counts.max()} photos each, "
                "none that is; add photos, or give a threshold."
            )
        distances = np.concatenate([right, *others])
        return best_threshold(distances, np.arange(len(distances)) < len(right))

    def _distances(self, probes: npt.NDArray[np.float32]) -> Floats:
        """Return distances to all photos, [probes, photos], for "nearest", else to the centroids, [probes, people]."""
        stored = self._rows if self.method == "nearest" else self._centroids
        return np.asarray(cdist(probes, stored, "sqeuclidean"))

    def _candidates(self, distances: Floats) -> tuple[Ints, Floats]:
        """Return all people of each probe, best first, and everybody's distance: both [probes, people]."""
        if self.method != "nearest":
            shifted = distances - self.shifts
            return np.argsort(shifted, axis=1, kind="stable"), shifted
        nearest = np.minimum.reduceat(distances, self._starts, axis=1)
        voters = np.argpartition(distances, self.k - 1, axis=1)[:, : self.k]
        votes = np.zeros(nearest.shape)
        np.add.at(votes, (np.arange(len(votes))[:, None], self._person[voters]), 1.0)
        return np.lexsort((nearest, -votes), axis=1), nearest

    def _held_out(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield, for blocks of photos whose person has others, distances to that person and to the best of the rest."""
        several = np.flatnonzero(self._counts[self._person] > 1)
        for block in self._blocks(len(several)):
            rows = several[block]
            person = self._person[rows]
            distances = self._distances(self._rows[rows])
            if self.method == "nearest":
                distances[np.arange(len(rows)), rows] = np.inf
                own = np.minimum.reduceat(distances, self._starts, axis=1)[np.arange(len(rows)), person]
                distances[self._person == person[:, None]] = np.inf
            else:
                own = self._own_distances(rows) - self.shifts[person]
                distances[np.arange(len(rows)), person] = np.inf
            order, distance = self._candidates(distances)
            yield own, np.take_along_axis(distance, order[:, :1], axis=1)[:, 0]

    def _own_distances(self, rows: Ints) -> Floats:
        """Return each photo's distance to the centroid of its person's others, as if that centroid had them all."""
        person, photos = self._person[rows], self._rows[rows].astype(np.float64)
        others = normalised((self._sums[person] - photos).astype(np.float32))
        n = self._counts[person]
        # The mean of n − 1 is farther from a fresh photo than that of n, by n / (n − 1) over (n + 1) / n.
        return np.asarray(np.sum((photos - others) ** 2, axis=1) * (1.0 - 1.0 / n**2))

    def _personal_shifts(self, shrinkage: float) -> Floats:
        """Return how much each person's threshold exceeds the common one: float64 [people].

        A person's own threshold lies halfway between the mean distance of the own photos, each held out, and
        that of as many of other people's photos, the nearest ones; the common one is the mean of them.
        """
        able = np.flatnonzero((self._counts > 1) & (2 * self._counts <= len(self._rows)))
        middle = np.empty(len(able))
        for place, person in enumerate(able.tolist()):
            mine = self._person == person
            own = self._own_distances(np.flatnonzero(mine))
            others = cdist(self._centroids[[person]], self._rows[~mine], "sqeuclidean")[0]
            middle[place] = (own.mean() + np.partition(others, len(own) - 1)[: len(own)].mean()) / 2.0
        shifts = np.zeros(len(self.people))
        if len(able):
            shifts[able] = (middle - middle.mean()) * self._counts[able] / (self._counts[able] + shrinkage)
        return shifts

    def _blocks(self, rows: int) -> Iterator[slice]:
        width = len(self._rows) if self.method == "nearest" else len(self.people)
        size = max(1, _BLOCK_BYTES // (8 * width))
        return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def checked_embeddings(embeddings: npt.ArrayLike, what: str, *, dim: int | None = None) -> npt.NDArray[np.float32]:
    """Return the embeddings as float32 [photos, dim], or raise a DataError that names them as `what`."""
    rows = np.asarray(embeddings, np.float32)
    if rows.ndim != 2 or not rows.size or (dim is not None and rows.shape[1] != dim):
        raise DataError(f"The {what}'s embeddings must be [photos, {dim or 'dim'}]. Received: shape {rows.shape}.")
    check_unit(rows, f"The {what}'s embeddings")
    return rows


def checked_names(labels: npt.ArrayLike, photos: int) -> npt.NDArray[np.str_]:
    """Return the names as str [photos], or raise a DataError with what is wrong."""
    names = np.asarray(labels)
    if names.shape != (photos,) or names.dtype.kind not in "UO" or not all(isinstance(n, str) and n for n in names):
        raise DataError(f"Each of {photos} photos needs a person's name. Received: {names.dtype} {names.shape}.")
    return names.astype(np.str_)
