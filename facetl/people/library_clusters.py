"""Stacks of a library's faces: all anew, or the new ones added; and what to ask about them.

Answers go into the clustering as constraints, and are applied once more when the stacks are written.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.clustering.active_learning import Question, questions
from facetl.clustering.clusters import Clustering, cluster
from facetl.clustering.constraints import Constraints
from facetl.clustering.incremental import NEW, assign_new
from facetl.io.json import JsonFields
from facetl.people.library import Library
from facetl.people.library_embeddings import library_vectors
from facetl.people.store.models import ResolvedAnswers, StackDraft
from facetl.recognition.recognizer import Recognizer

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StackReport(JsonFields):
    """Counts of a clustering.

    Attributes:
        faces: how many were stacked now, of all or of the new ones.
        stacks: how many stacks were written; `alone` of them hold one face.
        named: faces in stacks with a name.
        seconds: of all of it.
    """

    faces: int
    stacks: int
    alone: int
    named: int
    seconds: float


def restack(library: Library, recognizer: Recognizer, *, on_progress: Progress | None = None) -> StackReport:
    """Stack all good faces of a library anew, and those that answers are about.

    on_progress: called with faces done and faces in all, of features that are missing. Raises LibraryError, RunError,
    CacheError.
    """
    began = time.perf_counter()
    known = _Known.of(library, recognizer, on_progress)
    done = known.clustered(recognizer)
    library.write_stacks(known.drafts(done))
    return _report(done, len(known.ids), began)


def draft_stacks(library: Library, recognizer: Recognizer) -> list[StackDraft]:
    """Return the stacks that `restack` would write; nothing of the library changes."""
    known = _Known.of(library, recognizer)
    return known.drafts(known.clustered(recognizer))


def stack_what_is_new(library: Library, recognizer: Recognizer, *, on_progress: Progress | None = None) -> StackReport:
    """Add the good faces that lie in no stack to the stacks there are, or make stacks of them; no other face moves.

    Where there is no stack yet, all are stacked. on_progress, errors: as for `restack`.
    """
    if not library.stack_count():
        return restack(library, recognizer, on_progress=on_progress)
    began = time.perf_counter()
    good = library.face_ids().tolist()
    new = set(good) - library.stacks_of(good).keys() - library.resolved().not_faces
    known = _Known.of(library, recognizer, on_progress)
    stack_of = library.stacks_of(known.ids.tolist())
    new -= stack_of.keys()
    known = known.select(np.array([face in stack_of or face in new for face in known.ids.tolist()], bool))
    stack = np.array([stack_of.get(face, NEW) for face in known.ids.tolist()], np.int64)
    done = known.clustered(recognizer, stack)
    confidence = done.confidence
    for number in {int(stack[row]) for one in done.stacks for row in one.rows} - {NEW}:
        for member in library.stack(number)[1]:
            if member.face in known.row:
                confidence[known.row[member.face]] = member.confidence
    library.write_stacks(known.drafts(done), touched=sorted(new))
    return _report(done, int(np.count_nonzero(stack == NEW)), began)


def next_questions(
    library: Library, recognizer: Recognizer, count: int, *, on_progress: Progress | None = None
) -> list[Question]:
    """Return the most useful questions, the most useful first, `first` and `second` being ids of faces.

    on_progress, errors: as for `restack`.
    """
    known = _Known.of(library, recognizer, on_progress)
    if not len(known.ids):
        return []
    stack_of = library.stacks_of(known.ids.tolist())
    stack = np.array([stack_of.get(face, NEW) for face in known.ids.tolist()], np.int64)
    found = questions(known.vectors, stack, **known.evidence(recognizer), count=count)
    return [replace(one, first=int(known.ids[one.first]), second=int(known.ids[one.second])) for one in found]


@dataclass(frozen=True, eq=False)
class _Known:
    """Faces that have a vector, and what is known of them, by their rows here."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    photos: NDArray[np.int64]
    resolved: ResolvedAnswers
    row: Mapping[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", {face: row for row, face in enumerate(self.ids.tolist())})

    @classmethod
    def of(cls, library: Library, recognizer: Recognizer, on_progress: Progress | None = None) -> _Known:
        """Take the good faces and those in answers; none that is marked as no face."""
        resolved = library.resolved()
        wanted = {*library.face_ids().tolist(), *resolved.names, *chain.from_iterable(resolved.same)}
        faces = sorted(wanted - resolved.not_faces)
        ids, vectors = library_vectors(library, recognizer, faces, on_progress=on_progress)
        photos = np.array([face.photo for face in library.faces(ids.tolist())], np.int64)
        return cls(ids, vectors, photos, resolved)

    def evidence(self, recognizer: Recognizer) -> dict[str, Any]:
        """Return what a clustering goes by: the run's threshold, the answers, and who is on a photo together."""
        together = defaultdict(list)
        for row, photo in enumerate(self.photos.tolist()):
            together[photo].append(row)
        different = [(self._rows(left), self._rows(right)) for left, right in self.resolved.different]
        return {
            "calibration": recognizer.calibration,
            "threshold": recognizer.threshold,
            "constraints": Constraints(
                same=[self._rows(group) for group in self.resolved.same],
                different=[(left, right) for left, right in different if left and right],
                apart=[rows for rows in together.values() if len(rows) > 1],
            ),
            "names": {self.row[face]: name for face, name in self.resolved.names.items() if face in self.row},
            "strangers": frozenset(self._rows(self.resolved.strangers - self.resolved.names.keys())),
        }

    def select(self, which: NDArray[np.bool_]) -> _Known:
        """Keep some faces."""
        return _Known(self.ids[which], self.vectors[which], self.photos[which], self.resolved)

    def clustered(self, recognizer: Recognizer, stack: NDArray[np.int64] | None = None) -> Clustering:
        """Stack all of them; given the stack of each, add only those that are NEW to the stacks of the others."""
        if not len(self.ids):
            return Clustering(np.empty(0, np.int64), np.empty(0), ())
        if stack is None:
            return cluster(self.vectors, **self.evidence(recognizer))
        return assign_new(self.vectors, stack, np.ones(len(stack)), **self.evidence(recognizer))

    def drafts(self, done: Clustering) -> list[StackDraft]:
        """Return the stacks as the library writes them."""
        return [
            StackDraft(
                faces=tuple(self.ids[list(one.rows)].tolist()),
                confidences=tuple(done.confidence[list(one.rows)].tolist()),
                cover=int(self.ids[one.cover]),
                confidence=float(done.confidence[list(one.rows)].mean()),
                suggestion=one.suggestion,
            )
            for one in done.stacks
        ]

    def _rows(self, faces: Iterable[int]) -> list[int]:
        return [self.row[face] for face in faces if face in self.row]


def _report(done: Clustering, faces: int, began: float) -> StackReport:
    return StackReport(
        faces=faces,
        stacks=len(done.stacks),
        alone=sum(len(one.rows) == 1 for one in done.stacks),
        named=sum(len(one.rows) for one in done.stacks if one.name is not None),
        seconds=time.perf_counter() - began,
    )
