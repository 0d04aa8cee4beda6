"""Retrieval metrics: every row of embeddings asks for the other rows of its class. Pure NumPy, in blocks of queries.

Nearest is nearest by Euclidean distance. A row whose class has no other row cannot be answered and is left out. Rows
at one distance count in the order of their numbers.

References:
    Musgrave, Belongie, Lim: A Metric Learning Reality Check, ECCV 2020, section 3.2 (R-Precision, MAP@R).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError

_BLOCK_BYTES = 1 << 26  # of float64 distances at once


def recall_at_k(embeddings: npt.ArrayLike, labels: npt.ArrayLike, k: int = 1) -> float:
    """Return the share of rows that have a row of their class among their k nearest others.

    embeddings: float [n, dim]; labels: [n]. Raises DataError where shapes differ, no class has two rows, or k is not in
    1 … n − 1.
    """
    rows = len(np.asarray(embeddings))
    if not 1 <= k < rows:
        raise DataError(f"k is from 1 to the {rows - 1} other rows. Received: {k}.")
    return _mean_over_queries(embeddings, labels, lambda hits, relevant: np.any(hits, axis=1), nearest=k)


def r_precision(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the mean share of a row's R nearest others that are of its class, R being how many others it has.

    Arguments and errors are those of `recall_at_k`.
    """
    return _mean_over_queries(embeddings, labels, lambda hits, relevant: np.sum(hits, axis=1) / relevant)


def map_at_r(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return MAP@R: the mean of (1/R) Σ P(i) over the i ≤ R whose row is of the class, P(i) the precision at i.

    Arguments and errors are those of `recall_at_k`.
    """

    def average_precision(hits: npt.NDArray[np.bool_], relevant: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
        return np.asarray(np.sum(precision * hits, axis=1) / relevant)

    return _mean_over_queries(embeddings, labels, average_precision)


def _mean_over_queries(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    score: Callable[[npt.NDArray[np.bool_], npt.NDArray[np.int64]], npt.NDArray],
    *,
    nearest: int | None = None,
) -> float:
    """Return the mean of the score of (hits among the nearest [queries, n], relevant [queries]).

    `nearest` rows are looked at, else as many as a query has relevant ones: later ones are no hits.
    """
    scores = [
        score(hits if nearest else hits & (np.arange(hits.shape[1]) < relevant[:, None]), relevant)
        for hits, relevant in _queries(embeddings, labels, nearest)
    ]
    return float(np.mean(np.concatenate(scores)))


def _queries(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, nearest: int | None
) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
    """Yield blocks of queries: which of their nearest others are of their class, and how many of them there are."""
    rows = np.asarray(embeddings, np.float64)
    if rows.ndim != 2 or np.shape(labels) != (len(rows),):
        raise DataError(
            f"Retrieval needs embeddings [n, dim] and a label each. Received: {rows.shape}, {np.shape(labels)}."
        )
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    others = counts[classes] - 1
    asking = np.flatnonzero(others)
    if not len(asking):
        raise DataError(f"Retrieval needs a class with two rows. Received: {len(rows)} rows of {len(counts)} classes.")
    seen = nearest or int(others.max())
    lengths = np.einsum("ij,ij->i", rows, rows)
    block = max(1, _BLOCK_BYTES // (8 * len(rows)))
    for start in range(0, len(asking), block):
        queries = asking[start : start + block]
        # A query's own length changes no order.
        distances = lengths - 2.0 * (rows[queries] @ rows.T)
        distances[np.arange(len(queries)), queries] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :seen]
        yield classes[order] == classes[queries, None], others[queries]
