"""Faces grouped into stacks that seem to be one person's each, by what is likely and never against what is known.

Faces come to the people who are named first, as far as those are near and nobody else is; the rest unites by average
linkage. Tuned for purity: a face rather stays alone than among others. Nothing in it is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from facetl.calibration.calibration import Calibration
from facetl.clustering.constraints import UNCONSTRAINED, Constraints, ConstraintSet
from facetl.clustering.linkage import Linkage, name_near
from facetl.clustering.neighbours import NOBODY, Float32s, Ints, neighbours
from facetl.clustering.similarity import NEIGHBOURS, Evidence, confidences
from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.ranking import checked_embeddings
from facetl.metrics.roc import Floats

_BLOCK = 4096  # stacks compared with all people at once


@dataclass(frozen=True)
class StackOf(JsonFields):
    """A stack.

    Attributes:
        rows: its rows, ascending.
        cover: the row that is nearest to all of them on average.
        confidence: the mean of its rows' confidences.
        name: that of one of its rows, None where none has one.
        suggestion: for a stack without a name, the likeliest of the names of others; None where none is likely.
    """

    rows: tuple[int, ...]
    cover: int
    confidence: float
    name: str | None
    suggestion: str | None


@dataclass(frozen=True, eq=False)
class Clustering(JsonFields):
    """Rows in stacks.

    Attributes:
        stack: int64 [n], the stack of each row.
        confidence: float64 [n], how surely each row belongs where it is, in [0, 1]; 1 where a constraint says it.
        stacks: of `cluster` all of them, `stacks[k]` those rows whose stack is k, the biggest first; of `assign_new`
            those alone that are new or have a new row, in the order of their numbers.
    """

    stack: Ints
    confidence: Floats
    stacks: tuple[StackOf, ...]


def cluster(
    embeddings: npt.ArrayLike,
    *,
    calibration: Calibration | None,
    threshold: float,
    constraints: Constraints = UNCONSTRAINED,
    names: Mapping[int, str] | None = None,
    strangers: frozenset[int] = frozenset(),
) -> Clustering:
    """Group rows that show one person.

    embeddings: float [n, width] of unit norm; threshold: squared distance up to which two photos count as one person,
    by which distances are judged where there is no calibration; names: row → name; strangers: rows of nobody to be
    named. Raises DataError for other embeddings, or where constraints and names contradict each other.
    """
    rows = checked_rows(embeddings, threshold)
    names = names or {}
    links = ConstraintSet(len(rows), with_strangers(constraints, names, strangers), names)
    evidence = Evidence(threshold, calibration)
    every = np.arange(len(rows))
    found = neighbours(rows, NEIGHBOURS)
    expanded = evidence.expanded(rows, found, rows)
    linkage = Linkage(expanded.copy(), np.ones(len(rows)), every, links, evidence.least, evidence.least_to_all)
    name_near(linkage, evidence, asked=every, barred=strangers)
    there = found.rows != NOBODY
    linkage.unite(np.repeat(every, NEIGHBOURS)[there.ravel()], found.rows[there])
    stack = _by_size(np.array([links.group(row) for row in range(len(rows))], np.int64))
    sums, counts = np.zeros((stack.max() + 1, expanded.shape[1]), np.float32), np.bincount(stack).astype(np.float64)
    np.add.at(sums, stack, expanded)
    near = np.where(there, stack[found.rows], stack[:, None])
    confidence = confidences(expanded, stack, sums, counts, near, evidence)
    confidence[list(constrained_rows(constraints, names))] = 1.0
    stacks = stacks_of(rows, stack, confidence, links, names, strangers=strangers, even=evidence.even)
    return Clustering(stack, confidence, stacks)


def stacks_of(
    embeddings: Float32s,
    stack: Ints,
    confidence: Floats,
    links: ConstraintSet,
    names: Mapping[int, str],
    *,
    strangers: frozenset[int],
    even: float,
    only: Ints | None = None,
) -> tuple[StackOf, ...]:
    """Return the stacks of rows, in order of their numbers.

    embeddings: float32 [n, width] of unit norm; stack: int64 [n]; confidence: float64 [n]; names: row → name;
    strangers: rows of nobody to be named; even: the mean squared distance up to which a name is suggested; only: int64
    [m], rows of whole stacks to which this is limited.
    """
    rows = np.arange(len(embeddings)) if only is None else only
    order = rows[np.argsort(stack[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(stack[order], prepend=-1))
    members = [part.tolist() for part in np.split(order, starts[1:])]
    sums = np.add.reduceat(embeddings[order].astype(np.float64), starts, axis=0)
    called = [next((name for row in part if (name := links.label_of(row)) is not None), None) for part in members]
    asked = [place for place, name in enumerate(called) if name is None and strangers.isdisjoint(members[place])]
    means = sums / np.array([[len(part)] for part in members])
    likely = _likeliest([members[place][0] for place in asked], means[asked], embeddings, links, names, even)
    suggestions = dict(zip(asked, likely, strict=True))
    return tuple(
        StackOf(
            rows=tuple(part),
            cover=part[int(np.argmax(embeddings[part] @ total))],
            confidence=float(np.mean(confidence[part])),
            name=called[place],
            suggestion=suggestions.get(place),
        )
        for place, (part, total) in enumerate(zip(members, sums, strict=True))
    )


def _likeliest(
    rows: list[int], means: Floats, embeddings: Float32s, links: ConstraintSet, names: Mapping[int, str], even: float
) -> list[str | None]:
    """Return for each stack (a row, the mean of all) the nearest person that it may show, None where none is near."""
    found: list[str | None] = [None] * len(rows)
    if not names or not rows:
        return found
    named = np.array(list(names), np.int64)
    people, person = np.unique(list(names.values()), return_inverse=True)
    sums = np.zeros((len(people), embeddings.shape[1]))
    np.add.at(sums, person, embeddings[named])
    centres = sums / np.bincount(person)[:, None]
    somebody = np.zeros(len(people), np.int64)
    somebody[person] = named
    for start in range(0, len(rows), _BLOCK):
        cosines = means[start : start + _BLOCK] @ centres.T
        near = cosines >= 1.0 - even / 2.0
        for at in np.flatnonzero(near.any(axis=1)).tolist():
            best = np.argsort(-cosines[at], kind="stable")[: np.count_nonzero(near[at])]
            allowed = (who for who in best if links.allow(rows[start + at], int(somebody[who])))
            found[start + at] = next((str(people[who]) for who in allowed), None)
    return found


def checked_rows(embeddings: npt.ArrayLike, threshold: float) -> Float32s:
    """Return embeddings as float32 [n, width]; DataError where they or the threshold are wrong."""
    if not 0.0 < threshold <= 4.0 + 1e-3:
        raise DataError(f"A threshold is a squared distance of unit vectors, in (0, 4]. Received: {threshold}.")
    return checked_embeddings(embeddings, "album")


def with_strangers(constraints: Constraints, names: Mapping[int, str], strangers: frozenset[int]) -> Constraints:
    """Return the constraints, with no stranger being anybody with a name."""
    if not strangers or not names:
        return constraints
    return replace(constraints, different=[*constraints.different, (sorted(strangers), list(names))])


def constrained_rows(constraints: Constraints, names: Mapping[int, str]) -> set[int]:
    """Return the rows with a name, or in a group of `same`."""
    return {*names, *(row for group in constraints.same if len(group) > 1 for row in group)}


def _by_size(group: Ints) -> Ints:
    """Number groups from 0, the biggest first, of two of a size the one of the earlier row."""
    _, first, inverse, counts = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    number = np.empty(len(counts), np.int64)
    number[np.lexsort((first, -counts))] = np.arange(len(counts))
    return number[inverse]
