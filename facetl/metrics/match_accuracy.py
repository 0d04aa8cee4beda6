"""Two plain shares of right answers: the order of triplets, and whose photo it is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError


class Share(NamedTuple):
    """A share of right answers in [0, 1], its standard error by person, and of how many answers it is."""

    value: float
    stderr: float
    answers: int


def match_accuracy(embeddings: npt.ArrayLike, triplets: npt.ArrayLike, labels: npt.ArrayLike) -> Share:
    """Share of triplets whose positive is nearer to the anchor than the negative: "right order".

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
    """Share of photos that are nearest to the mean of their own person's other photos.

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
