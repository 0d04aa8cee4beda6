"""Views of stacks: all of them, one of them, the one to look at next."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from facetl.errors import FacetlError
from facetl.people.store.stack_rows import Order
from facetl.people.web.context import PAGE, Id, Site, shown

Named = Literal["no", "yes", "all"]
Sort = Literal["sure", "unsure"]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]

# Rows enough for a large screen: pictures beyond it would keep those in sight waiting.
FACES = 72
_ALIKE = 8
_WHICH: dict[str, bool | None] = {"no": False, "yes": True, "all": None}


def router(site: Site) -> APIRouter:
    """Return the routes of the stacks' views."""
    routes = APIRouter()

    def part(order: Order, named: Named, offset: int, limit: int) -> dict[str, Any]:
        stacks = site.library.stacks(order=order, named=_WHICH[named], offset=offset, limit=limit + 1)
        following = offset + limit if len(stacks) > limit else None
        keys = site.keys(stack.cover for stack in stacks)
        return {"stacks": stacks[:limit], "keys": keys, "order": order, "named": named, "following": following}

    @routes.get("/")
    def all_stacks(request: Request, order: Order = "size", named: Named = "no") -> HTMLResponse:
        counts = {which: site.library.stack_count(named=value) for which, value in _WHICH.items()}
        return site.page(
            request, "stacks.html", counts=counts, totals=site.library.counts(), **part(order, named, 0, shown(request))
        )

    @routes.get("/stacks/more")
    def more_stacks(offset: Offset, order: Order = "size", named: Named = "no") -> HTMLResponse:
        return site.fragment("_stacks.html", **part(order, named, offset, PAGE))

    @routes.get("/stacks/next")
    def next_stack(after: Id, order: Order = "size") -> RedirectResponse:
        """Go to the next stack without a name; back to all of them after the last."""
        waiting = site.library.stacks(order=order, named=False, offset=0, limit=2)
        following = next((stack.id for stack in waiting if stack.id != after), None)
        return RedirectResponse("/" if following is None else f"/stacks/{following}", 303)

    @routes.get("/stacks/{stack}")
    def one_stack(request: Request, stack: Id, sort: Sort = "sure") -> HTMLResponse:
        found = _found(site, stack)
        return site.page(
            request,
            "stack.html",
            stack=found[0],
            key=site.keys([found[0].cover]).get(found[0].cover),
            **_faces(site, found, sort, 0, shown(request, FACES)),
        )

    @routes.get("/stacks/{stack}/more")
    def more_faces(stack: Id, offset: Offset, sort: Sort = "sure") -> HTMLResponse:
        return site.fragment("_faces.html", **_faces(site, _found(site, stack), sort, offset, FACES))

    @routes.get("/stacks/{stack}/alike")
    def alike(stack: Id) -> HTMLResponse:
        """Return the stacks that may show the same person: loaded after the page, since a net may have to answer."""
        found, _ = _found(site, stack)
        if not site.service.has_run:
            return site.fragment("_alike.html", stack=found, alike=[], keys={}, possible=False)
        with site.asking:
            near = site.service.alike(stack, _ALIKE)
        others = [(site.library.stack(other.stack)[0], other.probability) for other in near]
        keys = site.keys(other.cover for other, _ in others)
        return site.fragment("_alike.html", stack=found, alike=others, keys=keys, possible=True)

    return routes


def _found(site: Site, stack: Id) -> tuple[Any, list[Any]]:
    try:
        return site.library.stack(stack)
    except FacetlError as error:
        raise HTTPException(404) from error


def _faces(site: Site, found: tuple[Any, list[Any]], sort: Sort, offset: int, limit: int) -> dict[str, Any]:
    stack, members = found
    ordered = sorted(members, key=lambda member: member.confidence, reverse=sort == "sure")
    sure = {member.face: member.confidence for member in ordered}
    return {**site.tile_page(list(sure), f"/stacks/{stack.id}/more?sort={sort}&", offset, limit, sure), "sort": sort}
