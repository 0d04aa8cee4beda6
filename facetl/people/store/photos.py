"""Photos and faces in the library's file."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from facetl.errors import LibraryError
from facetl.faces.landmark_store import packed, unpacked
from facetl.io.sqlite_file import Execute
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryFace, LibraryPhoto, NewFace, NewPhoto

_PHOTO = "SELECT id, sha, width, height, taken_at, phash, duplicate_of FROM photos"
_FACE = "SELECT id, key, photo, numbers, size, sharpness, yaw, pitch, roll, kind FROM faces"


# Photos


def photos_of(sql: Execute, ids: Sequence[int]) -> list[LibraryPhoto]:
    """Return photos in the order of their ids; LibraryError where there is none of an id."""
    found = rows_of(sql, _PHOTO + " WHERE id IN ({marks})", list(dict.fromkeys(ids)))
    records = {number: (number, sha.hex(), *rest) for number, sha, *rest in found}
    missing = [one for one in ids if one not in records]
    if missing:
        raise LibraryError(f"The library has no photo with the number {missing[0]}.")
    paths: dict[int, list[Path]] = {}
    for photo, path in rows_of(
        sql, "SELECT photo, path FROM paths WHERE photo IN ({marks}) ORDER BY path", list(records)
    ):
        paths.setdefault(photo, []).append(Path(os.fsdecode(path)))
    return [LibraryPhoto(*(*records[one], tuple(sorted(paths.get(one, ()))))) for one in ids]


def photos_by_time(sql: Execute, *, person: str | None, offset: int, limit: int) -> list[LibraryPhoto]:
    """Return a page of photos, oldest first, those without a date last; with `person`, those that show somebody."""
    showing = """WHERE id IN (SELECT photo FROM faces JOIN shown ON shown.face = faces.id
        JOIN people ON people.id = shown.person WHERE people.name = :person)"""
    query = f"""SELECT id FROM photos {"" if person is None else showing}
        ORDER BY taken_at IS NULL, taken_at, id LIMIT :limit OFFSET :offset"""
    return photos_of(sql, [one for (one,) in sql(query, {"person": person, "limit": limit, "offset": offset})])


def photo_id(sql: Execute, sha: str) -> int | None:
    """Return the id of the photo with this sha256; None where there is none."""
    found = sql("SELECT id FROM photos WHERE sha = ?", (bytes.fromhex(sha),)).fetchone()
    return None if found is None else int(found[0])


def put_photo(sql: Execute, photo: NewPhoto) -> int:
    """Enter a photo, or return the id of the one with the same bytes."""
    sha = bytes.fromhex(photo.sha)
    sql(
        "INSERT INTO photos (sha, width, height, taken_at, phash) VALUES (?, ?, ?, ?, ?) ON CONFLICT (sha) DO NOTHING",
        (sha, photo.width, photo.height, photo.taken_at, photo.phash),
    )
    return int(sql("SELECT id FROM photos WHERE sha = ?", (sha,)).fetchone()[0])


def put_paths(sql: Execute, photo: int, paths: Collection[Path]) -> None:
    """Record where a photo lies; what lay there before lies there no more, and is noted as replaced."""
    for path in paths:
        place = os.fsencode(os.path.abspath(path))
        sql(
            "INSERT OR REPLACE INTO replaced SELECT photo, ?2 FROM paths WHERE path = ?1 AND photo != ?2",
            (place, photo),
        )
        sql("INSERT OR REPLACE INTO paths VALUES (?, ?)", (place, photo))


def drop_paths(sql: Execute, paths: Collection[Path]) -> None:
    """Delete paths of photos."""
    for path in paths:
        sql("DELETE FROM paths WHERE path = ?", (os.fsencode(path),))


# Faces


def faces_by(sql: Execute, column: str, values: Sequence[Any]) -> list[LibraryFace]:
    """Return the faces with these values in a column, by id."""
    records = rows_of(sql, f"{_FACE} WHERE {column} IN ({{marks}})", list(dict.fromkeys(values)))
    faces = [LibraryFace(one, key.hex(), photo, unpacked(box)[0], *rest) for one, key, photo, box, *rest in records]
    return sorted(faces, key=lambda face: face.id)


def faces_of_ids(sql: Execute, ids: Sequence[int]) -> list[LibraryFace]:
    """Return faces in the order of their ids; LibraryError where there is none of an id."""
    found = {face.id: face for face in faces_by(sql, "id", [int(one) for one in ids])}
    missing = [one for one in ids if one not in found]
    if missing:
        raise LibraryError(f"The library has no face with the number {missing[0]}. List its stacks again.")
    return [found[one] for one in ids]


def put_faces(sql: Execute, photo: int, faces: Sequence[NewFace]) -> list[int]:
    """Enter a photo's faces, those that are there already once; return their ids."""
    ids = []
    for face in faces:
        key = bytes.fromhex(face.key)
        sql(
            "INSERT INTO faces (key, photo, numbers, size, sharpness, yaw, pitch, roll, kind) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
            (key, photo, packed(face.face), *_quality(face)),
        )
        ids.append(int(sql("SELECT id FROM faces WHERE key = ?", (key,)).fetchone()[0]))
    return ids


def replace_face(sql: Execute, old: int, photo: int, face: NewFace) -> None:
    """Replace what is known of a face by what another detector found; its id and answers stay."""
    sql(
        "UPDATE faces SET key = ?, photo = ?, numbers = ?, size = ?, sharpness = ?, yaw = ?, pitch = ?, roll = ?, "
        "kind = ? WHERE id = ?",
        (bytes.fromhex(face.key), photo, packed(face.face), *_quality(face), old),
    )


# Detectors


def put_detector(sql: Execute, fingerprint: str, description: Mapping[str, Any]) -> int:
    """Return the id of a detector, which is entered where it is new."""
    text = json.dumps(dict(description), sort_keys=True, default=str)
    sql("INSERT OR IGNORE INTO detectors (fingerprint, description) VALUES (?, ?)", (fingerprint, text))
    return int(sql("SELECT id FROM detectors WHERE fingerprint = ?", (fingerprint,)).fetchone()[0])


def _quality(face: NewFace) -> tuple[Any, ...]:
    return face.size, face.sharpness, face.yaw, face.pitch, face.roll, face.kind
