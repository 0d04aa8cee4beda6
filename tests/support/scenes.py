"""Made-up photos whose first row of pixels tells which faces they show, and detectors and a net that look there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.faces.alignment import template
from facetl.faces.detectors import Detector, DetectorSpec, Face
from facetl.people.library import Library
from facetl.people.store import photos as photos_module
from facetl.people.store.models import NewFace, NewPhoto, StackDraft

MARK = (11, 22, 33)
Spot = tuple[int, int, int, int]  # left, top, side, person
SPEC = ExtractorSpec(name="mobilenet_v2", tap="avg", grid=1, align="mtcnn")
WEIGHTS = Weights("made up", "ab" * 32, Path("nowhere"))


def person(number: int, side: int) -> np.ndarray:
    """A person's face: a smooth pattern of its own, [side, side, 3]."""
    rng = np.random.default_rng(1000 + number)
    cells = rng.uniform(0, 255, (17, 17, 3)).astype(np.float32)
    pattern = cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(pattern, 0, 255).astype(np.uint8)


def scene(spots: Sequence[Spot], *, size: tuple[int, int] = (240, 320), seed: int = 0) -> np.ndarray:
    """A photo [height, width, 3] of people, on a background of its own; its first row says where they are."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    for left, top, side, who in spots:
        image[top : top + side, left : left + side] = person(who, side)
    image[0] = 0
    image[0, -1] = MARK
    image[0, 0, 0] = len(spots)
    for place, (left, top, side, _) in enumerate(spots, start=1):
        image[0, place] = (left, top, side)
    return image


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


class Reader(DetectorSpec):
    """A detector, and its settings: takes the first row's word, with a shift of its own, from the face `skip` on."""

    def __init__(self, name: str = "eyes", *, shift: float = 0.0, skip: int = 0) -> None:
        self.name, self.shift, self.skip = name, shift, skip
        self.searched = 0

    def fingerprint(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    def make(self) -> Detector:
        return self

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        self.searched += len(images)
        return [[self._face(*spot) for spot in self._spots(image)] for image in images]

    def _spots(self, image: np.ndarray) -> np.ndarray:
        marked = tuple(image[0, -1]) == MARK
        return image[0, 1 : 1 + image[0, 0, 0] if marked else 1][self.skip :]

    def _face(self, left: int, top: int, side: int) -> Face:
        left, top, side = int(left) + self.shift, int(top) + self.shift, int(side)
        landmarks = (template(side) + np.array([left, top])).astype(np.float32)
        return Face((left, top, left + side - 1, top + side - 1), landmarks, 0.9)


class Net:
    """A net that takes an aligned face's middle as 4 × 4 mean colours, [n, 48] float32, about 0."""

    spec, weights, dim = SPEC, WEIGHTS, 48
    flagged: Mapping[str, int] = {}

    def __init__(self, spec: ExtractorSpec = SPEC) -> None:
        self.shown = 0

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.shown += len(images)
        return np.stack([feature(image) for image in images])


def feature(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    middle = image[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return cv2.resize(middle, (4, 4), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() - 127.5


def made_up(library: Library, photos: int, faces: int = 1) -> list[int]:
    """Enter made-up photos with some faces each; the faces' ids, photo after photo."""
    ids = []
    with library.database.write() as sql:
        for photo in range(photos):
            number = photos_module.put_photo(sql, NewPhoto(digest("photo", photo), 100, 80))
            photos_module.put_paths(sql, number, [Path(f"/album/{photo}.jpg")])
            ids += photos_module.put_faces(sql, number, [new_face(photo * 100 + face) for face in range(faces)])
    return ids


def new_face(number: int, *, kind: Any = "good") -> NewFace:
    rng = np.random.default_rng(number)
    left, top, right, bottom = (float(edge) for edge in (*rng.integers(0, 20, 2), *rng.integers(40, 60, 2)))
    landmarks = rng.uniform(0, 50, (5, 2)).astype(np.float32)
    return NewFace(
        digest("face", number), Face((left, top, right, bottom), landmarks, 0.75), 40.0, 55.5, 1.5, -2.5, 3.25, kind
    )


def digest(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()


def draft(*faces: int, confidence: float = 0.5, suggestion: str | None = None) -> StackDraft:
    """A stack of these faces, the first of them the cover, each a little less sure than the one before."""
    sure = tuple(round(0.9 - 0.01 * place, 2) for place in range(len(faces)))
    return StackDraft(tuple(faces), sure, faces[0], confidence, suggestion)


def lying(library: Library) -> set[frozenset[int]]:
    """The stacks as sets of faces."""
    stacks = library.stacks(limit=10**6)
    return {frozenset(member.face for member in library.stack(stack.id)[1]) for stack in stacks}


def stack_with(library: Library, face: int) -> int:
    stack = library.stack_of(face)
    assert stack is not None
    return stack


MakeNet = Callable[[ExtractorSpec], Any]
