"""The ledger: every answer that was ever given, and what holds of them now."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from facetl.errors import LibraryError
from facetl.io.sqlite_file import Execute
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryAnswer, ResolvedAnswers
from facetl.people.store.resolve import DIFFERENT, NAME, NOT_A_FACE, SAME, STRANGER, resolve_answers

# States of an answer: it holds; undone, and `redo` brings it back; undone, and another answer was given since.
_HOLDS, _UNDONE, _GONE = 0, 1, 2


class Ledger:
    """The answers of one library; what holds of them is kept until one comes or goes.

    Every method runs inside the transaction of `sql`.
    """

    def __init__(self) -> None:
        self._resolved: tuple[int, ResolvedAnswers] | None = None

    def resolved(self, sql: Execute) -> ResolvedAnswers:
        """Return what follows from all answers together."""
        version = _counter(sql, "ledger")
        known = self._resolved
        if known is None or known[0] != version:
            known = (version, resolve_answers(_read(sql, "WHERE state = 0")))
            self._resolved = known
        return known[1]

    def add(
        self,
        sql: Execute,
        kind: str,
        left: Collection[int],
        right: Collection[int] = (),
        *,
        name: str | None = None,
        old: str | None = None,
        origin: str = "user",
    ) -> LibraryAnswer:
        """Enter an answer; LibraryError where its faces are none."""
        faces = [*left, *right]
        known = {
            one for (one,) in rows_of(sql, "SELECT id FROM faces WHERE id IN ({marks})", list(dict.fromkeys(faces)))
        }
        missing = [face for face in faces if face not in known]
        if missing:
            raise LibraryError(f"The library has no face with the number {missing[0]}. List its stacks again.")
        if origin == "user":
            sql("UPDATE answers SET state = ? WHERE state = ?", (_GONE, _UNDONE))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        number = sql(
            "INSERT INTO answers (at, kind, origin, name, old) VALUES (?, ?, ?, ?, ?)", (at, kind, origin, name, old)
        ).lastrowid
        for side, listed in enumerate((left, right)):
            for face in sorted(set(listed)):
                sql("INSERT INTO answer_faces VALUES (?, ?, ?)", (number, side, face))
        Ledger.touch(sql)
        return read_answer(sql, int(number or 0))

    def undo(self, sql: Execute) -> LibraryAnswer | None:
        """Take the user's last answer back; None where there is none."""
        return self._turn(sql, "SELECT max(id) FROM answers WHERE origin = 'user' AND state = ?", _HOLDS, _UNDONE)

    def redo(self, sql: Execute) -> LibraryAnswer | None:
        """Redo the answer that was undone last; None where there is nothing, or another answer was given since."""
        return self._turn(sql, "SELECT min(id) FROM answers WHERE origin = 'user' AND state = ?", _UNDONE, _HOLDS)

    @staticmethod
    def touch(sql: Execute) -> None:
        """Give the ledger a new version number, never one that a transaction rolled back has used."""
        sql("INSERT OR REPLACE INTO counters VALUES ('ledger', ?)", (secrets.randbits(62) + 1,))

    @staticmethod
    def _turn(sql: Execute, query: str, before: int, after: int) -> LibraryAnswer | None:
        (number,) = sql(query, (before,)).fetchone()
        if number is None:
            return None
        sql("UPDATE answers SET state = ? WHERE id = ?", (after, number))
        Ledger.touch(sql)
        return read_answer(sql, number)

    def derived(self, sql: Execute) -> bool:
        """Return whether the labels are in line with the ledger."""
        return _counter(sql, "derived") == _counter(sql, "ledger")

    def derive(self, sql: Execute) -> set[int]:
        """Bring the labels of faces in line with the ledger; return the faces of which something else holds now."""
        resolved = self.resolved(sql)
        labels = {face: (NAME, name) for face, name in resolved.names.items()}
        labels |= dict.fromkeys(resolved.not_faces, (NOT_A_FACE, "")) | dict.fromkeys(
            resolved.strangers, (STRANGER, "")
        )
        before = {
            face: (label, name or "")
            for face, label, name in sql(
                "SELECT face, label, name FROM labels LEFT JOIN people ON people.id = labels.person"
            )
        }
        people = people_ids(sql, {name for label, name in labels.values() if label == NAME})
        gone = before.keys() - labels.keys()
        fresh = {face: label for face, label in labels.items() if before.get(face) != label}
        for face in gone:
            sql("DELETE FROM labels WHERE face = ?", (face,))
        for face, (label, name) in fresh.items():
            sql("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", (face, label, people.get(name)))
        sql("INSERT OR REPLACE INTO counters VALUES ('derived', ?)", (_counter(sql, "ledger"),))
        return gone | fresh.keys()


