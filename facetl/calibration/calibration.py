"""The meaning of a run's distances: the threshold, how often it errs on other people, probabilities, and "unknown".

Everything is chosen on people whom training has not seen, and stored with the run as JSON. Distances are squared
Euclidean between unit embeddings, in [0, 4]; two photos show one person when their distance is at most the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facetl.calibration.error_rates import ErrorsAt, PeoplePairs, interval_elsewhere
from facetl.calibration.identification import Identification, simulate_enrolment
from facetl.calibration.probability import ProbabilityMap, Reliability, at_prior, fit_probability, map_from_json
from facetl.errors import DataError
from facetl.io.json import JsonFields, StoredFields, plain
from facetl.metrics.bootstrap import LEVEL, Interval, jackknife_variance
from facetl.metrics.roc import Floats
from facetl.metrics.verification import threshold_from

KINDS = ("far", "fpir", "f1", "accuracy")
VERSION = 1

_DISTANCE = "squared Euclidean between unit vectors, 0 to 4; one person when at most the threshold"
_FEWEST_FOR_ERRORS = 3
_FARTHEST = 4.0 + 1e-3  # unit vectors in float32


@dataclass(frozen=True)
class Target:
    """The aim of a threshold: a FAR, an FPIR, the best F1 or the highest accuracy; `value` for the first two."""

    kind: str
    value: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS or (self.value is None) != (self.kind in ("f1", "accuracy")):
            raise DataError(
                f"A target is far or fpir with a rate, or f1 or accuracy without. Received: {self.kind}, {self.value}."
            )
        if self.value is not None and not 0.0 < self.value < 1.0:
            raise DataError(f"A rate to reach must be in (0, 1). Received: {self.kind} {self.value:g}.")

    def reached_on(self, people: str) -> str:
        """Return the way the threshold was chosen, as a phrase; `people` are those it was chosen on."""
        return {
            "far": f"loosest with FAR {self.value or 0:g} or less on pairs of {people}",
            "fpir": f"loosest with FPIR {self.value or 0:g} or less, {people} enrolled and asked for in turn",
            "f1": f"best F1 on pairs of {people}",
            "accuracy": f"highest smoothed accuracy on balanced pairs of {people}",
        }[self.kind]


@dataclass(frozen=True)
class Rate(JsonFields):
    """An error rate at the threshold on the people of the calibration, and how well it is known.

    interval is where the rate will be found, with the probability `LEVEL`, when it is measured on as many other
    people, on all their pairs. variance is the estimate's own, by leaving out one person at a time. Both are None
    with fewer than 3 people.
    """

    value: float
    variance: float | None
    interval: Interval | None

    @classmethod
    def from_json(cls, stored: StoredFields) -> Rate:
        """Rebuild it from JSON; RunError where it is damaged."""
        return cls(
            stored.number("value", low=0.0, high=1.0),
            stored.optional("variance", low=0.0, high=math.inf),
            _interval(stored, "interval", high=1.0),
        )


@dataclass(frozen=True)
class Calibration:
    """A threshold with its evidence, a probability map and settings for identification.

    Attributes:
        threshold: squared distance up to which two photos count as one person. For the target "fpir" it is that of
            a photo to the nearest person's centroid.
        target: what the threshold was chosen for.
        interval: where the target's own rate (FAR, FPIR, F1 or accuracy) will be found on as many other people.
        threshold_interval: thresholds that the target FAR may truly belong to (Woodruff, 1952); None for others.
        far, frr: of pairs at the threshold, every pair of people and every person weighing the same.
        people, photos, positives, negatives: what is behind them; the last two count pairs of photos.
        effective_negatives: independent pairs of different people that would show the FAR as precisely.
        same_person: distance → probability of one person, at a prior of one half.
        prior: how likely two photos are of one person before they are looked at, the default of `probability`.
        ece, log_loss: on folds of people left out of the fit: expected calibration error of the map, and log loss
            of each that was tried; None and empty with fewer than 4 people who have 2 photos.
        identification: how to name faces; None with fewer than 4 people who have 2 photos.
        seen: whether training saw these people, though not these photos: then no rate holds for other people.
    """

    threshold: float
    target: Target
    interval: Interval | None
    threshold_interval: Interval | None
    far: Rate
    frr: Rate
    people: int
    photos: int
    positives: int
    negatives: int
    effective_negatives: float | None
    same_person: ProbabilityMap
    prior: float
    ece: float | None
    log_loss: Mapping[str, float]
    identification: Identification | None
    seed: int
    seen: bool = False

    @property
    def chosen_on(self) -> str:
        """Whom the threshold was chosen on, as a phrase."""
        return "the training's own people, on photos held out" if self.seen else "validation people"

    @property
    def reached_by(self) -> str:
        """The way the threshold was chosen, as a phrase."""
        return self.target.reached_on(self.chosen_on)

    def probability(self, distances: npt.ArrayLike, *, prior: float | None = None) -> Floats:
        """Return the probability that pairs at these distances show one person: float64, of the shape of `distances`.

        prior: how likely that is beforehand, by default the calibration's. DataError unless it is in (0, 1).
        """
        return at_prior(self.same_person(distances), self.prior if prior is None else prior)

    def to_json(self) -> dict[str, object]:
        """Return all of it as plain types."""
        content = {
            "version": VERSION,
            "threshold": self.threshold,
            "distance": _DISTANCE,
            "chosen": self.reached_by,
            "target": self.target,
            "level": LEVEL,
            "interval": self.interval,
            "threshold_interval": self.threshold_interval,
            "far": self.far,
            "frr": self.frr,
            "people": self.people,
            "photos": self.photos,
            "pairs": {
                "same": self.positives,
                "different": self.negatives,
                "of_people": self.people * (self.people - 1) // 2,
                "effective": self.effective_negatives,
            },
            "probability": self.same_person,
            "prior": self.prior,
            "ece": self.ece,
            "log_loss": self.log_loss,
            "identification": self.identification,
            "seed": self.seed,
            "people_in_training": self.seen,
        }
        return {key: plain(value) for key, value in content.items()}

    @classmethod
    def from_json(cls, content: object, *, name: str = "calibration.json") -> Calibration:
        """Rebuild it from JSON; RunError, naming the file and the field, where it is damaged or of another version."""
        stored = StoredFields(content, name)
        if not stored.has("version") or stored.count("version") != VERSION:
            raise stored.wrong("version", str(VERSION))
        target, pairs, losses = stored.part("target"), stored.part("pairs"), stored.part("log_loss")
        kind = target.choice("kind", KINDS)
        if target.has("value") != (kind in ("far", "fpir")):
            raise target.wrong("value", f"what {kind} asks for")
        return cls(
            threshold=stored.number("threshold", low=0.0, high=_FARTHEST),
            target=Target(kind, target.optional("value", low=1e-12, high=1.0 - 1e-12)),
            interval=_interval(stored, "interval", high=1.0),
            threshold_interval=_interval(stored, "threshold_interval", high=_FARTHEST),
            far=Rate.from_json(stored.part("far")),
            frr=Rate.from_json(stored.part("frr")),
            people=stored.count("people"),
            photos=stored.count("photos"),
            positives=pairs.count("same"),
            negatives=pairs.count("different"),
            effective_negatives=pairs.optional("effective", low=0.0, high=math.inf),
            same_person=map_from_json(stored.part("probability")),
            prior=stored.number("prior", low=1e-12, high=1.0 - 1e-12),
            ece=stored.optional("ece", low=0.0, high=1.0),
            log_loss={
                method: losses.number(method, low=0.0, high=math.inf)
                for method in ("platt", "isotonic")
                if losses.has(method)
            },
            identification=(
                Identification.from_json(stored.part("identification")) if stored.has("identification") else None
            ),
            seed=stored.count("seed"),
            seen=stored.flag("people_in_training") if stored.has("people_in_training") else False,
        )


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and the reliability of its probabilities on people left out; None with too few people."""

    calibration: Calibration
    reliability: Reliability | None


