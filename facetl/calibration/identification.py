"""Identification with "unknown": settings chosen by simulating enrolment on validation people.

A simulation enrols a random half of the people who have 2 photos or more, up to 5 photos of each, and asks for the
photos that are left: known people's, and strangers' (everybody who is not enrolled). Each person weighs the same. A
statistic of a random half of a sample varies over such halves as much as that of the whole sample does over samples
(half-sample replication, McCarthy, 1969), which is the error stated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.calibration.error_rates import RULE_OF_THREE, Distances, ascending, interval_elsewhere, places
from facetl.errors import DataError
from facetl.io.json import JsonFields, StoredFields
from facetl.metrics.bootstrap import Interval
from facetl.metrics.ranking import SHRINKAGE, Gallery, checked_embeddings
from facetl.metrics.roc import Bools, Floats

METHODS = ("centroid", "personal")
REHEARSALS = 20

_GALLERY_PHOTOS = 5
_PROBES = 10  # photos asked for of one person
_LEAST_ENROLLED = 2
_SHRINKAGES = (SHRINKAGE / 2, SHRINKAGE, SHRINKAGE * 2, SHRINKAGE * 4)
_MARGIN_QUANTILES = tuple(range(5, 55, 5))  # percent of known people's photos that a margin may turn away
_USUAL_FPIR = 0.1  # at which methods are compared when no FPIR is asked for
_WIDEST = 4.0


@dataclass(frozen=True)
class Identification(JsonFields):
    """Settings to name a face, or to call it unknown.

    A photo is the nearest person's if its distance (to the person's centroid, less the person's shift for the
    method "personal"; `Gallery` computes both) is at most `threshold`, and the second nearest person is farther by
    `margin` or more. fpir and dir are what that gave in the simulations, with `enrolled` people in the gallery and
    `strangers` others: with more people enrolled, more strangers are named.
    """

    method: str
    shrinkage: float
    threshold: float
    margin: float
    fpir: float
    dir: float
    enrolled: int
    strangers: int

    def gallery(self, embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> Gallery:
        """Return a gallery of known people by this method: float [photos, dim] of unit norm, str [photos]."""
        return Gallery(embeddings, labels, method=self.method, shrinkage=self.shrinkage)

    def names(self, gallery: Gallery, probes: npt.ArrayLike) -> list[str | None]:
        """Return the name of each probe, None for unknown. probes: float [probes, dim] of unit norm."""
        ranked = gallery.rank(probes, top=2)
        known = ranked.distances[:, 0] <= self.threshold
        if ranked.distances.shape[1] > 1:
            known &= ranked.distances[:, 1] - ranked.distances[:, 0] >= self.margin
        return [gallery.people[p] if sure else None for p, sure in zip(ranked.people[:, 0], known, strict=True)]

    @classmethod
    def from_json(cls, stored: StoredFields) -> Identification:
        """Rebuild it from JSON; RunError where it is damaged."""
        return cls(
            method=stored.choice("method", METHODS),
            shrinkage=stored.number("shrinkage", low=0.0, high=math.inf),
            threshold=stored.number("threshold", low=-_WIDEST, high=_WIDEST),
            margin=stored.number("margin", low=0.0, high=_WIDEST),
            fpir=stored.number("fpir", low=0.0, high=1.0),
            dir=stored.number("dir", low=0.0, high=1.0),
            enrolled=stored.count("enrolled"),
            strangers=stored.count("strangers"),
        )


@dataclass(frozen=True)
class SimulatedEnrolment:
    """The result of the simulations: settings for identification, and the FPIR of the plain threshold.

    `threshold` is for distances to centroids, without margin and personal shifts; `fpir` is what it gave on average,
    `interval` where the FPIR will be found with other people, as many enrolled and as many strangers.
    """

    identification: Identification
    threshold: float
    fpir: float
    interval: Interval


class _Answers(NamedTuple):
    """A simulation's probes: nearest distance, gap to the second, and whose photo it is; each [probes].

    `right` where the nearest is the person; shares sum to 1 over known and over strangers.
    """

    distance: Floats
    gap: Floats
    right: Bools
    known: Bools
    shares: Floats

    def rates(self, threshold: float, margin: float) -> tuple[float, float]:
        """Return FPIR and DIR."""
        named = (self.distance <= threshold) & (self.gap >= margin)
        return float(self.shares[named & ~self.known].sum()), float(self.shares[named & self.right].sum())


def simulate_enrolment(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, *, seed: int, fpir: float | None = None
) -> SimulatedEnrolment | None:
    """Choose how to name faces: the threshold, personal shifts or none, and the margin.

    embeddings: float [photos, dim] of unit norm; labels: [photos]. The threshold is the loosest that keeps to
    `fpir`, or, for None, the one most often right when known people and strangers come equally often. Personal
    shifts and a margin are used only where they help by more than the error of the comparison. None where no fpir
    is asked for and fewer than 4 people have 2 photos. Raises DataError where these people cannot show the FPIR.
    """
    rows, person = checked_embeddings(embeddings, "validation people"), np.unique(labels, return_inverse=True)[1]
    people = int(person.max()) + 1
    able = int(np.count_nonzero(np.bincount(person) > 1))
    if fpir is not None:
        _refuse_unsupported(fpir, people, able)
    elif able < 2 * _LEAST_ENROLLED:
        return None
    plain = _simulations(rows, person, "centroid", SHRINKAGE, seed)
    threshold = _threshold(plain, fpir)
    rates = np.array([answers.rates(threshold, 0.0)[0] for answers in plain])
    rate, error = float(rates.mean()), float(rates.std(ddof=1))
    if fpir is not None:
        _refuse_uncertain(fpir, rate, error, people)
    method, shrinkage, best = "centroid", SHRINKAGE, plain
    for candidate in _SHRINKAGES:
        shifted = _simulations(rows, person, "personal", candidate, seed)
        if _better(_detections(shifted, fpir), _detections(best, fpir)):
            method, shrinkage, best = "personal", candidate, shifted
    own = threshold if best is plain else _threshold(best, fpir)
    margin = _margin(best, own)
    final = np.mean([answers.rates(own, margin) for answers in best], axis=0)
    enrolled = max(_LEAST_ENROLLED, able // 2)
    # One simulation varies twice as much as half-sample replication shows: its people were drawn from the sample.
    interval = interval_elsewhere(rate, error**2, people=people, elsewhere=people / 2)
    identification = Identification(
        method, shrinkage, own, margin, float(final[0]), float(final[1]), enrolled, people - enrolled
    )
    return SimulatedEnrolment(identification, threshold, rate, interval)


def _simulations(
    rows: npt.NDArray[np.float32], person: npt.NDArray, method: str, shrinkage: float, seed: int
) -> list[_Answers]:
    """Return the same splits for every method: they depend on labels and seed alone."""
    return [
        _simulation(rows, person, method, shrinkage, np.random.default_rng([seed, number]))
        for number in range(REHEARSALS)
    ]


def _simulation(
    rows: npt.NDArray[np.float32], person: npt.NDArray, method: str, shrinkage: float, rng: np.random.Generator
) -> _Answers:
    counts = np.bincount(person)
    several = np.flatnonzero(counts > 1)
    enrolled = np.zeros(len(counts), bool)
    enrolled[rng.permutation(several)[: max(_LEAST_ENROLLED, len(several) // 2)]] = True
    number = places(person, rng)
    # One photo at least is left to ask for.
    stored = enrolled[person] & (number < np.minimum(_GALLERY_PHOTOS, counts - 1)[person])
    first_asked = np.where(enrolled, np.minimum(_GALLERY_PHOTOS, counts - 1), 0)[person]
    asked = ~stored & (number < first_asked + _PROBES)
    gallery = Gallery(rows[stored], person[stored].astype(str), method=method, shrinkage=shrinkage)
    ranked = gallery.rank(rows[asked], top=2)
    names = np.array(gallery.people)[ranked.people[:, 0]]
    known = enrolled[person[asked]]
    asked_of = np.bincount(person[asked], minlength=len(counts))
    groups = np.where(known, np.count_nonzero(enrolled), np.count_nonzero(~enrolled))
    return _Answers(
        distance=ranked.distances[:, 0],
        gap=ranked.distances[:, 1] - ranked.distances[:, 0],
        right=known & (names == person[asked].astype(str)),
        known=known,
        shares=1.0 / (asked_of[person[asked]] * groups),
    )


def _threshold(simulations: Sequence[_Answers], fpir: float | None) -> float:
    strangers = _distances(simulations, [~answers.known for answers in simulations])
    if fpir is not None:
        threshold = strangers.loosest(fpir)
        if threshold is None:
            raise DataError(
                f"A threshold at FPIR {fpir:g} needs strangers at different distances. Received: a smallest distance "
                f"of {strangers.distances[0]:g} shared by more than that; train the head again."
            )
        return threshold
    known = _distances(simulations, [answers.right for answers in simulations])
    steps = np.unique(np.concatenate([known.distances, strangers.distances]))
    gain = known.accepted(steps) - strangers.accepted(steps)
    return float(steps[np.argmax(gain)])


def _detections(simulations: Sequence[_Answers], fpir: float | None) -> Floats:
    """Return each simulation's DIR at the threshold that keeps all together to an FPIR: float64 [simulations]."""
    threshold = _threshold(simulations, fpir or _USUAL_FPIR)
    return np.array([answers.rates(threshold, 0.0)[1] for answers in simulations])


