"""Which faces of named people a head may learn from, and which are kept from it to measure it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError
from facetl.library.library import Library
from facetl.library.records import Photo

# People whose faces can be held out, below which a head has little to learn from and next to nobody to be chosen by.
LEAST_PEOPLE = 8
# Faces that a person needs: two to make a pair, and one held out.
LEAST_FACES = 3
_SHARE = 0.25
_DAYS = 3


@dataclass(frozen=True)
class Held:
    """Faces of named people.

    Attributes:
        faces: [n] int64, their ids.
        names: [n], whose each is.
        kept: bool [n], whether it may be learnt from; the others are held out.
    """

    faces: NDArray[np.int64]
    names: NDArray[np.str_]
    kept: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The person of each face as a number [n], people sorted."""
        return np.unique(self.names, return_inverse=True)[1].astype(np.int64)

    def kept_counts(self) -> dict[str, int]:
        """Return how many faces of each person may be learnt from."""
        return dict(sorted(Counter(self.names[self.kept].tolist()).items()))

    def of(self, faces: NDArray[np.int64]) -> Held:
        """Return these faces alone, in their order, of people who still have enough; DataError as `hold_out`."""
        place = {face: row for row, face in enumerate(self.faces.tolist())}
        rows = [place[face] for face in faces.tolist()]
        return replace(self, faces=self.faces[rows], names=self.names[rows], kept=self.kept[rows])


def hold_out(library: Library, *, seed: int) -> Held:
    """Choose, of each named person who has enough faces, about a quarter to hold out.

    What belongs together stays together: photos that nearly are another one, and, of a person with photos of three days
    or more, the photos of a day, which show the same clothes, light and hair. Raises DataError where fewer than
    LEAST_PEOPLE can be learnt from.
    """
    said = library.said()
    by_name: dict[str, list[int]] = defaultdict(list)
    for face, name in said.names.items():
        by_name[name].append(face)
    rng = np.random.default_rng(seed)
    photos: dict[int, Photo] = {}
    found: list[tuple[int, str, bool]] = []
    people = 0
    for name in sorted(by_name):
        faces = library.faces(sorted(by_name[name]))
        for number in {face.photo for face in faces} - set(photos):
            photos[number] = library.photo(number)
        groups = _groups([photos[face.photo] for face in faces])
        held = _held(groups, rng)
        if held is not None:
            people += 1
            found += [(face.id, name, group not in held) for face, group in zip(faces, groups, strict=True)]
    if people < LEAST_PEOPLE:
        raise DataError(
            f"Learning needs {LEAST_PEOPLE} named people with {LEAST_FACES} faces each, in different photos; got "
            f"{people} of {len(by_name)}. Name more."
        )
    ids, names, kept = zip(*found, strict=True)
    return Held(np.array(ids, np.int64), np.array(names, np.str_), np.array(kept, np.bool_))


def _groups(photos: list[Photo]) -> list[str]:
    """Return for each photo what it belongs to: its day where there are enough of them, else the photo it nearly is."""
    originals = [f"photo {photo.duplicate_of or photo.id}" for photo in photos]
    dated = {own: photo.taken_at[:10] for own, photo in zip(originals, photos, strict=True) if photo.taken_at}
    if len(set(dated.values())) < _DAYS:
        return originals
    return [dated.get(own, own) for own in originals]


def _held(groups: list[str], rng: np.random.Generator) -> set[str] | None:
    """Choose the groups of a person's photos to hold out; None where too few faces would be left, or none held."""
    sizes = Counter(groups)
    wanted = max(1, round(_SHARE * len(groups)))
    held: set[str] = set()
    taken = 0
    for group in rng.permutation(sorted(sizes)).tolist():
        if taken < wanted and len(groups) - taken - sizes[group] >= LEAST_FACES - 1:
            held.add(group)
            taken += sizes[group]
    return held or None
