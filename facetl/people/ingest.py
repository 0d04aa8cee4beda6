"""Photos that come into a library's file: new ones, those it knows, and those it knows in another form."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from facetl.data.boxes import matched
from facetl.data.metadata.regions import Region
from facetl.data.metadata.xmp import sidecars_of
from facetl.images.perceptual_hash import NEAR, near, same_pixels
from facetl.io.files import digests
from facetl.io.sqlite_file import Execute
from facetl.people.library import Library
from facetl.people.store import photos as photos_module
from facetl.people.store.answer_log import answered_by_user
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryFace, LibraryPhoto, NewFace, NewPhoto

How = Literal["added", "known", "searched_again", "changed"]

# Overlap from which two detectors found one face, and from which a region, which often is drawn by hand, marks it.
_SAME_FACE, _MARKS = 0.35, 0.2


@dataclass(frozen=True)
class SearchedPhoto:
    """A photo that was searched for faces, with its paths, and the names that its metadata gives."""

    photo: NewPhoto
    paths: tuple[Path, ...]
    faces: tuple[NewFace, ...]
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class AddedPhoto:
    """A photo as it was added.

    Attributes:
        photo: its id.
        how: it is new; known, with pictures of faces lost; known, and searched by another detector; or known, with
            other metadata.
        moved: whether it lay elsewhere before.
        names: face → name, by its metadata.
        stale: keys of faces that are no more.
    """

    photo: int
    how: How
    moved: bool
    names: dict[int, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()


def finished(library: Library, detector: str, shas: Sequence[str]) -> set[str]:
    """Return the photos that are there with the faces of this detector, and the picture of each face."""
    keys = [bytes.fromhex(sha) for sha in shas]
    query = """SELECT photos.id, sha FROM photos JOIN detectors ON detectors.id = photos.detector
        WHERE detectors.fingerprint = ? AND sha IN ({marks})"""
    with library.database.read() as sql:
        photos = {number: sha.hex() for number, sha in rows_of(sql, query, keys, detector)}
        faces = rows_of(sql, "SELECT photo, key FROM faces WHERE photo IN ({marks})", list(photos))
    lost = {photo for photo, key in faces if not is_there(library.thumb(key.hex()))}
    return {sha for number, sha in photos.items() if number not in lost}


def copies(library: Library, found: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
    """Return where photos lie, those that an import has found now (sha256 → paths), sorted.

    Among them are known paths elsewhere that have a sidecar beside them, and still hold the same bytes.
    """
    query = "SELECT sha, path FROM photos JOIN paths ON photo = id WHERE sha IN ({marks})"
    with library.database.read() as sql:
        known = [
            (sha.hex(), Path(os.fsdecode(path))) for sha, path in rows_of(sql, query, [*map(bytes.fromhex, found)])
        ]
    elsewhere = [(sha, path) for sha, path in known if path not in found[sha] and sidecars_of(path)]
    same = digests([path for _, path in elsewhere])
    every = {sha: set(paths) for sha, paths in found.items()}
    for (sha, path), now in zip(elsewhere, same, strict=True):
        if now == sha:
            every[sha].add(path)
    return {sha: sorted(paths) for sha, paths in every.items()}


def touch_known(
    sql: Execute, library: Library, sha: str, paths: Sequence[Path], regions: Sequence[Region]
) -> tuple[bool, int]:
    """Record where a known photo lies, and the names that its sidecar gives by now.

    Returns whether it lay elsewhere before, and how many of its faces have a name by its sidecar now.
    """
    number = photos_module.photo_id(sql, sha)
    assert number is not None
    [photo] = photos_module.photos_of(sql, [number])
    moved = _place(sql, photo, paths)
    faces = photos_module.faces_by(sql, "photo", [number])
    names = _names(photo.width, photo.height, faces, regions)
    return moved, library.assign_by_metadata(sql, names)


def add_photo(sql: Execute, library: Library, searched: SearchedPhoto, detector: int) -> AddedPhoto:
    """Enter a photo and its faces; LibraryError."""
    new = searched.photo
    known = photos_module.photo_id(sql, new.sha)
    number = known if known is not None else _predecessor(sql, library, searched)
    how: How = "changed"
    if known is not None:
        (before,) = sql("SELECT detector FROM photos WHERE id = ?", (known,)).fetchone()
        how = "known" if before == detector else "searched_again"
    moved = False
    stale: tuple[str, ...] = ()
    if number is None:
        how, number = "added", photos_module.put_photo(sql, new)
        photos_module.put_paths(sql, number, searched.paths)
        photos_module.put_faces(sql, number, searched.faces)
    else:
        sql(
            "UPDATE photos SET sha = ?, width = ?, height = ?, taken_at = ?, phash = ? WHERE id = ?",
            (bytes.fromhex(new.sha), new.width, new.height, new.taken_at, new.phash, number),
        )
        [photo] = photos_module.photos_of(sql, [number])
        moved = _place(sql, photo, searched.paths)
        stale = _replace_faces(sql, library, number, searched.faces)
    sql("UPDATE photos SET detector = ? WHERE id = ?", (detector, number))
    names = _names(new.width, new.height, photos_module.faces_by(sql, "photo", [number]), searched.regions)
    return AddedPhoto(number, how, moved, names, stale)


@dataclass(frozen=True)
class CarriedFaces:
    """Photos that were edited and saved over themselves.

    Attributes:
        photos: how many went because their edited version is there.
        faces: those that are in the edited version, too, and keep their ids and answers.
        stale: keys of faces that are no more.
    """

    photos: int
    faces: int
    stale: tuple[str, ...]


def carry_replaced(sql: Execute, library: Library) -> CarriedFaces:
    """Move faces from photos that lie nowhere any more to those that replaced them, where they show the same pixels.

    A face keeps its id and its answers. An old photo goes unless a face is left in it of which the user has answered
    something: then it is a missing one, for `people prune` to drop.
    """
    replaced = sql("SELECT photo, successor FROM replaced ORDER BY photo").fetchall()
    gone = {photo.id for photo in photos_module.photos_of(sql, [photo for photo, _ in replaced]) if not photo.paths}
    carried = photos = 0
    stale: list[str] = []
    for photo, successor in replaced:
        if photo not in gone:
            continue
        pairs = _same_faces(sql, library, photo, successor)
        for old, new in pairs:
            _carry(sql, library, old, new)
        carried += len(pairs)
        stale += [old.key for old, _ in pairs]
        left = photos_module.faces_by(sql, "photo", [photo])
        if not answered_by_user(sql, [face.id for face in left]):
            library.drop_photos(sql, [photo])
            photos += 1
            stale += [face.key for face in left]
    sql("DELETE FROM replaced")
    return CarriedFaces(photos, carried, tuple(stale))


def _same_faces(sql: Execute, library: Library, photo: int, successor: int) -> list[tuple[LibraryFace, LibraryFace]]:
    """Pair the faces of a photo and its successor that were cut from the same pixels; one with answers stays itself."""
    old, new = (photos_module.faces_by(sql, "photo", [one]) for one in (photo, successor))
    taken = answered_by_user(sql, [face.id for face in new])
    pairs = []
    for before in old:
        for now in new:
            if now.id not in taken and _same_pixels(library, before.key, now.key):
                taken.add(now.id)
                pairs.append((before, now))
                break
    return pairs


def _carry(sql: Execute, library: Library, old: LibraryFace, new: LibraryFace) -> None:
    """Let a face go on under its id in another photo; names by the other's metadata come along."""
    sql("UPDATE OR IGNORE answer_faces SET face = ? WHERE face = ?", (old.id, new.id))
    library.drop_faces(sql, [new.id])
    photos_module.replace_face(
        sql,
        old.id,
        new.photo,
        NewFace(new.key, new.face, new.size, new.sharpness, new.yaw, new.pitch, new.roll, new.kind),
    )
    library.resolve_again(sql)


