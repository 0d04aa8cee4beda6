"""What the user says, as the page sends it: each answer is in the library, durably, before the page hears of it."""

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


class Split(BaseModel):
    """Faces that do not belong into their stack."""

    stack: Id
    faces: Annotated[Ids, Field(min_length=1)]


class Pair(BaseModel):
    """Two stacks."""

    first: Id
    second: Id


class Reply(BaseModel):
    """What the user says to a question: two faces, same or different; or nothing for now."""

    first: Id
    second: Id
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
    def name(said: Naming) -> dict[str, Any]:
        faces = faces_of(said)
        if len(said.stacks) == 1 and not said.faces:
            library.name_stack(said.stacks[0], said.name)
        else:
            library.say_name(faces, said.name)
        return {"message": f"{counted(len(faces), 'face')} named {said.name}."}

    @routes.post("/split")
    def split(said: Split) -> dict[str, Any]:
        new = library.split_stack(said.stack, said.faces)
        return {"message": f"{counted(len(said.faces), 'face')} split off.", "stack": new, "link": f"/stacks/{new}"}

    @routes.post("/merge")
    def merge(said: Chosen) -> dict[str, Any]:
        if len(said.stacks) < 2:
            raise HTTPException(422, "Tick at least two stacks.")
        cover = library.stack(said.stacks[0])[0].cover
        if len(said.stacks) == 2:
            library.merge_stacks(said.stacks[0], said.stacks[1])
        else:
            library.say_same(faces_of(said))
        return {
            "message": f"{counted(len(said.stacks), 'stack')} are one person now.",
            "stack": library.stack_of(cover),
        }

    @routes.post("/apart")
    def apart(said: Pair) -> dict[str, Any]:
        first, second = (faces_of(Chosen(stacks=[stack])) for stack in (said.first, said.second))
        library.say_different(first, second)
        return {"message": "Two people: these stacks will not be joined."}

    @routes.post("/not-a-face")
    def not_a_face(said: Chosen) -> dict[str, Any]:
        faces = faces_of(said)
        library.say_not_a_face(faces)
        return {"message": f"{counted(len(faces), 'face')} put aside: not a face."}

    @routes.post("/stranger")
    def stranger(said: Chosen) -> dict[str, Any]:
        faces = faces_of(said)
        library.say_stranger(faces)
        return {"message": f"{counted(len(faces), 'face')} put aside: nobody you want to name."}

    @routes.post("/reply")
    def reply(said: Reply) -> dict[str, Any]:
        if said.reply == "skip":
            site.skipped.add(frozenset((said.first, said.second)))
            return {"message": "Skipped for now."}
        if said.reply == "same":
            library.say_same([said.first, said.second])
            return {"message": "The same person."}
        library.say_different([said.first], [said.second])
        return {"message": "Two people."}

    @routes.post("/unskip")
    def unskip(said: Pair) -> dict[str, Any]:
        site.skipped.discard(frozenset((said.first, said.second)))
        return {"message": "Asked again."}

    @routes.post("/rename")
    def rename(said: Renaming) -> dict[str, Any]:
        old = next((person.name for person in library.people() if person.id == said.person), None)
        if old is None:
            raise HTTPException(404)
        library.rename(old, said.name)
        now = next((person.id for person in library.people() if person.name == said.name), said.person)
        return {"message": f"Named {said.name} from now on.", "go": f"/people/{now}"}

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
