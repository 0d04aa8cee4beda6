"""How published sets of faces lie on disk: what a layout is, and what its reader is made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from facetl.data.manifest import Manifest, Photo, identity_from
from facetl.errors import DataError

OTHER_NAME, NOT_LISTED, ABSENT = "other-name", "not-listed", "listed-but-absent"

Read = Callable[[Path], Manifest]


@dataclass(frozen=True)
class DatasetLayout:
    """How a set lies on disk.

    Attributes:
        name: what `--layout` calls it.
        looks: what is expected below the folder, a phrase.
        source: where the set comes from. terms: under which it may be used.
        read: folder → Manifest; DataError where the folder does not look like it.
        sure: folder → whether nothing but this set looks like that.
    """

    name: str
    looks: str
    source: str
    terms: str
    read: Read
    sure: Callable[[Path], bool]


LAYOUTS: dict[str, DatasetLayout] = {}


def layout(
    name: str, *, looks: str, source: str, terms: str, sure: Callable[[Path], bool] = lambda root: False
) -> Callable[[Read], Read]:
    """Register a reader under a name; see DatasetLayout for the arguments."""

    def register(read: Read) -> Read:
        LAYOUTS[name] = DatasetLayout(name, looks, source, terms, read, sure)
        return read

    return register


def listed(root: Path, photos: Iterable[Photo], skipped: Mapping[str, int]) -> Manifest:
    """Make a Manifest of photos in any order, names NFC-normalised."""
    named = [replace(photo, identity=identity_from(photo.identity)) for photo in photos]
    named.sort(key=lambda photo: (photo.identity, photo.path.relative_to(root).as_posix()))
    return Manifest(root, tuple(named), {reason: n for reason, n in sorted(skipped.items()) if n})


def only(manifest: Manifest, pattern: str) -> Manifest:
    """Keep the photos whose path below the root matches; DataError where those are fewer than the others."""
    fits = re.compile(pattern)
    kept = [photo for photo in manifest.photos if fits.fullmatch(photo.path.relative_to(manifest.root).as_posix())]
    others = len(manifest) - len(kept)
    if others > len(kept) or not kept:
        example = next((photo.path for photo in manifest.photos if photo not in kept[:1]), manifest.root)
        raise DataError(f"Got {others} photos of another name, as {example.relative_to(manifest.root).as_posix()}.")
    return listed(manifest.root, kept, Counter(manifest.skipped) + Counter({OTHER_NAME: others}))


def on_list(manifest: Manifest, names: Iterable[str]) -> Manifest:
    """Keep the photos whose path below the root is on a list; without names, all."""
    wanted = set(names)
    if not wanted:
        return manifest
    kept = [photo for photo in manifest.photos if photo.path.relative_to(manifest.root).as_posix() in wanted]
    counts = {NOT_LISTED: len(manifest) - len(kept), ABSENT: len(wanted) - len(kept)}
    return listed(manifest.root, kept, Counter(manifest.skipped) + Counter(counts))


def lines_of(root: Path, *names: str) -> list[str]:
    """Return the lines, without their ends, of the first of some files that is below a folder; else none."""
    for name in names:
        for path in sorted(root.glob(name)):
            try:
                return path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from None
    return []
