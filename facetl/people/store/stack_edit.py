"""An edit of stacks: some are loaded, changed in memory as answers ask, and written back to the library's file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facetl.io.sqlite_file import Execute
from facetl.people.store.answer_log import people_ids
from facetl.people.store.database import rows_of
from facetl.people.store.models import ResolvedAnswers

_SURE = 1.0


@dataclass
class _StackRow:
    cover: int | None
    confidence: float
    suggestion: str | None


class StackEdit:
    """Stacks in memory: which face lies in which, by number; new ones have negative numbers until `commit`."""

    def __init__(self, sql: Execute) -> None:
        self._sql = sql
        self.stacks: dict[int, _StackRow] = {}
        self.stack_of: dict[int, int] = {}
        self.confidence: dict[int, float] = {}
        self._before: dict[int, tuple[int, float]] = {}
        self._stored: dict[int, list[Any]] = {}
        self._loaded: set[int] = set()
        self._next = -1

    def load(self, faces: Collection[int]) -> None:
        """Load every stack that has one of these faces."""
        stacks = {
            one for (one,) in rows_of(self._sql, "SELECT stack FROM members WHERE face IN ({marks})", list(faces))
        }
        self._load(stacks - self._loaded)

    def load_stack(self, stack: int) -> None:
        """Load one stack."""
        self._load({stack} - self._loaded)

    def load_all(self) -> None:
        """Load every stack."""
        self._load({one for (one,) in self._sql("SELECT id FROM stacks")} - self._loaded)

    def _load(self, stacks: Collection[int]) -> None:
        numbers = list(stacks)
        self._loaded.update(numbers)
        for number, *row in rows_of(
            self._sql, "SELECT id, cover, confidence, suggestion FROM stacks WHERE id IN ({marks})", numbers
        ):
            self.stacks[number] = _StackRow(*row)
            self._stored[number] = row
        for face, stack, confidence in rows_of(
            self._sql, "SELECT face, stack, confidence FROM members WHERE stack IN ({marks})", numbers
        ):
            self._before[face] = (stack, confidence)
            self.stack_of[face], self.confidence[face] = stack, confidence

    def members(self) -> dict[int, set[int]]:
        """Return the faces of each stack that has any."""
        found: dict[int, set[int]] = defaultdict(set)
        for face, stack in self.stack_of.items():
            found[stack].add(face)
        return dict(found)

    def new(self, cover: int | None = None, confidence: float = _SURE, suggestion: str | None = None) -> int:
        """Add an empty stack and return its number."""
        number = self._next
        self._next -= 1
        self.stacks[number] = _StackRow(cover, confidence, suggestion)
        return number

    def move(self, faces: Iterable[int], stack: int) -> None:
        """Move faces to a stack; one that lay in none is sure to belong there."""
        for face in faces:
            self.stack_of[face] = stack
            self.confidence.setdefault(face, _SURE)

    def split_off(self, faces: Collection[int], suggestion: str | None = None) -> int:
        """Move faces to a stack of their own."""
        sure = [self.confidence.get(face, _SURE) for face in faces]
        stack = self.new(None, sum(sure) / len(sure), suggestion)
        self.move(faces, stack)
        return stack

    def remove(self, faces: Iterable[int]) -> None:
        """Take faces out of their stacks."""
        for face in faces:
            self.stack_of.pop(face, None)

    def compatible(self, faces: Collection[int], resolved: ResolvedAnswers) -> bool:
        """Return whether the answers allow these faces to be one person's."""
        listed = set(faces)
        if len({resolved.names[face] for face in listed if face in resolved.names}) > 1:
            return False
        return all(listed.isdisjoint(left) or listed.isdisjoint(right) for left, right in resolved.different)

    def apply(self, resolved: ResolvedAnswers) -> None:
        """Remove what is no face or a stranger's, and split a stack in which faces have different names."""
        self.remove([face for face in self.stack_of if face in resolved.not_faces or face in resolved.strangers])
        for faces in list(self.members().values()):
            names = Counter(resolved.names[face] for face in faces if face in resolved.names)
            for name, _ in names.most_common()[1:]:
                self.split_off(sorted(face for face in faces if resolved.names.get(face) == name))

    def commit(self, resolved: ResolvedAnswers) -> dict[str, Any]:
        """Write what changed; return the moves and the stacks as they were, from which `revert` undoes them."""
        members = self.members()
        people = people_ids(self._sql, {resolved.names[face] for face in self.stack_of if face in resolved.names})
        numbers = {}
        for stack, row in self.stacks.items():
            faces = members.get(stack)
            if faces:
                numbers[stack] = self._write(stack, row, faces, resolved, people)
        for face in self._before.keys() - self.stack_of.keys():
            self._sql("DELETE FROM members WHERE face = ?", (face,))
        for face, stack in self.stack_of.items():
            now = (numbers[stack], self.confidence[face])
            if self._before.get(face) != now:
                self._sql("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", (face, *now))
        for stack in self._loaded - numbers.keys():
            self._sql("DELETE FROM stacks WHERE id = ?", (stack,))
        moves = self._moves(numbers)
        left = {stack for _, stack, *_ in moves}
        return {"moves": moves, "piles": {str(stack): row for stack, row in self._stored.items() if stack in left}}

    def _write(
        self, stack: int, row: _StackRow, faces: set[int], resolved: ResolvedAnswers, people: dict[str, int]
    ) -> int:
        if row.cover not in faces:
            row.cover = max(sorted(faces), key=lambda face: self.confidence[face])
        name = next((resolved.names[face] for face in faces if face in resolved.names), None)
        person = None if name is None else people[name]
        values = (row.cover, len(faces), row.confidence, person, row.suggestion)
        if stack > 0:
            self._sql(
                "INSERT INTO stacks (id, cover, size, confidence, person, suggestion) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET cover = excluded.cover, size = excluded.size, "
                "confidence = excluded.confidence, person = excluded.person, suggestion = excluded.suggestion",
                (stack, *values),
            )
            return stack
        query = "INSERT INTO stacks (cover, size, confidence, person, suggestion) VALUES (?, ?, ?, ?, ?)"
        return int(self._sql(query, values).lastrowid or 0)

    def _moves(self, numbers: dict[int, int]) -> list[Any]:
        moves = []
        for face in sorted(self._before.keys() | self.stack_of.keys()):
            stack, confidence = self._before.get(face, (None, _SURE))
            now = numbers[self.stack_of[face]] if face in self.stack_of else None
            if now != stack:
                moves.append([face, stack, confidence, now])
        return moves

    def revert(self, moves: Sequence[Sequence[Any]], rows: Mapping[str, Sequence[Any]]) -> None:
        """Undo moves, of faces that still lie where the moves put them."""
        self.load([face for face, *_ in moves])
        stacks = list({stack for _, stack, *_ in moves if stack is not None})
        there = rows_of(self._sql, "SELECT id FROM stacks WHERE id IN ({marks})", stacks)
        self._load({one for (one,) in there} - self._loaded)
        for face, stack, confidence, now in moves:
            if self.stack_of.get(face) != now:
                continue
            if stack is None:
                del self.stack_of[face]
                continue
            self.stacks[stack] = _StackRow(*rows[str(stack)])
            self.stack_of[face], self.confidence[face] = stack, confidence
