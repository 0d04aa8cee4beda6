"""Scoring of face verification, with a threshold that never comes from the pairs it is judged on.

Accuracy is reported as Labeled Faces in the Wild, View 2, asks: the mean over folds and its standard error
(Huang et al., 2007: the sample standard deviation over folds, divided by the root of their number).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.linalg import check_unit, normalised
from facetl.metrics.pairs import FoldedPairs, Ints, Pairs, fold_pairs, sample_pairs
from facetl.metrics.roc import (
    Bools,
    Floats,
    accuracy_at,
    auc,
    best_threshold,
    checked_pairs,
    eer,
    far_frr_at,
    negatives_needed,
    smooth_threshold,
    squared_distances,
    tar_at_far,
)

FARS: Mapping[str, float] = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}


@dataclass(frozen=True)
class Verification(JsonFields):
    """Scores of distances between pairs of one person and pairs of two.

    accuracy is the mean over folds, accuracy_stderr its standard error (of the pairs, as independent draws,
    where there is one fold only); auc, eer and tar_at_far are of all folds' pairs together, a rate None
    where there are too few pairs of different people to see it. positives counts the pairs of one person.
    thresholds and fold_accuracies have one entry per fold; far_at_threshold and frr_at_threshold judge each
    pair at its own fold's threshold.
    """

    accuracy: float
    accuracy_stderr: float
    auc: float
    eer: float
    tar_at_far: Mapping[str, float | None]
    pairs: int
    positives: int
    folds: int
    thresholds: tuple[float, ...]
    fold_accuracies: tuple[float, ...]
    far_at_threshold: float
    frr_at_threshold: float

    def __str__(self) -> str:
        """Return the measures as lines of text."""
        source = "thresholds from the other folds" if self.folds > 1 else "a threshold from elsewhere"
        rates = [
            f"{tar:.4f} at {name}" if tar is not None else f"needs {self.negatives_needed[name]:,} pairs for {name}"
            for name, tar in self.tar_at_far.items()
        ]
        return "\n".join(
            (
                f"accuracy   {self.accuracy:.4f} ± {self.accuracy_stderr:.4f}, {self.folds} folds, {source}",
                f"AUC        {self.auc:.4f}",
                f"EER        {self.eer:.4f}",
                f"TAR@FAR    {', '.join(rates)}",
                f"threshold  {self.threshold:.4f}: FAR {self.far_at_threshold:.4f}, FRR {self.frr_at_threshold:.4f}",
                f"pairs      {self.pairs:,}: {self.positives:,} of one person, {self.negatives:,} of two",
            )
        )

    @property
    def negatives(self) -> int:
        """The number of pairs of different people."""
        return self.pairs - self.positives

    @property
    def negatives_needed(self) -> dict[str, int]:
        """The number of pairs of different people that each rate needs which is None because there are too few."""
        return {name: negatives_needed(FARS[name]) for name, tar in self.tar_at_far.items() if tar is None}

    @property
    def threshold(self) -> float:
        """The mean of the folds' thresholds."""
        return float(np.mean(self.thresholds))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and what follows from them."""
        return super().to_json() | {
            "negatives": self.negatives,
            "negatives_needed": self.negatives_needed,
            "threshold": self.threshold,
        }


def verify(embeddings: npt.ArrayLike, labels: npt.ArrayLike, *, folds: int = 5, seed: int = 0) -> Verification:
    """Measure how well embeddings separate people, or other classes, that the embedding was not trained on.

    Balanced pairs are drawn within folds that share no person, and each fold is judged at the best threshold of the
    other folds: no pair has a part in the choice of its own threshold.

    Args:
        embeddings: float [photos, dim], of any norm; rows are brought to unit norm, since distances are squared
            Euclidean between unit vectors.
        labels: [photos], who is on each photo.
        folds: how many; fewer where there are not 2 people with 2 photos each for every fold.
        seed: of the folds and the pairs, which depend on labels and seed alone.

    Raises DataError for fewer than 4 people with 2 photos, or embeddings that are not finite.
    """
    rows, names = np.asarray(embeddings), np.asarray(labels)
    if rows.ndim != 2 or names.shape != rows.shape[:1]:
        raise DataError(f"Embeddings must be [photos, dim], labels [photos]. Received: {rows.shape}, {names.shape}.")
    units = normalised(rows.astype(np.float32, copy=False))
    return evaluate_embeddings(units, names, thresholds_from=None, seed=seed, folds=folds)


def verify_folds(distances: npt.ArrayLike, same: npt.ArrayLike, fold: npt.ArrayLike) -> Verification:
    """Score pairs fold by fold, each at the best threshold of all the other folds together.

    distances: float [pairs]; same: bool [pairs]; fold: int [pairs]. That the folds share no people is the
    caller's to see to (`fold_pairs` does; View 2 of LFW does). Raises DataError for fewer than 2 folds.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    fold = _checked_fold(fold, len(distances))
    numbers = np.unique(fold)
    if len(numbers) < 2:
        raise DataError(
            "A threshold from the other folds needs at least 2 folds. Received: 1; "
            "give more people, or a threshold from elsewhere."
        )
    elsewhere = {int(k): best_threshold(distances[fold != k], same[fold != k]) for k in numbers}
    return _score(distances, same, fold, elsewhere)


