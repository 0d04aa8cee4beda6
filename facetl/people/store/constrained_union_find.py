"""Faces that are joined step by step, under labels and differences that forbid some of the joins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable

Label = tuple[str, str]
Difference = tuple[tuple[int, ...], tuple[int, ...]]

_LEFT, _RIGHT, _BOTH = 1, 2, 3


class ConstrainedUnionFind:
    """A union-find of faces: a part has one label at most, and no join brings both sides of a difference together."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}
        self._weight: dict[Hashable, int] = {}
        self._label: dict[Hashable, Label] = {}
        # Of each part, on which sides of which differences it has faces.
        self._sides: dict[Hashable, dict[int, int]] = {}
        self._differences = 0

    def unite(self, one: Hashable, other: Hashable) -> bool:
        """Join the parts of two faces unless something forbids it; return whether they are one now."""
        first, second = self._root(one), self._root(other)
        if first == second:
            return True
        labels = {self._label[root] for root in (first, second) if root in self._label}
        few, many = sorted((self._sides.get(first, {}), self._sides.get(second, {})), key=len)
        if len(labels) > 1 or any(sides | many.get(token, 0) == _BOTH for token, sides in few.items() if token in many):
            return False
        if self._weight[first] < self._weight[second]:
            first, second = second, first
        self._parent[second] = first
        self._weight[first] += self._weight.pop(second)
        for label in labels:
            self._label[first] = label
        self._label.pop(second, None)
        self._sides.pop(second, None)
        many.update(few)
        if many:
            self._sides[first] = many
        return True

    def label(self, face: int, label: Label, *, unites: bool) -> bool:
        """Label a face's part, unless it has another label; return whether it has this one now.

        With `unites`, all that have the label are one part.
        """
        if unites:
            root = self._root(label)
            self._label[root] = label
            return self.unite(label, face)
        return self._label.setdefault(self._root(face), label) == label

    def separate(self, left: Collection[int], right: Collection[int]) -> tuple[list[Difference], bool]:
        """Forbid that a face on the left is ever joined with one on the right, unless they are joined already.

        Returns the differences that hold now, and whether they are all.
        """
        lefts, rights = (self._by_part(side) for side in (left, right))
        token = self._differences
        self._differences += 1
        for side, parts in ((_LEFT, lefts), (_RIGHT, rights)):
            for root in parts:
                sides = self._sides.setdefault(root, {})
                sides[token] = sides.get(token, 0) | side
        both = lefts.keys() & rights.keys()
        apart = [face for root, faces in lefts.items() if root not in both for face in faces]
        held = [(tuple(sorted(apart)), tuple(sorted(right)))]
        for root in both:
            rest = [face for other, faces in rights.items() if other != root for face in faces]
            held.append((tuple(lefts[root]), tuple(sorted(rest))))
        return [(one, other) for one, other in held if one and other], not both

    def _by_part(self, faces: Collection[int]) -> dict[Hashable, list[int]]:
        found: dict[Hashable, list[int]] = defaultdict(list)
        for face in sorted(faces):
            found[self._root(face)].append(face)
        return dict(found)

    def labels(self) -> dict[int, Label]:
        """Return the label of each face whose part has one."""
        found = {}
        for face in list(self._parent):
            label = self._label.get(self._root(face))
            if label is not None and isinstance(face, int):
                found[face] = label
        return found

    def parts(self) -> list[tuple[int, ...]]:
        """Return the parts of two and more faces, sorted."""
        found: dict[Hashable, list[int]] = defaultdict(list)
        for face in list(self._parent):
            if isinstance(face, int):
                found[self._root(face)].append(face)
        return sorted(tuple(sorted(part)) for part in found.values() if len(part) > 1)

    def _root(self, one: Hashable) -> Hashable:
        if one not in self._parent:
            self._parent[one] = one
            self._weight[one] = 1
            return one
        root = one
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[one] != root:
            self._parent[one], one = root, self._parent[one]
        return root
