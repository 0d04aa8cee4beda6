"""Answers of the user about faces: durable, and applied to the stacks at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from facetl.data.names import person_name
from facetl.errors import LibraryError
from facetl.io.sqlite_file import Execute
from facetl.people.store import answer_log, persons, stack_rows
from facetl.people.store.database import Database
from facetl.people.store.models import Answer, ResolvedAnswers
from facetl.people.store.resolve import DIFFERENT, NAME, NOT_A_FACE, RENAME, SAME, STRANGER


class Assignments:
    """The answers of a library, and the stacks that follow from them.

    A call returns when the answer is on the disk. Raises LibraryError where it is about faces, stacks or people that
    are not there, DataError for what is no name.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger = answer_log.Ledger()

    def assign_name(self, faces: Collection[int], name: str, *, origin: str = "user") -> Answer:
        """Name faces; the origin is `region` where a photo's metadata gives the name."""
        return self._mark(NAME, faces, name=person_name(name), origin=origin)

    def mark_same(self, faces: Collection[int]) -> Answer:
        """Mark faces as one person's."""
        return self._mark(SAME, faces, at_least=2)

    def mark_different(self, left: Collection[int], right: Collection[int]) -> Answer:
        """Mark every face on the left as another person's than every face on the right."""
        return self._mark(DIFFERENT, left, right)

    def mark_not_a_face(self, faces: Collection[int]) -> Answer:
        """Mark detections that are no faces."""
        return self._mark(NOT_A_FACE, faces)

    def mark_stranger(self, faces: Collection[int]) -> Answer:
        """Mark faces as of nobody to be named."""
        return self._mark(STRANGER, faces)

    def rename(self, old: str, new: str) -> Answer:
        """Rename a person; where somebody has the new name already, the two become one."""
        cleaned = person_name(new)
        with self.database.write() as sql:
            if old not in set(self.ledger.resolved(sql).names.values()):
                raise LibraryError(f"somebody is renamed by a name that is there, got {old!r}, which nobody has.")
            if old == cleaned:
                raise LibraryError(f"a new name differs from the old one, got {old!r} for both.")
            return self._answer(sql, RENAME, (), (), name=cleaned, old=old)

    def undo(self) -> Answer | None:
        """Take the last answer back; return it, None where there is none."""
        with self.database.write() as sql:
            answer = self.ledger.undo(sql)
            if answer is not None:
                if answer.old and answer.name and answer.name not in self.ledger.resolved(sql).names.values():
                    persons.change_name(sql, answer.name, answer.old)
                changed = self.ledger.derive(sql)
                stack_rows.revert_answer(sql, self.ledger.resolved(sql), changed, answer_log.read_moves(sql, answer.id))
            return answer

    def redo(self) -> Answer | None:
        """Apply again the answer that was undone last; None where there is none, or another was given since."""
        with self.database.write() as sql:
            answer = self.ledger.redo(sql)
            if answer is not None:
                self._apply(sql, answer)
            return answer

    def answers(self, *, offset: int = 0, limit: int = 100) -> list[Answer]:
        """Return a page of all answers, newest first."""
        with self.database.read() as sql:
            return answer_log.newest(sql, offset=offset, limit=limit)

    def resolved(self) -> ResolvedAnswers:
        """Return what follows from all answers together."""
        with self.database.read() as sql:
            return self.ledger.resolved(sql)

    def name_stack(self, stack: int, name: str) -> Answer:
        """Name all faces of a stack."""
        cleaned = person_name(name)
        with self.database.write() as sql:
            return self._answer(sql, NAME, _faces(sql, stack), (), name=cleaned)

    def split_stack(self, stack: int, faces: Collection[int]) -> int:
        """Mark some faces of a stack as another person's than the rest; return the stack in which they lie now."""
        with self.database.write() as sql:
            members = _faces(sql, stack)
            part = set(faces)
            if not part or not part < members:
                raise LibraryError(
                    f"a stack is split by naming some of its faces, not all; got {len(part & members)} of "
                    f"{len(members)}, and {len(part - members)} others."
                )
            self._answer(sql, DIFFERENT, part, members - part)
            return stack_rows.stacks_of(sql, [min(part)])[min(part)]

    def merge_stacks(self, first: int, second: int) -> Answer:
        """Mark two stacks as one person's; the first takes in the second."""
        if first == second:
            raise LibraryError(f"two stacks are merged, got number {first} twice.")
        with self.database.write() as sql:
            return self._answer(sql, SAME, _faces(sql, first) | _faces(sql, second), (), keep=first)

    # For callers with a transaction under way

    def assign_by_metadata(self, sql: Execute, names: Mapping[int, str]) -> int:
        """Take over the names that photos' metadata gives to faces; return how many are new."""
        known = answer_log.names_by_metadata(sql, list(names))
        fresh: dict[str, list[int]] = {}
        for face, name in names.items():
            if known.get(face) != name:
                fresh.setdefault(name, []).append(face)
        answers = [self.ledger.add(sql, NAME, faces, name=name, origin="region") for name, faces in fresh.items()]
        if answers:
            changed = self.ledger.derive(sql)
            for answer in answers:
                stack_rows.apply_answer(sql, answer, self.ledger.resolved(sql), changed & set(answer.left))
        return sum(map(len, fresh.values()))

    def resolve_again(self, sql: Execute) -> None:
        """Bring labels and stacks in line with the answers, after some were deleted."""
        self.ledger.touch(sql)
        stack_rows.apply_changes(sql, self.ledger.resolved(sql), self.ledger.derive(sql))

    def drop_faces(self, sql: Execute, faces: Collection[int]) -> None:
        """Delete faces, with their places in answers and stacks."""
        stack_rows.drop_faces(sql, faces, self.ledger.resolved(sql))
        for face in faces:
            sql("DELETE FROM faces WHERE id = ?", (face,))

    def _mark(
        self,
        kind: str,
        left: Collection[int],
        right: Collection[int] | None = None,
        *,
        name: str | None = None,
        origin: str = "user",
        at_least: int = 1,
    ) -> Answer:
        sides = [{int(face) for face in side} for side in (left, right) if side is not None]
        if any(len(side) < at_least for side in sides):
            raise LibraryError(f"an answer {kind!r} is about {at_least} faces and more, got {min(map(len, sides))}.")
        if len(sides) > 1 and sides[0] & sides[1]:
            raise LibraryError(f"a face cannot differ from itself, got face {min(sides[0] & sides[1])} on both sides.")
        with self.database.write() as sql:
            return self._answer(sql, kind, sides[0], sides[1] if len(sides) > 1 else (), name=name, origin=origin)

    def _answer(
        self,
        sql: Execute,
        kind: str,
        left: Collection[int],
        right: Collection[int],
        *,
        keep: int | None = None,
        **options: Any,
    ) -> Answer:
        answer = self.ledger.add(sql, kind, left, right, **options)
        self._apply(sql, answer, keep=keep)
        return answer

    def _apply(self, sql: Execute, answer: Answer, *, keep: int | None = None) -> None:
        if answer.old and answer.name and not persons.has_faces(sql, answer.name):
            persons.change_name(sql, answer.old, answer.name)
        changed = self.ledger.derive(sql)
        moved = stack_rows.apply_answer(sql, answer, self.ledger.resolved(sql), changed, keep=keep)
        answer_log.put_moves(sql, answer.id, moved)


def _faces(sql: Execute, stack: int) -> set[int]:
    return {member.face for member in stack_rows.one_stack(sql, stack)[1]}
