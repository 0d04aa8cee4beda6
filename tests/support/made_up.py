"""A made-up album: drawn people, each with a face of their own, on drawn photos, in a library; and who is who."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from albums import enter_faces, enter_photo
from numpy.typing import NDArray

from facetl.faces.detectors import Face
from facetl.people.library import Library
from facetl.people.store.models import NewFace, StackDraft
from facetl.people.web.service import Alike, PeopleService, Recognised

NAMES = ("Ada", "Bruno", "Clara", "David", "Elif", "Finn", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Leo")
# Eyes, tip of the nose, corners of the mouth, on a face 200 units large, from its middle.
LANDMARKS = np.array([[-26.0, -12.0], [26.0, -12.0], [0.0, 22.0], [-24.0, 46.0], [24.0, 46.0]])
_SKIN = ((246, 214, 190), (232, 190, 160), (214, 165, 130), (176, 124, 92), (128, 88, 66), (98, 66, 52))
_HAIR = ((42, 30, 26), (88, 58, 38), (150, 104, 60), (214, 176, 112), (168, 74, 44), (150, 148, 150))
_SHIRTS = ((196, 88, 82), (84, 128, 176), (104, 150, 118), (222, 178, 92), (142, 116, 168), (90, 98, 112))


@dataclass(frozen=True)
class Album:
    """What was drawn: who is on which face, as the ids of the library."""

    photos: dict[int, list[int]]
    who: dict[int, int]

    def faces_of(self, person: int) -> list[int]:
        return [face for face, one in self.who.items() if one == person]


def draw(canvas: NDArray[np.uint8], centre: tuple[int, int], side: int, person: int, seed: int) -> None:
    """Draw a person into an image [h, w, 3] uint8 RGB; `side` is the height of the head, `seed` the moment."""
    own, now = np.random.default_rng(person + 1), np.random.default_rng(seed)
    skin, hair, shirt = (_shade(table[own.integers(len(table))], now) for table in (_SKIN, _HAIR, _SHIRTS))
    wide, eyes, mouth, long, glasses = (
        own.uniform(50, 64), own.uniform(20, 29), own.uniform(14, 27), own.random() < 0.5, own.random() < 0.3
    )  # fmt: skip
    turn, smile = now.uniform(-7, 7), now.uniform(2, 11)

    def oval(x: float, y: float, a: float, b: float, colour: tuple[int, int, int], *arc: int) -> None:
        place = round((centre[0] + x * side / 200) * 16), round((centre[1] + y * side / 200) * 16)
        axes = max(16, round(a * side / 200 * 16)), max(16, round(b * side / 200 * 16))
        start, end = arc if arc else (0, 360)
        cv2.ellipse(canvas, place, axes, 0, start, end, colour, -1, cv2.LINE_AA, 4)

    oval(0, 190, 118, 92, shirt)
    if long:
        oval(0, 40, wide + 24, 100, hair)
    oval(0, 92, 24, 40, _darker(skin))
    oval(0, -18, wide + 13, 92, hair)
    oval(0, 6, wide, 78, skin)
    oval(0, -70, wide - 2, 30, hair)
    for sign in (-1, 1):
        oval(sign * eyes + turn, -10, 11, 7.5, (250, 248, 245))
        oval(sign * eyes + turn * 1.3, -10, 6, 6.5, (48, 36, 30))
        oval(sign * eyes + turn, -26, 15, 3.5, _darker(hair))
        if glasses:
            ring = round(centre[0] + (sign * eyes + turn) * side / 200), round(centre[1] - 10 * side / 200)
            cv2.circle(canvas, ring, round(19 * side / 200), (40, 40, 46), max(1, side // 60), cv2.LINE_AA)
        oval(sign * 38 + turn, 28, 12, 8, _mixed(skin, (230, 120, 110)))
    oval(turn * 1.6, 16, 8, 6, _darker(skin))
    oval(turn, 42, mouth, smile + 3, (176, 74, 78), 0, 180)


Colour = tuple[int, int, int]


def _shade(colour: Colour, rng: np.random.Generator) -> Colour:
    light = rng.uniform(0.9, 1.08)
    red, green, blue = (int(min(255, part * light)) for part in colour)
    return red, green, blue


def _mixed(colour: Colour, other: Colour) -> Colour:
    red, green, blue = (round(0.8 * one + 0.2 * two) for one, two in zip(colour, other, strict=True))
    return red, green, blue


def _darker(colour: Colour) -> Colour:
    return _mixed(colour, (0, 0, 0))


def scene(people: list[int], seed: int, size: tuple[int, int] = (960, 720)) -> tuple[NDArray[np.uint8], list[Face]]:
    """Return a photo [h, w, 3] uint8 RGB of people side by side before a sky, and their faces as a detector tells."""
    rng = np.random.default_rng(seed)
    width, height = size
    sky, ground = rng.integers(120, 235, 3), rng.integers(70, 200, 3)
    small = (width // 16, height // 16)
    ramp = np.linspace(0, 1, small[1])[:, None, None]
    blurred = np.broadcast_to(sky * (1 - ramp) + ground * ramp, (small[1], small[0], 3)).astype(np.uint8).copy()
    for _ in range(7):
        spot = int(rng.integers(small[0])), int(rng.integers(small[1]))
        red, green, blue = (int(value) for value in rng.integers(90, 225, 3))
        cv2.circle(blurred, spot, int(rng.integers(3, 12)), (red, green, blue), -1, cv2.LINE_AA)
    blurred = cv2.GaussianBlur(blurred, (0, 0), 1.5)
    canvas = np.asarray(cv2.resize(blurred, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    faces = []
    for place, person in enumerate(people):
        side = int(min(height * 0.5, width / len(people) * 0.72) * rng.uniform(0.85, 1.05))
        centre = (
            int(width * (place + 0.5) / len(people)),
            int(height * rng.uniform(0.42, 0.5)),
        )
        draw(canvas, centre, side, person, seed * 31 + place)
        half = side * 0.42
        box = (centre[0] - half * 0.8, centre[1] - half, centre[0] + half * 0.8, centre[1] + half)
        marks = (np.array(centre) + LANDMARKS * side / 200).astype(np.float32)
        faces.append(Face(box, marks, 0.99))
    return canvas, faces


def thumbnail(photo: NDArray[np.uint8], face: Face) -> bytes:
    """Return the JPEG of a face with some room, 160 pixels a side."""
    left, top, right, bottom = (int(edge) for edge in face.box)
    room = int((bottom - top) * 0.25)
    part = photo[max(0, top - room) : bottom + room, max(0, left - room) : right + room]
    return jpeg(cv2.resize(part, (160, 160), interpolation=cv2.INTER_AREA))


def jpeg(photo: NDArray[np.uint8]) -> bytes:
    """Return an image [h, w, 3] uint8 RGB as the bytes of a JPEG."""
    return cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1].tobytes()


def fill(
    library: Library, photos_folder: Path, *, people: int = 6, photos: int = 24, seed: int = 0, together: int = 3
) -> Album:
    """Fill a library with photos of people, and put their faces on stacks: mostly right, as a clustering would."""
    rng = np.random.default_rng(seed)
    photos_folder.mkdir(parents=True, exist_ok=True)
    shown: dict[int, list[int]] = {}
    who: dict[int, int] = {}
    for number in range(photos):
        present = rng.choice(people, size=min(people, int(rng.integers(1, together + 1))), replace=False).tolist()
        picture, found = scene(present, seed * 1000 + number, (960, 720) if number % 3 else (640, 800))
        data = jpeg(picture)
        path = photos_folder / f"IMG_{number:04d}.jpg"
        path.write_bytes(data)
        when = f"{2009 + number * 14 // photos}-{1 + number * 5 % 12:02d}-{1 + number % 28:02d}T12:00:00"
        sha = hashlib.sha256(data).hexdigest()
        photo = enter_photo(
            library,
            sha,
            width=picture.shape[1],
            height=picture.shape[0],
            paths=[path],
            taken_at=when if number % 11 else None,
        )
        new = [
            NewFace(
                key=hashlib.sha256(f"{sha} {place}".encode()).hexdigest(), face=face,
                size=face.height, sharpness=1.0, yaw=0.0, pitch=0.0, roll=0.0,
                kind="poor" if number % 9 == 8 and place == 0 else "good",
            )
            for place, face in enumerate(found)
        ]  # fmt: skip
        ids = enter_faces(library, photo, new)
        for face, made in zip(found, new, strict=True):
            place = library.thumbs_folder / made.key[:2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{made.key}.jpg").write_bytes(thumbnail(picture, face))
        shown[photo] = ids
        who.update(zip(ids, present, strict=True))
    album = Album(shown, who)
    library.write_stacks(drafts_of(library, album, seed))
    return album


def drafts_of(library: Library, album: Album, seed: int) -> list[StackDraft]:
    """Return stacks as a clustering tuned for purity makes them: people in two parts, a few faces alone."""
    rng = np.random.default_rng(seed + 5)
    good = set(library.face_ids("good").tolist())
    drafts = []
    for person in sorted(set(album.who.values())):
        faces = [face for face in album.faces_of(person) if face in good]
        cut = max(1, round(len(faces) * 0.7))
        parts = [faces[:cut], faces[cut:-1], faces[-1:]] if len(faces) > 4 else [faces]
        for place, part in enumerate(parts):
            if part:
                sure = tuple(np.sort(rng.uniform(0.6, 0.995, len(part)))[::-1].round(3).tolist())
                suggestion = NAMES[person] if place == 1 and person < len(NAMES) else None
                drafts.append(StackDraft(tuple(part), sure, part[0], round(float(np.mean(sure)), 3), suggestion))
    return drafts


@dataclass(frozen=True)
class Pair:
    """A question as the page takes it."""

    first: int
    second: int
    probability: float


class Faked(PeopleService):
    """A service whose methods are given."""

    def __init__(self, library: Library, **methods: Callable[..., Any]) -> None:
        super().__init__(library)
        self.has_run = True
        vars(self).update(methods)


class Oracle(Faked):
    """Stands for the nets: it knows who is on every face, with less than certainty."""

    def __init__(self, library: Library, album: Album) -> None:
        super().__init__(library)
        self._album = album

    def alike(self, stack: int, count: int) -> list[Alike]:
        """The other stacks, those of the same person first."""
        own = self._album.who[self.library.stack(stack)[0].cover]
        others = [one for one in self.library.stacks(limit=1000) if one.id != stack]
        likely = {one.id: 0.9 if self._album.who[one.cover] == own else 0.1 for one in others}
        best = sorted(likely, key=lambda one: (-likely[one], one))[:count]
        return [Alike(one, likely[one]) for one in best]

    def questions(self, count: int) -> list[Pair]:
        """Each stack's cover beside the cover of the stack most like it, unless that was answered."""
        resolved = self.library.resolved()
        answered = {frozenset(group[:2]) for group in resolved.same}
        answered |= {frozenset((left[0], right[0])) for left, right in resolved.different}
        pairs: dict[frozenset[int], Pair] = {}
        for one in self.library.stacks(limit=1000):
            for near in self.alike(one.id, 1):
                other = self.library.stack(near.stack)[0].cover
                pairs.setdefault(frozenset((one.cover, other)), Pair(one.cover, other, near.probability))
        return [pair for faces, pair in pairs.items() if faces not in answered][:count]

    def recognise(self, photo: NDArray[np.uint8]) -> list[Recognised]:
        """Two faces at fixed places: the first person's, with every face of theirs, and a stranger's."""
        height, width = photo.shape[:2]
        near = tuple((face, 0.9) for face in self._album.faces_of(0))
        left = (width * 0.1, height * 0.2, width * 0.4, height * 0.7)
        right = (width * 0.6, height * 0.2, width * 0.9, height * 0.7)
        return [Recognised(left, NAMES[0], 0.9, near), Recognised(right, None, 0.2, ())]
