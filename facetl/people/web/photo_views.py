"""A timeline of photos, oldest first: the count of each year, and a part of the photos."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from facetl.errors import FacetlError
from facetl.people.web.context import PAGE, Id, Site, shown
from facetl.people.web.pictures import LARGE, SMALL
from facetl.people.web.stack_views import FACES, Offset

Year = Annotated[int | None, Query(ge=0, le=9999)]


def timeline(site: Site, address: str, year: int | None, offset: int, limit: int, name: str | None) -> dict[str, Any]:
    """Return what `_photos.html` and `_years.html` show of all photos, or of those with the person of a name.

    Args:
        address: of the page; further parts are at `<address>/more`.
        year: shows the photos of this year alone.
    """
    everything = max(1, site.library.counts()["photos"])
    years: Counter[int] = Counter()
    if offset == 0 or year is not None:
        taken = (photo.taken_at for photo in site.library.photos(name=name, limit=everything))
        years.update(int(when[:4]) for when in taken if when)
    # Photos come oldest first: a year's are a part of all.
    begin = 0 if year is None else sum(count for one, count in years.items() if one < year)
    end = everything if year is None else begin + years[year]
    before = 1 if offset else 0
    found = site.library.photos(
        name=name, offset=begin + offset - before, limit=max(0, min(limit + 1, end - begin - offset)) + before
    )
    shown = found[before:]
    suffix = "" if year is None else f"&year={year}"
    return {
        "photos": shown[:limit],
        "last": (found[0].taken_at or "none")[:7] if before and found else None,
        "years": sorted(years.items()),
        "year": year,
        "address": address,
        "more": f"{address}/more?offset={offset + limit}{suffix}" if len(shown) > limit else None,
    }


Kind = Literal["single", "poor", "strangers", "nofaces"]


def router(site: Site) -> APIRouter:
    """Return the routes of photos, thumbnails, the unknown and the history."""
    routes = APIRouter()

    # Many at once and a few kilobytes each: handing them to another thread would take longer than to read them.
    @routes.get("/thumbs/{key}.jpg")
    async def thumbnail(key: str) -> Response:
        return _picture(lambda: site.pictures.thumbnail(key))

    @routes.get("/photos/{photo}/{size}.jpg")
    def picture(photo: Id, size: Literal["small", "large"], v: Annotated[str, Query()]) -> Response:
        _matches(site.library.photo(photo).sha, v)
        side = SMALL if size == "small" else LARGE
        return _picture(lambda: site.pictures.photo(photo, side))

    @routes.get("/faces/{face}.jpg")
    def face_picture(face: Id, v: Annotated[str, Query()]) -> Response:
        _matches(site.library.face(face).key, v)
        return _picture(lambda: site.pictures.face(face))

    @routes.get("/photos")
    def all_photos(request: Request, year: Year = None) -> HTMLResponse:
        part = timeline(site, "/photos", year, 0, shown(request), None)
        return site.page(request, "photos.html", totals=site.library.counts(), **part)

    @routes.get("/photos/more")
    def more_photos(offset: Offset, year: Year = None) -> HTMLResponse:
        return site.fragment("_photos.html", **timeline(site, "/photos", year, offset, PAGE, None))

    @routes.get("/photos/{photo}")
    def one_photo(request: Request, photo: Id, face: Id | None = None) -> HTMLResponse:
        found = site.library.photo(photo)
        faces = sorted(site.library.faces_of(photo), key=lambda known: known.face.box[0])
        return site.page(
            request,
            "photo.html",
            photo=found,
            faces=faces,
            names=site.library.shown(),
            stack_of=site.library.stacks_of([known.id for known in faces]),
            resolved=site.library.resolved(),
            chosen=face,
        )

    @routes.get("/unknown")
    def unknown(request: Request, kind: Kind = "single") -> HTMLResponse:
        groups = _unknown(site)
        return site.page(
            request,
            "unknown.html",
            counts={name: len(faces) for name, faces in groups.items()},
            waiting=site.library.stack_count(named=False),
            kind=kind,
            **site.tile_page(groups[kind], f"/unknown/more?kind={kind}&", 0, shown(request, FACES)),
        )

    @routes.get("/unknown/more")
    def more_unknown(offset: Offset, kind: Kind) -> HTMLResponse:
        part = site.tile_page(_unknown(site)[kind], f"/unknown/more?kind={kind}&", offset, FACES)
        return site.fragment("_faces.html", **part)

    @routes.get("/history")
    def history(request: Request) -> HTMLResponse:
        return site.page(request, "history.html", **_answers(site, 0, shown(request)))

    @routes.get("/history/more")
    def more_history(offset: Offset) -> HTMLResponse:
        return site.fragment("_answers.html", **_answers(site, offset, PAGE))

    return routes


def _matches(known: str, version: str) -> None:
    if version != known[:16]:
        raise HTTPException(404)


def _picture(make: Any) -> Response:
    """Return a JPEG; like all else it stays out of the browser's cache, which `facetl forget` could not reach."""
    try:
        data = make()
    except FacetlError as error:
        raise HTTPException(404) from error
    if data is None:
        raise HTTPException(404)
    return Response(data, media_type="image/jpeg")


def _unknown(site: Site) -> dict[Kind, list[int]]:
    """Return the faces without a name, by why: alone in their stack, too poor to stack, put aside by the user."""
    library = site.library
    resolved, names = library.resolved(), library.shown()
    aside = resolved.not_faces | resolved.strangers
    good = set(library.face_ids("good").tolist())
    everyone = library.face_ids(None).tolist()
    stacks = library.stacks(order="size", named=False, offset=0, limit=len(everyone) + 1)
    return {
        "single": [stack.cover for stack in stacks if stack.size == 1],
        "poor": [face for face in everyone if face not in good and face not in names and face not in aside],
        "strangers": sorted(resolved.strangers, reverse=True),
        "nofaces": sorted(resolved.not_faces, reverse=True),
    }


def _answers(site: Site, offset: int, limit: int) -> dict[str, Any]:
    answers = site.library.answers(offset=offset, limit=limit + 1)
    firsts = [face for answer in answers for face in (*answer.left[:6], *answer.right[:6])]
    return {
        "answers": answers[:limit],
        "keys": site.keys(dict.fromkeys(firsts)),
        "more": f"/history/more?offset={offset + limit}" if len(answers) > limit else None,
    }
