"""A look over a folder of people before anything is computed: what would be left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from facetl.data.duplicates import without_copies
from facetl.data.manifest import Manifest
from facetl.data.metadata.header import read_header
from facetl.errors import PhotoError
from facetl.io.json import JsonFields

SMALL = 32  # pixels of the shorter side below which little of a face is left


@dataclass(frozen=True)
class DataCheck(JsonFields):
    """What a folder of people holds.

    Attributes:
        layout: how it was read.
        people, photos: that can be used.
        single: of the people, those with one photo, who can only be negatives.
        small: of the photos, those with a side below SMALL pixels.
        sides: official side → people and photos, where the set has such.
        skipped: reason → files that are left out.
    """

    root: str
    layout: str
    people: int
    photos: int
    single: int
    small: int
    sides: Mapping[str, Mapping[str, int]]
    skipped: Mapping[str, int]


def check(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> DataCheck:
    """Read the header of every photo and the bytes of those of equal size; no pixel is decoded.

    Args:
        progress: called with photos done and photos in all.

    Raises DataError where a photo cannot be read while copies are looked for.
    """
    unreadable: Counter[str] = Counter()
    sound = np.ones(len(manifest), bool)
    small = np.zeros(len(manifest), bool)
    for row, path in enumerate(manifest.paths):
        try:
            header = read_header(path)
            small[row] = min(header.width, header.height) < SMALL
        except PhotoError as error:
            unreadable[error.reason] += 1
            sound[row] = False
        if progress is not None:
            progress(row + 1, len(manifest))
    tiny = {path for path, little in zip(manifest.paths, small, strict=True) if little}
    kept = without_copies(manifest.select(sound))
    counts = kept.counts()
    sides = {
        side: {"people": len(part.identities), "photos": len(part)}
        for side in ("train", "validation", "test")
        if len(part := kept.subset(side))
    }
    return DataCheck(
        root=str(manifest.root),
        layout=manifest.layout,
        people=len(counts),
        photos=len(kept),
        single=sum(count == 1 for count in counts.values()),
        small=sum(path in tiny for path in kept.paths),
        sides=sides,
        skipped=dict(sorted((Counter(kept.skipped) + unreadable).items())),
    )