def verify_at(
    distances: npt.ArrayLike,
    same: npt.ArrayLike,
    *,
    threshold: float | Mapping[int, float],
    fold: npt.ArrayLike | None = None,
) -> Verification:
    """Score pairs at a threshold that comes from elsewhere: from validation people, or a calibration.

    distances: float [pairs]; same: bool [pairs]; fold: int [pairs] or None for one fold; threshold: a number,
    or one for each fold. Raises DataError where a fold has no threshold.
    """
    distances, same = checked_pairs(distances, same, both_kinds=True)
    fold = np.zeros(len(distances), np.int64) if fold is None else _checked_fold(fold, len(distances))
    numbers = [int(k) for k in np.unique(fold)]
    thresholds = threshold if isinstance(threshold, Mapping) else dict.fromkeys(numbers, float(threshold))
    missing = [k for k in numbers if k not in thresholds]
    if missing:
        raise DataError(f"Every fold needs a threshold. Received: none for fold {missing[0]}.")
    return _score(distances, same, fold, {k: float(thresholds[k]) for k in numbers})


def evaluate_embeddings(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    thresholds_from: tuple[npt.ArrayLike, npt.ArrayLike] | None,
    seed: int,
    folds: int = 5,
) -> Verification:
    """Score unit-norm embeddings of held-out people on balanced pairs, every pair within one fold of people.

    embeddings: float [photos, dim]; labels: [photos]. thresholds_from: embeddings and labels of validation
    people, whose pairs give the threshold; None takes each fold's from the other folds. The pairs depend on
    labels and seed alone, so that methods are compared on the same ones; `fold_pairs` gives them again.
    Raises DataError where there are too few people, embeddings are not unit-norm, or a named person is on
    both sides.
    """
    pairs = fold_pairs(labels, seed=seed, folds=folds)
    distances = pair_distances(embeddings, pairs)
    if thresholds_from is None:
        return verify_folds(distances, pairs.same, pairs.fold)
    _refuse_shared_names(labels, thresholds_from[1])
    threshold = threshold_from(*thresholds_from, seed=seed)
    return verify_at(distances, pairs.same, threshold=threshold, fold=pairs.fold)


def threshold_from(embeddings: npt.ArrayLike, labels: npt.ArrayLike, *, seed: int) -> float:
    """Return the threshold of highest smoothed accuracy on balanced pairs of people: float [photos, dim], [photos]."""
    pairs = sample_pairs(labels, seed=seed)
    return smooth_threshold(pair_distances(embeddings, pairs), pairs.same)


