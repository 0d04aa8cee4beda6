"""What the user says of faces, durable and to be seen at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from facetl.data.names import person_name
from facetl.errors import LibraryError
from facetl.io.sqlite_file import Execute
from facetl.people.store import answer_log, persons, stack_rows
from facetl.people.store.database import Database
from facetl.people.store.models import Answer, Said
from facetl.people.store.resolve import DIFFERENT, NAME, NOT_A_FACE, RENAME, SAME, STRANGER


class Sayings:
    """The ledger of a library and the stacks that follow it.

    A call returns when the answer is on the disk. Raises LibraryError where it is about faces, stacks or people that
    are not there, DataError for what is no name.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger = answer_log.Ledger()

    def say_name(self, faces: Collection[int], name: str, *, origin: str = "user") -> Answer:
        """These faces are NAME's; with origin `region` a photo's metadata says so."""
        return self._say(NAME, faces, name=person_name(name), origin=origin)

    def say_same(self, faces: Collection[int]) -> Answer:
        """These faces are one person's."""
        return self._say(SAME, faces, at_least=2)

    def say_different(self, left: Collection[int], right: Collection[int]) -> Answer:
        """Every face on the left is another person's than every face on the right."""
        return self._say(DIFFERENT, left, right)

    def say_not_a_face(self, faces: Collection[int]) -> Answer:
        """These are no faces."""
        return self._say(NOT_A_FACE, faces)

    def say_stranger(self, faces: Collection[int]) -> Answer:
        """These are faces of nobody to be named."""
        return self._say(STRANGER, faces)

    def rename(self, old: str, new: str) -> Answer:
        """Who was called OLD is called NEW; if somebody is already, the two become one."""
        cleaned = person_name(new)
        with self.database.write() as sql:
            if old not in set(self.ledger.said(sql).names.values()):
                raise LibraryError(f"somebody is renamed by a name that is there, got {old!r}, which nobody has.")
            if old == cleaned:
                raise LibraryError(f"a new name differs from the old one, got {old!r} for both.")
            return self._answer(sql, RENAME, (), (), name=cleaned, old=old)

    def undo(self) -> Answer | None:
        """Take the last answer back; return it, None where there is none."""
        with self.database.write() as sql:
            answer = self.ledger.undo(sql)
            if answer is not None:
                if answer.old and answer.name and answer.name not in self.ledger.said(sql).names.values():
                    persons.change_name(sql, answer.name, answer.old)
                changed = self.ledger.derive(sql)
                stack_rows.hide(sql, self.ledger.said(sql), changed, answer_log.read_moves(sql, answer.id))
            return answer

    def redo(self) -> Answer | None:
        """Say again what was undone last, unless something was said since; None where there is nothing."""
        with self.database.write() as sql:
            answer = self.ledger.redo(sql)
            if answer is not None:
                self._show(sql, answer)
            return answer

    def answers(self, *, offset: int = 0, limit: int = 100) -> list[Answer]:
        """Return a page of everything that was ever said, newest first."""
        with self.database.read() as sql:
            return answer_log.newest(sql, offset=offset, limit=limit)

    def said(self) -> Said:
        """Return what holds of everything that was said."""
        with self.database.read() as sql:
            return self.ledger.said(sql)

    def name_stack(self, stack: int, name: str) -> Answer:
        """All faces of a stack are NAME's."""
        cleaned = person_name(name)
        with self.database.write() as sql:
            return self._answer(sql, NAME, _faces(sql, stack), (), name=cleaned)

    def split_stack(self, stack: int, faces: Collection[int]) -> int:
        """Some faces of a stack are another person's than the rest; return the stack in which they lie now."""
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
        """Two stacks are one person's; the first takes in the second."""
        if first == second:
            raise LibraryError(f"two stacks are merged, got number {first} twice.")
        with self.database.write() as sql:
            return self._answer(sql, SAME, _faces(sql, first) | _faces(sql, second), (), keep=first)

    # Inside

    def hear_metadata(self, sql: Execute, names: Mapping[int, str]) -> int:
        """Take over, in a transaction under way, what photos' metadata says of faces; return of how many anew."""
        known = answer_log.names_by_metadata(sql, list(names))
        fresh: dict[str, list[int]] = {}
        for face, name in names.items():
            if known.get(face) != name:
                fresh.setdefault(name, []).append(face)
        said = [self.ledger.add(sql, NAME, faces, name=name, origin="region") for name, faces in fresh.items()]
        if said:
            changed = self.ledger.derive(sql)
            for answer in said:
                stack_rows.show(sql, answer, self.ledger.said(sql), changed & set(answer.left))
        return sum(map(len, fresh.values()))

    def hear_anew(self, sql: Execute) -> None:
        """Follow, in a transaction under way, a ledger of which answers were taken out."""
        self.ledger.touch(sql)
        stack_rows.settle(sql, self.ledger.said(sql), self.ledger.derive(sql))

    def drop_faces(self, sql: Execute, faces: Collection[int]) -> None:
        """Drop faces, in a transaction under way, with what was said of them and their places in stacks."""
        stack_rows.drop(sql, faces, self.ledger.said(sql))
        for face in faces:
            sql("DELETE FROM faces WHERE id = ?", (face,))

    def _say(
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
            raise LibraryError(f"{kind!r} is said of {at_least} faces and more, got {min(map(len, sides))}.")
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
        self._show(sql, answer, keep=keep)
        return answer

    def _show(self, sql: Execute, answer: Answer, *, keep: int | None = None) -> None:
        if answer.old and answer.name and not persons.has_faces(sql, answer.name):
            persons.change_name(sql, answer.old, answer.name)
        changed = self.ledger.derive(sql)
        moved = stack_rows.show(sql, answer, self.ledger.said(sql), changed, keep=keep)
        answer_log.put_moves(sql, answer.id, moved)


def _faces(sql: Execute, stack: int) -> set[int]:
    return {member.face for member in stack_rows.one_stack(sql, stack)[1]}
