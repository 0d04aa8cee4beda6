"""Photos whose bytes stand twice: a test that meets one again measures nothing."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from facetl.data.manifest import Manifest, Photo
from facetl.errors import DataError


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
    """Return photos with the same bytes, in groups of two or more."""
    try:
        for alike in _grouped(manifest.photos, lambda path: path.stat().st_size):
            yield from _grouped(alike, _sha256)
    except OSError as error:
        raise DataError(f"photo {error.filename} cannot be read: {error.strerror}. Check its permissions.") from None


def _grouped(photos: Iterable[Photo], key: Callable[[Path], int | bytes]) -> Iterator[list[Photo]]:
    groups: defaultdict[int | bytes, list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[key(photo.path)].append(photo)
    return (group for group in groups.values() if len(group) > 1)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