def pair_distances(embeddings: npt.ArrayLike, pairs: Pairs | FoldedPairs) -> Floats:
    """Return the squared distances of the pairs of rows, in [0, 4]: float64 [pairs].

    embeddings: float [photos, dim] of unit norm. Raises DataError where they are not, or not finite.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2:
        raise DataError(f"Embeddings must be [photos, dim]. Received: shape {embeddings.shape}.")
    used = np.unique(np.concatenate([pairs.first, pairs.second]))
    if used[-1] >= len(embeddings):
        raise DataError(f"Each label needs an embedding. Received: {len(embeddings)} for row {int(used[-1])}.")
    check_unit(embeddings[used])
    return squared_distances(embeddings[pairs.first], embeddings[pairs.second])


def pair_thresholds(thresholds: Sequence[float], fold: npt.ArrayLike) -> Floats:
    """Return each pair's own threshold, of `Verification.thresholds`: float64 [pairs]; fold: int [pairs]."""
    numbers, place = np.unique(np.asarray(fold), return_inverse=True)
    if len(numbers) != len(thresholds):
        raise DataError(f"Every fold needs a threshold. Received: {len(thresholds)} for {len(numbers)} folds.")
    return np.asarray(thresholds, np.float64)[place]


def hardest_mistakes(
    distances: npt.ArrayLike,
    same: npt.ArrayLike,
    *,
    threshold: npt.ArrayLike,
    limit: int = 12,
) -> Ints:
    """Return the pairs judged wrongly by the widest margin, of both kinds, widest first: int64 [at most limit].

    distances: float [pairs]; same: bool [pairs]; threshold: a number or float [pairs]. One kind has more than
    half of the places only where the other has too few mistakes.
    """
    distances, same = checked_pairs(distances, same)
    margin = np.abs(distances - np.asarray(threshold, np.float64))
    wrong = (distances <= np.asarray(threshold)) != same
    kinds = [np.flatnonzero(wrong & kind) for kind in (same, ~same)]
    ordered = [rows[np.argsort(-margin[rows], kind="stable")] for rows in kinds]
    share = [min(len(ordered[0]), max(limit - limit // 2, limit - len(ordered[1])))]
    share.append(min(len(ordered[1]), limit - share[0]))
    chosen = np.concatenate([rows[:n] for rows, n in zip(ordered, share, strict=True)])
    return chosen[np.argsort(-margin[chosen], kind="stable")].astype(np.int64)


def _score(distances: Floats, same: Bools, fold: Ints, thresholds: Mapping[int, float]) -> Verification:
    numbers = sorted(thresholds)
    accuracies = [accuracy_at(distances[fold == k], same[fold == k], thresholds[k]) for k in numbers]
    accuracy = float(np.mean(accuracies))
    if len(numbers) > 1:
        stderr = float(np.std(accuracies, ddof=1)) / math.sqrt(len(numbers))
    else:
        stderr = math.sqrt(accuracy * (1.0 - accuracy) / len(distances))
    own = pair_thresholds([thresholds[k] for k in numbers], fold)
    rates = far_frr_at(distances, same, own)
    return Verification(
        accuracy=accuracy,
        accuracy_stderr=stderr,
        auc=auc(distances, same),
        eer=eer(distances, same),
        tar_at_far={name: tar_at_far(distances, same, far) for name, far in FARS.items()},
        pairs=len(distances),
        positives=int(np.count_nonzero(same)),
        folds=len(numbers),
        thresholds=tuple(thresholds[k] for k in numbers),
        fold_accuracies=tuple(accuracies),
        far_at_threshold=rates.far,
        frr_at_threshold=rates.frr,
    )


def _checked_fold(fold: npt.ArrayLike, pairs: int) -> Ints:
    fold = np.asarray(fold)
    if fold.shape != (pairs,) or fold.dtype.kind not in "iu":
        raise DataError(f"Each of {pairs} pairs needs a fold number. Received: {fold.dtype} {fold.shape}.")
    return fold.astype(np.int64)


def _refuse_shared_names(held_out: npt.ArrayLike, validation: npt.ArrayLike) -> None:
    """Raise DataError for names on both sides; numbers may index two different lists of people."""
    held_out, validation = np.asarray(held_out), np.asarray(validation)
    if held_out.dtype.kind not in "UO" or validation.dtype.kind not in "UO":
        return
    shared = np.intersect1d(held_out, validation)
    if len(shared):
        raise DataError(
            "Held-out people must not give the threshold. "
            f"Received: {len(shared)} on both sides, {shared[0]!r} the first; split by person."
        )
