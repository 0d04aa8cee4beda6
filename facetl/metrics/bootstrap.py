"""Confidence intervals of verification by resampling people: pairs that share a person are not independent draws.

A replicate draws as many people as there are, with replacement (Snijders and Borgatti, Non-parametric standard
errors and tests for network statistics, 1999). A person drawn k times brings k copies of their own pairs, and
a pair of people drawn k and l times counts k·l times. Such products vary three times as much as single pairs of two
people do, so this excess, measured by resampling the pairs of two people alone, is taken off the variance (Owen, The
pigeonhole bootstrap, 2007; Cameron, Gelbach and Miller, Robust inference with multiway clustering, 2011, subtract
it alike). Rates get Wilson's score interval with the number of independent draws that has this variance, as Fogliato,
Patil and Perona, Confidence intervals for error rates in 1:1 matching tasks, 2024, advise: it stays in [0, 1], and has
a width where no error was seen.

Where a statistic is dear or smooth, people are left out in turn instead (the jackknife; Efron and Stein, 1981: never
too small on average for such statistics).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import scipy

from facetl.errors import DataError
from facetl.metrics.pairs import Ints, Pairs
from facetl.metrics.roc import (
    Bools,
    Floats,
    auc,
    checked_pairs,
    negatives_needed,
    roc_area,
    roc_eer,
    roc_tar,
    weighted_roc,
)
from facetl.metrics.verification import FARS

LEVEL = 0.95
REPLICATES = 1000
LEAST_PEOPLE = 10  # with fewer, intervals by resampling are too short to be honest about their level

_BLOCK = 1 << 20  # weights made at once: bounds the memory, whatever the number of pairs
_EXCESS = 2.0  # a product of two Poisson(1) counts has variance 3, one count has 1
_MOST_GROUPS = 50  # of people, to leave out for the jackknife
_LEAST_SHARE = 1.0 / 3.0  # of the variance: what is left where all of it came from products


class Interval(NamedTuple):
    """A confidence interval, ends included."""

    low: float
    high: float


class VerificationIntervals(TypedDict):
    """An interval for each measure of `Verification`, None where pairs or people are too few."""

    level: float
    people: int
    accuracy: Interval | None
    auc: Interval | None
    eer: Interval | None
    tar_at_far: dict[str, Interval | None]
    far_at_threshold: Interval | None
    frr_at_threshold: Interval | None


@dataclass(frozen=True)
class PersonRate:
    """A rate in [0, 1] with its standard error by person.

    people is how many equally frequent people would weigh on it as unevenly as these do: (Σn)² / Σn², n the
    pairs of a person (Kish, 1965). It is below 2 where one person is in all pairs, however many the others.
    """

    value: float
    stderr: float
    people: float

    @property
    def draws(self) -> float:
        """The number of independent draws that have this standard error; as many as people where all draws agree."""
        variance = self.value * (1.0 - self.value)
        return variance / self.stderr**2 if variance > 0.0 and self.stderr > 0.0 else self.people

    def interval(self, level: float = LEVEL) -> Interval:
        """Return Wilson's score interval for `draws`, with Student's quantile for `people`."""
        z = float(scipy.stats.t.ppf(0.5 + level / 2.0, max(self.people - 1.0, 1.0)))
        shrunk = z * z / self.draws
        centre = (self.value + shrunk / 2.0) / (1.0 + shrunk)
        half = math.sqrt(shrunk * self.value * (1.0 - self.value) + shrunk * shrunk / 4.0) / (1.0 + shrunk)
        return Interval(max(0.0, centre - half), min(1.0, centre + half))


def verification_intervals(
    distances: npt.ArrayLike,
    same: npt.ArrayLike,
    first_person: npt.ArrayLike,
    second_person: npt.ArrayLike,
    *,
    threshold: npt.ArrayLike,
    seed: int,
    fold: npt.ArrayLike | None = None,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> VerificationIntervals:
    """Return intervals, by person, of what `verify_folds` and `verify_at` score.

    threshold: a number or float [pairs] (`pair_thresholds`), taken as given: how it was found adds nothing to
    the width. fold: [pairs], accuracy being the mean over folds; None for one fold. first_person, second_person:
    [pairs], anything that numpy can sort, equal where `same`. Raises DataError where `same` and the people contradict
    each other.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    pairs = _PeopleOfPairs(first_person, second_person, same)
    seen = [name for name, far in FARS.items() if negatives_needed(far) <= int(np.count_nonzero(~same))]
    accepted = distances <= np.asarray(threshold)
    numbers = np.unique(np.zeros(len(distances)) if fold is None else np.asarray(fold), return_inverse=True)[1]
    share = 1.0 / np.bincount(numbers)[numbers]  # a fold's pairs weigh as much as another's, together
    columns = np.stack([share * (accepted == same), share, accepted & ~same, ~same, ~accepted & same, same], axis=1)

    def measures(weights: Floats) -> Floats:
        sums = weights @ columns
        with np.errstate(invalid="ignore"):
            rates = sums[:, 0::2] / sums[:, 1::2]
        curve = weighted_roc(distances, same, weights)
        return np.stack([*rates.T, roc_area(curve), roc_eer(curve), *(roc_tar(curve, FARS[name]) for name in seen)])

    estimates, stderrs = _replicated(measures, pairs, replicates, seed)
    both = pairs.least_people
    people = [both, pairs.negative_people, pairs.positive_people, both, both, *(both for _ in seen)]
    intervals = [
        PersonRate(float(value), float(stderr), n).interval(level) if n >= LEAST_PEOPLE else None
        for value, stderr, n in zip(estimates, stderrs, people, strict=True)
    ]
    tars: Mapping[str, Interval | None] = dict(zip(seen, intervals[5:], strict=True))
    return {
        "level": level,
        "people": pairs.people,
        "accuracy": intervals[0],
        "auc": intervals[3],
        "eer": intervals[4],
        "tar_at_far": {name: tars.get(name) for name in FARS},
        "far_at_threshold": intervals[1],
        "frr_at_threshold": intervals[2],
    }


