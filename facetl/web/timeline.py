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
    everything = site.library.counts()["photos"]
    photos = site.library.photos(name=name, limit=max(1, everything))
    years = Counter(int(photo.taken_at[:4]) for photo in photos if photo.taken_at)
    chosen = [photo for photo in photos if year is None or (photo.taken_at or "").startswith(f"{year:04d}")]
    following = offset + limit if len(chosen) > offset + limit else None
    suffix = "" if year is None else f"&year={year}"
    return {
        "photos": chosen[offset : offset + limit],
        "last": (chosen[offset - 1].taken_at or "none")[:7] if 0 < offset <= len(chosen) else None,
        "years": sorted(years.items()),
        "year": year,
        "address": address,
        "more": None if following is None else f"{address}/more?offset={following}{suffix}",
    }
