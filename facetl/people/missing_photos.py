"""Photos of a library whose files are gone: which, below which folders, and how to drop them.

A file counts as deleted where its folder is there and holds something else. Where the folder is not there, is empty or
cannot be listed, a disk may not be connected: such photos stay until their folder is named.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from facetl.embeddings import maintenance
from facetl.embeddings.index import MissingCacheError
from facetl.errors import CacheLockedError
from facetl.io.json import JsonFields
from facetl.people.library import Library
from facetl.people.store import photos as photos_module
from facetl.people.store.answer_log import answered_by_user
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryPhoto


@dataclass(frozen=True)
class MissingPhotos:
    """Photos of which no file is left.

    Attributes:
        deleted: those whose folder is there, and those at whose paths other photos lie now.
        absent: folder that is not there → how many photos lay below it; the largest such folder.
        places: paths of deleted files, also of photos that lie elsewhere, too.
    """

    deleted: tuple[LibraryPhoto, ...]
    absent: dict[str, int]
    places: tuple[Path, ...]


@dataclass(frozen=True)
class PruneReport(JsonFields):
    """Counts of photos that were dropped, or would be where `applied` is false.

    `photos` with `faces`, of `answered` of which the user has answered something, by `names` those that have one;
    `places` are paths that are forgotten, also of photos that lie elsewhere, too. `kept` photos lie below folders that
    are not there (folder → how many).
    """

    photos: int
    faces: int
    answered: int
    names: dict[str, int]
    places: int
    kept: dict[str, int]
    applied: bool


def missing_photos(library: Library, *, dropped: Sequence[Path] = ()) -> MissingPhotos:
    """Find the photos whose files are gone.

    dropped: folders, or files, of which nothing is expected back: what is not there below them counts as deleted.
    """
    given = [Path(os.path.abspath(path)) for path in dropped]
    absent_folder = lru_cache(maxsize=None)(_absent)
    deleted: list[LibraryPhoto] = []
    absent: Counter[str] = Counter()
    places: list[Path] = []
    for photo in library.photos(limit=max(1, library.counts()["photos"])):
        lost = [path for path in photo.paths if not os.path.isfile(path)]
        away = {
            path: folder
            for path in lost
            if not any(path.is_relative_to(one) for one in given)
            # A link that leads nowhere may lead to a disk that is not connected.
            and (folder := path.parent if path.is_symlink() else absent_folder(path.parent)) is not None
        }
        places += [path for path in lost if path not in away]
        if len(lost) < len(photo.paths):
            continue
        if away:
            absent[str(next(iter(away.values())))] += 1
        else:
            deleted.append(photo)
    return MissingPhotos(tuple(deleted), dict(sorted(absent.items())), tuple(places))


def prune(library: Library, *, dropped: Sequence[Path] = (), apply: bool = False) -> PruneReport:
    """Drop the photos whose files were deleted, with their faces, the answers about these, and what was computed.

    Args:
        dropped: folders that are not there, and whose photos go, too.
        apply: without it nothing changes.

    Raises LibraryError.
    """
    found = missing_photos(library, dropped=dropped)
    gone = {photo.id: photo for photo in found.deleted}
    with library.database.write() as sql:
        # Another process may have found a photo elsewhere meanwhile, or put it back.
        there = [one for (one,) in rows_of(sql, "SELECT id FROM photos WHERE id IN ({marks})", list(gone))]
        now = photos_module.photos_of(sql, there)
        photos = [photo.id for photo in now if photo.paths == gone[photo.id].paths and not photo.there]
        faces = photos_module.faces_by(sql, "photo", photos)
        ids = [face.id for face in faces]
        answered = answered_by_user(sql, ids)
        names = Counter(library.ledger.resolved(sql).names.get(face, "") for face in ids)
        if apply:
            photos_module.drop_paths(sql, [path for path in found.places if not os.path.isfile(path)])
            library.drop_photos(sql, photos)
    if apply:
        for face in faces:
            library.thumb(face.key).unlink(missing_ok=True)
        # While another process fills the cache, what was computed stays until facetl cache gc.
        with suppress(CacheLockedError, MissingCacheError):
            faces_kept, photos_kept = library.cached_keys()
            maintenance.gc(library.cache_folder, faces=faces_kept, photos=photos_kept)
    return PruneReport(
        photos=len(photos),
        faces=len(faces),
        answered=len(answered),
        names={name: count for name, count in sorted(names.items()) if name},
        places=len(found.places),
        kept=found.absent,
        applied=apply,
    )


def _absent(folder: Path) -> Path | None:
    """Return the largest folder that holds this one and is not there, or is empty; None where this one is there."""
    absent = None
    while not _holds_something(folder) and folder != folder.parent:
        absent, folder = folder, folder.parent
    return absent


def _holds_something(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
