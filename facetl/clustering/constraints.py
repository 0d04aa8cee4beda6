"""Which rows must be together and which may not, kept up while groups of them unite.

The union-find is of this library's own kind: groups may have a label, and constraints forbid some unions for good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from facetl.errors import DataError

Rows = Sequence[int]
Difference = tuple[tuple[int, ...], tuple[int, ...]]
Label = TypeVar("Label", bound=Hashable)

_LEFT, _RIGHT, _BOTH = 1, 2, 3


@dataclass(frozen=True)
class Constraints:
    """Certain knowledge of rows.

    Attributes:
        same: groups of rows that show one person each.
        different: pairs of groups; no row of one shows anybody of the other.
        apart: groups of rows that all show different people, as the faces of one photo do; of such, rows that `same` or
            a common name puts together are excepted.
    """

    same: Sequence[Rows] = field(default_factory=tuple)
    different: Sequence[tuple[Rows, Rows]] = field(default_factory=tuple)
    apart: Sequence[Rows] = field(default_factory=tuple)


UNCONSTRAINED = Constraints()


class ConstrainedUnionFind(Generic[Label]):
    """A union-find of ints: a group has one label at most, and no union brings together what must stay apart."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}
        self._size: dict[Hashable, int] = {}
        self._label: dict[Hashable, Label] = {}
        # Of each group, on which sides of which separations it has members.
        self._sides: dict[Hashable, dict[int, int]] = {}
        self._separations = 0

    def group(self, one: Hashable) -> Hashable:
        """Return the representative of a group: the same for all its members until it unites with another."""
        parent = self._parent
        if one not in parent:
            parent[one] = one
            self._size[one] = 1
            return one
        root = one
        while parent[root] != root:
            root = parent[root]
        while parent[one] != root:
            parent[one], one = root, parent[one]
        return root

    def label_of(self, one: Hashable) -> Label | None:
        """Return the label of a group, None where it has none."""
        return self._label.get(self.group(one))

    def allow(self, one: Hashable, other: Hashable) -> bool:
        """Return whether two groups are one, or may unite."""
        first, second = self.group(one), self.group(other)
        return first == second or self._allow(first, second)

    def unite(self, one: Hashable, other: Hashable) -> bool:
        """Unite two groups unless a constraint forbids it; return whether they are one now."""
        first, second = self.group(one), self.group(other)
        if first == second:
            return True
        if not self._allow(first, second):
            return False
        if self._size[first] < self._size[second]:
            first, second = second, first
        self._parent[second] = first
        self._size[first] += self._size.pop(second)
        if second in self._label:
            self._label[first] = self._label.pop(second)
        if second in self._sides:
            few, many = sorted((self._sides.pop(second), self._sides.get(first, {})), key=len)
            many.update(few)
            self._sides[first] = many
        return True

    def label(self, one: int, label: Label, *, unites: bool = False) -> bool:
        """Label a group, unless it has another label; return whether it has this one now.

        With `unites`, all that have the label are one group.
        """
        if unites:
            self._label[self.group(label)] = label
            return self.unite(label, one)
        return self._label.setdefault(self.group(one), label) == label

    def separate(self, left: Collection[int], right: Collection[int]) -> tuple[list[Difference], bool]:
        """Forbid that anything on the left is ever united with anything on the right, unless they are one already.

        Returns the differences that hold now, and whether they are all.
        """
        lefts, rights = (self._by_group(side) for side in (left, right))
        self._mark((_LEFT, lefts), (_RIGHT, rights))
        both = lefts.keys() & rights.keys()
        apart = [one for root, members in lefts.items() if root not in both for one in members]
        held = [(tuple(sorted(apart)), tuple(sorted(right)))]
        for root in both:
            rest = [one for other, members in rights.items() if other != root for one in members]
            held.append((tuple(lefts[root]), tuple(sorted(rest))))
        return [(one, other) for one, other in held if one and other], not both

    def keep_apart(self, members: Collection[int]) -> None:
        """Forbid that any two of these are ever united that are not one already."""
        self._mark((_BOTH, self._by_group(members)))

    def labels(self) -> dict[int, Label]:
        """Return the label of each member whose group has one."""
        found = {}
        for one in list(self._parent):
            label = self.label_of(one)
            if label is not None and isinstance(one, int):
                found[one] = label
        return found

    def groups(self) -> list[tuple[int, ...]]:
        """Return the groups of two and more, sorted."""
        members = (one for one in list(self._parent) if isinstance(one, int))
        return sorted(tuple(group) for group in self._by_group(list(members)).values() if len(group) > 1)

    def _allow(self, first: Hashable, second: Hashable) -> bool:
        label = self._label.get(first)
        if label is not None and self._label.get(second, label) != label:
            return False
        if first not in self._sides or second not in self._sides:
            return True
        few, many = sorted((self._sides[first], self._sides[second]), key=len)
        return not any(sides | many[token] == _BOTH for token, sides in few.items() if token in many)

    def _mark(self, *sides: tuple[int, Collection[Hashable]]) -> None:
        token = self._separations
        self._separations += 1
        for side, roots in sides:
            for root in roots:
                known = self._sides.setdefault(root, {})
                known[token] = known.get(token, 0) | side

    def _by_group(self, members: Collection[int]) -> dict[Hashable, list[int]]:
        found: dict[Hashable, list[int]] = defaultdict(list)
        for one in sorted(members):
            found[self.group(one)].append(one)
        return found


class ConstraintSet(ConstrainedUnionFind[str]):
    """Rows in groups: one for each row at first, united by what is known and then by the caller.

    names: row → name; rows of one name are together, those of two names never. Raises DataError for rows that are not
    there, or where constraints and names contradict each other.
    """

    def __init__(self, rows: int, constraints: Constraints, names: Mapping[int, str]) -> None:
        super().__init__()
        sides = [side for pair in constraints.different for side in pair]
        for listed in (*constraints.same, *constraints.apart, *sides, list(names)):
            wrong = [row for row in listed if not 0 <= row < rows]
            if wrong:
                raise DataError(f"Constraints are of rows 0 to {rows - 1}. Received: {wrong[0]}.")
        of_name: dict[str, list[int]] = defaultdict(list)
        for row, name in names.items():
            of_name[name].append(row)
        for together in (*constraints.same, *of_name.values()):
            for row in together[1:]:
                self.unite(together[0], row)
        for name, named in of_name.items():
            if not self.label(named[0], name):
                raise DataError(
                    f"Faces marked as the same have one name. Received: {self.label_of(named[0])!r} and {name!r}; take "
                    "one answer back."
                )
        for left, right in constraints.different:
            if not self.separate(left, right)[1]:
                right_groups = {self.group(row) for row in right}
                first = next(row for row in left if self.group(row) in right_groups)
                raise DataError(
                    "Faces marked as different cannot be marked as the same, or have one name. "
                    f"Received: row {first} with both; take one answer back."
                )
        for apart in constraints.apart:
            self.keep_apart(apart)
