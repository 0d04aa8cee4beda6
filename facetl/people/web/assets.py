"""The page's style sheet, script and icon, read once: whatever else is asked for is not there."""

from __future__ import annotations

import hashlib
from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from facetl.people.web.context import HERE

_TYPES: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def router() -> APIRouter:
    """Return the route of the assets."""
    routes = APIRouter()
    contents = {name: (HERE / "static" / name).read_bytes() for name in _TYPES}
    tags = {name: f'"{hashlib.sha256(content).hexdigest()[:16]}"' for name, content in contents.items()}

    @routes.get("/static/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in contents:
            raise HTTPException(404)
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(contents[name], media_type=_TYPES[name], headers=headers)

    return routes