def people_ids(sql: Execute, names: Collection[str]) -> dict[str, int]:
    """Return the ids of people, who are entered where they are new."""
    known: dict[str, int] = {name: one for one, name in sql("SELECT id, name FROM people")}
    for name in sorted(set(names) - known.keys()):
        known[name] = int(sql("INSERT INTO people (name) VALUES (?)", (name,)).lastrowid or 0)
    return known


def read_answer(sql: Execute, number: int) -> LibraryAnswer:
    """Return one answer."""
    [answer] = _read(sql, "WHERE id = ?", number)
    return answer


def names_by_metadata(sql: Execute, faces: Sequence[int]) -> dict[int, str]:
    """Return the last name that a photo's metadata gave to each of these faces."""
    query = """SELECT face, name FROM answers JOIN answer_faces ON answer = id
        WHERE origin = 'region' AND face IN ({marks}) ORDER BY id"""
    return dict(rows_of(sql, query, list(faces)))


def answers_about(sql: Execute, faces: Collection[int]) -> list[int]:
    """Return the answers in which some of these faces have a place."""
    found = rows_of(sql, "SELECT DISTINCT answer FROM answer_faces WHERE face IN ({marks})", list(faces))
    return list({answer for (answer,) in found})


def answered_by_user(sql: Execute, faces: Collection[int]) -> set[int]:
    """Return those of these faces of which an answer of the user holds."""
    query = """SELECT face FROM answer_faces JOIN answers ON id = answer
        WHERE origin = 'user' AND state = 0 AND face IN ({marks})"""
    return {face for (face,) in rows_of(sql, query, list(faces))}


def drop_void(sql: Execute, answers: Collection[int]) -> int:
    """Delete those answers that are about no face, lack a side, or mark one face alone the same; return how many."""
    dropped = 0
    for answer in answers:
        (kind,) = sql("SELECT kind FROM answers WHERE id = ?", (answer,)).fetchone()
        sides = dict(
            sql("SELECT side, count(*) FROM answer_faces WHERE answer = ? GROUP BY side", (answer,)).fetchall()
        )
        left, right = sides.get(0, 0), sides.get(1, 0)
        if left < (2 if kind == SAME else 1) or (kind == DIFFERENT and not right):
            sql("DELETE FROM answers WHERE id = ?", (answer,))
            dropped += 1
    return dropped


def newest(sql: Execute, *, offset: int, limit: int) -> list[LibraryAnswer]:
    """Return a page of the ledger, newest first."""
    return _read(sql, "ORDER BY id DESC LIMIT ? OFFSET ?", limit, offset)


def _read(sql: Execute, rest: str, *parameters: Any) -> list[LibraryAnswer]:
    records = sql(f"SELECT id, at, kind, origin, name, old, state FROM answers {rest}", parameters).fetchall()
    sides: dict[tuple[int, int], list[int]] = {}
    numbers = [record[0] for record in records]
    query = "SELECT answer, side, face FROM answer_faces WHERE answer IN ({marks})"
    for number, side, face in rows_of(sql, query, numbers):
        sides.setdefault((number, side), []).append(face)
    return [
        LibraryAnswer(
            id=number,
            at=at,
            kind=kind,
            left=tuple(sides.get((number, 0), ())),
            right=tuple(sides.get((number, 1), ())),
            name=name,
            undone=state != _HOLDS,
            old=old,
            origin=origin,
        )
        for number, at, kind, origin, name, old, state in records
    ]


def _counter(sql: Execute, name: str) -> int:
    found = sql("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return int(found[0]) if found else 0