def calibrate(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    far: float | None = 1e-2,
    prior: float = 0.5,
    seed: int = 0,
) -> Calibration:
    """Choose the threshold for "one person" on people that training has not seen, with probabilities and "unknown".

    Args:
        embeddings: float [photos, dim] of unit norm, as a head gives them.
        labels: [photos], who is on each photo.
        far: the false accept rate that the threshold may have; None for the highest accuracy on balanced pairs.
        prior: how likely two photos are of one person before they are looked at.
        seed: of folds and of the pairs that are drawn.

    Raises DataError, naming how many more people are needed, where these cannot show the rate that is asked for.
    """
    target = Target("accuracy") if far is None else Target("far", far)
    return calibrate_pairs(embeddings, labels, target=target, seed=seed, prior=prior).calibration


def calibrate_pairs(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    target: Target,
    seed: int,
    prior: float = 0.5,
    seen: bool = False,
) -> Calibrated:
    """Choose a threshold on people whom training has not seen, and fit all that a calibration holds.

    embeddings: float [photos, dim] of unit norm; labels: [photos]; seen: see `Calibration`. Raises DataError, saying
    how many more people are needed, where these cannot show the rate that is asked for.
    """
    if not 0.0 < prior < 1.0:
        raise DataError(f"A prior must be in (0, 1). Received: {prior:g}.")
    pairs = PeoplePairs(embeddings, labels, seed=seed)
    asked_fpir = target.value if target.kind == "fpir" else None
    if target.kind == "far" and target.value is not None:
        pairs.refuse_unsupported(target.value)
    simulated = simulate_enrolment(embeddings, labels, seed=seed, fpir=asked_fpir)
    fpir_interval = None
    if target.kind == "far" and target.value is not None:
        threshold = pairs.threshold_at(target.value)
    elif asked_fpir is not None and simulated is not None:
        threshold, fpir_interval = simulated.threshold, simulated.interval
    elif target.kind == "f1":
        threshold = _best_f1(pairs, prior)
    else:
        threshold = min(max(threshold_from(embeddings, labels, seed=seed), 0.0), _FARTHEST)
    errors = pairs.errors_at(threshold)
    far, frr = _rate(errors.far, errors.far_without), _rate(errors.frr, errors.frr_without)
    fitted = fit_probability(embeddings, labels, seed=seed)
    calibration = Calibration(
        threshold=threshold,
        target=target,
        interval=fpir_interval or _target_interval(target, errors, prior),
        threshold_interval=_threshold_interval(pairs, far) if target.kind == "far" else None,
        far=far,
        frr=frr,
        people=pairs.people,
        photos=pairs.photos,
        positives=pairs.positives,
        negatives=pairs.negatives,
        effective_negatives=None if far.variance is None else pairs.effective_negatives(errors),
        same_person=fitted.map,
        prior=prior,
        ece=fitted.reliability.error if fitted.reliability else None,
        log_loss=fitted.log_loss,
        identification=simulated.identification if simulated else None,
        seed=seed,
        seen=seen,
    )
    return Calibrated(calibration, fitted.reliability)


