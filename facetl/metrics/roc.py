"""Verification metrics: pure functions on the distances of pairs of photos.

Throughout, `distances` is float [pairs], `same` is bool [pairs], and a pair is accepted as the same person
when distance <= threshold. FAR is the share of pairs of different people that are accepted, TAR the share of
pairs of one person that are, and FRR is 1 − TAR.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from facetl.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BLOCK = 4096  # rows subtracted at once: keeps the float64 temporaries small at thousands of dimensions
_GRID = 256  # thresholds tried at once
_ROUNDING = 1e-9  # 1/1e-3 is not exactly 1000 in binary


class Roc(NamedTuple):
    """A receiver operating characteristic, from nothing accepted to everything accepted.

    thresholds: float64 [points], ascending distances, the first −inf; far, tar: float64 [points], in [0, 1],
    or [weightings, points] where the pairs were weighted in several ways.
    """

    thresholds: Floats
    far: Floats
    tar: Floats


class ErrorRates(NamedTuple):
    """False accept rate and false reject rate at one threshold, each in [0, 1]."""

    far: float
    frr: float


def squared_distances(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Return the squared Euclidean distance of each row of `a` to the same row of `b`.

    a, b: float [pairs, dim]; returns float64 [pairs], in [0, 4] where the rows have unit norm.
    The difference is squared, never 2 − 2·cos: that loses the digits of small distances.
    Raises DataError where the shapes differ.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 2 or a.shape != b.shape:
        raise DataError(f"Distances need two [pairs, dim] arrays of one shape. Received: {a.shape}, {b.shape}.")
    distances = np.empty(len(a), np.float64)
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, start + _BLOCK)
        difference = a[rows].astype(np.float64) - b[rows].astype(np.float64)
        distances[rows] = np.einsum("ij,ij->i", difference, difference)
    return distances


def roc_curve(distances: npt.ArrayLike, same: npt.ArrayLike) -> Roc:
    """Return the ROC with one point for each distinct distance, so that ties are accepted together.

    Raises DataError unless there are pairs of both kinds.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    thresholds, accepted_same, accepted = _cumulative(distances, same)
    positives = int(accepted_same[-1])
    negatives = int(accepted[-1]) - positives
    return Roc(
        thresholds=np.concatenate([[-np.inf], thresholds]),
        far=np.concatenate([[0.0], (accepted - accepted_same) / negatives]),
        tar=np.concatenate([[0.0], accepted_same / positives]),
    )


def weighted_roc(distances: npt.ArrayLike, same: npt.ArrayLike, weights: npt.ArrayLike) -> Roc:
    """Return the ROC under each of several weightings of the pairs, as resampling needs it.

    weights: float [weightings, pairs], none negative. A weighting that leaves no pairs of a kind has NaN for
    its rate. Raises DataError where the shapes differ, or without pairs of both kinds.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 2 or weights.shape[1] != len(distances):
        raise DataError(f"Weights must be [weightings, {len(distances)}]. Received: shape {weights.shape}.")
    order = np.argsort(distances, kind="stable")
    last = _last_of_ties(distances[order])
    ascending, kinds = weights[:, order], same[order]
    rates = []
    for kind in (~kinds, kinds):
        accepted = np.cumsum(ascending * kind, axis=1)[:, last]
        with np.errstate(invalid="ignore"):
            rates.append(np.pad(accepted / accepted[:, -1:], ((0, 0), (1, 0))))
    return Roc(np.concatenate([[-np.inf], distances[order][last]]), *rates)


def auc(distances: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Return the area under the ROC: how often a pair of one person is nearer than one of two, ties counting half."""
    return float(roc_area(roc_curve(distances, same)))


def roc_area(curve: Roc) -> Floats:
    """Return the area under each curve: float64 [] or [weightings]."""
    return np.asarray(np.trapezoid(curve.tar, curve.far, axis=-1))


