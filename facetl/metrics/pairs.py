"""Pairs of photos drawn from labelled people, for measuring and never for training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.data.triplets import dealt_evenly
from facetl.errors import DataError
from facetl.metrics.roc import Bools

Ints = npt.NDArray[np.int64]

PER_PERSON = 45  # all pairs of ten photos: one person with hundreds must not speak for everyone


class Pairs(NamedTuple):
    """Pairs of rows: first, second: int64 [pairs], second of another row; same: bool [pairs]."""

    first: Ints
    second: Ints
    same: Bools


class FoldedPairs(NamedTuple):
    """Pairs of rows, each wholly inside one fold of people: `fold` is int64 [pairs]."""

    first: Ints
    second: Ints
    same: Bools
    fold: Ints


def sample_pairs(
    labels: npt.ArrayLike,
    *,
    seed: int | np.random.Generator,
    positives: int = 3000,
    negatives: int | None = None,
    per_person: int = PER_PERSON,
) -> Pairs:
    """Draw distinct pairs of photos, balanced over people: no photo with itself, no pair twice.

    labels: [photos], anything that numpy can sort. At most `positives` pairs of one person are dealt
    evenly: a person gives `per_person` at most, and the cap falls for all alike until the pairs fit. The two
    people of a negative pair are drawn uniformly, then a photo of each. `negatives` None draws as many as
    positives (and lowers both where photos run out), so that chance is an accuracy of one half.
    Raises DataError where a pair of either kind cannot be made.
    """
    people, photos = np.unique(np.asarray(labels), return_inverse=True)
    counts = np.bincount(photos, minlength=len(people)).astype(np.int64)
    rows = np.argsort(photos, kind="stable").astype(np.int64)  # rows of person p: rows[starts[p]:starts[p + 1]]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    possible = np.minimum(counts * (counts - 1) // 2, per_person)
    different = int((len(photos) ** 2 - np.sum(counts**2)) // 2)
    if positives < 1 or not possible.sum() or not different or (negatives is not None and negatives < 1):
        raise DataError(
            "Pairs need at least 2 people, one of them with 2 photos. "
            f"Received: {len(people)} people, {int(np.count_nonzero(counts >= 2))} with 2 photos or more."
        )
    rng = np.random.default_rng(seed)
    wanted = min(positives, int(possible.sum()))
    if negatives is None:
        wanted = negatives = min(wanted, different)
    quota = dealt_evenly(possible, wanted, rng)
    same = [_pairs_of_one(rows[starts[p] : starts[p + 1]], quota[p], rng) for p in np.flatnonzero(quota)]
    near = np.concatenate(same)
    far = _pairs_of_two(rows, starts, min(negatives, different), different, rng)
    both = np.concatenate([near, far])
    return Pairs(both[:, 0], both[:, 1], np.arange(len(both)) < len(near))


def identity_folds(labels: npt.ArrayLike, *, folds: int, seed: int | np.random.Generator) -> Ints:
    """Return the fold of each photo, all photos of a person in one: int64 [photos], in 0 … folds − 1.

    People are dealt by falling number of photos, one to each fold a round, the largest to the fold with
    fewest photos: folds hold the same number of people to one, also of people with two photos or more.
    Raises DataError where there are fewer people than folds.
    """
    people, photos = np.unique(np.asarray(labels), return_inverse=True)
    if folds < 1 or len(people) < folds:
        raise DataError(f"Each fold needs a person of its own. Received: {len(people)} people, {folds} folds.")
    rng = np.random.default_rng(seed)
    counts = np.bincount(photos, minlength=len(people))
    shuffled = rng.permutation(len(people))
    falling = shuffled[np.argsort(-counts[shuffled], kind="stable")]
    fold_of = np.empty(len(people), np.int64)
    load = np.zeros(folds, np.int64)
    for start in range(0, len(falling), folds):
        dealt = falling[start : start + folds]
        takers = np.argsort(load, kind="stable")[: len(dealt)]
        fold_of[dealt] = takers
        load[takers] += counts[dealt]
    return fold_of[photos]


def fold_pairs(
    labels: npt.ArrayLike,
    *,
    seed: int,
    folds: int = 5,
    positives: int = 3000,
    per_person: int = PER_PERSON,
) -> FoldedPairs:
    """Draw balanced pairs whose two photos lie in the same fold of people, so that folds share nobody.

    Folds shrink to as many as hold 2 people with 2 photos each. Depends on labels and seed alone: every
    method that is compared meets the same pairs. Raises DataError where not even one fold can be made.
    """
    photos = np.unique(np.asarray(labels), return_inverse=True)[1]
    able = int(np.count_nonzero(np.bincount(photos) >= 2)) if len(photos) else 0
    if able < 2:
        raise DataError(
            "Measuring needs at least 2 people with 2 photos each among those held out. "
            f"Received: {able}; add photos or hold out a larger share of the people."
        )
    folds = max(1, min(folds, able // 2))
    fold_of = identity_folds(photos, folds=folds, seed=seed)
    parts = []
    for fold in range(folds):
        inside = np.flatnonzero(fold_of == fold)
        drawn = sample_pairs(
            photos[inside],
            seed=np.random.default_rng([seed, fold]),
            positives=-(-positives // folds),
            per_person=per_person,
        )
        parts.append((inside[drawn.first], inside[drawn.second], drawn.same, np.full(len(drawn.same), fold)))
    first, second, same, fold_column = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FoldedPairs(first, second, same.astype(np.bool_), fold_column)


def _pairs_of_one(rows: Ints, pairs: int, rng: np.random.Generator) -> Ints:
    """Draw distinct pairs of the rows of one person: int64 [pairs, 2]."""
    number = np.sort(rng.choice(len(rows) * (len(rows) - 1) // 2, pairs, replace=False))
    # Pair number k is (i, j), j < i, of the lower triangle read row by row: k = i(i − 1)/2 + j.
    # float64 finds i exactly below 10^8 photos of one person.
    i = ((1 + np.sqrt(1 + 8 * number.astype(np.float64))) // 2).astype(np.int64)
    return np.stack([rows[number - i * (i - 1) // 2], rows[i]], axis=1)


def _pairs_of_two(rows: Ints, starts: Ints, pairs: int, different: int, rng: np.random.Generator) -> Ints:
    """Draw distinct pairs of rows of two people, the people drawn uniformly: int64 [pairs, 2]."""
    people, photos = len(starts) - 1, len(rows)
    counts = np.diff(starts)
    if different <= 4 * pairs:  # drawing and rejecting would take long: write all of them down
        person = np.repeat(np.arange(people), counts)
        later = photos - starts[person + 1]
        i = np.repeat(np.arange(photos), later)
        j = starts[person + 1][i] + np.arange(different) - np.repeat(np.cumsum(later) - later, later)
        weight = 1.0 / (counts[person[i]] * counts[person[j]])
        chosen = np.sort(rng.choice(different, pairs, replace=False, p=weight / weight.sum()))
        return np.stack([rows[i[chosen]], rows[j[chosen]]], axis=1)
    keys = np.empty(0, np.int64)
    while len(keys) < pairs:
        p = rng.integers(people, size=2 * pairs)
        q = (p + rng.integers(1, people, size=2 * pairs)) % people
        i, j = starts[p] + rng.integers(counts[p]), starts[q] + rng.integers(counts[q])
        drawn = np.concatenate([keys, np.minimum(i, j) * photos + np.maximum(i, j)])
        keys = drawn[np.sort(np.unique(drawn, return_index=True)[1])][:pairs]  # first drawn, first kept
    return np.stack([rows[keys // photos], rows[keys % photos]], axis=1)