def _margin(simulations: Sequence[_Answers], threshold: float) -> float:
    """Return the margin that makes answers right most often, known people and strangers weighing the same."""

    def right(margin: float) -> Floats:
        return np.array([detected - named for named, detected in (a.rates(threshold, margin) for a in simulations)])

    gaps = np.concatenate([answers.gap[answers.right & (answers.distance <= threshold)] for answers in simulations])
    best, score = 0.0, right(0.0)
    for margin in np.percentile(gaps, _MARGIN_QUANTILES) if len(gaps) else ():
        tried = right(float(margin))
        if _better(tried, score):
            best, score = float(margin), tried
    return best


def _better(tried: Floats, known: Floats) -> bool:
    """Return whether a score is higher by more than the error of the difference, simulation by simulation."""
    gain = tried - known
    return bool(gain.mean() > gain.std(ddof=1))


def _distances(simulations: Sequence[_Answers], which: Sequence[Bools]) -> Distances:
    """Return the nearest distances of some probes of all simulations, with their shares of all probes of the kind."""
    distances = np.concatenate([answers.distance[mask] for answers, mask in zip(simulations, which, strict=True)])
    shares = np.concatenate([answers.shares[mask] for answers, mask in zip(simulations, which, strict=True)])
    return ascending(distances, shares / len(simulations))


