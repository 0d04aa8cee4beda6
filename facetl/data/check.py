"""A folder of people before anything is computed: what would be left out, and why; photos whose bytes stand twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from facetl.data.manifest import Manifest, Photo
from facetl.data.metadata.header import read_header
from facetl.errors import DataError, PhotoError
from facetl.io.files import sha256_of_file
from facetl.io.json import JsonFields

SMALL = 32  # pixels of the shorter side below which little of a face is left


@dataclass(frozen=True)
class DataCheck(JsonFields):
    """The content of a folder of people.

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
    sound: list[Photo] = []
    small: set[Path] = set()
    for done, photo in enumerate(manifest.photos, start=1):
        try:
            header = read_header(photo.path)
        except PhotoError as error:
            unreadable[error.reason] += 1
        else:
            sound.append(photo)
            if min(header.width, header.height) < SMALL:
                small.add(photo.path)
        if progress is not None:
            progress(done, len(manifest))
    kept = without_copies(replace(manifest, photos=tuple(sound)))
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
        small=sum(path in small for path in kept.paths),
        sides=sides,
        skipped=dict(sorted((Counter(kept.skipped) + unreadable).items())),
    )


def without_copies(manifest: Manifest) -> Manifest:
    """Keep each content once, and no content that stands under two people.

    What is left out is counted in `skipped`: "repeated" under one person, "mislabelled" under several, since
    nobody can say who it shows. Only photos of equal size are opened. Raises DataError for an unreadable one.
    """
    left_out: Counter[str] = Counter()
    dropped: set[Path] = set()
    for twins in _twins(manifest):
        # Photos are in the manifest's order, so that the first is the same one on every machine.
        one_person = len({photo.identity for photo in twins}) == 1
        spare = twins[1:] if one_person else twins
        left_out["repeated" if one_person else "mislabelled"] += len(spare)
        dropped |= {photo.path for photo in spare}
    if not dropped:
        return manifest
    kept = tuple(photo for photo in manifest.photos if photo.path not in dropped)
    return replace(manifest, photos=kept, skipped={**manifest.skipped, **left_out})


def _twins(manifest: Manifest) -> Iterator[list[Photo]]:
    """Give photos with the same bytes, in groups of two or more."""
    try:
        for alike in _grouped(manifest.photos, lambda path: path.stat().st_size):
            yield from _grouped(alike, sha256_of_file)
    except OSError as error:
        raise DataError(f"photo {error.filename} cannot be read: {error.strerror}. Check its permissions.") from None


def _grouped(photos: Iterable[Photo], key: Callable[[Path], int | str]) -> Iterator[list[Photo]]:
    groups: defaultdict[int | str, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[key(photo.path)].append(photo)
    return (group for group in groups.values() if len(group) > 1)
