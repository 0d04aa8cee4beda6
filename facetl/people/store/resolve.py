"""Consequences of all answers together: where two contradict each other, the later one wins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from facetl.clustering.constraints import ConstrainedUnionFind, Difference
from facetl.people.store.models import LibraryAnswer, ResolvedAnswers

NAME, SAME, DIFFERENT, NOT_A_FACE, STRANGER, RENAME = "name", "same", "different", "not-a-face", "stranger", "rename"

Thing = TypeVar("Thing")

# (NAME, NOT_A_FACE or STRANGER; the name)
Label = tuple[str, str]


def resolve_answers(answers: Iterable[LibraryAnswer]) -> ResolvedAnswers:
    """Resolve answers, oldest first; those undone are passed over.

    A name from a photo's metadata counts as older than every answer of the user. An answer changes only the faces that
    it lists: naming one face of a person's many takes it away from them, and leaves the others as they were. Only where
    nothing else is known of a face does it take the name of those it was marked the same as.
    """
    resolver = _Resolver()
    for answer in sorted((one for one in answers if not one.undone), key=lambda one: (one.origin == "user", one.id)):
        resolver.add(answer)
    return resolver.resolve()


@dataclass
class _Fact:
    """A fact of an answer that no later one took back; `order` is its place in time."""

    order: int


@dataclass
class _Labelled(_Fact):
    label: Label


@dataclass(eq=False)
class _Group(_Fact):
    faces: set[int]


@dataclass(eq=False)
class _Difference(_Fact):
    left: set[int]
    right: set[int]


class _Resolver:
    def __init__(self) -> None:
        self.clock = 0
        self.labels: dict[int, _Labelled] = {}
        self.groups: dict[int, list[_Group]] = defaultdict(list)  # by face
        self.differences: dict[int, list[_Difference]] = defaultdict(list)  # by face

    def add(self, answer: LibraryAnswer) -> None:
        """Add an answer, which wins over those added before."""
        self.clock += 1
        faces = set(answer.left)
        if answer.kind == RENAME:
            self._rename(answer)
        elif answer.kind == SAME:
            self._join(faces)
        elif answer.kind == DIFFERENT:
            self._separate(faces, set(answer.right))
        else:
            self._label(faces, (answer.kind, answer.name or ""))

    # What an answer states directly

    def _label(self, faces: set[int], label: Label) -> None:
        self.labels |= {face: _Labelled(self.clock, label) for face in faces}
        for group in self._groups_of(faces):
            outside = group.faces - faces
            others = {self.labels[face].label for face in outside if face in self.labels}
            if outside and (label[0] == NOT_A_FACE or others - {label}):
                self._split_group(group, faces)
        if label[0] == NAME:
            self._allow_same_name(faces, label)

    def _join(self, faces: set[int]) -> None:
        for difference in self._differences_of(faces):
            if difference.left & faces and difference.right & faces:
                self._drop_difference(difference, faces, faces)
        labels = {face: self.labels[face] for face in faces if face in self.labels}
        named = [one for one in labels.values() if one.label[0] == NAME]
        candidates = named or [one for one in labels.values() if one.label[0] == STRANGER]
        winner = max(candidates, key=lambda one: one.order).label if candidates else None
        losers = {face for face, one in labels.items() if one.label != winner}
        for face in losers:
            del self.labels[face]
        for group in self._groups_of(losers):
            others = {self.labels[face].label for face in group.faces - faces if face in self.labels}
            if others - {winner}:
                self._split_group(group, faces)
        self._add_group(_Group(self.clock, set(faces)))

    def _separate(self, left: set[int], right: set[int]) -> None:
        for group in self._groups_of(left):
            if group.faces & right:
                self._split_group(group, left)
                self._split_group(group, right)
        rights = {self.labels[face].label for face in right if face in self.labels}
        for face in left:
            mine = self.labels.get(face)
            # A face that differs from the others of a name leaves the name to them.
            if mine is not None and mine.label[0] == NAME and mine.label in rights:
                del self.labels[face]
        self._add_difference(_Difference(self.clock, left, right))

    def _rename(self, answer: LibraryAnswer) -> None:
        label = (NAME, answer.name or "")
        moved = {face for face, one in self.labels.items() if one.label == (NAME, answer.old or "")}
        self.labels |= {face: _Labelled(self.clock, label) for face in moved}
        self._allow_same_name(moved, label)

    def _allow_same_name(self, faces: set[int], label: Label) -> None:
        """Drop the differences between these faces and others of their name."""
        for difference in self._differences_of(faces):
            sides = difference.left | difference.right
            alike = {face for face in sides if face in self.labels and self.labels[face].label == label}
            if difference.left & alike and difference.right & alike:
                self._drop_difference(difference, faces & alike, alike)
                self._drop_difference(difference, alike, faces & alike)

    # Facts by face

    def _groups_of(self, faces: Collection[int]) -> list[_Group]:
        return _once(group for face in faces for group in self.groups.get(face, ()) if face in group.faces)

    def _differences_of(self, faces: Collection[int]) -> list[_Difference]:
        return _once(one for face in faces for one in self.differences.get(face, ()))

    def _add_group(self, group: _Group) -> None:
        for face in group.faces:
            self.groups[face].append(group)

    def _add_difference(self, difference: _Difference) -> None:
        for face in difference.left | difference.right:
            self.differences[face].append(difference)

    def _split_group(self, group: _Group, faces: set[int]) -> None:
        """Split a group: those of its faces that are among these become a group of their own."""
        part = group.faces & faces
        if part and part != group.faces:
            group.faces -= part
            self._add_group(_Group(group.order, part))

    def _drop_difference(self, difference: _Difference, lefts: set[int], rights: set[int]) -> None:
        """Drop that each of `lefts` on the left side differs from each of `rights` on the right side."""
        left, right = difference.left & lefts, difference.right & rights
        if not left or not right:
            return
        rest = _Difference(difference.order, left, difference.right - right)
        difference.left = difference.left - left
        if rest.right:
            self._add_difference(rest)

    # What follows from all together

    def resolve(self) -> ResolvedAnswers:
        """Put the facts together, newest first; what then contradicts newer ones is dropped."""
        groups = _once(group for found in self.groups.values() for group in found if len(group.faces) > 1)
        differences = _once(one for found in self.differences.values() for one in found if one.left and one.right)
        linked = {face for group in groups for face in group.faces}
        linked.update(face for one in differences for side in (one.left, one.right) for face in side)
        facts: list[tuple[int, int, int, _Fact]] = [
            *((self.labels[face].order, 2, face, self.labels[face]) for face in linked & self.labels.keys()),
            *((one.order, 1, place, one) for place, one in enumerate(groups)),
            *((one.order, 0, place, one) for place, one in enumerate(differences)),
        ]
        partition = ConstrainedUnionFind[Label]()
        joined = ConstrainedUnionFind[Label]()
        different: list[Difference] = []
        for _, _, face, fact in sorted(facts, key=lambda one: one[:3], reverse=True):
            if isinstance(fact, _Labelled):
                partition.label(face, fact.label, unites=fact.label[0] == NAME)
            elif isinstance(fact, _Group):
                _join_group(fact, partition, joined)
            else:
                assert isinstance(fact, _Difference)
                different += partition.separate(fact.left, fact.right)[0]
        # Of a face of which nothing else is known, its label holds; those are the most by far.
        labels = {face: one.label for face, one in self.labels.items() if face not in linked}
        labels |= partition.labels()
        no_faces = frozenset(face for face, label in labels.items() if label[0] == NOT_A_FACE)
        sides = [tuple(tuple(face for face in side if face not in no_faces) for side in one) for one in different]
        return ResolvedAnswers(
            names={face: label[1] for face, label in sorted(labels.items()) if label[0] == NAME},
            same=joined.groups(),
            different=sorted((left, right) for left, right in sides if left and right),
            not_faces=no_faces,
            strangers=frozenset(face for face, label in labels.items() if label[0] == STRANGER),
        )


def _join_group(group: _Group, partition: ConstrainedUnionFind[Label], joined: ConstrainedUnionFind[Label]) -> None:
    """Join a group's faces, in parts where they do not all go together."""
    heads: list[int] = []
    for face in sorted(group.faces):
        head = next((one for one in heads if partition.unite(one, face)), None)
        if head is None:
            heads.append(face)
        else:
            joined.unite(head, face)


def _once(things: Iterable[Thing]) -> list[Thing]:
    """Return each thing once, in order."""
    return list({id(thing): thing for thing in things}.values())