def eer(distances: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Return the equal error rate: where FAR = FRR on the ROC, its points joined by straight lines."""
    return float(roc_eer(roc_curve(distances, same)))


def roc_eer(curve: Roc) -> Floats:
    """Return the equal error rate of each curve: float64 [] or [weightings]."""
    excess = curve.far + curve.tar - 1.0  # FAR − FRR: never falls, −1 at the first point, 1 at the last
    right = np.argmax(excess >= 0.0, axis=-1, keepdims=True)
    at = np.concatenate([right - 1, right], axis=-1)
    far, gap = np.take_along_axis(curve.far, at, -1), np.take_along_axis(excess, at, -1)
    share = -gap[..., 0] / (gap[..., 1] - gap[..., 0])
    return np.asarray(far[..., 0] + share * (far[..., 1] - far[..., 0]))


def negatives_needed(far: float) -> int:
    """Return how many pairs of different people it takes for one false accept to be at most a share `far`."""
    if not 0.0 < far <= 1.0:
        raise DataError(f"A false accept rate must be in (0, 1]. Received: {far}.")
    return math.ceil(1.0 / far - _ROUNDING)


def tar_at_far(distances: npt.ArrayLike, same: npt.ArrayLike, far: float) -> float | None:
    """Return the true accept rate at the loosest observed threshold whose FAR does not exceed `far`.

    None where there are fewer than `negatives_needed(far)` pairs of different people: a rate of 0.001 cannot
    be seen in 200 pairs. Nothing is interpolated: the operating point is one that the pairs really reached.
    """
    needed = negatives_needed(far)
    distances, same = checked_pairs(distances, same, both_kinds=True)
    negatives = int(np.count_nonzero(~same))
    if negatives < needed:
        return None
    return float(roc_tar(roc_curve(distances, same), far))


def roc_tar(curve: Roc, far: float) -> Floats:
    """Return each curve's true accept rate at its loosest point whose FAR does not exceed `far`: [] or [weightings]."""
    within = np.count_nonzero(curve.far <= far * (1.0 + _ROUNDING), axis=-1, keepdims=True)
    return np.asarray(np.take_along_axis(curve.tar, within - 1, -1)[..., 0])


def best_threshold(distances: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Return the threshold of highest accuracy, in the middle of the gap between two neighbouring distances.

    Where several gaps are equally good the widest wins, then the one of smaller distance.
    Raises DataError unless there are pairs of both kinds.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    steps, accepted_same, accepted = _cumulative(distances, same)
    # Cut i accepts the i smallest distinct distances, i = 0 … n. Counts, not shares: equal must be equal.
    right = np.concatenate([[0], accepted_same - (accepted - accepted_same)])
    width = np.concatenate([[0.0], np.diff(steps), [0.0]])
    best = np.flatnonzero(right == right.max())
    cut = int(best[np.argmax(width[best])])
    if cut == 0:
        return float(np.nextafter(steps[0], -np.inf))
    if cut == len(steps):
        return float(steps[-1])
    below, above = float(steps[cut - 1]), float(steps[cut])
    middle = below + (above - below) / 2.0
    return middle if middle < above else below  # neighbouring floats have no middle


def smooth_threshold(distances: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Return the threshold of highest accuracy on either kind of pairs alike, of smoothly spread distances.

    The accuracy of a sample has many chance peaks near its top; of two kernel density estimates (Gaussian, bandwidths
    by the rule of Silverman 1986, equation 3.31) it has one, and is more accurate on other people. Where a kind's
    distances are all equal, `best_threshold`. Raises DataError unless there are pairs of both kinds.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    kinds = [(kind, _bandwidth(kind)) for kind in (distances[same], distances[~same])]
    if min(bandwidth for _, bandwidth in kinds) <= 0.0:
        return best_threshold(distances, same)

    def excess(thresholds: Floats) -> Floats:
        accepted, falsely = (
            np.mean(scipy.special.ndtr((thresholds[:, None] - kind) / bandwidth), axis=1) for kind, bandwidth in kinds
        )
        return np.asarray(accepted - falsely)

    low, high = float(distances.min()), float(distances.max())
    for _ in range(2):
        grid = np.linspace(low, high, _GRID)
        found = excess(grid)
        # Between two kinds far apart all are equally good: the middle one.
        top = int(np.median(np.flatnonzero(found == found.max())))
        low, high = float(grid[max(top - 1, 0)]), float(grid[min(top + 1, _GRID - 1)])
    return float(grid[top])


def _bandwidth(values: Floats) -> float:
    low, high = np.percentile(values, [25, 75])
    spread = min(float(np.std(values)), float(high - low) / 1.349) or float(np.std(values))
    return 0.9 * spread * len(values) ** -0.2


def accuracy_at(distances: npt.ArrayLike, same: npt.ArrayLike, threshold: npt.ArrayLike) -> float:
    """Return the share of pairs judged rightly at `threshold`, a number or float [pairs]."""
    distances, same = checked_pairs(distances, same)
    return float(np.mean((distances <= np.asarray(threshold)) == same))


def far_frr_at(distances: npt.ArrayLike, same: npt.ArrayLike, threshold: npt.ArrayLike) -> ErrorRates:
    """Return the false accept and false reject rate at `threshold`, a number or float [pairs].

    Raises DataError unless there are pairs of both kinds.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    accepted = distances <= np.asarray(threshold)
    return ErrorRates(far=float(np.mean(accepted[~same])), frr=float(np.mean(~accepted[same])))


def checked_pairs(distances: npt.ArrayLike, same: npt.ArrayLike, *, both_kinds: bool = False) -> tuple[Floats, Bools]:
    """Return the distances as float64 [pairs] and kinds as bool [pairs], or raise a DataError with what is wrong."""
    distances = np.asarray(distances, np.float64)
    same = np.asarray(same).astype(np.bool_)
    if distances.ndim != 1 or distances.shape != same.shape:
        raise DataError(
            f"Pairs need one distance and one same/different each. Received: {distances.shape}, {same.shape}."
        )
    if not len(distances):
        raise DataError("Scoring needs at least one pair. Received: none.")
    broken = int(np.count_nonzero(~np.isfinite(distances)))
    if broken:
        raise DataError(
            f"Distances must be finite. Received: {broken} of {len(distances)} that are not; "
            "check the embeddings for NaN."
        )
    positives = int(np.count_nonzero(same))
    if both_kinds and positives in (0, len(same)):
        raise DataError(
            "Scoring needs pairs of the same person and of different people. "
            f"Received: {positives} same, {len(same) - positives} different."
        )
    return distances, same


def _cumulative(distances: Floats, same: Bools) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the distinct distances, ascending, and how many same pairs and pairs in all are accepted at each."""
    order = np.argsort(distances, kind="stable")
    ascending = distances[order]
    last_of_tie = _last_of_ties(ascending)
    accepted_same = np.cumsum(same[order], dtype=np.int64)[last_of_tie]
    return ascending[last_of_tie], accepted_same, last_of_tie + 1


def _last_of_ties(ascending: Floats) -> npt.NDArray[np.int64]:
    """Return the place of the last of each run of equal distances."""
    return np.append(np.flatnonzero(np.diff(ascending) > 0), len(ascending) - 1).astype(np.int64)