def f1_score(far: npt.ArrayLike, frr: npt.ArrayLike, prior: float) -> Floats:
    """Return the F1 of "one person" where a share `prior` of the pairs is: 2·TP / (2·TP + FP + FN), float64."""
    found = prior * (1.0 - np.asarray(frr, np.float64))
    return np.asarray(2.0 * found / (found + (1.0 - prior) * np.asarray(far) + prior))


def _best_f1(pairs: PeoplePairs, prior: float) -> float:
    """Return the threshold of highest F1, in the middle of the gap to the next distance."""
    steps = np.unique(np.concatenate([pairs.same.distances, pairs.different.distances]))
    scores = f1_score(pairs.different.accepted(steps), 1.0 - pairs.same.accepted(steps), prior)
    best = int(np.argmax(scores))
    return float(steps[best] + steps[min(best + 1, len(steps) - 1)]) / 2.0


def _rate(value: float, without: Floats) -> Rate:
    if len(without) < _FEWEST_FOR_ERRORS:
        return Rate(value, None, None)
    variance, people = jackknife_variance(without), len(without)
    return Rate(value, variance, interval_elsewhere(value, variance, people=people, elsewhere=people))


def _target_interval(target: Target, errors: ErrorsAt, prior: float) -> Interval | None:
    def figure(far: npt.ArrayLike, frr: npt.ArrayLike) -> Floats:
        if target.kind == "f1":
            return f1_score(far, frr, prior)
        far = np.asarray(far)
        return far if target.kind == "far" else 1.0 - (far + np.asarray(frr)) / 2.0

    if not len(errors.far_without):
        return None
    value = float(figure(errors.far, errors.frr))
    return _rate(value, figure(errors.far_without, errors.frr_without)).interval


def _threshold_interval(pairs: PeoplePairs, far: Rate) -> Interval | None:
    """Return the distances at which the FAR on these people is what the true one may be."""
    if far.variance is None:
        return None
    rates = interval_elsewhere(far.value, far.variance, people=pairs.people, elsewhere=math.inf)
    low, high = (pairs.different.loosest(rate) for rate in rates)
    return Interval(0.0 if low is None else low, 0.0 if high is None else high)


def _interval(stored: StoredFields, field: str, *, high: float) -> Interval | None:
    if not stored.has(field):
        return None
    ends = stored.numbers(field, low=0.0, high=high)
    if len(ends) != 2 or ends[0] > ends[1]:
        raise stored.wrong(field, "two ends, the lower one first")
    return Interval(ends[0], ends[1])
