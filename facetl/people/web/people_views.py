"""Views of people: all, one with a timeline, who may be the same, and whose faces a dropped photo shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from facetl.errors import FacetlError, PhotoError
from facetl.people.store.models import Person
from facetl.people.web.context import PAGE, Id, Searched, Site, shown
from facetl.people.web.guard import UPLOAD_PATH
from facetl.people.web.photo_views import Year, timeline
from facetl.people.web.pictures import FACE, LARGE, around, as_jpeg, shrunk
from facetl.people.web.stack_views import FACES, Offset

_COMPLETIONS = 8
_AHEAD = 12


class Asked(BaseModel):
    """The beginning of a name; in the body, so that no name is in an address."""

    beginning: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]


def router(site: Site) -> APIRouter:
    """Return the routes of people, of the queue of questions, the most useful first, and of the search by photo."""
    routes = APIRouter()

    @routes.get("/people")
    def everyone(request: Request) -> HTMLResponse:
        people = sorted(site.library.people(), key=lambda person: (-person.faces, person.name.casefold()))
        return site.page(request, "people.html", people=people, keys=site.keys(person.cover for person in people))

    @routes.post("/people/names")
    def names(asked: Asked) -> list[dict[str, Any]]:
        """Return the people whose name begins so, in full or in a part, those with most faces first."""
        wanted = asked.beginning.casefold()
        people = [person for person in site.library.people() if _fits(person.name.casefold(), wanted)]
        people.sort(key=lambda person: (not person.name.casefold().startswith(wanted), -person.faces, person.name))
        best = people[:_COMPLETIONS]
        keys = site.keys(person.cover for person in best)
        return [
            {"id": person.id, "name": person.name, "faces": person.faces, "key": keys.get(person.cover or -1)}
            for person in best
        ]

    def person_page(request: Request, template: str, found: Person, part: dict[str, Any]) -> HTMLResponse:
        return site.page(request, template, person=found, key=site.keys([found.cover]).get(found.cover or -1), **part)

    @routes.get("/people/{person}")
    def photos(request: Request, person: Id, year: Year = None) -> HTMLResponse:
        found = _found(site, person)
        part = timeline(site, f"/people/{person}", year, 0, shown(request), found.name)
        return person_page(request, "person.html", found, part)

    @routes.get("/people/{person}/more")
    def more_photos(person: Id, offset: Offset, year: Year = None) -> HTMLResponse:
        return site.fragment(
            "_photos.html", **timeline(site, f"/people/{person}", year, offset, PAGE, _found(site, person).name)
        )

    @routes.get("/people/{person}/faces")
    def faces(request: Request, person: Id) -> HTMLResponse:
        found = _found(site, person)
        return person_page(request, "person_faces.html", found, _faces(site, found, 0, shown(request, FACES)))

    @routes.get("/people/{person}/faces/more")
    def more_faces(person: Id, offset: Offset) -> HTMLResponse:
        return site.fragment("_faces.html", **_faces(site, _found(site, person), offset, FACES))

    def asked_next(known: Sequence[str]) -> list[dict[str, Any]]:
        if not site.service.has_run:
            return []
        left_out = {_pair(text) for text in known} | site.skipped
        with site.asking:
            asked = site.service.questions(_AHEAD + len(left_out))
        fresh = [question for question in asked if frozenset((question.first, question.second)) not in left_out]
        return [_question(site, question.first, question.second, question.probability) for question in fresh[:_AHEAD]]

    @routes.get("/questions")
    def queue(request: Request) -> HTMLResponse:
        return site.page(request, "questions.html", possible=site.service.has_run, questions=asked_next(()))

    @routes.get("/questions/more")
    def more_questions(known: Annotated[list[str] | None, Query(max_length=100)] = None) -> HTMLResponse:
        return site.fragment("_questions.html", questions=asked_next(known or ()))

    def find(data: bytes) -> int:
        if not site.service.has_run:
            raise FacetlError("Searching by photo needs a trained run, and this library has none yet.")
        photo = site.pictures.decode(data)
        with site.asking:
            faces = tuple(site.service.recognise(photo))
        crops = tuple(as_jpeg(shrunk(around(photo, face.box), FACE)) for face in faces)
        kept = Searched(as_jpeg(shrunk(photo, LARGE)), (photo.shape[1], photo.shape[0]), faces, crops)
        return site.keep_search(kept)

    @routes.post(UPLOAD_PATH)
    async def search(request: Request) -> JSONResponse:
        """Take a photo's bytes as the body; the guard has bounded them."""
        if not request.headers.get("content-type", "").startswith(("image/", "application/octet-stream")):
            raise HTTPException(415, "Search takes a photo: JPEG, PNG, WebP, GIF, BMP or TIFF.")
        data = await request.body()
        try:
            number = await run_in_threadpool(find, data)
        except PhotoError as error:
            raise HTTPException(415, str(error)) from error
        return JSONResponse({"go": f"/search/{number}"})

    @routes.get("/search/{number}")
    def search_result(request: Request, number: Id) -> HTMLResponse:
        searched = _kept(site, number)
        near = [site.tiles([face for face, _ in one.nearest], dict(one.nearest)) for one in searched.faces]
        ids = {person.name: person.id for person in site.library.people()}
        return site.page(request, "search.html", number=number, searched=searched, near=near, ids=ids)

    @routes.get("/search/{number}/photo.jpg")
    def searched_photo(number: Id) -> Response:
        return Response(_kept(site, number).photo, media_type="image/jpeg")

    @routes.get("/search/{number}/{face}.jpg")
    def searched_face(number: Id, face: Id) -> Response:
        crops = _kept(site, number).crops
        if face >= len(crops):
            raise HTTPException(404)
        return Response(crops[face], media_type="image/jpeg")

    return routes


def _fits(name: str, wanted: str) -> bool:
    return name.startswith(wanted) or any(part.startswith(wanted) for part in name.replace("-", " ").split())


def _found(site: Site, person: Id) -> Person:
    found = next((known for known in site.library.people() if known.id == person), None)
    if found is None:
        raise HTTPException(404)
    return found


def _faces(site: Site, person: Person, offset: int, limit: int) -> dict[str, Any]:
    faces = sorted((face for face, name in site.library.shown().items() if name == person.name), reverse=True)
    return site.tile_page(faces, f"/people/{person.id}/faces/more?", offset, limit)


def _pair(text: str) -> frozenset[int]:
    return frozenset(int(part) for part in text.split("-")[:2] if part.isascii() and part.isdigit() and len(part) < 12)


def _question(site: Site, first: int, second: int, probability: float) -> dict[str, Any]:
    faces = {face.id: face for face in site.library.faces([first, second])}
    names = site.library.shown()
    sides = [
        {
            "face": face,
            "photo": site.library.photo(face.photo),
            "name": names.get(face.id),
            "stack": site.library.stack_of(face.id),
        }
        for face in (faces[first], faces[second])
    ]
    return {"sides": sides, "probability": probability}


def _kept(site: Site, number: Id) -> Searched:
    searched = site.search(number)
    if searched is None:
        raise HTTPException(404, "This search is no longer kept. Drop the photo again.")
    return searched
