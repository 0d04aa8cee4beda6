"""A timeline of photos, oldest first: the count of each year, and a part of the photos."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import Query

from facetl.web.site import Site

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
