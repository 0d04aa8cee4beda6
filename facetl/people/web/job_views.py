"""Running work: looking for new photos, stacking anew, learning with a look before it counts, export."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from facetl.errors import FacetlError
from facetl.io.text import given_path
from facetl.people.web.context import Id, Site
from facetl.people.web.jobs import OnProgress
from facetl.people.web.service import PeopleService

if TYPE_CHECKING:
    from facetl.people.learned_head import Proposal

Task = Literal["look", "stack", "learn", "apply"]
_WHAT: dict[Task, str] = {
    "look": "Looking for new photos",
    "stack": "Stacking all faces anew",
    "learn": "Learning from the names",
    "apply": "Applying what was learnt",
}


class Order(BaseModel):
    """The fields of the export form."""

    folder: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
    kinds: Annotated[frozenset[Literal["folders", "csv", "xmp"]], Field(min_length=1)]
    links: Literal["hard", "symbolic", "copy"] = "hard"
    people: list[Id] | None = None


def router(site: Site) -> APIRouter:
    """Return the routes of running work."""
    routes = APIRouter()

    def start(what: str, function: Callable[[OnProgress], str]) -> dict[str, Any]:
        if not site.work.start(what, function):
            raise HTTPException(409, f"One thing at a time: “{site.work.state().what}” still runs.")
        return {"message": f"{what} …"}

    @routes.get("/tasks")
    def work(request: Request) -> HTMLResponse:
        people = sorted(site.library.people(), key=lambda person: person.name.casefold())
        return site.page(request, "work.html", totals=site.library.counts(), people=people)

    @routes.get("/tasks/state")
    async def state() -> dict[str, Any]:
        return site.work.state().to_json()

    @routes.post("/tasks/cancel")
    def cancel() -> dict[str, Any]:
        site.work.cancel()
        return {"message": "Stopping …"}

    @routes.post("/tasks/export")
    def export(order: Order) -> dict[str, Any]:
        folder = Path(given_path(order.folder)).expanduser()
        if not folder.is_absolute():
            raise HTTPException(422, "The folder must be a whole path, such as ~/Pictures/People.")
        chosen = None if order.people is None else set(order.people)
        names = None if chosen is None else tuple(p.name for p in site.library.people() if p.id in chosen)
        write = partial(site.service.export, folder, kinds=frozenset(order.kinds), links=order.links, names=names)
        return start("Exporting", write)

    @routes.post("/tasks/{task}")
    def begin(task: Task) -> dict[str, Any]:
        return start(_WHAT[task], functions[task]())

    @routes.get("/learn")
    def learn_page(request: Request) -> HTMLResponse:
        changes = site.learnt.changes if site.learnt else None
        keys = site.keys(changes.moved_faces + changes.named_faces if changes else ())
        return site.page(request, "learn.html", people=site.library.people(), keys=keys)

    @routes.post("/learn/discard")
    def discard() -> dict[str, Any]:
        learnt, site.learnt = waiting(), None
        return {"message": service().discard(learnt), "go": "/learn"}

    def learn() -> Callable[[OnProgress], str]:
        function, forget = service().learn, service().discard

        def work(on_progress: OnProgress) -> str:
            learnt = function(on_progress)
            before, site.learnt = site.learnt, learnt
            if before is not None:
                forget(before)
            hint = " Look at what would change, then apply it or not." if learnt.better else ""
            return f"{learnt.headline}{hint}"

        return work

    def apply() -> Callable[[OnProgress], str]:
        function, learnt = service().apply, waiting()
        if not learnt.better:
            raise HTTPException(409, "What was learnt is not better: it is not applied.")

        def work(_: OnProgress) -> str:
            message = function(learnt)
            site.learnt = None
            return message

        return work

    def waiting() -> Proposal:
        if site.learnt is None:
            raise HTTPException(409, "Nothing waits to be applied: learn first.")
        return site.learnt

    def service() -> PeopleService:
        if not site.service.has_run:
            raise FacetlError("This needs a trained run, and this library has none yet: start the page with --run.")
        return site.service

    functions: dict[Task, Callable[[], Callable[[OnProgress], str]]] = {
        "look": lambda: service().look,
        "stack": lambda: service().stack,
        "learn": learn,
        "apply": apply,
    }
    return routes
