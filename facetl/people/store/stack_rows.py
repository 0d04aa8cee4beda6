"""Stacks in the library's file: as a clustering made them, and as every answer changes them at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Literal

from facetl.errors import LibraryError
from facetl.io.sqlite_file import Execute
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryAnswer, Member, ResolvedAnswers, Stack, StackDraft
from facetl.people.store.resolve import DIFFERENT, NAME, SAME
from facetl.people.store.stack_edit import StackEdit

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


# Answers


def apply_answer(
    sql: Execute, answer: LibraryAnswer, resolved: ResolvedAnswers, changed: Collection[int], *, keep: int | None = None
) -> dict[str, Any]:
    """Change the stacks as an answer asks; return what `revert_answer` needs.

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


def revert_answer(
    sql: Execute, resolved: ResolvedAnswers, changed: Collection[int], moved: dict[str, Any] | None
) -> None:
    """Undo what `apply_answer` did, as far as no clustering came in between; `resolved` is without the answer."""
    edit = StackEdit(sql)
    edit.load(changed)
    if moved:
        edit.revert(moved["moves"], moved["piles"])
    edit.apply(resolved)
    edit.commit(resolved)


def apply_changes(sql: Execute, resolved: ResolvedAnswers, changed: Collection[int]) -> None:
    """Bring the stacks of these faces, whose labels changed, in line with the answers."""
    edit = StackEdit(sql)
    edit.load(changed)
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
        edit.load_stack(home)
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
        edit.load_all()
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