def mark_near_duplicates(sql: Execute) -> int:
    """Record of each near duplicate the largest photo that it is a copy of; return how many are new."""
    photos = sql("SELECT id, phash, width * height, duplicate_of FROM photos WHERE phash IS NOT NULL").fetchall()
    originals: dict[int, int] = {}
    for group in near(np.array([phash for _, phash, _, _ in photos], np.int64)):
        alike = [photos[place] for place in group.tolist()]
        original = max(alike, key=lambda photo: (photo[2], -photo[0]))[0]
        originals |= {number: original for number, *_ in alike if number != original}
    fresh = 0
    for number, _, _, before in photos:
        now = originals.get(number)
        if now != before:
            sql("UPDATE photos SET duplicate_of = ? WHERE id = ?", (now, number))
            fresh += before is None
    return fresh


def _place(sql: Execute, photo: LibraryPhoto, paths: Sequence[Path]) -> bool:
    """Record where a photo lies; return whether it has left all the places where it lay before."""
    fresh = set(paths) - set(photo.paths)
    photos_module.put_paths(sql, photo.id, fresh)
    gone = [path for path in photo.paths if path not in paths and not os.path.lexists(path)] if fresh else []
    photos_module.drop_paths(sql, gone)
    return bool(gone) and len(gone) == len(photo.paths)


