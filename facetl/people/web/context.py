"""Objects that every view shares: the library, the service, running work, pictures, and how a template is filled."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field
from starlette.requests import Request
from starlette.responses import HTMLResponse

from facetl.io.text import printable
from facetl.people.library import Library
from facetl.people.store.models import LibraryAnswer
from facetl.people.web.jobs import Work
from facetl.people.web.pictures import Pictures
from facetl.people.web.service import PeopleService, Recognised

if TYPE_CHECKING:
    from facetl.people.learned_head import Proposal

# SQLite's numbers end at 64 bits.
Id = Annotated[int, Field(ge=0, lt=2**63)]
HERE: Final = Path(__file__).parent
# As many tiles as a page begins with; a refreshed page may begin with as many as were loaded, up to the most.
PAGE: Final = 48
MOST: Final = 600
# Tiles that a large screen shows at once: their pictures come with the page.
IN_SIGHT: Final = 48
_SEARCHES: Final = 6


@dataclass(frozen=True)
class Tile:
    """A face as a tile shows it."""

    face: int
    key: str
    photo: int
    name: str | None
    confidence: float | None
    kind: str


@dataclass(frozen=True)
class Searched:
    """A dropped photo and its faces; kept in memory alone."""

    photo: bytes
    size: tuple[int, int]
    faces: tuple[Recognised, ...]
    crops: tuple[bytes, ...]


class Site:
    """Library, service, running work and pictures, shared by all views."""

    def __init__(self, library: Library, service: PeopleService) -> None:
        self.library = library
        self.service = service
        self.work = Work()
        self.pictures = Pictures(library)
        self.learnt: Proposal | None = None
        self.skipped: set[frozenset[int]] = set()
        # Nets are not asked from two threads at once.
        self.asking = threading.Lock()
        self._searches: OrderedDict[int, Searched] = OrderedDict()
        self._searched = 0
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=lambda value: value if hasattr(value, "__html__") else printable(value),
        )
        self._environment.filters |= {
            "count": counted,
            "percent": percent,
            "day": day,
            "month": month,
            "moment": moment,
            "words": words,
        }
        self._environment.globals["inlined"] = self.pictures.inlined

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Fill a whole page's template."""
        text = self._environment.get_template(template).render(
            view=template.removesuffix(".html"),
            title_of_library=self.library.folder.name,
            state=self.work.state(),
            has_run=self.service.has_run,
            learnt=self.learnt,
            in_sight=IN_SIGHT,
            **values,
        )
        return HTMLResponse(text, status)

    def fragment(self, template: str, **values: Any) -> HTMLResponse:
        """Fill the template of a part of a page, which is not in sight yet."""
        return HTMLResponse(self._environment.get_template(template).render(in_sight=0, **values))

    def tiles(self, faces: Sequence[int], confidence: Mapping[int, float] | None = None) -> list[Tile]:
        """Return faces as tiles, in their order."""
        names, sure = self.library.shown(), confidence or {}
        return [
            Tile(face.id, face.key, face.photo, names.get(face.id), sure.get(face.id), face.kind)
            for face in self.library.faces(faces)
        ]

    def tile_page(
        self,
        faces: Sequence[int],
        more: str,
        offset: int,
        limit: int,
        confidence: Mapping[int, float] | None = None,
    ) -> dict[str, Any]:
        """Return what `_faces.html` shows of a part of the faces; `more` begins the address of the rest."""
        return {
            "tiles": self.tiles(faces[offset : offset + limit], confidence),
            "more": f"{more}offset={offset + limit}" if len(faces) > offset + limit else None,
        }

    def keys(self, faces: Iterable[int | None]) -> dict[int, str]:
        """Return the key of each face, for its thumbnail's address."""
        wanted = [face for face in faces if face is not None]
        return {face.id: face.key for face in self.library.faces(wanted)}

    def keep_search(self, searched: Searched) -> int:
        """Keep what a dropped photo gave, in place of the oldest one, and return its number."""
        with self.asking:
            self._searched += 1
            self._searches[self._searched] = searched
            if len(self._searches) > _SEARCHES:
                self._searches.popitem(last=False)
            return self._searched

    def search(self, number: int) -> Searched | None:
        """Return what a dropped photo gave; None once it is no longer kept."""
        return self._searches.get(number)


def shown(request: Request, page: int = PAGE) -> int:
    """Return how many tiles a page begins with: as many as the browser had loaded before it was refreshed."""
    given = request.headers.get("x-shown", "")
    return min(max(int(given), page), MOST) if given.isascii() and given.isdigit() and len(given) < 6 else page


def counted(number: int, one: str = "", many: str = "") -> str:
    """Return a number with its noun: `1 face`, `1,204 faces`."""
    noun = one if number == 1 else many or (f"{one}s" if one else "")
    return f"{number:,} {noun}".strip()


def percent(share: float) -> str:
    """Return a share in per cent, never 100% or 0% where it is not quite."""
    whole = round(100 * share)
    return f"{min(max(whole, 1), 99) if 0 < share < 1 else whole}%"


def _date(taken: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(taken or "")
    except ValueError:
        return None


def day(taken: str | None) -> str:
    """Return an ISO date as `14 July 2019`; empty where there is none."""
    when = _date(taken)
    return f"{when.day} {when:%B %Y}" if when else ""


def month(taken: str | None) -> str:
    """Return the month of an ISO date as `July`; empty where there is none."""
    when = _date(taken)
    return f"{when:%B}" if when else ""


def moment(at: str) -> str:
    """Return an ISO time as `14 July, 18:03`, in this machine's time zone."""
    when = datetime.fromisoformat(at).astimezone()
    return f"{when.day} {when:%B, %H:%M}"


def words(answer: LibraryAnswer) -> str:
    """Return an answer as a sentence without its full stop: `3 faces are Ada`."""
    left, right = counted(len(answer.left), "face"), counted(len(answer.right), "face")
    one = len(answer.left) == 1
    sentence = {
        "name": f"{left} {'is' if one else 'are'} {answer.name}",
        "same": f"{left} are one person",
        "different": f"{left} and {right} are two people",
        "not-a-face": f"{left} put aside as no {'face' if one else 'faces'}",
        "stranger": f"{left} put aside as nobody to name",
        "rename": f"{answer.old} is called {answer.name}",
    }[answer.kind]
    return f"{sentence}, from the photo itself" if answer.origin == "region" else sentence
