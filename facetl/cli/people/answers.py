"""`facetl people stacks`, `name`, `split`, `merge`, `questions`, `answer` and `undo`: the page's answers as verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from facetl.cli import options
from facetl.cli.inputs import open_run
from facetl.cli.output import photo_progress, put, put_json
from facetl.people.library import Library
from facetl.people.store.models import LibraryAnswer, Stack

LibraryFolder = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of a library.")]
ANSWERS = ("same", "different", "not-a-face", "stranger")


def stacks(
    library: LibraryFolder,
    stack: Annotated[int | None, typer.Argument(metavar="[STACK]", help="Show the faces of this one.")] = None,
    order: Annotated[str, typer.Option("--order", help="size, uncertain or name.")] = "size",
    offset: Annotated[int, typer.Option("--offset", min=0, help="Pass over so many.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 60,
    json: options.Json = False,
) -> None:
    """List a library's stacks, a line each; or the faces of one."""
    if order not in ("size", "uncertain", "name"):
        raise typer.BadParameter(f"--order: expected size, uncertain or name, got {order!r}.")
    with Library.open(library) as opened:
        if stack is not None:
            found, members = opened.stack(stack)
            faces = [{**_face(opened, member.face), "confidence": member.confidence} for member in members]
            content: dict[str, Any] = {**found.to_json(), "faces": faces}
            lines = [f"{face['face']}  {face['path']}  {_box(face)}  {face['confidence']:.2f}" for face in faces]
        else:
            listed = opened.stacks(order=order, offset=offset, limit=limit)  # type: ignore[arg-type]
            rows = [{**one.to_json(), "cover": _face(opened, one.cover)} for one in listed]
            content = {"stacks": rows, "total": opened.stack_count()}
            lines = [_stack_line(one, row) for one, row in zip(listed, rows, strict=True)]
    if json:
        put_json(content)
        return
    for line in lines:
        put(line)


def name(
    library: LibraryFolder,
    stack: Annotated[int, typer.Argument(metavar="STACK", help="Its number, as people stacks lists it.")],
    who: Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")],
    json: options.Json = False,
) -> None:
    """Name the person whose faces a stack holds."""
    with Library.open(library) as opened:
        _put_answer(opened.name_stack(stack, who), json)


def split(
    library: LibraryFolder,
    stack: Annotated[int, typer.Argument(metavar="STACK", help="Its number.")],
    faces: Annotated[list[int], typer.Argument(metavar="FACE…", help="Those of its faces that are somebody else's.")],
    json: options.Json = False,
) -> None:
    """Split off faces of a stack that are another person's; they get a stack of their own."""
    with Library.open(library) as opened:
        new = opened.split_stack(stack, faces)
    if json:
        put_json({"stack": stack, "new": new})
    else:
        put(f"{len(faces):,} faces lie in stack {new}")


def merge(
    library: LibraryFolder,
    first: Annotated[int, typer.Argument(metavar="STACK", help="Takes in the other.")],
    second: Annotated[int, typer.Argument(metavar="STACK", help="Is taken in.")],
    json: options.Json = False,
) -> None:
    """Merge two stacks of one person."""
    with Library.open(library) as opened:
        _put_answer(opened.merge_stacks(first, second), json)


def questions(
    library: LibraryFolder,
    count: Annotated[int, typer.Option("--count", min=1, help="At most so many.")] = 10,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List pairs of faces of which it helps most to know whether they are one person's, the most useful first."""
    with Library.open(library) as opened:
        recognizer = open_run(opened)
        from facetl.people.library_clusters import next_questions

        with photo_progress("features", unit="faces") as progress:
            asked = next_questions(opened, recognizer, count, on_progress=progress)
        rows: list[dict[str, Any]] = [
            {"first": _face(opened, one.first), "second": _face(opened, one.second), "probability": one.probability}
            for one in asked
        ]
    if json:
        put_json({"questions": rows})
        return
    for row in rows:
        first, second = row["first"], row["second"]
        put(f"{first['face']} {first['path']}  {second['face']} {second['path']}  {row['probability']:.0%}")


def answer(
    library: LibraryFolder,
    what: Annotated[str, typer.Argument(metavar="ANSWER", help=f"{', '.join(ANSWERS)}.")],
    faces: Annotated[list[int], typer.Argument(metavar="FACE…", help="Numbers of faces; different takes two.")],
    json: options.Json = False,
) -> None:
    """Mark faces as one person's, two people's, no faces, or of nobody you want to name."""
    if what not in ANSWERS:
        raise typer.BadParameter(f"ANSWER: expected one of {', '.join(ANSWERS)}, got {what!r}.")
    if what == "different" and len(faces) != 2:
        raise typer.BadParameter(f"different takes two faces, got {len(faces)}.")
    with Library.open(library) as opened:
        if what == "different":
            given = opened.mark_different(faces[:1], faces[1:])
        else:
            marks = {"same": opened.mark_same, "not-a-face": opened.mark_not_a_face, "stranger": opened.mark_stranger}
            given = marks[what](faces)
        _put_answer(given, json)


def undo(library: LibraryFolder, json: options.Json = False) -> None:
    """Take back the last answer, then the one before it, and so on."""
    with Library.open(library) as opened:
        taken = opened.undo()
    if json:
        put_json({"undone": None if taken is None else taken.to_json()})
    else:
        put("nothing to undo" if taken is None else f"undone: {_sentence(taken)}")


def add_to(app: typer.Typer) -> None:
    """Give a group these verbs."""
    for verb in (stacks, name, split, merge, questions, answer, undo):
        app.command()(verb)


def _face(library: Library, face: int) -> dict[str, Any]:
    found = library.face(face)
    photo = library.photo(found.photo)
    path = photo.paths[0] if photo.paths else None
    return {
        "face": face,
        "path": None if path is None else str(path),
        "box": [round(edge, 1) for edge in found.face.box],
    }


def _box(face: dict[str, Any]) -> str:
    return ",".join(f"{edge:.0f}" for edge in face["box"])


def _stack_line(stack: Stack, row: dict[str, Any]) -> str:
    who = stack.name or (f"{stack.suggestion}?" if stack.suggestion else "-")
    return (
        f"{stack.id}  {stack.size} faces  {stack.confidence:.2f}  {who}  {row['cover']['path']}  {_box(row['cover'])}"
    )


def _put_answer(given: LibraryAnswer, json: bool) -> None:
    if json:
        put_json(given.to_json())
    else:
        put(_sentence(given))


def _sentence(given: LibraryAnswer) -> str:
    faces = len(given.left) + len(given.right)
    if given.kind == "rename":
        return f"{given.old} is called {given.name}"
    return f"{given.kind}{f' {given.name}' if given.name else ''}, {faces:,} faces"
