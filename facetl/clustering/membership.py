"""Where a face belongs: to a named person who is near and clearly nearest, and how surely in the stack it came to."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from facetl.clustering.linkage import Linkage
from facetl.clustering.neighbours import Float32s, Ints
from facetl.clustering.similarity import Evidence
from facetl.metrics.roc import Floats

_SURE = 0.3  # how near a named person must be, in parts of the way from the last near face to the same face
_MARGIN = 0.1  # by which the second nearest person must be farther, in the same parts
_BLOCK = 4096


def name_near(linkage: Linkage, evidence: Evidence, *, asked: Ints, barred: Collection[int] = ()) -> None:
    """Link groups to the named people whom they show: an open-set identification, nearest first.

    A group is a person's if the mean cosine to all rows of the person is near enough to unite, and the next
    person is farther by a margin. asked: int64 [m], groups of the linkage; those that have a name, or whose row is
    `barred`, are passed over.
    """
    links, rows = linkage.links, linkage.rows.tolist()
    name = [links.label_of(row) for row in rows]
    if not any(name):
        return
    known = np.array([group for group, one in enumerate(name) if one is not None])
    people, person = np.unique([name[group] for group in known.tolist()], return_inverse=True)
    sums, counts = np.zeros((len(people), linkage.sums.shape[1]), np.float32), np.zeros(len(people))
    np.add.at(sums, person, linkage.sums[known])
    np.add.at(counts, person, linkage.counts[known])
    means = sums / counts[:, None].astype(np.float32)
    somebody = np.full(len(people), rows[known[0]])
    somebody[person] = linkage.rows[known]
    unnamed = np.array([group for group in asked.tolist() if name[group] is None and rows[group] not in barred], int)
    nearest, cosines = np.zeros(len(unnamed), np.int64), np.full(len(unnamed), -np.inf)
    for start in range(0, len(unnamed), _BLOCK):
        block = unnamed[start : start + _BLOCK]
        products = (linkage.sums[block] @ means.T) / linkage.counts[block, None]
        best = np.argmax(products, axis=1)
        top = np.take_along_axis(products, best[:, None], axis=1)[:, 0]
        np.put_along_axis(products, best[:, None], -np.inf, axis=1)
        clear = top - products.max(axis=1) >= _MARGIN * (1.0 - evidence.least)
        nearest[start : start + _BLOCK] = best
        cosines[start : start + _BLOCK] = np.where(clear, top, -np.inf)
    least = evidence.least + _SURE * (1.0 - evidence.least)
    for place in np.argsort(-cosines, kind="stable"):
        if cosines[place] < least:
            break
        links.unite(rows[unnamed[place]], int(somebody[nearest[place]]))


def confidences(
    expanded: Float32s, own: Ints, sums: Float32s, counts: Floats, others: Ints, evidence: Evidence
) -> Floats:
    """Return how surely rows belong to their groups, not to others near or to none: float64 [m], in [0, 1].

    expanded: float32 [m, width]; own: int64 [m], the group of each, which it is part of; sums, counts: of the expanded
    rows of each group; others: int64 [m, k], groups near the row, its own perhaps among them. A row alone in its group
    is sure as far as it belongs to none of the others.
    """
    rest = counts[own] - 1.0
    products = np.einsum("ij,ij->i", expanded, sums[own], dtype=np.float64)
    itself = np.einsum("ij,ij->i", expanded, expanded, dtype=np.float64)
    inside = np.where(rest > 0.0, (products - itself) / np.maximum(rest, 1.0), 0.0)
    elsewhere = np.full(len(expanded), -np.inf)
    for group in others.T:
        cosines = np.einsum("ij,ij->i", expanded, sums[group], dtype=np.float64) / counts[group]
        elsewhere = np.maximum(elsewhere, np.where(group == own, -np.inf, cosines))
    other = np.exp(evidence.odds(elsewhere))
    here = np.where(rest > 0.0, np.exp(evidence.odds(inside)), 1.0)
    return np.asarray(here / np.where(rest > 0.0, here + other + 1.0, 1.0 + other))
