"""What the page can do beyond asking the library: everything here may need a net, and is given from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facetl.people.web.jobs import OnProgress


class Question(Protocol):
    """A pair of faces that the user is asked about; more fields are welcome."""

    @property
    def first(self) -> int: ...
    @property
    def second(self) -> int: ...
    @property
    def probability(self) -> float: ...


@dataclass(frozen=True)
class Alike:
    """Another stack, and how likely it shows the same person, in [0, 1]."""

    stack: int
    probability: float


@dataclass(frozen=True)
class Recognised:
    """A face of a photo that is not in the library, and whom it looks like.

    Attributes:
        box: left, top, right and bottom edge, pixels of the photo.
        name: who it is; None for unknown.
        probability: how likely that is, in [0, 1]; None where the run cannot tell.
        nearest: faces of the library, likeliest first, each with its probability.
    """

    box: tuple[float, float, float, float]
    name: str | None
    probability: float | None
    nearest: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Change:
    """One row of what learning changed, as the user reads it: `faces with a new suggestion`, a count, some faces."""

    what: str
    count: int
    faces: tuple[int, ...] = ()


@dataclass(frozen=True)
class Learnt:
    """What learning would change, before anything is applied.

    Attributes:
        headline: one sentence: better or not, on which faces that was measured.
        measures: name of the measure, before, after; fractions in [0, 1].
        changes: what would be different afterwards.
        proposal: for `apply` and `discard`, which are given the whole.
        better: whether it is offered to be applied.
    """

    headline: str
    measures: tuple[tuple[str, float, float], ...]
    changes: tuple[Change, ...]
    proposal: Any
    better: bool = True


@dataclass(frozen=True, kw_only=True)
class ExportOrder:
    """What the user wants written where: kinds are `folders`, `csv` and `xmp`; links are `hard`, `symbolic`, `copy`."""

    folder: Path
    kinds: frozenset[str]
    links: str
    names: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What can be done; None where the library has no run, or the part is not installed: the page then says so.

    Attributes:
        look: looks for new photos where photos were found before, and stacks their faces → one line.
        stack: stacks everything anew → one line.
        learn: trains on the named people → what it would change.
        apply, discard: what becomes of what was learnt; → one line.
        questions: the most useful pairs to ask about, best first, at most so many.
        alike: the stacks most like a stack, likeliest first, at most so many.
        recognise: the faces of a photo [height, width, 3] uint8 RGB.
        export: writes what was ordered → one line.
    """

    look: Callable[[OnProgress], str] | None = None
    stack: Callable[[OnProgress], str] | None = None
    learn: Callable[[OnProgress], Learnt] | None = None
    apply: Callable[[Learnt], str] | None = None
    discard: Callable[[Learnt], str] | None = None
    questions: Callable[[int], Sequence[Question]] | None = None
    alike: Callable[[int, int], Sequence[Alike]] | None = None
    recognise: Callable[[NDArray[np.uint8]], Sequence[Recognised]] | None = None
    export: Callable[[ExportOrder, OnProgress], str] | None = None
