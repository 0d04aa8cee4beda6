"""The probability that two photos show one person, as a function of their distance, and how far it can be trusted.

Two maps compete: a logistic curve (Platt, 1999, with his smoothed targets) and isotonic regression (Zadrozny and
Elkan, 2002). Both are fitted on pairs in which the two kinds weigh the same (a prior of one half) and each person's
own pairs weigh as much as another's. The one of lower log loss on folds of people left out is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from facetl.errors import DataError
from facetl.io.json import StoredFields
from facetl.metrics.pairs import identity_folds, sample_pairs
from facetl.metrics.roc import Bools, Floats, checked_pairs
from facetl.metrics.verification import pair_distances

METHODS = ("platt", "isotonic")
BINS = 15

_FOLDS = 5
_MOST_PAIRS = 20_000  # of each kind
_FARTHEST = 4.0
_UNPENALISED = 1e6  # sklearn's C; the smoothed targets keep the curve finite
_STEEPEST = 1e9


@dataclass(frozen=True)
class Platt:
    """probability = 1 / (1 + exp(−(intercept + slope · distance))), slope ≤ 0."""

    slope: float
    intercept: float

    def __call__(self, distances: npt.ArrayLike) -> Floats:
        """Return probabilities of distances, float64 of the same shape."""
        return np.asarray(expit(self.intercept + self.slope * np.asarray(distances, np.float64)))

    def to_json(self) -> dict[str, object]:
        """Return the curve as plain types."""
        return {"method": "platt", "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between knots: distances ascending, probabilities falling or level, all within (0, 1)."""

    distances: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, distances: npt.ArrayLike) -> Floats:
        """Return probabilities of distances, float64 of the same shape; level beyond the outer knots."""
        return np.asarray(np.interp(np.asarray(distances, np.float64), self.distances, self.probabilities))

    def to_json(self) -> dict[str, object]:
        """Return the knots as plain types."""
        return {"method": "isotonic", "distances": list(self.distances), "probabilities": list(self.probabilities)}


ProbabilityMap = Platt | Isotonic


@dataclass(frozen=True)
class Reliability:
    """Frequencies of pairs of one person against predictions: float64 [bins], bins of equal weight, in order.

    `weights` sum to 1.
    """

    predicted: Floats
    observed: Floats
    weights: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of |predicted − observed| over the bins."""
        return float(np.sum(self.weights * np.abs(self.predicted - self.observed)))


@dataclass(frozen=True)
class FittedProbability:
    """A map, and the scores of both on folds of people left out: log loss by method, reliability of the one taken.

    Without 2 folds (4 people with 2 photos) nothing is measured: `log_loss` is empty, `reliability` None, and the
    map is Platt's, which two numbers determine.
    """

    map: ProbabilityMap
    log_loss: Mapping[str, float]
    reliability: Reliability | None


def fit_probability(embeddings: npt.ArrayLike, labels: npt.ArrayLike, *, seed: int) -> FittedProbability:
    """Fit both maps on these people, choose by cross-validated log loss, and fit the chosen one on all of them.

    embeddings: float [photos, dim] of unit norm; labels: [photos]. Raises DataError where pairs cannot be made.
    """
    embeddings, photos = np.asarray(embeddings), np.unique(np.asarray(labels), return_inverse=True)[1]
    able = int(np.count_nonzero(np.bincount(photos) >= 2)) if len(photos) else 0
    folds = min(_FOLDS, able // 2)
    if folds < 2:
        return FittedProbability(fit_platt(*_weighted_pairs(embeddings, photos, seed)), {}, None)
    fold_of = identity_folds(photos, folds=folds, seed=seed)
    parts = []
    for fold in range(folds):
        inside = fold_of == fold
        elsewhere = _weighted_pairs(embeddings[~inside], photos[~inside], seed)
        distances, *kinds_and_weights = _weighted_pairs(embeddings[inside], photos[inside], seed)
        parts.append([*kinds_and_weights, *(fit(*elsewhere)(distances) for fit in _FITS.values())])
    same, weight, *predicted = (np.concatenate(column) for column in zip(*parts, strict=True))
    held_out = dict(zip(_FITS, predicted, strict=True))
    losses = {
        method: float(log_loss(same, values, sample_weight=weight, labels=[False, True]))
        for method, values in held_out.items()
    }
    best = min(METHODS, key=losses.__getitem__)
    return FittedProbability(
        _FITS[best](*_weighted_pairs(embeddings, photos, seed)),
        losses,
        reliability(held_out[best], same, weights=weight, bins=None),
    )


def fit_platt(distances: Floats, same: Bools, weights: Floats) -> Platt:
    """Fit the logistic curve by weighted maximum likelihood; level where nearer pairs are not likelier of one person.

    distances: float64 [pairs]; same: bool [pairs]; weights: float64 [pairs]. The targets are Platt's,
    (n + 1) / (n + 2) for n pairs of one person and 1 / (n + 2) for n of two: pairs that can be told apart without a
    mistake still give a finite curve.
    """
    positives = np.count_nonzero(same)
    target = np.where(same, (positives + 1.0) / (positives + 2.0), 1.0 / (len(same) - positives + 2.0))
    model = LogisticRegression(C=_UNPENALISED, max_iter=1000)
    # A target of 0.9 is a pair that is of one person nine times and of two people once.
    rows = np.concatenate([distances, distances])[:, None]
    shares = np.concatenate([weights * target, weights * (1.0 - target)])
    model.fit(rows, np.arange(len(rows)) < len(distances), sample_weight=shares * len(distances))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Platt(slope, intercept) if slope < 0.0 else Platt(0.0, 0.0)


def fit_isotonic(distances: Floats, same: Bools, weights: Floats) -> Isotonic:
    """Fit the falling curve through weighted pairs, as `fit_platt` takes them; it stays within Platt's targets."""
    positives = np.count_nonzero(same)
    low, high = 1.0 / (len(same) - positives + 2.0), (positives + 1.0) / (positives + 2.0)
    model = IsotonicRegression(increasing=False, y_min=low, y_max=high, out_of_bounds="clip")
    model.fit(distances, same.astype(np.float64), sample_weight=weights)
    return Isotonic(tuple(model.X_thresholds_.tolist()), tuple(model.y_thresholds_.tolist()))


