"""New faces come to the stacks that are there, or make stacks of their own; nothing else moves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.evaluation.calibration import Calibration
from facetl.evaluation.metrics import Floats
from facetl.recognition.clustering import Clustering, checked_rows, said_rows, with_strangers
from facetl.recognition.evidence import HEARD, Evidence
from facetl.recognition.linkage import Linkage
from facetl.recognition.membership import confidences, name_near
from facetl.recognition.neighbours import NOBODY, Float32s, Ints, neighbours
from facetl.recognition.stacks import stacks_of
from facetl.recognition.vetoes import UNCONSTRAINED, Constraints, Vetoes

NEW = -1

_SAMPLE = 32  # rows by which a stack is represented


def assign_new(
    embeddings: npt.ArrayLike,
    stack: npt.ArrayLike,
    confidence: npt.ArrayLike,
    *,
    calibration: Calibration | None,
    threshold: float,
    constraints: Constraints = UNCONSTRAINED,
    names: Mapping[int, str] | None = None,
    strangers: frozenset[int] = frozenset(),
    search: str = "auto",
) -> Clustering:
    """Add rows to stacks that are there, or make new stacks of them; no old row moves and no old stacks unite.

    embeddings, constraints, names, strangers, search: as for `cluster`, of all rows, old and new; stack: int [n], −1
    for new rows; confidence: float [n], kept for the old ones. The time is in proportion to the new rows and the stacks
    near them, each of which is compared with all rows. Raises DataError as `cluster`.
    """
    rows = checked_rows(embeddings, threshold)
    stack, confidence = np.array(stack, np.int64), np.array(confidence, np.float64)
    if stack.shape != (len(rows),) or confidence.shape != stack.shape or (stack < NEW).any():
        raise DataError(
            f"Each of {len(rows)} rows needs a stack, −1 for none yet, and a confidence. "
            f"Received: {stack.shape} and {confidence.shape}."
        )
    if not (stack == NEW).any():
        return Clustering(stack, confidence, ())
    names = names or {}
    evidence = Evidence(threshold, calibration)
    vetoes = Vetoes(len(rows), with_strangers(constraints, names, strangers), names)
    arrival = _Arrival(rows, stack, evidence, search)
    confidence[arrival.new] = arrival.settle(vetoes, strangers)
    confidence[list(said_rows(constraints, names))] = 1.0
    reached = np.flatnonzero(np.isin(stack, stack[arrival.new]))
    stacks = stacks_of(rows, stack, confidence, vetoes, names, strangers=strangers, even=evidence.even, only=reached)
    return Clustering(stack, confidence, stacks)


class _Arrival:
    """New rows and the stacks near them: the groups of a linkage, in this order."""

    def __init__(self, rows: Float32s, stack: Ints, evidence: Evidence, search: str) -> None:
        self.rows, self.stack, self.evidence, self.search = rows, stack, evidence, search
        self.new = np.flatnonzero(stack == NEW)
        self.found = neighbours(rows, HEARD, of=self.new, method=search)
        there = self.found.rows[self.found.rows != NOBODY]
        self.near = np.setdiff1d(stack[there], [NEW])
        self.members = [np.flatnonzero(stack == one) for one in self.near]
        self.group = np.full(len(rows), len(self.new) + len(self.near))
        self.group[self.new] = np.arange(len(self.new))
        for place, members in enumerate(self.members, start=len(self.new)):
            self.group[members] = place

    def settle(self, vetoes: Vetoes, strangers: frozenset[int]) -> Floats:
        """Give each new row its stack; return how surely it belongs there, float64 [new]."""
        for members in self.members:
            for row in members[1:].tolist():
                vetoes.unite(int(members[0]), row)
        vetoes.keep_apart([int(members[0]) for members in self.members])
        lifted = self.evidence.lifted(self.rows[self.new], self.found, self.rows)
        linkage = self._linkage(lifted, vetoes)
        fresh = np.arange(len(self.new))
        name_near(linkage, self.evidence, asked=fresh, barred=strangers)
        there = self.found.rows != NOBODY
        second = self.group[self.found.rows[there]]
        into = linkage.unite(np.repeat(fresh, there.sum(axis=1)), second)
        self._number(into, vetoes)
        near = np.where(
            there, into[self.group[np.where(there, self.found.rows, self.new[:, None])]], into[fresh][:, None]
        )
        return confidences(lifted, into[fresh], linkage.sums, linkage.counts, near, self.evidence)

    def _linkage(self, lifted: Float32s, vetoes: Vetoes) -> Linkage:
        sums, counts = [*lifted], [1.0] * len(self.new)
        for members in self.members:
            # Evenly over the stack, which is enough for its mean.
            some = members[np.unique(np.linspace(0, len(members) - 1, _SAMPLE).astype(np.int64))]
            heard = neighbours(self.rows, HEARD, of=some, method=self.search)
            mean = self.evidence.lifted(self.rows[some], heard, self.rows).mean(axis=0)
            sums.append(mean * np.float32(len(members)))
            counts.append(float(len(members)))
        rows = np.concatenate([self.new, [members[0] for members in self.members]]).astype(np.int64)
        return Linkage(
            np.array(sums, np.float32), np.array(counts), rows, vetoes, self.evidence.least, self.evidence.least_to_all
        )

    def _number(self, into: Ints, vetoes: Vetoes) -> None:
        """Write the new rows' stacks: the old one they united with, or the person's largest, or a new one."""
        of_part, of_group = {}, {}
        for place in np.argsort([len(members) for members in self.members], kind="stable").tolist():
            old = int(self.near[place])
            of_part[int(into[len(self.new) + place])] = old
            of_group[vetoes.group(int(self.members[place][0]))] = old
        following = int(self.stack.max()) + 1
        for row, part in zip(self.new.tolist(), into.tolist(), strict=False):
            group = vetoes.group(row)
            if group not in of_group and part not in of_part:
                of_group[group] = following
                following += 1
            self.stack[row] = of_part.get(part, of_group.get(group, NEW))
