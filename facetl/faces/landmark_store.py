"""The faces found in photos, kept beside the embedding cache so that each photo is searched once.

    FOLDER/landmarks.sqlite      faces by photo and detector, and where the photos were seen (SQLite, WAL)

A photo's faces count once their transaction is committed: a process killed at any moment loses at most the batch
in flight. Several processes may write at a time; what one detector finds in a photo is the same in each.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.errors import CacheError
from facetl.faces.detectors import Face, highest
from facetl.io.files import checksum
from facetl.io.json import JsonFields, parse_json
from facetl.io.sqlite_file import PHOTO_TABLE, PhotoPathsFile, Schema, parts

FILE_NAME = "landmarks.sqlite"

_TABLES = f"""
CREATE TABLE detectors (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, description TEXT NOT NULL);
CREATE TABLE searched (
    detector INTEGER NOT NULL,
    sha BLOB NOT NULL,
    faces BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (detector, sha)
) WITHOUT ROWID;
{PHOTO_TABLE}
"""
_SCHEMA = Schema("found faces", 1, _TABLES)
# Of a face: box, landmarks, confidence; exactly the numbers that the detector gave.
_NUMBER, _NUMBERS = np.dtype("<f4"), 15
# After the faces of a photo. Where it lacks, facetl looked at photos upright alone.
_ANY_WAY_UP = b"\0"

Faces = tuple[Face, ...]


class MissingLandmarksError(CacheError):
    """Nobody has looked for faces with this cache yet."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"Faces must be looked for before they are read; {path} holds none. Detect them first.")


@dataclass(frozen=True)
class DetectorInfo(JsonFields):
    """One detector: its settings, the photos it searched, those without a face, and the faces it found."""

    fingerprint: str
    description: Mapping[str, object]
    photos: int
    without_face: int
    faces: int


class LandmarkStore(PhotoPathsFile):
    """The faces that detectors found in photos, named by the sha256 of their bytes; a context manager.

    A detector is named by its fingerprint. Open it with `LandmarkStore.open`.
    """

    FILE_NAME = FILE_NAME
    SCHEMA = _SCHEMA
    RULE = "Found faces must lie in a sound SQLite file"
    REMEDY = "Delete it and run the same command again: faces are looked for anew."

    @classmethod
    def _missing(cls, folder: Path) -> CacheError:
        return MissingLandmarksError(folder / FILE_NAME)

    def find(self, fingerprint: str, shas: Collection[str], *, doubt: float | None = None) -> dict[str, Faces]:
        """Return the faces of those photos that this detector has searched, none found included.

        What was changed on the disk since it was written counts as not searched.

        Args:
            doubt: the detector's; then a photo that was searched upright alone, as facetl did once, counts as not
                searched where a search has its other ways up looked at. None returns what is stored.
        """
        found: dict[str, Faces] = {}
        for part in parts(list(dict.fromkeys(shas))):
            marks = ",".join("?" * len(part))
            query = (
                "SELECT sha, faces, checksum FROM searched JOIN detectors ON detector = id "
                f"WHERE fingerprint = ? AND sha IN ({marks})"
            )
            for sha, content, stored in self._all(query, fingerprint, *map(bytes.fromhex, part)):
                if not _sound(sha, content, stored):
                    continue
                faces = unpacked(content[:-1] if _is_marked(content) else content)
                if doubt is None or _is_marked(content) or (faces and highest(faces) >= doubt):
                    found[sha.hex()] = faces
        return found

    def put(self, fingerprint: str, description: Mapping[str, object], faces: Mapping[str, Sequence[Face]]) -> None:
        """Keep what a detector found in photos, all or none: when this returns, it is durable.

        Raises CacheFullError where the disk takes no more.
        """
        text = json.dumps(dict(description), sort_keys=True)
        with self._transaction() as sql:
            sql("INSERT OR IGNORE INTO detectors (fingerprint, description) VALUES (?, ?)", (fingerprint, text))
            detector = sql("SELECT id FROM detectors WHERE fingerprint = ?", (fingerprint,)).fetchone()[0]
            for name, found in faces.items():
                sha, content = bytes.fromhex(name), b"".join(map(packed, found)) + _ANY_WAY_UP
                values = (detector, sha, content, checksum(sha, content))
                sql("INSERT OR REPLACE INTO searched VALUES (?, ?, ?, ?)", values)

    def detectors(self) -> list[DetectorInfo]:
        """Return what each detector has searched and found."""
        infos = []
        query = "SELECT id, fingerprint, description FROM detectors ORDER BY id"
        for number, fingerprint, text in self._typed((int, str, str), query):
            lengths = self._all("SELECT length(faces) FROM searched WHERE detector = ?", number)
            with self._translate_damage(self.folder):
                description = _settings(text)
            faces = [length // (_NUMBER.itemsize * _NUMBERS) for (length,) in lengths]
            infos.append(DetectorInfo(fingerprint, description, len(faces), faces.count(0), sum(faces)))
        return infos

    def damaged(self) -> int:
        """Count the photos whose faces were changed on the disk since they were written."""
        return sum(not _sound(*record) for record in self._all("SELECT sha, faces, checksum FROM searched"))

    def keep(self, living: Collection[bytes]) -> int:
        """Drop the faces of all other photos, and those that were changed on the disk; return of how many photos."""
        records = self._all("SELECT detector, sha, faces, checksum FROM searched")
        dead = [(detector, sha) for detector, sha, *rest in records if sha not in living or not _sound(sha, *rest)]
        with self._transaction() as sql:
            for key in dead:
                sql("DELETE FROM searched WHERE detector = ? AND sha = ?", key)
        # The file and its log would keep what was dropped, people's names in paths among it.
        self.vacuum()
        return len({sha for _, sha in dead})


def existing_store(folder: Path, *, write: bool) -> AbstractContextManager[LandmarkStore | None]:
    """Open the found faces beside an index; None where nobody has looked for faces, or was killed before the first."""
    if (folder / FILE_NAME).is_file():
        with suppress(MissingLandmarksError):
            return LandmarkStore.open(folder, write=write)
    return nullcontext()


def packed(face: Face) -> bytes:
    """Return a face's 15 numbers as little-endian float32: box, landmarks, confidence."""
    return np.array([*face.box, *face.landmarks.ravel().tolist(), face.confidence], _NUMBER).tobytes()


def unpacked(content: bytes) -> Faces:
    """Return the faces that `packed` wrote, one after the other."""
    rows = np.frombuffer(content, _NUMBER).reshape(-1, _NUMBERS)
    return tuple(
        Face(tuple(row[:4].tolist()), row[4:14].reshape(5, 2).astype(np.float32), float(row[14])) for row in rows
    )


def _settings(text: str) -> dict[str, object]:
    try:
        return dict(parse_json(text))
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a detector's settings: {error}") from error


def _sound(sha: object, content: object, stored: object) -> bool:
    # A damaged file may answer with anything.
    if not isinstance(sha, bytes) or not isinstance(content, bytes):
        return False
    whole = _is_marked(content) or len(content) % (_NUMBER.itemsize * _NUMBERS) == 0
    return whole and checksum(sha, content) == stored


def _is_marked(content: bytes) -> bool:
    return len(content) % (_NUMBER.itemsize * _NUMBERS) == 1 and content.endswith(_ANY_WAY_UP)
