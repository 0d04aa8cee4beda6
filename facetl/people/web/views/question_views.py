"""The queue of "Same person?": the most useful pair first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from facetl.people.web.context import Site

_AHEAD = 12


def router(site: Site) -> APIRouter:
    """Return the routes of the queue."""
    routes = APIRouter()

    def part(known: Sequence[str]) -> list[dict[str, Any]]:
        if not site.service.has_run:
            return []
        left_out = {_pair(text) for text in known} | site.skipped
        with site.asking:
            asked = site.service.questions(_AHEAD + len(left_out))
        fresh = [question for question in asked if frozenset((question.first, question.second)) not in left_out]
        return [_shown(site, question.first, question.second, question.probability) for question in fresh[:_AHEAD]]

    @routes.get("/questions")
    def queue(request: Request) -> HTMLResponse:
        return site.page(request, "questions.html", possible=site.service.has_run, questions=part(()))

    @routes.get("/questions/more")
    def more(known: Annotated[list[str] | None, Query(max_length=100)] = None) -> HTMLResponse:
        return site.fragment("_questions.html", questions=part(known or ()))

    return routes


def _pair(text: str) -> frozenset[int]:
    return frozenset(int(part) for part in text.split("-")[:2] if part.isascii() and part.isdigit() and len(part) < 12)


def _shown(site: Site, first: int, second: int, probability: float) -> dict[str, Any]:
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
