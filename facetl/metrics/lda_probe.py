"""A quick measure of features: PCA→LDA in closed form, scored on people it was not fitted on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.io.arrays import Rows
from facetl.metrics.baselines import COMPONENTS, Lda
from facetl.metrics.jackknife import jackknife_variance
from facetl.metrics.pairs import Ints, fold_pairs, identity_folds
from facetl.metrics.roc import auc
from facetl.metrics.verification import pair_distances, verify_folds

FOLDS = 3
_PARTS = 20  # of people, for the jackknife


@dataclass(frozen=True)
class ProbeScore:
    """Scores of features under PCA→LDA.

    Attributes:
        auc: of all folds' pairs together; auc_stderr: its standard error, by person.
        accuracy: mean over folds, each at the threshold of the others; accuracy_stderr: its standard error.
        people, photos: that were looked at.
        auc_without: the AUC without each part of the people in turn, from which gains get their standard error.
    """

    auc: float
    auc_stderr: float
    accuracy: float
    accuracy_stderr: float
    people: int
    photos: int
    auc_without: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain types."""
        return {name: value for name, value in asdict(self).items() if name != "auc_without"}


def probe(features: Rows, labels: npt.ArrayLike, *, seed: int, folds: int = FOLDS) -> ProbeScore:
    """Fit PCA→LDA on the people of the other folds, score each fold's pairs, no person on both sides.

    features: float [photos, dim], cached rows too; labels: [photos]. Pairs, folds and parts follow from labels and
    seed alone: features of the same photos meet the same ones. Half as many principal components are kept as photos
    fitted on, as in `Whitened`: with few photos the last ones are noise. Raises DataError for fewer than 4 people
    with 2 photos, or features that are not finite.
    """
    people, person = np.unique(np.asarray(labels), return_inverse=True)
    able = int(np.count_nonzero(np.bincount(person, minlength=len(people)) >= 2))
    if len(person) != features.shape[0] or folds < 2 or able < 4:
        raise DataError(
            "A probe needs a label for each photo, 2 folds, and 4 people with 2 photos each. Received: "
            f"{features.shape[0]} photos, {len(person)} labels, {folds} folds, {able} such people."
        )
    folds = min(folds, able // 2)
    pairs = fold_pairs(person, seed=seed, folds=folds)
    fold_of = identity_folds(person, folds=folds, seed=seed)  # the folds that the pairs lie in
    distances = np.empty(len(pairs.same))
    for fold in range(folds):
        outside, inside = np.flatnonzero(fold_of != fold), pairs.fold == fold
        lda = Lda(components=max(2, min(COMPONENTS, len(outside) // 2)), seed=seed)
        lda.fit(np.asarray(features[outside]), person[outside])
        rows = np.flatnonzero(fold_of == fold)
        held_out = lda.transform(np.asarray(features[rows]))
        embedded = np.zeros((len(person), held_out.shape[1]), np.float32)
        embedded[rows] = held_out
        chosen = type(pairs)(*(column[inside] for column in pairs))
        distances[inside] = pair_distances(embedded, chosen)
    scores = verify_folds(distances, pairs.same, pairs.fold)
    without = _auc_without(distances, pairs.same, person[pairs.first], person[pairs.second], seed)
    return ProbeScore(
        auc=scores.auc,
        auc_stderr=math.sqrt(jackknife_variance(without)),
        accuracy=scores.accuracy,
        accuracy_stderr=scores.accuracy_stderr,
        people=len(people),
        photos=len(person),
        auc_without=without,
    )


def gain_stderr(one: ProbeScore, other: ProbeScore) -> float:
    """Return the standard error of the difference in AUC of two probes of the same photos and seed, by person.

    Both met the same pairs, so that what is hard for both cancels. Raises DataError where the people differ.
    """
    if (len(one.auc_without), one.people, one.photos) != (len(other.auc_without), other.people, other.photos):
        raise DataError(
            "Probes are compared on the same photos. "
            f"Received: {one.photos} photos of {one.people} people, {other.photos} of {other.people}."
        )
    return math.sqrt(jackknife_variance(np.subtract(one.auc_without, other.auc_without)))


def _auc_without(
    distances: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], first: Ints, second: Ints, seed: int
) -> tuple[float, ...]:
    """Return the AUC without the pairs of each part of the people that are in pairs of one person."""
    tested = np.unique(first[same])
    people = max(int(first.max()), int(second.max())) + 1
    parts = min(_PARTS, len(tested))
    part = np.full(people, -1)
    part[np.random.default_rng([seed, 1]).permutation(tested)] = np.arange(len(tested)) % parts
    found = []
    for number in range(parts):
        kept = (part[first] != number) & (part[second] != number)
        if not (kept & same).any() or not (kept & ~same).any():
            raise DataError(f"A probe needs pairs without any one person. Received: {len(tested)} people; add people.")
        found.append(auc(distances[kept], same[kept]))
    return tuple(found)
