"""A stack as it is shown: its faces, the one on top, how sure it is, whose it is or seems to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facetl.clustering.constraints import ConstraintSet
from facetl.clustering.neighbours import Float32s, Ints
from facetl.io.json import JsonFields
from facetl.metrics.roc import Floats

_BLOCK = 4096


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
    called = [_name(part, links) for part in members]
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


def _name(rows: list[int], links: ConstraintSet) -> str | None:
    return next((name for row in rows if (name := links.label_of(row)) is not None), None)


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
