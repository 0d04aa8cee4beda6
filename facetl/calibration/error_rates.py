"""Every pair of photos of some people, weighted so that people count alike, and what its error rates are worth.

FAR is how often two different people, drawn at random with a photo of each, are taken for one: every pair of people
has the same weight, spread evenly over its pairs of photos. FRR is how often two photos of a person drawn at random
are taken for two people. Pairs that share a person are not independent, so all errors are estimated by leaving out
one person at a time (jackknife): never too small on average for such statistics (Efron and Stein, 1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
from scipy.special import expit, logit
from sklearn.metrics.pairwise import euclidean_distances

from facetl.errors import DataError
from facetl.metrics.bootstrap import LEVEL, Interval, jackknife_variance
from facetl.metrics.pairs import Ints
from facetl.metrics.ranking import checked_embeddings
from facetl.metrics.roc import Floats

# Fewer independent trials than this in 1/rate show nothing about the rate (the rule of three; Hanley, 1983).
RULE_OF_THREE = 3

_MOST_PHOTOS = 3000  # 4.5 million pairs; beyond, the people with most photos give up some
_MOST_PEOPLE = 1500
_FEWEST_TO_JACKKNIFE = 3
_ROUNDING = 1e-9  # weights that sum to exactly a share of the whole must not be refused for their last digit


class Distances(NamedTuple):
    """Pairs in ascending order of distance: distances float64 [pairs], shares float64 [pairs] that sum to 1."""

    distances: Floats
    shares: Floats

    def accepted(self, thresholds: npt.ArrayLike) -> Floats:
        """Return the share of pairs with a distance of at most each threshold: float64 [thresholds]."""
        sums = np.concatenate([[0.0], np.cumsum(self.shares)])
        return np.asarray(sums[np.searchsorted(self.distances, thresholds, side="right")])

    def loosest(self, share: float) -> float | None:
        """Return the largest observed distance up to which at most `share` is accepted; None where there is none."""
        accepted = self.accepted(self.distances)
        within = int(np.searchsorted(accepted, share + _ROUNDING, side="right"))
        return float(self.distances[within - 1]) if within else None


@dataclass(frozen=True)
class ErrorsAt:
    """FAR and FRR at one threshold, and what each would be without one of the people: float64 [people]."""

    far: float
    frr: float
    far_without: Floats
    frr_without: Floats


class PeoplePairs:
    """All pairs among the photos of some people.

    embeddings: float [photos, dim] of unit norm; labels: [photos]. Of more than 3,000 photos the people with most
    give up some, of more than 1,500 people a random part is kept, by `seed`. Raises DataError for fewer than 2
    people, or where nobody has 2 photos.
    """

    def __init__(self, embeddings: npt.ArrayLike, labels: npt.ArrayLike, *, seed: int) -> None:
        rows = checked_embeddings(embeddings, "validation people")
        labels = np.asarray(labels)
        if labels.shape != (len(rows),):
            raise DataError(f"Each embedding needs a label. Received: {len(rows)} embeddings, labels {labels.shape}.")
        kept = _thinned(labels, seed)
        person = np.unique(labels[kept], return_inverse=True)[1]
        order = np.argsort(person, kind="stable")
        self._person = person[order]
        self._counts: Ints = np.bincount(person).astype(np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._several = np.flatnonzero(self._counts > 1)
        self.people = len(self._counts)
        self.photos = len(person)
        if self.people < 2 or not len(self._several):
            raise DataError(
                "Calibrating needs at least 2 validation people, one of them with 2 photos. "
                f"Received: {len(np.unique(labels)):,} people, {len(self._several)} with 2 photos or more; add "
                "photos of people who are there."
            )
        chosen = rows[kept[order]].astype(np.float64)
        self._squared = euclidean_distances(chosen, squared=True)

    @property
    def positives(self) -> int:
        """The number of pairs of photos of one person."""
        return int(np.sum(self._counts * (self._counts - 1) // 2))

    @property
    def negatives(self) -> int:
        """The number of pairs of photos of two people."""
        return self.photos * (self.photos - 1) // 2 - self.positives

    @cached_property
    def same(self) -> Distances:
        """Pairs of one person."""
        of_people = [self._own(p) for p in self._several.tolist()]
        shares = [np.full(len(own), 1.0 / (len(own) * len(of_people))) for own in of_people]
        return ascending(np.concatenate(of_people), np.concatenate(shares))

    @cached_property
    def different(self) -> Distances:
        """Pairs of two people."""
        two = self._person[:, None] < self._person[None, :]
        each = 1.0 / self._counts[self._person]
        shares = np.outer(each, each)[two] * (2.0 / (self.people * (self.people - 1)))
        return ascending(self._squared[two], shares)

    def errors_at(self, threshold: float) -> ErrorsAt:
        """Return FAR and FRR at a threshold, and without each of the people."""
        accepted = (self._squared <= threshold).astype(np.float64)
        of_people = np.add.reduceat(np.add.reduceat(accepted, self._starts, axis=0), self._starts, axis=1)
        of_people /= np.outer(self._counts, self._counts)
        np.fill_diagonal(of_people, 0.0)
        n, total, own = self.people, float(of_people.sum()), of_people.sum(axis=1)
        far = total / (n * (n - 1))
        far_without = (total - 2 * own) / ((n - 1) * (n - 2)) if n >= _FEWEST_TO_JACKKNIFE else np.empty(0)
        rejected = np.array([np.mean(self._own(p) > threshold) for p in self._several.tolist()])
        frr, able = float(rejected.mean()), len(rejected)
        frr_without = np.full(n, frr)
        if able > 1:
            frr_without[self._several] = (rejected.sum() - rejected) / (able - 1)
        return ErrorsAt(far, frr, far_without, frr_without)

    def refuse_unsupported(self, far: float) -> None:
        """Raise DataError where these people cannot show a FAR, saying how many more could.

        Needed are 3 / FAR pairs of people, and as many effective pairs: those that would vary as much if they were
        independent, far fewer where some people are taken for many others.
        """
        if not 0.0 < far < 1.0:
            raise DataError(f"A false accept rate must be in (0, 1). Received: {far:g}.")
        trials = RULE_OF_THREE / far
        needed = math.ceil((1.0 + math.sqrt(1.0 + 8.0 * trials)) / 2.0 - _ROUNDING)
        effective = math.inf
        if self.people >= max(needed, _FEWEST_TO_JACKKNIFE):
            effective = self.effective_negatives(self.errors_at(self.threshold_at(far)))
            if effective < trials:
                needed = math.ceil(self.people * trials / effective)
        if self.people < needed:
            why = "" if math.isinf(effective) else f", worth {effective:,.0f} independent ones"
            raise DataError(
                f"A FAR of {far:g} needs {trials:,.0f} independent pairs of different people, about {needed:,} "
                f"validation people. Received: {self.people:,} with {self.people * (self.people - 1) // 2:,} pairs of "
                f"people{why}; add {needed - self.people:,} more, or ask for a higher FAR."
            )

    def effective_negatives(self, errors: ErrorsAt) -> float:
        """Return how many independent pairs would show the FAR as precisely; at most all pairs of photos."""
        variance = jackknife_variance(errors.far_without)
        return min(errors.far * (1.0 - errors.far) / variance, self.negatives) if variance else float(self.negatives)

    def threshold_at(self, far: float) -> float:
        """Return the loosest distance whose FAR does not exceed `far`; DataError where different people coincide."""
        threshold = self.different.loosest(far)
        if threshold is None:
            raise DataError(
                f"A threshold at FAR {far:g} needs different people at different distances. Received: a smallest "
                f"distance of {self.different.distances[0]:g} shared by more pairs than that; train the head again."
            )
        return threshold

    def _own(self, p: int) -> Floats:
        """Return the distances of the pairs of one person."""
        part = slice(self._starts[p], self._starts[p] + self._counts[p])
        return self._squared[part, part][np.triu_indices(self._counts[p], 1)]


def interval_elsewhere(rate: float, variance: float, *, people: int, elsewhere: float) -> Interval:
    """Return where a rate estimated on some people will be found when it is measured on others (prediction interval).

    variance: of the estimate on `people`. elsewhere: how many people it is measured on, math.inf for the true rate.
    On the logit scale, on which rates near 0 vary evenly, with Student's t of people − 1; a rate of 0 gets the upper
    end of the exact binomial interval.
    """
    outside = (1.0 - LEVEL) / 2.0
    if rate in (0.0, 1.0):
        most = 1.0 - outside ** (1.0 / people)
        return Interval(0.0, most) if rate == 0.0 else Interval(1.0 - most, 1.0)
    error = math.sqrt(variance * (1.0 + people / elsewhere))
    reach = float(scipy.stats.t.ppf(1.0 - outside, people - 1)) * error / (rate * (1.0 - rate))
    middle = float(logit(rate))
    return Interval(float(expit(middle - reach)), float(expit(middle + reach)))


def ascending(distances: Floats, shares: Floats) -> Distances:
    """Return pairs in order of their distance."""
    order = np.argsort(distances)
    return Distances(distances[order], shares[order])


def _thinned(labels: npt.NDArray, seed: int) -> Ints:
    """Return the rows to keep: all, or as many of each person as a common cap allows. int64 [kept], ascending.

    Of too many people those with one photo go first: only the others show how often one person is refused.
    """
    rng = np.random.default_rng(seed)
    people, person = np.unique(labels, return_inverse=True)
    rows = np.arange(len(person))
    if len(people) > _MOST_PEOPLE:
        drawn = rng.permutation(len(people))
        several_first = np.argsort(np.bincount(person)[drawn] < 2, kind="stable")
        rows = np.flatnonzero(np.isin(person, drawn[several_first[:_MOST_PEOPLE]]))
    if len(rows) <= _MOST_PHOTOS:
        return rows
    number = places(person[rows], rng)
    cap = max(2, int(np.searchsorted(np.cumsum(np.bincount(number)), _MOST_PHOTOS, side="right")))
    return rows[number < cap]


def places(person: Ints, rng: np.random.Generator) -> Ints:
    """Return the number of each photo among its person's, from 0, in random order: int64 [photos]."""
    order = rng.permutation(len(person))
    order = order[np.argsort(person[order], kind="stable")]
    counts = np.bincount(person)
    number = np.empty(len(person), np.int64)
    number[order] = np.arange(len(person)) - np.repeat(np.cumsum(counts) - counts, counts)
    return number