def _predecessor(sql: Execute, library: Library, searched: SearchedPhoto) -> int | None:
    """Return the photo that lay at these paths alone, if this one looks the same: its metadata was changed."""
    places = [os.fsencode(path) for path in searched.paths]
    for (number,) in rows_of(sql, "SELECT DISTINCT photo FROM paths WHERE path IN ({marks})", places):
        [photo] = photos_module.photos_of(sql, [number])
        size = (photo.width, photo.height) == (searched.photo.width, searched.photo.height)
        alone = not set(photo.paths) - set(searched.paths)
        if size and alone and _alike(photo.phash, searched.photo.phash):
            old = photos_module.faces_by(sql, "photo", [number])
            pairs = matched(
                [face.face.box for face in old], [face.face.box for face in searched.faces], least=_SAME_FACE
            )
            # Two portraits may be alike as a whole.
            if all(_same_pixels(library, old[one].key, searched.faces[other].key) is not False for one, other in pairs):
                return int(number)
    return None


def _same_pixels(library: Library, first: str, second: str) -> bool | None:
    """Return whether the pictures of two faces are cut from the same pixels; None where one is lost."""
    pictures = [cv2.imread(str(library.thumb(key))) for key in (first, second)]
    if any(picture is None for picture in pictures):
        return None
    return same_pixels(np.asarray(pictures[0], np.uint8), np.asarray(pictures[1], np.uint8))


def _alike(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and ((one ^ other) & (1 << 64) - 1).bit_count() <= NEAR


def _replace_faces(sql: Execute, library: Library, photo: int, faces: Sequence[NewFace]) -> tuple[str, ...]:
    """Keep the ids of faces that were found before and now; delete the others, except those in an answer.

    Returns the keys that no face has any more.
    """
    old = photos_module.faces_by(sql, "photo", [photo])
    pairs = matched([face.face.box for face in old], [face.face.box for face in faces], least=_SAME_FACE)
    for before, _ in pairs:
        # Two faces may change their keys for each other's.
        sql("UPDATE faces SET key = randomblob(32) WHERE id = ?", (old[before].id,))
    for before, now in pairs:
        photos_module.replace_face(sql, old[before].id, photo, faces[now])
    lost = [face.id for place, face in enumerate(old) if place not in {before for before, _ in pairs}]
    answered = {face for (face,) in rows_of(sql, "SELECT face FROM answer_faces WHERE face IN ({marks})", lost)}
    library.drop_faces(sql, [face for face in lost if face not in answered])
    photos_module.put_faces(
        sql, photo, [face for place, face in enumerate(faces) if place not in {now for _, now in pairs}]
    )
    living = {face.key for face in photos_module.faces_by(sql, "photo", [photo])}
    return tuple(face.key for face in old if face.key not in living)


def _names(width: int, height: int, faces: Sequence[LibraryFace], regions: Sequence[Region]) -> dict[int, str]:
    boxes = [region.pixels(width, height) for region in regions]
    pairs = matched([face.face.box for face in faces], boxes, least=_MARKS)
    return {faces[face].id: regions[region].name for face, region in pairs}


def is_there(path: Path) -> bool:
    """Return whether a picture lies there; an empty file is what a power cut leaves of one."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
