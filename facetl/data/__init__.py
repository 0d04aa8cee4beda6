"""Photos of people: where they lie, who is on them, and on which side of a split they stand."""

from __future__ import annotations

from facetl.data.fetch.sources import Fetched, fetch
from facetl.data.manifest import Manifest, Photo
from facetl.data.pair_lists import Pair, PairsProtocol, lfw_photo, read_lfw_pairs
from facetl.data.walk import IMAGE_SUFFIXES

__all__ = [
    "IMAGE_SUFFIXES",
    "Fetched",
    "Manifest",
    "Pair",
    "PairsProtocol",
    "Photo",
    "fetch",
    "lfw_photo",
    "read_lfw_pairs",
]
