"""Some stacks laid out on a table: moved about as an answer says, then put back into the library's file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facetl.io.sqlite_file import Execute
from facetl.people.store.answer_log import people_ids
from facetl.people.store.database import rows_of
from facetl.people.store.models import Said

_SURE = 1.0


@dataclass
class _Pile:
    cover: int | None
    confidence: float
    suggestion: str | None


class Board:
    """Stacks in memory: which face lies in which, by number; new ones have negative numbers until they are put back."""

    def __init__(self, sql: Execute) -> None:
        self._sql = sql
        self.piles: dict[int, _Pile] = {}
        self.place: dict[int, int] = {}
        self.confidence: dict[int, float] = {}
        self._before: dict[int, tuple[int, float]] = {}
        self._were: dict[int, list[Any]] = {}
        self._loaded: set[int] = set()
        self._next = -1

    # Laying out

    def lay_out(self, faces: Collection[int]) -> None:
        """Take every stack that has one of these faces."""
        stacks = {
            one for (one,) in rows_of(self._sql, "SELECT stack FROM members WHERE face IN ({marks})", list(faces))
        }
        self._take(stacks - self._loaded)

    def lay_out_stack(self, stack: int) -> None:
        """Take one stack."""
        self._take({stack} - self._loaded)

    def lay_out_all(self) -> None:
        """Take every stack."""
        self._take({one for (one,) in self._sql("SELECT id FROM stacks")} - self._loaded)

    def _take(self, stacks: Collection[int]) -> None:
        numbers = list(stacks)
        self._loaded.update(numbers)
        for number, *pile in rows_of(
            self._sql, "SELECT id, cover, confidence, suggestion FROM stacks WHERE id IN ({marks})", numbers
        ):
            self.piles[number] = _Pile(*pile)
            self._were[number] = pile
        for face, stack, confidence in rows_of(
            self._sql, "SELECT face, stack, confidence FROM members WHERE stack IN ({marks})", numbers
        ):
            self._before[face] = (stack, confidence)
            self.place[face], self.confidence[face] = stack, confidence

    # Moving about

    def members(self) -> dict[int, set[int]]:
        """Return the faces of each stack that has any."""
        found: dict[int, set[int]] = defaultdict(set)
        for face, stack in self.place.items():
            found[stack].add(face)
        return dict(found)

    def new(self, cover: int | None = None, confidence: float = _SURE, suggestion: str | None = None) -> int:
        """Begin a stack."""
        number = self._next
        self._next -= 1
        self.piles[number] = _Pile(cover, confidence, suggestion)
        return number

    def put(self, faces: Iterable[int], stack: int) -> None:
        """Move faces to a stack; one that lay in none is sure to belong there."""
        for face in faces:
            self.place[face] = stack
            self.confidence.setdefault(face, _SURE)

    def part(self, faces: Collection[int], suggestion: str | None = None) -> int:
        """Move faces to a stack of their own."""
        sure = [self.confidence.get(face, _SURE) for face in faces]
        stack = self.new(None, sum(sure) / len(sure), suggestion)
        self.put(faces, stack)
        return stack

    def take_away(self, faces: Iterable[int]) -> None:
        """Let faces lie in no stack."""
        for face in faces:
            self.place.pop(face, None)

    # What must hold of every stack

    def fits(self, faces: Collection[int], said: Said) -> bool:
        """Whether these faces may be one person's by what was said."""
        listed = set(faces)
        if len({said.names[face] for face in listed if face in said.names}) > 1:
            return False
        return all(listed.isdisjoint(left) or listed.isdisjoint(right) for left, right in said.different)

    def obey(self, said: Said) -> None:
        """Take away what is no face or a stranger's, and part a stack in which faces have different names."""
        self.take_away([face for face in self.place if face in said.not_faces or face in said.strangers])
        for faces in list(self.members().values()):
            names = Counter(said.names[face] for face in faces if face in said.names)
            for name, _ in names.most_common()[1:]:
                self.part(sorted(face for face in faces if said.names.get(face) == name))

    # Putting back

    def put_back(self, said: Said) -> dict[str, Any]:
        """Write what changed; return the moves and what the stacks were, by which `take_back` undoes them."""
        members = self.members()
        people = people_ids(self._sql, {said.names[face] for face in self.place if face in said.names})
        numbers = {}
        for stack, pile in self.piles.items():
            faces = members.get(stack)
            if faces:
                numbers[stack] = self._put_pile(stack, pile, faces, said, people)
        for face in self._before.keys() - self.place.keys():
            self._sql("DELETE FROM members WHERE face = ?", (face,))
        for face, stack in self.place.items():
            now = (numbers[stack], self.confidence[face])
            if self._before.get(face) != now:
                self._sql("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", (face, *now))
        for stack in self._loaded - numbers.keys():
            self._sql("DELETE FROM stacks WHERE id = ?", (stack,))
        moves = self._moves(numbers)
        left = {stack for _, stack, *_ in moves}
        return {"moves": moves, "piles": {str(stack): pile for stack, pile in self._were.items() if stack in left}}

    def _put_pile(self, stack: int, pile: _Pile, faces: set[int], said: Said, people: dict[str, int]) -> int:
        if pile.cover not in faces:
            pile.cover = max(sorted(faces), key=lambda face: self.confidence[face])
        name = next((said.names[face] for face in faces if face in said.names), None)
        person = None if name is None else people[name]
        values = (pile.cover, len(faces), pile.confidence, person, pile.suggestion)
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
        for face in sorted(self._before.keys() | self.place.keys()):
            stack, confidence = self._before.get(face, (None, _SURE))
            now = numbers[self.place[face]] if face in self.place else None
            if now != stack:
                moves.append([face, stack, confidence, now])
        return moves

    def take_back(self, moves: Sequence[Sequence[Any]], piles: Mapping[str, Sequence[Any]]) -> None:
        """Undo moves, of faces that still lie where these brought them."""
        self.lay_out([face for face, *_ in moves])
        stacks = list({stack for _, stack, *_ in moves if stack is not None})
        there = rows_of(self._sql, "SELECT id FROM stacks WHERE id IN ({marks})", stacks)
        self._take({one for (one,) in there} - self._loaded)
        for face, stack, confidence, now in moves:
            if self.place.get(face) != now:
                continue
            if stack is None:
                del self.place[face]
                continue
            self.piles[stack] = _Pile(*piles[str(stack)])
            self.place[face], self.confidence[face] = stack, confidence
