"""Views of people: all of them, one of them with a timeline; names for completion."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from facetl.people.web.context import PAGE, Id, Site, shown
from facetl.people.web.views.photo_views import Year, timeline
from facetl.people.web.views.stack_views import FACES, Offset

_COMPLETIONS = 8


class Asked(BaseModel):
    """The beginning of a name; in the body, so that no name is in an address."""

    beginning: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]


def router(site: Site) -> APIRouter:
    """Return the routes of the people's views."""
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

    @routes.get("/people/{person}")
    def photos(request: Request, person: Id, year: Year = None) -> HTMLResponse:
        found = _found(site, person)
        return site.page(
            request,
            "person.html",
            person=found,
            key=site.keys([found.cover]).get(found.cover),
            **timeline(site, f"/people/{person}", year, 0, shown(request), found.name),
        )

    @routes.get("/people/{person}/more")
    def more_photos(person: Id, offset: Offset, year: Year = None) -> HTMLResponse:
        return site.fragment(
            "_photos.html", **timeline(site, f"/people/{person}", year, offset, PAGE, _found(site, person).name)
        )

    @routes.get("/people/{person}/faces")
    def faces(request: Request, person: Id) -> HTMLResponse:
        found = _found(site, person)
        return site.page(
            request,
            "person_faces.html",
            person=found,
            key=site.keys([found.cover]).get(found.cover),
            **_faces(site, found, 0, shown(request, FACES)),
        )

    @routes.get("/people/{person}/faces/more")
    def more_faces(person: Id, offset: Offset) -> HTMLResponse:
        return site.fragment("_faces.html", **_faces(site, _found(site, person), offset, FACES))

    return routes


def _fits(name: str, wanted: str) -> bool:
    return name.startswith(wanted) or any(part.startswith(wanted) for part in name.replace("-", " ").split())


def _found(site: Site, person: Id) -> Any:
    found = next((known for known in site.library.people() if known.id == person), None)
    if found is None:
        raise HTTPException(404)
    return found


def _faces(site: Site, person: Any, offset: int, limit: int) -> dict[str, Any]:
    faces = sorted((face for face, name in site.library.shown().items() if name == person.name), reverse=True)
    return site.tile_page(faces, f"/people/{person.id}/faces/more?", offset, limit)
