"""Nearest neighbours among embeddings: exact by NumPy or FAISS, approximate only where exact would take an hour."""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.io.system import usable_processors
from facetl.metrics.ranking import checked_embeddings

Ints = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]

NUMPY_ROWS = 20_000  # up to which FAISS is not worth its import
EXACT_ROWS = 300_000  # above which comparing all with all takes a quarter of an hour on two cores
NOBODY = -1

_BLOCK_BYTES = 1 << 26  # of float32 similarities at once
_LINKS = 32  # of a row in the HNSW graph
_BREADTH = 128  # candidates kept while building and searching it


class Neighbours(NamedTuple):
    """The nearest rows of each, nearest first: rows int64 [n, k], cosines float32 [n, k].

    Where there are fewer than k others, and in what an approximate search missed, the row is −1 and the cosine −inf.
    """

    rows: Ints
    cosines: Float32s


def neighbours(embeddings: npt.ArrayLike, k: int, *, of: Ints | None = None) -> Neighbours:
    """Return the k nearest other rows of each row, by the inner product.

    embeddings: float [n, width] of unit norm. of: int64 [m], the rows that are asked for, all by default. Equally near
    rows are in no particular order. Raises DataError for other embeddings, k below 1, or where FAISS is needed and not
    there.
    """
    rows = checked_embeddings(embeddings, "album")
    asked = np.arange(len(rows)) if of is None else of
    queries = rows if of is None else rows[of]
    found = nearest(rows, queries, min(k + 1, len(rows)) if k >= 1 else k)
    # Copies may come before the photo itself, or push it out: it is taken out wherever it is, else the last.
    own = found.rows == asked[:, None]
    own[~own.any(axis=1), -1] = True
    others = Neighbours(*(part[~own].reshape(len(asked), -1) for part in found))
    missing = k - others.rows.shape[1]
    if missing <= 0:
        return others
    return Neighbours(
        np.pad(others.rows, ((0, 0), (0, missing)), constant_values=NOBODY),
        np.pad(others.cosines, ((0, 0), (0, missing)), constant_values=-np.inf),
    )


def nearest(table: Float32s, queries: Float32s, k: int) -> Neighbours:
    """Return the k rows of the table with the largest inner product with each query, largest first.

    table: float32 [n, width]; queries: float32 [m, width], of any norm; k at most n. All are compared with all, up to
    20,000 rows by NumPy, above by FAISS where it is installed; above 300,000 FAISS follows a graph (Malkov and
    Yashunin, 2020) and misses a few. DataError as for `neighbours`.
    """
    if not 1 <= k <= len(table):
        raise DataError(f"Neighbours to look for must be 1 to the {len(table):,} rows. Received: {k}.")
    comparisons = len(table) * len(queries)
    if comparisons > EXACT_ROWS**2:
        return _by_faiss(table, queries, k, approximate=True)
    if comparisons > NUMPY_ROWS**2 and importlib.util.find_spec("faiss") is not None:
        return _by_faiss(table, queries, k, approximate=False)
    return _exact(table, queries, k)  # the same answer as FAISS gives, several times slower


def _exact(table: Float32s, queries: Float32s, k: int) -> Neighbours:
    rows, cosines = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    size = max(1, _BLOCK_BYTES // (4 * len(table)))
    for start in range(0, len(queries), size):
        block = slice(start, start + size)
        products = queries[block] @ table.T
        best = np.argpartition(products, len(table) - k, axis=1)[:, len(table) - k :]
        values = np.take_along_axis(products, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[block] = np.take_along_axis(best, order, axis=1)
        cosines[block] = np.take_along_axis(values, order, axis=1)
    return Neighbours(rows, cosines)


def _by_faiss(table: Float32s, queries: Float32s, k: int, *, approximate: bool) -> Neighbours:
    try:
        import faiss
    except ImportError as error:
        raise DataError(
            f"Neighbours among {len(table):,} faces need FAISS, which is not installed. "
            "Run pip install 'facetl[faiss]'."
        ) from error
    # Its own default is a thread for each processor of the machine, not of those that this process may use.
    faiss.omp_set_num_threads(usable_processors())
    width = table.shape[1]
    if approximate:
        index: Any = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = index.hnsw.efSearch = max(_BREADTH, 2 * k)
    else:
        index = faiss.IndexFlatIP(width)
    index.add(np.ascontiguousarray(table, np.float32))
    cosines, rows = index.search(np.ascontiguousarray(queries, np.float32), k)
    return Neighbours(rows.astype(np.int64), np.where(rows == NOBODY, -np.inf, cosines).astype(np.float32))
