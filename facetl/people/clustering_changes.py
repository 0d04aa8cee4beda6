"""What another clustering would make of a library's stacks, counted before it is applied."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from facetl.people.library import Library
from facetl.people.store.models import StackDraft

_SHOWN = 60  # faces listed of each kind


@dataclass(frozen=True)
class Changes:
    """How a library's stacks would differ.

    Attributes:
        stacks_before, stacks_after: how many there are, and would be.
        joined: stacks that would take in faces of two or more of today's.
        split: of today's, those whose faces would lie in two or more.
        moved: faces that would lie apart from most of their stack of today, or in a stack that continues another one;
            `moved_faces` are some of them.
        named: faces with no name now that would get one suggested; `named_faces` are some of them.
    """

    stacks_before: int
    stacks_after: int
    joined: int
    split: int
    moved: int
    named: int
    moved_faces: tuple[int, ...]
    named_faces: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def changes_of(library: Library, drafts: Sequence[StackDraft]) -> Changes:
    """Compare a library's stacks with those that a clustering drafted."""
    faces = [face for draft in drafts for face in draft.faces]
    before = library.stacks_of(faces)
    shown = library.shown()
    fresh = [face for draft in drafts if draft.suggestion is not None for face in draft.faces if face not in shown]
    return differences(before, [draft.faces for draft in drafts], stacks=library.stack_count(), named=fresh)


def differences(
    before: Mapping[int, int], after: Sequence[Sequence[int]], *, stacks: int, named: Sequence[int] = ()
) -> Changes:
    """Compare stacks.

    Args:
        before: face → its stack; a face that is new has none.
        after: the faces of each stack.
        stacks: how many there are today.
        named: faces that would get a name suggested.
    """
    shares: dict[int, Counter[int]] = defaultdict(Counter)  # stack before → place after → faces
    for place, faces in enumerate(after):
        for face in faces:
            if face in before:
                shares[before[face]][place] += 1
    heir = {stack: max(parts, key=lambda place: (parts[place], -place)) for stack, parts in shares.items()}
    moved: list[int] = []
    joined = 0
    for place, faces in enumerate(after):
        known = [face for face in faces if face in before]
        joined += len({before[face] for face in known}) > 1
        # Of those that end here, the biggest goes on, and the faces of the others come to it.
        ending = Counter(before[face] for face in known if heir[before[face]] == place)
        main = max(ending, key=lambda stack: (ending[stack], -stack), default=None)
        moved += [face for face in known if before[face] != main]
    return Changes(
        stacks_before=stacks,
        stacks_after=len(after),
        joined=joined,
        split=sum(len(parts) > 1 for parts in shares.values()),
        moved=len(moved),
        named=len(named),
        moved_faces=tuple(moved[:_SHOWN]),
        named_faces=tuple(named[:_SHOWN]),
    )
