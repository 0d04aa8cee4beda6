"""Stacks in the library's file: as a clustering made them, and as every answer changes them at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from facetl.errors import LibraryError
from facetl.io.sqlite_file import Execute
from facetl.people.store.answer_log import people_ids
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryAnswer, Member, ResolvedAnswers, Stack, StackDraft
from facetl.people.store.resolve import DIFFERENT, NAME, SAME

_SURE = 1.0
Order = Literal["size", "uncertain", "name"]

_STACK = """SELECT stacks.id, cover, size, confidence, people.name,
    CASE WHEN person IS NULL THEN suggestion END FROM stacks LEFT JOIN people ON people.id = person"""
_ORDERS = {
    "size": "size DESC, stacks.id",
    "uncertain": "confidence, size DESC, stacks.id",
    "name": "people.name IS NULL, people.name COLLATE NOCASE, size DESC, stacks.id",
}


# Reading


def page(sql: Execute, *, order: Order, named: bool | None, offset: int, limit: int) -> list[Stack]:
    """Return a page of stacks."""
    if order not in _ORDERS:
        raise LibraryError(f"Stacks are ordered by {', '.join(_ORDERS)}; received {order!r}.")
    query = f"{_STACK} {which(named)} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?"
    return [Stack(*record) for record in sql(query, (limit, offset))]


def one_stack(sql: Execute, stack: int) -> tuple[Stack, list[Member]]:
    """Return a stack and its faces, the surest first; LibraryError where there is none of this id."""
    record = sql(f"{_STACK} WHERE stacks.id = ?", (stack,)).fetchone()
    if record is None:
        raise LibraryError(f"The library has no stack with the number {stack} now. List its stacks again.")
    members = sql("SELECT face, confidence FROM members WHERE stack = ? ORDER BY confidence DESC, face", (stack,))
    return Stack(*record), [Member(*one) for one in members]


def stacks_of(sql: Execute, faces: Sequence[int]) -> dict[int, int]:
    """Return the stack of each of these faces that lies in one."""
    return dict(rows_of(sql, "SELECT face, stack FROM members WHERE face IN ({marks})", list(faces)))


def which(named: bool | None) -> str:
    """Return the SQL condition for stacks with or without a name, empty for all."""
    return "" if named is None else f"WHERE person IS {'NOT ' if named else ''}NULL"


# Edits


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
        found = rows_of(self._sql, "SELECT stack FROM members WHERE face IN ({marks})", list(faces))
        self.load_stacks(one for (one,) in found)

    def load_stacks(self, stacks: Iterable[int]) -> None:
        """Load stacks by their numbers."""
        numbers = list(set(stacks) - self._loaded)
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
        known = stack if stack > 0 else None
        new = self._sql(
            "INSERT INTO stacks (id, cover, size, confidence, person, suggestion) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET cover = excluded.cover, size = excluded.size, "
            "confidence = excluded.confidence, person = excluded.person, suggestion = excluded.suggestion",
            (known, row.cover, len(faces), row.confidence, person, row.suggestion),
        ).lastrowid
        return known or int(new or 0)

    def _moves(self, numbers: dict[int, int]) -> list[Any]:
        moves = []
        for face in sorted(self._before.keys() | self.stack_of.keys()):
            stack, confidence = self._before.get(face, (None, _SURE))
            now = numbers[self.stack_of[face]] if face in self.stack_of else None
            if now != stack:
                moves.append([face, stack, confidence, now])
        return moves

    def revert(self, moves: Sequence[Sequence[Any]], rows: Mapping[str, Sequence[Any]]) -> None:
        """Undo moves, of faces that are there and still lie where the moves put them."""
        listed = [face for face, *_ in moves]
        living = {one for (one,) in rows_of(self._sql, "SELECT id FROM faces WHERE id IN ({marks})", listed)}
        self.load(listed)
        stacks = list({stack for _, stack, *_ in moves if stack is not None})
        there = rows_of(self._sql, "SELECT id FROM stacks WHERE id IN ({marks})", stacks)
        self.load_stacks(one for (one,) in there)
        for face, stack, confidence, now in moves:
            if face not in living or self.stack_of.get(face) != now:
                continue
            if stack is None:
                del self.stack_of[face]
                continue
            self.stacks[stack] = _StackRow(*rows[str(stack)])
            self.stack_of[face], self.confidence[face] = stack, confidence


# Answers


def apply_answer(
    sql: Execute, answer: LibraryAnswer, resolved: ResolvedAnswers, changed: Collection[int], *, keep: int | None = None
) -> dict[str, Any]:
    """Change the stacks as an answer asks; return what `settle` needs to undo it.

    Args:
        resolved: all answers, this one included.
        changed: the faces whose label the answer changes.
        keep: of stacks that become one, which one stays.
    """
    edit = StackEdit(sql)
    edit.load({*answer.left, *answer.right, *changed})
    if answer.kind == NAME:
        _apply_name(edit, answer, resolved, _stack_of_name(sql, answer.name))
    elif answer.kind == SAME:
        _join(edit, answer.left, resolved, keep)
    elif answer.kind == DIFFERENT:
        for faces in edit.members().values():
            _separate(edit, faces, answer.left, answer.right)
    edit.apply(resolved)
    return edit.commit(resolved)


def settle(
    sql: Execute, resolved: ResolvedAnswers, changed: Collection[int], moved: dict[str, Any] | None = None
) -> None:
    """Bring the stacks of faces whose labels changed in line with the answers.

    With `moved`, what `apply_answer` did is undone first, as far as no clustering came in between; `resolved` no longer
    has that answer.
    """
    edit = StackEdit(sql)
    edit.load(changed)
    if moved:
        edit.revert(moved["moves"], moved["piles"])
    edit.apply(resolved)
    edit.commit(resolved)


def drop_faces(sql: Execute, faces: Collection[int], resolved: ResolvedAnswers) -> None:
    """Take faces that are to be deleted out of their stacks."""
    edit = StackEdit(sql)
    edit.load(faces)
    edit.remove(faces)
    edit.commit(resolved)


def _stack_of_name(sql: Execute, name: str | None) -> int | None:
    """Return the largest stack of a name."""
    query = """SELECT stacks.id FROM stacks JOIN people ON people.id = person WHERE people.name = ?
        ORDER BY size DESC, stacks.id LIMIT 1"""
    found = sql(query, (name,)).fetchone()
    return None if found is None else int(found[0])


def _apply_name(edit: StackEdit, answer: LibraryAnswer, resolved: ResolvedAnswers, home: int | None) -> None:
    """Move named faces out of stacks whose other faces lack the name, to the `home` of the name if there is one."""
    # The user may have answered otherwise than the metadata.
    named = {face for face in answer.left if resolved.names.get(face) == answer.name}
    taken: set[int] = set()
    for stack, faces in edit.members().items():
        rest = faces - named
        others = {resolved.names.get(face) for face in rest}
        if rest and rest != faces and answer.name not in others:
            taken |= faces & named
            if others == {None}:
                edit.stacks[stack].suggestion = answer.name
    if not taken:
        return
    if home is not None:
        edit.load_stacks([home])
        if edit.compatible(taken | edit.members().get(home, set()), resolved):
            edit.move(taken, home)
            return
    edit.split_off(sorted(taken))


def _join(edit: StackEdit, faces: Sequence[int], resolved: ResolvedAnswers, keep: int | None) -> None:
    """Make one stack of those that hold these faces; of the faces alone, where the rest may not be together."""
    if not edit.stack_of.keys() & set(faces):
        return
    members = edit.members()
    stacks = {edit.stack_of[face] for face in faces if face in edit.stack_of}
    target = keep if keep in stacks else max(sorted(stacks), key=lambda stack: len(members[stack]))
    everyone = set(faces).union(*(members[stack] for stack in stacks))
    if edit.compatible(everyone, resolved):
        edit.move(everyone, target)
    elif edit.compatible(members[target] | set(faces), resolved):
        edit.move(faces, target)
    else:
        edit.split_off(faces)


def _separate(edit: StackEdit, faces: set[int], left: Collection[int], right: Collection[int]) -> None:
    part = faces & set(left)
    if part and faces & set(right):
        edit.split_off(sorted(part))


# Clustering


def write_drafts(
    sql: Execute, drafts: Sequence[StackDraft], resolved: ResolvedAnswers, *, touched: Collection[int] | None
) -> None:
    """Replace the stacks by those of a clustering, corrected by the answers that were given while it was computed.

    Args:
        touched: faces that lie in a draft or in no stack from now on; all faces where it is None. Others stay.
    """
    _check(sql, drafts)
    drawn = {face for draft in drafts for face in draft.faces}
    edit = StackEdit(sql)
    if touched is None:
        edit.load_stacks(one for (one,) in sql("SELECT id FROM stacks"))
    else:
        edit.load(drawn | set(touched))
    before = dict(edit.stack_of)
    edit.remove([face for face in before if touched is None or face in drawn or face in touched])
    left = set(edit.stack_of.values())
    used: set[int] = set()
    for draft in sorted(drafts, key=lambda draft: -len(draft.faces)):
        # A stack that goes on under its number stays open on the page.
        votes = Counter(before[face] for face in draft.faces if face in before)
        stack = next((one for one, _ in votes.most_common() if one not in left and one not in used), None)
        fresh = edit.new(draft.cover, draft.confidence, draft.suggestion)
        if stack is not None:
            used.add(stack)
            edit.stacks[stack] = edit.stacks.pop(fresh)
        edit.move(draft.faces, fresh if stack is None else stack)
        edit.confidence.update(zip(draft.faces, draft.confidences, strict=True))
    _correct(edit, resolved)
    edit.commit(resolved)


def _correct(edit: StackEdit, resolved: ResolvedAnswers) -> None:
    edit.apply(resolved)
    for left, right in resolved.different:
        members: dict[int, set[int]] = defaultdict(set)
        for face in (*left, *right):
            if face in edit.stack_of:
                members[edit.stack_of[face]].add(face)
        for faces in members.values():
            _separate(edit, faces, left, right)
    for group in resolved.same:
        placed = [face for face in group if face in edit.stack_of]
        if len({edit.stack_of[face] for face in placed}) > 1:
            _join(edit, placed, resolved, None)


def _check(sql: Execute, drafts: Sequence[StackDraft]) -> None:
    faces = [face for draft in drafts for face in draft.faces]
    if len(set(faces)) < len(faces):
        twice = next(face for face, times in Counter(faces).items() if times > 1)
        raise LibraryError(f"A face lies in one stack only; received face {twice} in two.")
    for draft in drafts:
        if not draft.faces or draft.cover not in draft.faces or len(draft.confidences) != len(draft.faces):
            raise LibraryError(
                f"A stack has faces, a confidence for each, and one as its cover; received {len(draft.faces)} faces, "
                f"{len(draft.confidences)} confidences and cover {draft.cover}."
            )
    known = {one for (one,) in sql("SELECT id FROM faces")}
    unknown = [face for face in faces if face not in known]
    if unknown:
        raise LibraryError(f"The library has no face with the number {unknown[0]}.")
