"""The record of an album's alignment, kept where its results go, so that it can be interrupted at any moment.

OUT/.facetl-align.jsonl    settings, then a line a photo; a line counts once it is whole
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np

from facetl.errors import DataError
from facetl.faces.detectors import Face
from facetl.faces.quality import FaceQuality, Pose
from facetl.io.files import open_bytes, open_private, sync_folder, write_fully
from facetl.io.json import JsonFields, parse_json
from facetl.io.text import cut

FILE_NAME = ".facetl-align.jsonl"
POOR = "_poor"
SUFFIX = ".png"
_VERSION = 1
# A name takes at most 255 bytes on a disk: this leaves room for what is added.
_STEM_BYTES = 160
_FURTHER = re.compile(r"_(?:[2-9]|[1-9][0-9]+)$", re.ASCII)


@dataclass(frozen=True)
class AlignedFace:
    """A face that was aligned: its picture below the results' folder, where it was found, and how good it is."""

    file: str
    face: Face
    quality: FaceQuality
    kind: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types."""
        return {"file": self.file, **self.face.to_json(), "quality": self.quality.to_json(), "kind": self.kind}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; KeyError, TypeError or ValueError on anything else."""
        left, top, right, bottom = map(float, content["box"])
        landmarks = np.array(content["landmarks"], np.float32).reshape(5, 2)
        quality = dict(content["quality"])
        pose = Pose(**quality.pop("pose"))
        return cls(
            str(content["file"]),
            Face((left, top, right, bottom), landmarks, float(content["confidence"])),
            FaceQuality(**quality, pose=pose),
            str(content["kind"]),
        )


@dataclass(frozen=True)
class DonePhoto(JsonFields):
    """A photo that was searched: its sha256, its path below the album, the name its faces go by, and the faces."""

    sha: str
    path: str
    base: str
    faces: tuple[AlignedFace, ...]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; KeyError, TypeError or ValueError on anything else."""
        faces = tuple(AlignedFace.from_json(face) for face in content["faces"])
        return cls(str(content["sha"]), str(content["path"]), str(content["base"]), faces)


class Journal:
    """The photos that are done, by sha256. Open it with `Journal.open`."""

    def __init__(self, path: Path, done: dict[str, DonePhoto], length: int) -> None:
        self.path = path
        self.done = done
        self._length = length

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Open the journal of a folder, or begin one.

        A line that was torn, or damaged since, does not count: its photo is done again. Raises DataError when what is
        there was made with other settings.
        """
        path = folder / FILE_NAME
        head = {"version": _VERSION, **settings}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        first = _read(lines[0]) if lines else None
        if first is None:
            begun = json.dumps(head).encode() + b"\n"
            descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC)
            try:
                write_fully(descriptor, begun, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(folder)
            return cls(path, {}, len(begun))
        if first != json.loads(json.dumps(head)):
            raise DataError(
                f"{folder}: one folder holds faces aligned in one way, these were aligned in another (detector, size, "
                "zoom or choice of faces). Choose another folder."
            )
        photos = [photo for line in lines[1:] if (photo := _photo(line))]
        whole = sum(map(len, lines)) - (0 if lines[-1].endswith(b"\n") else len(lines[-1]))
        return cls(path, {photo.sha: photo for photo in photos}, whole)

    def append(self, photos: Sequence[DonePhoto]) -> None:
        """Note photos as done: when this returns, it is durable."""
        written = b"".join(json.dumps(photo.to_json()).encode() + b"\n" for photo in photos)
        descriptor = open_bytes(self.path, os.O_WRONLY)
        try:
            # What was torn by a kill is written over, and its rest cut off.
            os.ftruncate(descriptor, self._length)
            write_fully(descriptor, written, self._length)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._length += len(written)
        self.done.update((photo.sha, photo) for photo in photos)


@dataclass
class Names:
    """Names for the faces of photos, each photo's different from any other's in its folder, also where a disk does
    not tell small letters from capitals, and also when further faces are numbered _2, _3, …"""

    _taken: set[str] = field(default_factory=set)
    _further: set[str] = field(default_factory=set)

    def keep(self, base: str) -> None:
        """Take a name, for good faces and for poor ones."""
        for path in (base, f"{POOR}/{base}"):
            key = _key(path)
            self._taken.add(key)
            if found := _FURTHER.search(key):
                self._further.add(key[: found.start()])

    def keep_folder(self, folder: str) -> None:
        """Take the name that a folder has, if a picture could have it."""
        if folder.casefold().endswith(SUFFIX):
            self.keep(folder[: -len(SUFFIX)])

    def claim(self, path: str, sha: str) -> str:
        """Return the name [folder/]base for the faces of a photo, and take it.

        It is the photo's own without its ending, where that is free; else a part of the sha256 is added.
        """
        photo = PurePosixPath(path)
        stem = cut(photo.stem, _STEM_BYTES)
        for base in (stem, f"{stem}-{sha[:8]}", f"{stem}-{sha}"):
            whole = str(photo.with_name(base))
            if not any(self._has(_key(place)) for place in (whole, f"{POOR}/{whole}")):
                break
        self.keep(whole)
        return whole

    def _has(self, key: str) -> bool:
        found = _FURTHER.search(key)
        return key in self._taken or key in self._further or (found is not None and key[: found.start()] in self._taken)


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _read(line: bytes) -> Any:
    try:
        return parse_json(line, finite=False) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _photo(line: bytes) -> DonePhoto | None:
    content = _read(line)
    try:
        return DonePhoto.from_json(content) if content else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
