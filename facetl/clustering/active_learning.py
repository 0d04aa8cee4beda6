"""Which "same person?" helps most: the question whose answer is expected to put most faces right.

A stack may be only part of a person's faces, or hold two people's. For every two stacks that are near each other, and
for the two halves of every stack, it is known how likely they show one person, and how many faces it would put right to
know that they do, or do not: the change of BCubed recall, or precision (Amigó et al., 2009). Their product is a
question's gain. What was answered, or follows from answers, is never asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage, to_tree  # type: ignore[import-untyped,unused-ignore]

from facetl.calibration.calibration import Calibration
from facetl.clustering.clusters import checked_rows, with_strangers
from facetl.clustering.constraints import UNCONSTRAINED, Constraints, ConstraintSet
from facetl.clustering.neighbours import Float32s, Ints, nearest
from facetl.clustering.similarity import Evidence
from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.linalg import normalised

_NEAR = 8  # stacks with which one is compared
_HALVED = 500  # rows of a stack by which it is halved
_DEPTH = 3  # halves of halves of halves
_SPARE = 20  # questions about two stacks that are looked at, for one that is wanted


@dataclass(frozen=True)
class Question(JsonFields):
    """Do these two rows show one person?

    Attributes:
        first, second: the rows: each the one that is nearest to all of its stack, or of its half of a stack.
        probability: that they do, in [0, 1].
        gain: by how much BCubed precision or recall, of all rows, rises on average with the answer.
        together: whether they are in one stack now.
    """

    first: int
    second: int
    probability: float
    gain: float
    together: bool


def questions(
    embeddings: npt.ArrayLike,
    stack: npt.ArrayLike,
    *,
    calibration: Calibration | None,
    threshold: float,
    constraints: Constraints = UNCONSTRAINED,
    names: Mapping[int, str] | None = None,
    strangers: frozenset[int] = frozenset(),
    count: int = 10,
) -> list[Question]:
    """Return the `count` most useful questions, or as many as there are, the most useful first.

    embeddings: float [n, width] of unit norm; stack: int [n], −1 for rows in none, of which nothing is asked;
    constraints, names: what is known; strangers: rows of nobody to be named, of which nothing is asked. Of the first
    questions no two are about one stack, as long as there are others. Raises DataError as `cluster`.
    """
    rows, stack = checked_rows(embeddings, threshold), np.asarray(stack)
    if stack.shape != (len(rows),) or stack.dtype.kind not in "iu":
        raise DataError(
            f"Each of {len(rows)} rows needs the number of its stack. Received: {stack.dtype} {stack.shape}."
        )
    candidates = _Candidates(rows, stack, Evidence(threshold, calibration), constraints, names or {}, strangers)
    joins = candidates.joins(most=_SPARE * count)
    found = sorted(chain(joins, candidates.splits()), key=lambda one: (-one.gain, one.first, one.second))
    used: set[int] = set()
    fresh: list[Question] = []
    rest: list[Question] = []
    for question in found:
        stacks = {int(stack[question.first]), int(stack[question.second])}
        (rest if stacks & used else fresh).append(question)
        used |= stacks
    return [*fresh, *rest][:count]


class _Candidates:
    """The stacks that are asked about."""

    def __init__(
        self,
        rows: Float32s,
        stack: Ints,
        evidence: Evidence,
        constraints: Constraints,
        names: Mapping[int, str],
        strangers: frozenset[int],
    ) -> None:
        self.rows, self.evidence = rows, evidence
        self.links = ConstraintSet(len(rows), with_strangers(constraints, names, strangers), names)
        self.known_group = np.array([self.links.group(row) for row in range(len(rows))], np.int64)
        open_to_ask = np.flatnonzero((stack >= 0) & ~np.isin(stack, stack[sorted(strangers)]))
        order = open_to_ask[np.argsort(stack[open_to_ask], kind="stable")]
        starts = np.flatnonzero(np.diff(stack[order], prepend=-1))
        self.stacks = np.split(order, starts[1:]) if len(order) else []
        for members in self.stacks:
            for row in members[1:].tolist():
                self.links.unite(int(members[0]), row)

    def joins(self, *, most: int) -> Iterator[Question]:
        """Yield the `most` useful questions about two stacks that are near each other and may be one."""
        if len(self.stacks) < 2:
            return
        looks = np.stack([self._look(members) for members in self.stacks])
        found = nearest(looks, looks, min(_NEAR + 1, len(looks)))
        one, other = np.repeat(np.arange(len(looks)), found.rows.shape[1]), found.rows.ravel()
        cosines = found.cosines.ravel()
        # Of two that list each other, once.
        listed = (one < other) | (other >= 0) & (one > other) & ~(found.rows[other] == one[:, None]).any(axis=1)
        one, other, cosines = one[listed], other[listed], cosines[listed]
        sizes = np.array([len(members) for members in self.stacks])
        probabilities = self.evidence.probability_of_groups(cosines, np.minimum(sizes[one], sizes[other]))
        gains = probabilities * sizes[one] * sizes[other] / (sizes[one] + sizes[other])
        for pair in np.argsort(-gains, kind="stable").tolist():
            first, second = self.stacks[one[pair]], self.stacks[other[pair]]
            if self.links.allow(int(first[0]), int(second[0])):
                probability = float(probabilities[pair])
                yield self._question(first, second, probability, wrong=probability, together=False)
                most -= 1
            if not most:
                return

    def splits(self) -> Iterator[Question]:
        """Yield a question for the two halves of every stack, and for the halves of these."""
        waiting = [(members, _DEPTH) for members in self.stacks if len(members) > 1]
        while waiting:
            members, depth = waiting.pop()
            first, second = self._halves(members)
            if not np.isin(self.known_group[first], self.known_group[second]).any():
                cosine, smaller = self._look(first) @ self._look(second), min(len(first), len(second))
                probability = float(self.evidence.probability_of_groups(cosine, smaller))
                yield self._question(first, second, probability, wrong=1.0 - probability, together=True)
            waiting += [(half, depth - 1) for half in (first, second) if len(half) > 1 and depth > 1]

    def _question(self, first: Ints, second: Ints, probability: float, *, wrong: float, together: bool) -> Question:
        one, other = sorted((self._face(first), self._face(second)))
        # Each of a faces is put to, or freed from, b of a + b; and the other way about.
        right = 2.0 * len(first) * len(second) / (len(first) + len(second)) / len(self.rows)
        return Question(one, other, probability, wrong * right, together)

    def _look(self, members: Ints) -> Float32s:
        """Return a group's vector; the inner product of two is nearly the mean cosine of the groups' expanded rows."""
        mean = self.rows[members].mean(axis=0)[None]
        return np.concatenate([mean, normalised(mean)], axis=1)[0] * np.float32(np.sqrt(0.5))

    def _face(self, members: Ints) -> int:
        return int(members[np.argmax(self.rows[members] @ self.rows[members].sum(axis=0))])

    def _halves(self, members: Ints) -> tuple[Ints, Ints]:
        """Divide a group where average linkage joins it last; of a large one, by some of its rows."""
        some = members[np.unique(np.linspace(0, len(members) - 1, _HALVED).astype(np.int64))]
        cosines = (self.rows[some] @ self.rows[some].T)[np.triu_indices(len(some), 1)]
        tree = to_tree(linkage(np.maximum(1.0 - cosines.astype(np.float64), 0.0), "average"))
        left = np.zeros(len(some), bool)
        left[tree.get_left().pre_order()] = True
        if len(some) == len(members):
            return members[left], members[~left]
        means = np.stack([self.rows[some[left]].mean(axis=0), self.rows[some[~left]].mean(axis=0)])
        nearer = np.argmax(self.rows[members] @ means.T, axis=1) == 0
        nearer[np.isin(members, some[left])], nearer[np.isin(members, some[~left])] = True, False
        return members[nearer], members[~nearer]
