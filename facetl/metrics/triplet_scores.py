"""Scoring of triplets: two same/different decisions a row, the triplet loss, and which of the two is nearer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.pairs import Ints, Pairs, identity_folds
from facetl.metrics.roc import Bools, Floats, accuracy_at, best_threshold, far_frr_at
from facetl.metrics.verification import pair_distances


@dataclass(frozen=True)
class TripletScores(JsonFields):
    """Scores of triplets: anchors against positives and negatives.

    accuracy is of the 2 × triplets decisions at `threshold`, far_at_threshold and frr_at_threshold its two kinds of
    mistakes; loss the mean of max(0, d(a, p) − d(a, n) + margin); order the share of rows with d(a, p) < d(a, n).
    accuracy_kfold is the mean over folds at thresholds from elsewhere in the list, accuracy_kfold_stderr its
    standard error; both None where the list cannot give one. folds_of is what a fold is made of: "people", who
    are then in no decision that gave their threshold, or "rows", blocks of them, when nobody knows who is who and
    the same people may stand on both sides.
    """

    accuracy: float
    accuracy_kfold: float | None
    accuracy_kfold_stderr: float | None
    loss: float
    order: float
    triplets: int
    threshold: float
    margin: float
    far_at_threshold: float
    frr_at_threshold: float
    folds: int
    folds_of: str


def score_triplets(
    anchor: npt.ArrayLike,
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    *,
    threshold: float,
    margin: float,
    folds: int = 10,
    people: npt.ArrayLike | None = None,
    seed: int = 0,
) -> TripletScores:
    """Score rows of anchor, positive and negative embeddings.

    anchor, positive, negative: float [triplets, dim] of unit norm; threshold: the run's, a squared distance; margin:
    of the triplet loss (Schroff et al., 2015). people: [triplets, 2], the anchor's and the negative's person, or
    None. seed deals people to folds.

    Raises DataError where shapes differ, norms are not 1, or an anchor's person is its negative's.
    """
    rows = [np.asarray(embeddings) for embeddings in (anchor, positive, negative)]
    if len({embeddings.shape for embeddings in rows}) != 1 or rows[0].ndim != 2 or not rows[0].size:
        shapes = ", ".join(str(embeddings.shape) for embeddings in rows)
        raise DataError(f"Triplets need three [triplets, dim] arrays of one shape. Received: {shapes}.")
    if not math.isfinite(threshold) or not (math.isfinite(margin) and margin >= 0.0):
        raise DataError(f"A threshold must be finite, a margin 0 or more. Received: {threshold} and {margin}.")
    if folds < 2:
        raise DataError(f"A threshold from other folds needs 2 folds or more. Received: {folds}.")
    n = len(rows[0])
    number = np.arange(n)
    same = np.arange(2 * n) < n
    pairs = Pairs(np.concatenate([number, number]), np.concatenate([number + n, number + 2 * n]), same)
    distances = pair_distances(np.concatenate(rows), pairs)
    to_positive, to_negative = distances[:n], distances[n:]
    sides = _row_blocks(n, folds) if people is None else _people_sides(people, n, folds, seed)
    accuracies = _fold_accuracies(to_positive, to_negative, sides)
    rates = far_frr_at(distances, same, threshold)
    return TripletScores(
        accuracy=accuracy_at(distances, same, threshold),
        accuracy_kfold=float(np.mean(accuracies)) if accuracies else None,
        accuracy_kfold_stderr=float(np.std(accuracies, ddof=1) / math.sqrt(len(accuracies))) if accuracies else None,
        loss=float(np.mean(np.maximum(0.0, to_positive - to_negative + margin))),
        order=float(np.mean(to_positive < to_negative)),
        triplets=n,
        threshold=float(threshold),
        margin=float(margin),
        far_at_threshold=rates.far,
        frr_at_threshold=rates.frr,
        folds=len(accuracies),
        folds_of="rows" if people is None else "people",
    )


def _row_blocks(triplets: int, folds: int) -> Ints:
    """Put both sides of a row in one block of rows: int64 [triplets, 2]."""
    blocks = np.arange(triplets) * min(folds, triplets) // triplets
    return np.stack([blocks, blocks], axis=1).astype(np.int64)


def _people_sides(people: npt.ArrayLike, triplets: int, folds: int, seed: int) -> Ints:
    """Return the fold of the anchor's person and of the negative's: int64 [triplets, 2].

    People with anchors are dealt first, so that every fold has as many rows as can be.
    """
    people = np.asarray(people)
    if people.shape != (triplets, 2):
        raise DataError(f"People must be [{triplets}, 2]: anchor's, negative's. Received: {people.shape}.")
    person = np.unique(people, return_inverse=True)[1].reshape(triplets, 2)
    if np.any(person[:, 0] == person[:, 1]):
        row = int(np.flatnonzero(person[:, 0] == person[:, 1])[0])
        raise DataError(f"A negative must show another person. Received: {people[row, 0]} twice in triplet {row + 1}.")
    fold_of = np.full(int(person.max()) + 1, -1, np.int64)
    for column in (0, 1):
        undealt = person[:, column][fold_of[person[:, column]] < 0]
        if len(undealt):
            fold_of[undealt] = identity_folds(undealt, folds=min(folds, len(np.unique(undealt))), seed=seed)
    return fold_of[person]


def _fold_accuracies(to_positive: Floats, to_negative: Floats, sides: Ints) -> list[float]:
    """Return each fold's accuracy, each row judged at the best threshold of rows that touch neither of its folds.

    Empty where there are fewer than 2 folds, or a row for which no such rows are left.
    """
    folds = np.unique(sides[:, 0])
    right = np.zeros(len(sides))
    for pair in np.unique(np.sort(sides, axis=1), axis=0):
        here: Bools = np.all(np.sort(sides, axis=1) == pair, axis=1)
        elsewhere = ~np.isin(sides, pair).any(axis=1)
        if not elsewhere.any():
            return []
        learnt = np.concatenate([to_positive[elsewhere], to_negative[elsewhere]])
        threshold = best_threshold(learnt, np.arange(len(learnt)) < len(learnt) // 2)
        right[here] = ((to_positive[here] <= threshold).astype(float) + (to_negative[here] > threshold)) / 2.0
    return [float(right[sides[:, 0] == fold].mean()) for fold in folds] if len(folds) > 1 else []


class Share(NamedTuple):
    """A share of right answers in [0, 1], its standard error by person, and of how many answers it is."""

    value: float
    stderr: float
    answers: int


def match_accuracy(embeddings: npt.ArrayLike, triplets: npt.ArrayLike, labels: npt.ArrayLike) -> Share:
    """Return the share of triplets whose positive is nearer to the anchor than the negative: "right order".

    embeddings: float [photos, dim]; triplets: int [n, 3], rows of anchor, positive, negative; labels: [photos], who is
    on them. The standard error takes a person's triplets together. Raises DataError for another shape, or none.
    """
    embeddings, rows = np.asarray(embeddings, np.float64), np.asarray(triplets)
    if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows):
        raise DataError(f"Triplets must be [n, 3] rows, one or more. Received: {rows.shape}.")
    anchor, positive, negative = (embeddings[column] for column in rows.T)
    nearer = np.sum(np.square(anchor - positive), axis=1) < np.sum(np.square(anchor - negative), axis=1)
    return _by_person(nearer, np.asarray(labels)[rows[:, 0]])


def class_accuracy(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> Share:
    """Return the share of photos that are nearest to the mean of their own person's other photos.

    embeddings: float [photos, dim]; labels: [photos]. Every person with two photos or more is a class; a photo's own
    mean is taken without it. Raises DataError for fewer than two such people.
    """
    embeddings, labels = np.asarray(embeddings, np.float64), np.asarray(labels)
    people, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    asked = counts[inverse] >= 2
    if np.count_nonzero(counts >= 2) < 2:
        raise DataError(
            f"Classes need at least 2 people with 2 photos. Received: {np.count_nonzero(counts >= 2)} of {len(people)}."
        )
    embeddings, kept = embeddings[asked], np.unique(inverse[asked], return_inverse=True)[1]
    sums = np.zeros((int(kept.max()) + 1, embeddings.shape[1]))
    np.add.at(sums, kept, embeddings)
    sizes = np.bincount(kept)[:, None]
    means = sums / sizes
    distances = np.sum(np.square(means), axis=1)[None] - 2 * embeddings @ means.T
    own = (sums[kept] - embeddings) / (sizes[kept] - 1)
    row = np.arange(len(kept))
    distances[row, kept] = np.sum(np.square(own), axis=1) - 2 * np.sum(own * embeddings, axis=1)
    return _by_person(np.argmin(distances, axis=1) == kept, kept)


def _by_person(right: npt.NDArray[np.bool_], people: npt.NDArray[np.generic]) -> Share:
    """Return the mean of answers, and its error where those about one person stand and fall together."""
    value = float(np.mean(right))
    person = np.unique(people, return_inverse=True)[1]
    residuals = np.bincount(person, weights=right - value)
    groups = len(residuals)
    error = math.sqrt(groups / max(groups - 1, 1) * float(np.sum(np.square(residuals)))) / len(right)
    return Share(value, error, len(right))
