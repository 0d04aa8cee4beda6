"""Records of a library: photos, faces, people, stacks, answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facetl.faces.detectors import Face
from facetl.io.json import JsonFields

Kind = Literal["good", "poor"]


@dataclass(frozen=True)
class LibraryPhoto(JsonFields):
    """A photo, known by the sha256 of its bytes.

    Attributes:
        sha: 64 hex digits.
        width, height: pixels, upright.
        taken_at: when, ISO 8601, where the photo has a date.
        phash: its perceptual hash, 64 bits as a signed number.
        duplicate_of: the photo that this one nearly is.
        paths: where it was seen, sorted.
    """

    id: int
    sha: str
    width: int
    height: int
    taken_at: str | None
    phash: int | None
    duplicate_of: int | None
    paths: tuple[Path, ...]

    @property
    def path(self) -> Path | None:
        """The first path at which a file lies, or else the first; None where others lie at all of its paths now."""
        return next((path for path in self.paths if os.path.isfile(path)), next(iter(self.paths), None))

    @property
    def there(self) -> bool:
        """Whether a file lies at one of the paths."""
        return self.path is not None and os.path.isfile(self.path)


@dataclass(frozen=True)
class LibraryFace(JsonFields):
    """A face in a photo.

    Attributes:
        key: 64 hex digits, by which its feature and its thumbnail are kept.
        photo: the photo's id.
        face: what the detector found.
        size, sharpness, yaw, pitch, roll: as in FaceQuality.
        kind: `poor` for a tiny or blurred one, which is kept apart.
    """

    id: int
    key: str
    photo: int
    face: Face
    size: float
    sharpness: float
    yaw: float
    pitch: float
    roll: float
    kind: Kind


@dataclass(frozen=True)
class NewPhoto:
    """A photo to be added; see LibraryPhoto."""

    sha: str
    width: int
    height: int
    taken_at: str | None = None
    phash: int | None = None


@dataclass(frozen=True)
class NewFace:
    """A face to be added; see LibraryFace."""

    key: str
    face: Face
    size: float
    sharpness: float
    yaw: float
    pitch: float
    roll: float
    kind: Kind = "good"


@dataclass(frozen=True)
class Person:
    """Somebody who was named.

    Attributes:
        faces, photos: how many are shown under the name: those named by the user, and the others in stacks of the name.
        cover: a face to show.
        confirmed: of `faces`, how many the user named so.
    """

    id: int
    name: str
    faces: int
    photos: int
    cover: int | None
    confirmed: int = 0


@dataclass(frozen=True)
class Stack(JsonFields):
    """Faces that seem to be one person's.

    Attributes:
        cover: the face to show.
        size: how many faces.
        confidence: in [0, 1].
        name: the name that one or more of its faces were given.
        suggestion: a name that the clustering suggests, where none was given.
    """

    id: int
    cover: int
    size: int
    confidence: float
    name: str | None
    suggestion: str | None


@dataclass(frozen=True)
class Member(JsonFields):
    """A face in a stack, and how surely it belongs there, in [0, 1]."""

    face: int
    confidence: float


@dataclass(frozen=True)
class StackDraft:
    """A stack as a clustering found it: its faces, the confidence of each, the face to show, and its own confidence."""

    faces: tuple[int, ...]
    confidences: tuple[float, ...]
    cover: int
    confidence: float
    suggestion: str | None = None


@dataclass(frozen=True)
class LibraryAnswer(JsonFields):
    """An answer of the user.

    Attributes:
        at: when, ISO 8601, UTC.
        kind: `name`, `same`, `different`, `not-a-face`, `stranger` or `rename`.
        left: the faces it is about; of `different`, one side.
        right: the other side of `different`.
        name: the name given; of `rename`, the new one.
        undone: whether it was taken back.
        old: of `rename`, the old name.
        origin: `user`, or `region` for a name that a photo's metadata gave.
    """

    id: int
    at: str
    kind: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    name: str | None
    undone: bool
    old: str | None = None
    origin: str = "user"


@dataclass(frozen=True)
class ResolvedAnswers:
    """Consequences of all answers together: of two that contradict each other, the later one holds.

    Attributes:
        names: face → name, also of faces marked as the same person as a named one.
        same: groups of faces marked as one person's.
        different: pairs of groups: every face of one is marked as another person's than every face of the other.
        not_faces, strangers: faces marked as none, or as of nobody to be named.
    """

    names: Mapping[int, str]
    same: list[tuple[int, ...]]
    different: list[tuple[tuple[int, ...], tuple[int, ...]]]
    not_faces: frozenset[int]
    strangers: frozenset[int]