def _refuse_unsupported(fpir: float, people: int, able: int) -> None:
    if not 0.0 < fpir < 1.0:
        raise DataError(f"A false positive identification rate must be in (0, 1). Received: {fpir:g}.")
    needed = math.ceil(RULE_OF_THREE / fpir)
    if people < needed or able < 2 * _LEAST_ENROLLED:
        raise DataError(
            f"An FPIR of {fpir:g} needs {needed:,} validation people, {2 * _LEAST_ENROLLED} of them with 2 photos. "
            f"Received: {people:,}, {able:,} with 2 photos or more; add "
            f"{max(needed - people, 2 * _LEAST_ENROLLED - able, 0):,} more, or ask for a higher FPIR."
        )


def _refuse_uncertain(fpir: float, rate: float, error: float, people: int) -> None:
    """Refuse where the simulations differ so much that their strangers are worth too few independent ones."""
    effective = rate * (1.0 - rate) / error**2 if error else math.inf
    trials = RULE_OF_THREE / fpir
    if effective < trials:
        needed = math.ceil(people * trials / effective)
        raise DataError(
            f"An FPIR of {fpir:g} needs {trials:,.0f} independent strangers, about {needed:,} validation people. "
            f"Received: {people:,}, worth {effective:,.0f}; add {needed - people:,} more, or ask for a higher FPIR."
        )
