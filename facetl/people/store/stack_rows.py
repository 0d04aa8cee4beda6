"""Stacks in the library's file: as a clustering made them, and as every answer changes them at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Literal

from facetl.errors import LibraryError
from facetl.io.sqlite_file import Execute
from facetl.people.store.database import rows_of
from facetl.people.store.models import Answer, Member, Said, Stack, StackDraft
from facetl.people.store.resolve import DIFFERENT, NAME, SAME
from facetl.people.store.stack_edit import Board

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
        raise LibraryError(f"stacks are ordered by {', '.join(_ORDERS)}, got {order!r}.")
    query = f"{_STACK} {_which(named)} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?"
    return [Stack(*record) for record in sql(query, (limit, offset))]


def count(sql: Execute, *, named: bool | None) -> int:
    """Return how many stacks there are."""
    return int(sql(f"SELECT count(*) FROM stacks {_which(named)}").fetchone()[0])


def one_stack(sql: Execute, stack: int) -> tuple[Stack, list[Member]]:
    """Return a stack and its faces, the surest first; LibraryError where there is none of this id."""
    record = sql(f"{_STACK} WHERE stacks.id = ?", (stack,)).fetchone()
    if record is None:
        raise LibraryError(
            f"a stack is asked for by its number, got {stack}, which is none now. List the stacks again."
        )
    members = sql("SELECT face, confidence FROM members WHERE stack = ? ORDER BY confidence DESC, face", (stack,))
    return Stack(*record), [Member(*one) for one in members]


def stacks_of(sql: Execute, faces: Sequence[int]) -> dict[int, int]:
    """Return the stack of each of these faces that lies in one."""
    return dict(rows_of(sql, "SELECT face, stack FROM members WHERE face IN ({marks})", list(faces)))


def _which(named: bool | None) -> str:
    return "" if named is None else f"WHERE person IS {'NOT ' if named else ''}NULL"


# Answers


def show(
    sql: Execute, answer: Answer, said: Said, changed: Collection[int], *, keep: int | None = None
) -> dict[str, Any]:
    """Let an answer be seen in the stacks; return what `hide` needs.

    Args:
        said: what holds with the answer.
        changed: the faces of which something else holds now.
        keep: of stacks that become one, which one stays.
    """
    board = Board(sql)
    board.lay_out({*answer.left, *answer.right, *changed})
    if answer.kind == NAME:
        _set_apart(board, answer, said, _stack_of_name(sql, answer.name))
    elif answer.kind == SAME:
        _put_together(board, answer.left, said, keep)
    elif answer.kind == DIFFERENT:
        for faces in board.members().values():
            _divide(board, faces, answer.left, answer.right)
    board.obey(said)
    return board.put_back(said)


def hide(sql: Execute, said: Said, changed: Collection[int], moved: dict[str, Any] | None) -> None:
    """Undo in the stacks what `show` did, as far as no clustering came in between; `said` holds without the answer."""
    board = Board(sql)
    board.lay_out(changed)
    if moved:
        board.take_back(moved["moves"], moved["piles"])
    board.obey(said)
    board.put_back(said)


def settle(sql: Execute, said: Said, changed: Collection[int]) -> None:
    """Let the stacks of these faces, of which something else holds now, obey it."""
    board = Board(sql)
    board.lay_out(changed)
    board.obey(said)
    board.put_back(said)


def drop(sql: Execute, faces: Collection[int], said: Said) -> None:
    """Take faces that are going out of their stacks."""
    board = Board(sql)
    board.lay_out(faces)
    board.take_away(faces)
    board.put_back(said)


def _stack_of_name(sql: Execute, name: str | None) -> int | None:
    """Return the largest stack of a name."""
    query = """SELECT stacks.id FROM stacks JOIN people ON people.id = person WHERE people.name = ?
        ORDER BY size DESC, stacks.id LIMIT 1"""
    found = sql(query, (name,)).fetchone()
    return None if found is None else int(found[0])


def _set_apart(board: Board, answer: Answer, said: Said, home: int | None) -> None:
    """Take named faces out of stacks of which the rest was not named so, to the `home` of the name if there is one."""
    # Of metadata, the user may have said otherwise.
    named = {face for face in answer.left if said.names.get(face) == answer.name}
    taken: set[int] = set()
    for stack, faces in board.members().items():
        rest = faces - named
        others = {said.names.get(face) for face in rest}
        if rest and rest != faces and answer.name not in others:
            taken |= faces & named
            if others == {None}:
                board.piles[stack].suggestion = answer.name
    if not taken:
        return
    if home is not None:
        board.lay_out_stack(home)
        if board.fits(taken | board.members().get(home, set()), said):
            board.put(taken, home)
            return
    board.part(sorted(taken))


def _put_together(board: Board, faces: Sequence[int], said: Said, keep: int | None) -> None:
    """Make one stack of those that hold these faces; of the faces alone, where the rest may not be together."""
    if not board.place.keys() & set(faces):
        return
    members = board.members()
    stacks = {board.place[face] for face in faces if face in board.place}
    target = keep if keep in stacks else max(sorted(stacks), key=lambda stack: len(members[stack]))
    everyone = set(faces).union(*(members[stack] for stack in stacks))
    if board.fits(everyone, said):
        board.put(everyone, target)
    elif board.fits(members[target] | set(faces), said):
        board.put(faces, target)
    else:
        board.part(faces)


def _divide(board: Board, faces: set[int], left: Collection[int], right: Collection[int]) -> None:
    part = faces & set(left)
    if part and faces & set(right):
        board.part(sorted(part))


# Clustering


def write(sql: Execute, drafts: Sequence[StackDraft], said: Said, *, touched: Collection[int] | None) -> None:
    """Replace the stacks by those of a clustering, corrected by what was said while it was computed.

    Args:
        touched: faces that lie in a draft or in no stack from now on; all faces where it is None. Others stay.
    """
    _check(sql, drafts)
    drawn = {face for draft in drafts for face in draft.faces}
    board = Board(sql)
    if touched is None:
        board.lay_out_all()
    else:
        board.lay_out(drawn | set(touched))
    before = dict(board.place)
    board.take_away([face for face in before if touched is None or face in drawn or face in touched])
    left = set(board.place.values())
    used: set[int] = set()
    for draft in sorted(drafts, key=lambda draft: -len(draft.faces)):
        # A stack that goes on under its number stays open on the page.
        votes = Counter(before[face] for face in draft.faces if face in before)
        stack = next((one for one, _ in votes.most_common() if one not in left and one not in used), None)
        fresh = board.new(draft.cover, draft.confidence, draft.suggestion)
        if stack is not None:
            used.add(stack)
            board.piles[stack] = board.piles.pop(fresh)
        board.put(draft.faces, fresh if stack is None else stack)
        board.confidence.update(zip(draft.faces, draft.confidences, strict=True))
    _correct(board, said)
    board.put_back(said)


def _correct(board: Board, said: Said) -> None:
    board.obey(said)
    for left, right in said.different:
        members: dict[int, set[int]] = defaultdict(set)
        for face in (*left, *right):
            if face in board.place:
                members[board.place[face]].add(face)
        for faces in members.values():
            _divide(board, faces, left, right)
    for group in said.same:
        placed = [face for face in group if face in board.place]
        if len({board.place[face] for face in placed}) > 1:
            _put_together(board, placed, said, None)


def _check(sql: Execute, drafts: Sequence[StackDraft]) -> None:
    faces = [face for draft in drafts for face in draft.faces]
    if len(set(faces)) < len(faces):
        twice = next(face for face, times in Counter(faces).items() if times > 1)
        raise LibraryError(f"a face lies in one stack, got face {twice} in two.")
    for draft in drafts:
        if not draft.faces or draft.cover not in draft.faces or len(draft.confidences) != len(draft.faces):
            raise LibraryError(
                f"a stack has faces, a confidence for each, and one as its cover; got {len(draft.faces)} faces, "
                f"{len(draft.confidences)} confidences and cover {draft.cover}."
            )
    known = {one for (one,) in sql("SELECT id FROM faces")}
    unknown = [face for face in faces if face not in known]
    if unknown:
        raise LibraryError(f"a stack is of faces of the library, got number {unknown[0]}, which is none.")
