"""The answers of the user: each is durably in the library before the page gets its reply."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.exceptions import HTTPException

from facetl.people.web.context import Id, Site, counted, words

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Ids = Annotated[list[Id], Field(max_length=100_000)]


class Chosen(BaseModel):
    """Faces, or the faces of stacks."""

    faces: Ids = []
    stacks: Ids = []


class Naming(Chosen):
    """Faces or stacks, and who they show."""

    name: Name


class SplitOff(BaseModel):
    """Faces that do not belong into their stack."""

    stack: Id
    faces: Annotated[Ids, Field(min_length=1)]


class Pair(BaseModel):
    """Two stacks, or two faces."""

    first: Id
    second: Id


class Reply(Pair):
    """The reply to a question: two faces, same or different; or skipped for now."""

    reply: Literal["same", "different", "skip"]


class Renaming(BaseModel):
    """A person, and the name from now on."""

    person: Id
    name: Name


def router(site: Site) -> APIRouter:
    """Return the routes that answers are sent to."""
    routes = APIRouter(prefix="/answers")
    library = site.library

    def faces_of(chosen: Chosen) -> list[int]:
        members = [member.face for stack in chosen.stacks for member in library.stack(stack)[1]]
        faces = list(dict.fromkeys(chosen.faces + members))
        if not faces:
            raise HTTPException(422, "Tick at least one face.")
        return faces

    @routes.post("/name")
    def name(body: Naming) -> dict[str, Any]:
        faces = faces_of(body)
        if len(body.stacks) == 1 and not body.faces:
            library.name_stack(body.stacks[0], body.name)
        else:
            library.assign_name(faces, body.name)
        return {"message": f"{counted(len(faces), 'face')} named {body.name}."}

    @routes.post("/split")
    def split(body: SplitOff) -> dict[str, Any]:
        new = library.split_stack(body.stack, body.faces)
        return {"message": f"{counted(len(body.faces), 'face')} split off.", "stack": new, "link": f"/stacks/{new}"}

    @routes.post("/merge")
    def merge(body: Chosen) -> dict[str, Any]:
        if len(body.stacks) < 2:
            raise HTTPException(422, "Tick at least two stacks.")
        cover = library.stack(body.stacks[0])[0].cover
        if len(body.stacks) == 2:
            library.merge_stacks(body.stacks[0], body.stacks[1])
        else:
            library.mark_same(faces_of(body))
        return {
            "message": f"{counted(len(body.stacks), 'stack')} are one person now.",
            "stack": library.stack_of(cover),
        }

    @routes.post("/apart")
    def apart(body: Pair) -> dict[str, Any]:
        first, second = (faces_of(Chosen(stacks=[stack])) for stack in (body.first, body.second))
        library.mark_different(first, second)
        return {"message": "Two people: these stacks will not be joined."}

    @routes.post("/not-a-face")
    def not_a_face(body: Chosen) -> dict[str, Any]:
        faces = faces_of(body)
        library.mark_not_a_face(faces)
        return {"message": f"{counted(len(faces), 'face')} put aside: not a face."}

    @routes.post("/stranger")
    def stranger(body: Chosen) -> dict[str, Any]:
        faces = faces_of(body)
        library.mark_stranger(faces)
        return {"message": f"{counted(len(faces), 'face')} put aside: nobody you want to name."}

    @routes.post("/reply")
    def reply(body: Reply) -> dict[str, Any]:
        if body.reply == "skip":
            site.skipped.add(frozenset((body.first, body.second)))
            return {"message": "Skipped for now."}
        if body.reply == "same":
            library.mark_same([body.first, body.second])
            return {"message": "The same person."}
        library.mark_different([body.first], [body.second])
        return {"message": "Two people."}

    @routes.post("/unskip")
    def unskip(body: Pair) -> dict[str, Any]:
        site.skipped.discard(frozenset((body.first, body.second)))
        return {"message": "Asked again."}

    @routes.post("/rename")
    def rename(body: Renaming) -> dict[str, Any]:
        old = next((person.name for person in library.people() if person.id == body.person), None)
        if old is None:
            raise HTTPException(404)
        library.rename(old, body.name)
        now = library.person(body.name)
        return {"message": f"Named {body.name} from now on.", "go": f"/people/{now.id if now else body.person}"}

    @routes.post("/undo")
    def undo() -> dict[str, Any]:
        answer = library.undo()
        return {"message": "Nothing to undo." if answer is None else f"Undone: {words(answer)}.", "done": bool(answer)}

    @routes.post("/redo")
    def redo() -> dict[str, Any]:
        answer = library.redo()
        return {
            "message": "Nothing to redo." if answer is None else f"Done again: {words(answer)}.",
            "done": bool(answer),
        }

    return routes
