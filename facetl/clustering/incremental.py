"""New faces come to the stacks that are there, or make stacks of their own; nothing else moves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from facetl.calibration.calibration import Calibration
from facetl.clustering.clusters import Clustering, checked_rows, constrained_rows, stacks_of, with_strangers
from facetl.clustering.constraints import UNCONSTRAINED, Constraints, ConstraintSet
from facetl.clustering.linkage import Linkage, name_near
from facetl.clustering.neighbours import NOBODY, Float32s, Ints, neighbours
from facetl.clustering.similarity import NEIGHBOURS, Evidence, confidences
from facetl.errors import DataError
from facetl.metrics.roc import Floats

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
) -> Clustering:
    """Add rows to stacks that are there, or make new stacks of them; no old row moves and no old stacks unite.

    embeddings, constraints, names, strangers: as for `cluster`, of all rows, old and new; stack: int [n], −1
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
    links = ConstraintSet(len(rows), with_strangers(constraints, names, strangers), names)
    constrained = constrained_rows(constraints, names)
    new_rows = _NewRows(rows, stack, links, evidence, constrained)
    confidence[new_rows.new] = new_rows.assign(strangers)
    confidence[list(constrained)] = 1.0
    reached = np.flatnonzero(np.isin(stack, stack[new_rows.new]))
    stacks = stacks_of(rows, stack, confidence, links, names, strangers=strangers, even=evidence.even, only=reached)
    return Clustering(stack, confidence, stacks)


class _NewRows:
    """New rows and the stacks that they may come to: the groups of a linkage, in this order."""

    def __init__(
        self, rows: Float32s, stack: Ints, links: ConstraintSet, evidence: Evidence, constrained: set[int]
    ) -> None:
        self.rows, self.stack, self.links, self.evidence = rows, stack, links, evidence
        self.new = np.flatnonzero(stack == NEW)
        self.found = neighbours(rows, NEIGHBOURS, of=self.new)
        # With whom a face has less than even odds, it does not unite on average either.
        self.there = (self.found.rows != NOBODY) & (self.found.cosines >= 1.0 - evidence.even / 2.0)
        groups = {links.group(row) for row in self.new.tolist()}
        known = [row for row in constrained if links.group(row) in groups]
        self.near = np.setdiff1d(stack[[*self.found.rows[self.there].tolist(), *known]], [NEW])
        old = np.flatnonzero(np.isin(stack, self.near))
        order = old[np.argsort(stack[old], kind="stable")]
        starts = np.flatnonzero(np.diff(stack[order], prepend=NEW))
        self.members = np.split(order, starts[1:]) if len(order) else []
        self.group = np.zeros(len(rows), np.int64)
        self.group[self.new] = np.arange(len(self.new))
        for place, members in enumerate(self.members, start=len(self.new)):
            self.group[members] = place

    def assign(self, strangers: frozenset[int]) -> Floats:
        """Give each new row its stack; return how surely it belongs there, float64 [new]."""
        for members in self.members:
            for row in members[1:].tolist():
                self.links.unite(int(members[0]), row)
        self.links.keep_apart([int(members[0]) for members in self.members])
        expanded = self.evidence.expanded(self.rows[self.new], self.found, self.rows)
        linkage = self._linkage(expanded)
        fresh = np.arange(len(self.new))
        name_near(linkage, self.evidence, asked=fresh, barred=strangers)
        into = linkage.unite(np.repeat(fresh, self.there.sum(axis=1)), self.group[self.found.rows[self.there]])
        self._number(into)
        near = np.where(self.there, into[self.group[self.found.rows]], into[fresh][:, None])
        return confidences(expanded, into[fresh], linkage.sums, linkage.counts, near, self.evidence)

    def _linkage(self, expanded: Float32s) -> Linkage:
        sums, counts = expanded.copy(), np.ones(len(self.new))
        if self.members:
            # Some of its rows, evenly over the stack, are enough for its mean.
            some = [members[:: max(1, len(members) // _SAMPLE)] for members in self.members]
            chosen = np.concatenate(some)
            near = neighbours(self.rows, NEIGHBOURS, of=chosen)
            known = self.evidence.expanded(self.rows[chosen], near, self.rows)
            starts = np.cumsum([0, *(len(rows) for rows in some[:-1])])
            sizes = np.array([len(members) for members in self.members], np.float64)
            scale = sizes / np.array([len(rows) for rows in some])
            old = np.add.reduceat(known, starts, axis=0) * scale[:, None].astype(np.float32)
            sums, counts = np.concatenate([sums, old]), np.concatenate([counts, sizes])
        rows = np.array([*self.new.tolist(), *(members[0] for members in self.members)], np.int64)
        return Linkage(sums, counts, rows, self.links, self.evidence.least, self.evidence.least_to_all)

    def _number(self, into: Ints) -> None:
        """Write the new rows' stacks: the old one they united with, or the person's largest, or a new one."""
        of_part, of_group = {}, {}
        for place in np.argsort([len(members) for members in self.members], kind="stable").tolist():
            old = int(self.near[place])
            of_part[int(into[len(self.new) + place])] = old
            of_group[self.links.group(int(self.members[place][0]))] = old
        following = int(self.stack.max()) + 1
        for row, part in zip(self.new.tolist(), into.tolist(), strict=False):
            group = self.links.group(row)
            if group not in of_group and part not in of_part:
                of_group[group] = following
                following += 1
            self.stack[row] = of_part.get(part, of_group.get(group, NEW))