def person_rate(
    errors: npt.ArrayLike,
    first_person: npt.ArrayLike,
    second_person: npt.ArrayLike,
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> PersonRate:
    """Return the share of pairs of one kind that are errors, with its standard error by person.

    errors: bool [pairs]; people: [pairs], the same two everywhere (FRR) or nowhere (FAR). Raises DataError for no
    pairs.
    """
    errors = np.asarray(errors).astype(np.float64)
    if errors.ndim != 1 or not len(errors):
        raise DataError(f"A rate needs at least one pair. Received: shape {errors.shape}.")
    pairs = _PeopleOfPairs(first_person, second_person)
    if pairs.same.any() and not pairs.same.all():
        raise DataError("A rate is of pairs of one kind. Received: pairs of one person among those of two.")

    def share(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return weights @ errors / weights.sum(axis=1)

    estimates, stderrs = _replicated(share, pairs, replicates, seed)
    people = pairs.positive_people if pairs.same.all() else pairs.negative_people
    return PersonRate(float(estimates[0]), float(stderrs[0]), people)


def jackknife_variance(without: npt.ArrayLike) -> float:
    """Return the variance of a statistic, from its values without each of n people or groups, [n]; 0 of none."""
    values = np.asarray(without, np.float64)
    return (len(values) - 1) / len(values) * float(np.sum(np.square(values - values.mean()))) if len(values) else 0.0


def auc_gain_stderr(first: Floats, second: Floats, pairs: Pairs, labels: npt.ArrayLike) -> float:
    """Return the standard error of the difference of two AUCs over the same pairs, by person.

    first, second: [pairs] float distances; labels: [photos], who is on a row that `pairs` points to. Leaving a person
    out leaves out all pairs with a photo of that person, which share what makes it easy or hard.
    """
    person = np.unique(np.asarray(labels), return_inverse=True)[1]
    groups = min(int(person.max()) + 1, _MOST_GROUPS)
    group = person % groups
    gains = []
    for left_out in range(groups):
        kept = (group[pairs.first] != left_out) & (group[pairs.second] != left_out)
        if len(np.unique(pairs.same[kept])) == 2:
            gains.append(auc(first[kept], pairs.same[kept]) - auc(second[kept], pairs.same[kept]))
    return math.sqrt(jackknife_variance(gains))


class _PeopleOfPairs:
    """The people of each pair, as numbers from 0: int64 [pairs]; same: bool [pairs]; people: how many in all."""

    def __init__(self, first_person: npt.ArrayLike, second_person: npt.ArrayLike, same: Bools | None = None) -> None:
        first, second = np.asarray(first_person), np.asarray(second_person)
        if first.ndim != 1 or first.shape != second.shape or (same is not None and first.shape != same.shape):
            pairs = "" if same is None else f" for each of {len(same)} pairs"
            raise DataError(f"Pairs need two people each{pairs}. Received: shapes {first.shape}, {second.shape}.")
        names, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
        self.people = len(names)
        self.first, self.second = np.split(codes.astype(np.int64), 2)
        self.same: Bools = self.first == self.second
        wrong = 0 if same is None else int(np.count_nonzero(self.same != same))
        if wrong:
            raise DataError(
                "A pair is of the same person exactly where its two people are equal. "
                f"Received: {wrong} of {len(first)} pairs where this fails; check the list's names."
            )

    @property
    def positive_people(self) -> float:
        return _effective(np.bincount(self.first[self.same]))

    @property
    def negative_people(self) -> float:
        return _effective(np.bincount(np.concatenate([self.first[~self.same], self.second[~self.same]])))

    @property
    def least_people(self) -> float:
        return min(self.positive_people, self.negative_people)

    def by_person(self, replicates: int, rng: np.random.Generator) -> Floats:
        """Return the weights of pairs when people are drawn with replacement: float64 [replicates, pairs]."""
        counts = rng.multinomial(self.people, np.full(self.people, 1.0 / self.people), size=replicates)
        return np.where(self.same, 1, counts[:, self.second]) * counts[:, self.first].astype(np.float64)

    def by_couple(self, replicates: int, rng: np.random.Generator) -> Floats:
        """Return the weights when pairs of two people alone are drawn, each by itself: float64 [replicates, pairs]."""
        couple = np.minimum(self.first, self.second) * self.people + np.maximum(self.first, self.second)
        couples, number = np.unique(couple, return_inverse=True)
        counts = rng.poisson(1.0, size=(replicates, len(couples)))
        return np.where(self.same, 1, counts[:, number]).astype(np.float64)


def _replicated(
    statistics: Callable[[Floats], Floats], pairs: _PeopleOfPairs, replicates: int, seed: int
) -> tuple[Floats, Floats]:
    """Return statistics as they are and their standard errors, [statistics] each; see the module's heading."""
    if replicates < 100:
        raise DataError(f"A bootstrap needs at least 100 replicates. Received: {replicates}.")
    rng = np.random.default_rng(seed)
    estimates = np.atleast_2d(statistics(np.ones((1, len(pairs.first)))))[:, 0]
    drawn = _in_blocks(statistics, pairs.by_person, replicates, len(pairs.first), rng)
    alone = _in_blocks(statistics, pairs.by_couple, replicates, len(pairs.first), rng)
    variance = np.nanvar(drawn, axis=1, ddof=1)
    kept = np.maximum(variance - _EXCESS * np.nanvar(alone, axis=1, ddof=1), _LEAST_SHARE * variance)
    scale = np.sqrt(np.divide(kept, variance, out=np.ones_like(kept), where=variance > 0.0))
    # A sample varies less about its own mean: by 1 / people for single people, by 4 / people for couples.
    lost = 1 if pairs.same.all() else 4
    scale *= math.sqrt(pairs.people / max(pairs.people - lost, 1))
    return estimates, scale * np.sqrt(variance)


def _in_blocks(
    statistics: Callable[[Floats], Floats],
    weights: Callable[[int, np.random.Generator], Floats],
    replicates: int,
    pairs: int,
    rng: np.random.Generator,
) -> Floats:
    block = max(1, _BLOCK // pairs)
    sizes = [min(block, replicates - start) for start in range(0, replicates, block)]
    return np.concatenate([np.atleast_2d(statistics(weights(size, rng))) for size in sizes], axis=1)


def _effective(counts: Ints) -> float:
    """Return how many equal counts are as uneven as these: (Σn)² / Σn², 0 for none."""
    total = float(counts.sum())
    return total**2 / float(np.sum(counts.astype(np.float64) ** 2)) if total else 0.0