_FITS: Mapping[str, Callable[[Floats, Bools, Floats], ProbabilityMap]] = {"platt": fit_platt, "isotonic": fit_isotonic}


def at_prior(probabilities: Floats, prior: float) -> Floats:
    """Move probabilities from a prior of one half to another: Bayes' rule, odds times prior / (1 − prior)."""
    if not 0.0 < prior < 1.0:
        raise DataError(f"A prior must be in (0, 1). Received: {prior:g}.")
    return np.asarray(expit(logit(probabilities) + logit(prior)))


def reliability(
    probabilities: npt.ArrayLike,
    same: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    bins: int | None = BINS,
) -> Reliability:
    """Compare predicted with observed frequencies in bins of equal weight (Nixon et al., 2019), without empty ones.

    probabilities: float [pairs]; same: bool [pairs]; weights: float [pairs], None for all the same. Pairs of one
    probability stay together. bins None takes as many, up to 15, as still show a frequency that rises with the
    probability (the monotonic sweep of Roelofs et al., 2022): with few people more bins would measure chance.
    """
    values, kinds = checked_pairs(probabilities, same)
    if values.min() < 0.0 or values.max() > 1.0:
        raise DataError(f"Probabilities must be in [0, 1]. Received: {values.min():g} to {values.max():g}.")
    shares = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != values.shape or not np.all(shares >= 0.0) or not shares.sum() > 0.0:
        raise DataError(f"Each of {len(values)} pairs needs a weight, 0 or more. Received: {shares.shape}.")
    shares = shares / shares.sum()
    if bins is not None:
        return _binned(values, kinds, shares, bins)
    best = _binned(values, kinds, shares, 1)
    for count in range(2, BINS + 1):
        finer = _binned(values, kinds, shares, count)
        if np.any(np.diff(finer.observed) < 0.0):
            break
        best = finer
    return best


def map_from_json(stored: StoredFields) -> ProbabilityMap:
    """Return a map from its JSON form; RunError where it is damaged."""
    if stored.choice("method", METHODS) == "platt":
        return Platt(
            stored.number("slope", low=-_STEEPEST, high=0.0),
            stored.number("intercept", low=-_STEEPEST, high=_STEEPEST),
        )
    distances = stored.numbers("distances", low=0.0, high=_FARTHEST + 1e-3)
    probabilities = stored.numbers("probabilities", low=0.0, high=1.0)
    falling = len(distances) == len(probabilities) and np.all(np.diff(probabilities) <= 0.0)
    if not falling or not np.all(np.diff(distances) > 0.0):
        raise stored.wrong("probabilities", "one for each of the rising distances, falling or level")
    return Isotonic(distances, probabilities)


def _binned(values: Floats, same: Bools, shares: Floats, bins: int) -> Reliability:
    place = np.unique(values, return_inverse=True)[1]
    each = np.bincount(place, shares)
    middle = np.cumsum(each) - each / 2.0
    bin_of = np.minimum((middle * bins).astype(np.int64), bins - 1)[place]
    total: Floats = np.bincount(bin_of, shares, minlength=bins).astype(np.float64)
    filled = total > 0
    predicted = np.bincount(bin_of, shares * values, minlength=bins)[filled] / total[filled]
    observed = np.bincount(bin_of, shares * same, minlength=bins)[filled] / total[filled]
    return Reliability(predicted, observed, total[filled])


def _weighted_pairs(embeddings: npt.NDArray, photos: npt.NDArray, seed: int) -> tuple[Floats, Bools, Floats]:
    """Return distances, kinds and weights of pairs; the weights sum to 1."""
    pairs = sample_pairs(photos, seed=seed, positives=_MOST_PAIRS, negatives=_MOST_PAIRS)
    distances = pair_distances(embeddings, pairs)
    own = photos[pairs.first[pairs.same]]
    each = np.bincount(own)
    weights = np.empty(len(distances))
    weights[pairs.same] = 0.5 / (each[own] * np.count_nonzero(each))
    # The people of a pair of two are drawn uniformly already.
    weights[~pairs.same] = 0.5 / np.count_nonzero(~pairs.same)
    return distances, pairs.same, weights
