"""Average linkage of any number of groups: the nearest unite, as long as they are near enough and may.

The mean cosine between all rows of two groups follows from the sums of their rows, so that it is exact however large
they are; only which groups are compared comes from lists of nearest neighbours, drawn anew between the groups that are
left. In each round all pairs of groups unite that are nearest to each other, which gives what uniting one pair after
the other would (reciprocal agglomerative clustering, Sumengen et al., 2021).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass

import numpy as np

from facetl.clustering.constraints import ConstraintSet
from facetl.clustering.neighbours import NOBODY, Float32s, Ints, nearest
from facetl.clustering.similarity import Evidence
from facetl.metrics.roc import Floats

_PASSES = 8  # of drawing the lists anew; two or three are usual
_LISTED = 20
_BLOCK = 1 << 15  # pairs compared at once: 128 MB at 512 numbers a group
_ROWS = 4096  # groups compared with all people at once
_SURE = 0.3  # how near a named person must be, in parts of the way from the last near face to the same face
_MARGIN = 0.1  # by which the second nearest person must be farther, in the same parts


@dataclass
class Linkage:
    """Groups that unite.

    Attributes:
        sums: float32 [groups, width], of the unit rows of each group; changed in place.
        counts: float64 [groups], of its rows; changed in place.
        rows: int64 [groups], a row of each, by which `links` knows it.
        least: the mean cosine from which two groups unite.
        least_to_all: a lower one, between all rows that `links` joins with the one and with the other.
    """

    sums: Float32s
    counts: Floats
    rows: Ints
    links: ConstraintSet
    least: float
    least_to_all: float

    def __post_init__(self) -> None:
        self._into = np.arange(len(self.rows))
        # By the group of `links`: sums and counts of those that are several groups here.
        self._people: dict[Hashable, tuple[Float32s, float]] = {}

    def unite(self, first: Ints, second: Ints) -> Ints:
        """Unite what is near enough, first along the pairs given; the number of each group's union, int64 [groups].

        first, second: int64 [pairs], groups to compare. Forbidden unions are left out; groups that `links` joins
        stay two here unless they are near, so that a person may look different on different photos.
        """
        self._people = self._sums_of_people()
        self._along(first, second)
        for _ in range(_PASSES):
            if not self._along(*self._lists()):
                break
        return self._into

    def _lists(self) -> tuple[Ints, Ints]:
        """Return pairs of neighbouring groups, of those that are left."""
        left = np.unique(self._into)
        means = (self.sums[left] / self.counts[left, None]).astype(np.float32)
        found = nearest(means, means, min(_LISTED + 1, len(left)))
        first = np.repeat(left, found.rows.shape[1])
        near = (found.cosines.ravel() >= self.least) & (found.rows.ravel() != NOBODY)
        return first[near], left[found.rows.ravel()[near]]

    def _along(self, first: Ints, second: Ints) -> bool:
        """Unite along pairs until none is left that is near enough; whether any did."""
        first, second = _once(first, second, len(self.counts))
        cosines = self._cosines(first, second)
        any_united = False
        while True:
            near = cosines >= self.least
            first, second, cosines = first[near], second[near], cosines[near]
            if not len(first):
                return any_united
            mutual = _mutual(first, second, cosines, len(self.counts))
            united = np.array([self._unite(first[pair], second[pair]) for pair in mutual], bool)
            any_united |= bool(united.any())
            keep = np.ones(len(first), bool)
            keep[mutual] = False
            changed = np.zeros(len(self.counts), bool)
            changed[first[mutual[united]]] = changed[second[mutual[united]]] = True
            self._into = self._into[self._into]  # each group was in one pair at most
            touched = keep & (changed[first] | changed[second])
            again = _once(self._into[first[touched]], self._into[second[touched]], len(self.counts))
            keep &= ~touched
            first, second = (np.concatenate([old[keep], new]) for old, new in zip((first, second), again, strict=True))
            cosines = np.concatenate([cosines[keep], self._cosines(*again)])

    def _unite(self, one: np.int64, other: np.int64) -> bool:
        of_one, of_other = (self.links.group(int(self.rows[group])) for group in (one, other))
        several = of_one != of_other and (of_one in self._people or of_other in self._people)
        whole = None
        if several:
            (sum_one, count_one), (sum_other, count_other) = self._person(of_one, one), self._person(of_other, other)
            if float(sum_one @ sum_other) / (count_one * count_other) < self.least_to_all:
                return False
            whole = sum_one + sum_other, count_one + count_other
        if not self.links.unite(int(self.rows[one]), int(self.rows[other])):
            return False
        if whole is not None:
            self._people[self.links.group(int(self.rows[one]))] = whole
        self.sums[one] += self.sums[other]
        self.counts[one] += self.counts[other]
        self._into[other] = one
        return True

    def _person(self, known_as: Hashable, group: np.int64) -> tuple[Float32s, float]:
        return self._people.get(known_as) or (self.sums[group], float(self.counts[group]))

    def _sums_of_people(self) -> dict[Hashable, tuple[Float32s, float]]:
        groups: dict[Hashable, list[int]] = {}
        for group, row in enumerate(self.rows.tolist()):
            groups.setdefault(self.links.group(row), []).append(group)
        return {
            known_as: (self.sums[several].sum(axis=0), float(self.counts[several].sum()))
            for known_as, several in groups.items()
            if len(several) > 1
        }

    def _cosines(self, first: Ints, second: Ints) -> Floats:
        cosines = np.empty(len(first))
        for start in range(0, len(first), _BLOCK):
            one, other = first[start : start + _BLOCK], second[start : start + _BLOCK]
            products = np.einsum("ij,ij->i", self.sums[one], self.sums[other], dtype=np.float64)
            cosines[start : start + _BLOCK] = products / (self.counts[one] * self.counts[other])
        return cosines


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
    for start in range(0, len(unnamed), _ROWS):
        block = unnamed[start : start + _ROWS]
        products = (linkage.sums[block] @ means.T) / linkage.counts[block, None]
        best = np.argmax(products, axis=1)
        top = np.take_along_axis(products, best[:, None], axis=1)[:, 0]
        np.put_along_axis(products, best[:, None], -np.inf, axis=1)
        clear = top - products.max(axis=1) >= _MARGIN * (1.0 - evidence.least)
        nearest[start : start + _ROWS] = best
        cosines[start : start + _ROWS] = np.where(clear, top, -np.inf)
    least = evidence.least + _SURE * (1.0 - evidence.least)
    for place in np.argsort(-cosines, kind="stable"):
        if cosines[place] < least:
            break
        links.unite(rows[unnamed[place]], int(somebody[nearest[place]]))


def _once(first: Ints, second: Ints, groups: int) -> tuple[Ints, Ints]:
    """Return each pair of two groups once, the smaller number first."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    pairs = np.unique(low[low != high] * groups + high[low != high])
    return pairs // groups, pairs % groups


def _mutual(first: Ints, second: Ints, cosines: Floats, groups: int) -> Ints:
    """Return the pairs, nearest first, of which each group is the other's nearest: int64 [mutual]."""
    order = np.lexsort((second, first, -cosines))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    best = np.full(groups, len(order))
    np.minimum.at(best, first, rank)
    np.minimum.at(best, second, rank)
    return order[(best[first] == rank)[order] & (best[second] == rank)[order]]
