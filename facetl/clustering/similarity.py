"""How likely two groups of faces show one person: by their mean distance, once each face is expanded by its neighbours.

A face is joined by a copy of itself that has moved towards the neighbours that are likely the same person's (query
expansion with weights, Radenović et al., 2019; here the weights are calibrated probabilities). The mean of a group's
two distances is less often deceived by one odd photo than the plain distance is; docs/results.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from facetl.calibration.calibration import Calibration
from facetl.clustering.neighbours import NOBODY, Float32s, Ints, Neighbours
from facetl.metrics.linalg import normalised
from facetl.metrics.roc import Floats

# Chosen on other people than those reported: see docs/results.md.
NEIGHBOURS = 20  # nearest neighbours by which a face is expanded
OWN_PHOTOS = 8.0  # of a person, as expected in an album: what the prior of two photos follows from
NEARNESS = 0.6  # the mean distance up to which groups unite, in parts of the even-odds distance

_LEEWAY = 0.25  # in parts of the way from `least` to the same face
_STEEPNESS = 13.0  # log-odds from distance 0 to the threshold, without a calibration
_ONE_FACE, _NEARER_FACE = 2.0, 6.0  # log-odds of a member at the last distance that unites, and how many more at none
_ONE_GROUP, _NEARER_GROUP, _LARGER_GROUP = 2.2, 9.0, 0.8  # the same for two groups, and less by the log of their size
_GRID = 4001


@dataclass(frozen=True)
class Evidence:
    """The meaning of distances between a run's embeddings; without a calibration, by the threshold.

    Attributes:
        threshold: squared distance up to which two photos count as one person.
        even: squared distance at which that is as likely as not, before anything is known of the album.
    """

    threshold: float
    calibration: Calibration | None = None
    even: float = field(init=False)

    def __post_init__(self) -> None:
        even = self.threshold
        if self.calibration is not None:
            # The threshold may have been chosen for another purpose than even odds: for a FAR, for a gallery.
            grid = np.linspace(0.0, 4.0, _GRID)
            likely = self.calibration.probability(grid, prior=0.5) >= 0.5
            even = float(grid[likely][-1]) if likely.any() else self.threshold
        object.__setattr__(self, "even", max(even, np.finfo(np.float32).eps))

    @property
    def least(self) -> float:
        """The mean cosine from which groups unite, between expanded rows."""
        return 1.0 - NEARNESS * self.even / 2.0

    @property
    def least_to_all(self) -> float:
        """The same to all rows of a named person: lower, since one person's photos differ, yet above a stranger's."""
        return self.least - _LEEWAY * (1.0 - self.least)

    def probability(self, distances: npt.ArrayLike, *, prior: float) -> Floats:
        """Return the probability that pairs at these squared distances show one person, given `prior` beforehand."""
        far = np.asarray(distances, np.float64)
        if self.calibration is not None:
            return self.calibration.probability(far, prior=prior)
        return np.asarray(expit(_STEEPNESS * (1.0 - far / self.threshold) + logit(prior)))

    def odds(self, cosines: npt.ArrayLike) -> Floats:
        """Return the log-odds that a face belongs to a group, from the mean cosines of their expanded rows."""
        nearness = (np.asarray(cosines, np.float64) - self.least) / (1.0 - self.least)
        return np.asarray(_ONE_FACE + _NEARER_FACE * nearness)

    def probability_of_groups(self, cosines: npt.ArrayLike, smaller: npt.ArrayLike) -> Floats:
        """Return the probability that two groups that have not united show one person.

        cosines: the mean of their expanded rows; smaller: the rows of the smaller one. The more there are, the less is
        it chance that they have not united.
        """
        nearness = (np.asarray(cosines, np.float64) - self.least) / (1.0 - self.least)
        odds = _ONE_GROUP + _NEARER_GROUP * nearness - _LARGER_GROUP * np.log(smaller)
        return np.asarray(expit(odds))

    def expanded(self, embeddings: Float32s, found: Neighbours, table: Float32s) -> Float32s:
        """Return rows whose inner product is the mean of the cosines before and after expansion by the neighbours.

        embeddings: float32 [m, width] of unit norm; found: their neighbours in `table`, float32 [n, width], the album.
        Returns float32 [m, 2 · width] of unit norm.
        """
        prior = OWN_PHOTOS / (OWN_PHOTOS + len(table))
        there = found.rows != NOBODY
        weights = np.where(there, self.probability(2.0 - 2.0 * np.where(there, found.cosines, 0.0), prior=prior), 0.0)
        moved = embeddings.copy()
        for rows, weight in zip(found.rows.T, weights.T.astype(np.float32), strict=True):
            moved += weight[:, None] * table[rows]
        return np.concatenate([embeddings, normalised(moved)], axis=1) * np.float32(np.sqrt(0.5))


def confidences(
    expanded: Float32s, own: Ints, sums: Float32s, counts: Floats, others: Ints, evidence: Evidence
) -> Floats:
    """Return how surely rows belong to their groups, not to others near or to none: float64 [m], in [0, 1].

    expanded: float32 [m, width]; own: int64 [m], the group of each, which it is part of; sums, counts: of the expanded
    rows of each group; others: int64 [m, k], groups near the row, its own perhaps among them. A row alone in its group
    is sure as far as it belongs to none of the others.
    """
    rest = counts[own] - 1.0
    products = np.einsum("ij,ij->i", expanded, sums[own], dtype=np.float64)
    itself = np.einsum("ij,ij->i", expanded, expanded, dtype=np.float64)
    inside = np.where(rest > 0.0, (products - itself) / np.maximum(rest, 1.0), 0.0)
    elsewhere = np.full(len(expanded), -np.inf)
    for group in others.T:
        cosines = np.einsum("ij,ij->i", expanded, sums[group], dtype=np.float64) / counts[group]
        elsewhere = np.maximum(elsewhere, np.where(group == own, -np.inf, cosines))
    other = np.exp(evidence.odds(elsewhere))
    here = np.where(rest > 0.0, np.exp(evidence.odds(inside)), 1.0)
    return np.asarray(here / np.where(rest > 0.0, here + other + 1.0, 1.0 + other))
