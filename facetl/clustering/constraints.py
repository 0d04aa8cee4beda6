"""Which rows must be together and which may not, kept up while groups of them unite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from facetl.errors import DataError

Rows = Sequence[int]


@dataclass(frozen=True)
class Constraints:
    """What is known of rows for certain.

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


class ConstraintSet:
    """Rows in groups: one for each row at first, united by what is known and then by the caller.

    names: row → name; rows of one name are together, those of two names never. Raises DataError for rows that are not
    there, or where constraints and names contradict each other.
    """

    def __init__(self, rows: int, constraints: Constraints, names: Mapping[int, str]) -> None:
        self._parent = list(range(rows))
        self._size = [1] * rows
        self.name: dict[int, str] = {}
        # Two groups may not unite where one has a mark that the other shuns.
        self._marks: dict[int, set[int]] = {}
        self._shuns: dict[int, set[int]] = {}
        self._next_mark = 0
        self._check(constraints, names)
        self._mark(constraints)
        self._unite_known(constraints, names)

    def group(self, row: int) -> int:
        """The number of the row's group: the same for all its rows until it unites with another."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def allow(self, first: int, second: int) -> bool:
        """Whether the groups of two rows are one, or may unite."""
        one, other = self.group(first), self.group(second)
        return one == other or self._allow(one, other)

    def unite(self, first: int, second: int) -> bool:
        """Make the groups of two rows one, unless a constraint forbids it; return whether they are one now."""
        one, other = self.group(first), self.group(second)
        if one == other:
            return True
        if not self._allow(one, other):
            return False
        self._join(one, other)
        return True

    def keep_apart(self, rows: Rows) -> None:
        """From now on, let no two of these rows' groups unite that are not one already."""
        for group in {self.group(row) for row in rows}:
            self._marks.setdefault(group, set()).add(self._next_mark)
            self._shuns.setdefault(group, set()).add(self._next_mark)
        self._next_mark += 1

    def _allow(self, one: int, other: int) -> bool:
        if one in self.name and other in self.name and self.name[one] != self.name[other]:
            return False
        return one not in self._shuns or other not in self._marks or self._shuns[one].isdisjoint(self._marks[other])

    def _join(self, one: int, other: int) -> None:
        if self._size[one] < self._size[other]:
            one, other = other, one
        self._parent[other] = one
        self._size[one] += self._size[other]
        if other in self.name:
            self.name[one] = self.name.pop(other)
        for kept in (self._marks, self._shuns):
            if other in kept:
                fewer, more = sorted((kept.pop(other), kept.pop(one, set())), key=len)
                more |= fewer
                kept[one] = more

    def _mark(self, constraints: Constraints) -> None:
        for left, right in constraints.different:
            mark = self._next_mark
            for rows, own, shunned in ((left, mark, mark + 1), (right, mark + 1, mark)):
                for row in rows:
                    self._marks.setdefault(row, set()).add(own)
                    self._shuns.setdefault(row, set()).add(shunned)
            self._next_mark += 2
        for rows in constraints.apart:
            self.keep_apart(rows)

    def _unite_known(self, constraints: Constraints, names: Mapping[int, str]) -> None:
        of_name: dict[str, list[int]] = {}
        for row, name in names.items():
            of_name.setdefault(name, []).append(row)
        for rows in (*constraints.same, *of_name.values()):
            for row in rows[1:]:
                one, other = self.group(rows[0]), self.group(row)
                if one != other:
                    self._join(one, other)
        for name, rows in of_name.items():
            known = self.name.setdefault(self.group(rows[0]), name)
            if known != name:
                raise DataError(
                    f"Faces marked as the same have one name. Received: {known!r} and {name!r}; take one answer back."
                )
        for left, right in constraints.different:
            both = {self.group(row) for row in left} & {self.group(row) for row in right}
            if both:
                first = next(row for row in left if self.group(row) in both)
                raise DataError(
                    "Faces marked as different cannot be marked as the same, or have one name. "
                    f"Received: row {first} with both; take one answer back."
                )

    def _check(self, constraints: Constraints, names: Mapping[int, str]) -> None:
        sides = [side for pair in constraints.different for side in pair]
        for rows in (*constraints.same, *constraints.apart, *sides, list(names)):
            wrong = [row for row in rows if not 0 <= row < len(self._parent)]
            if wrong:
                raise DataError(f"Constraints are of rows 0 to {len(self._parent) - 1}. Received: {wrong[0]}.")
