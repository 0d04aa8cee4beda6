"""Search by dropping a photo: whose faces are on it, and which faces of the library are most like them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from facetl.errors import FacetlError, PhotoError
from facetl.people.web.context import Id, Searched, Site
from facetl.people.web.guard import UPLOAD_PATH
from facetl.people.web.pictures import FACE, LARGE, around, as_jpeg, shrunk


def router(site: Site) -> APIRouter:
    """Return the routes of the search by photo."""
    routes = APIRouter()

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
            raise HTTPException(415, "Search takes a photo: JPEG, PNG, WebP, BMP or TIFF.")
        data = await request.body()
        try:
            number = await run_in_threadpool(find, data)
        except PhotoError as error:
            raise HTTPException(415, str(error)) from error
        return JSONResponse({"go": f"/search/{number}"})

    @routes.get("/search/{number}")
    def found(request: Request, number: Id) -> HTMLResponse:
        searched = _kept(site, number)
        near = [
            site.tiles([face for face, _ in one.nearest], [likely for _, likely in one.nearest])
            for one in searched.faces
        ]
        ids = {person.name: person.id for person in site.library.people()}
        return site.page(request, "search.html", number=number, searched=searched, near=near, ids=ids)

    @routes.get("/search/{number}/photo.jpg")
    def photo(number: Id) -> Response:
        return Response(_kept(site, number).photo, media_type="image/jpeg")

    @routes.get("/search/{number}/{face}.jpg")
    def crop(number: Id, face: Id) -> Response:
        crops = _kept(site, number).crops
        if not 0 <= face < len(crops):
            raise HTTPException(404)
        return Response(crops[face], media_type="image/jpeg")

    return routes


def _kept(site: Site, number: Id) -> Searched:
    searched = site.search(number)
    if searched is None:
        raise HTTPException(404, "This search is no longer kept. Drop the photo again.")
    return searched
