"""Identity-disjoint train, validation and test sides that follow from a name and a seed alone."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Mapping, Sequence

from facetl.errors import DataError

SIDES = ("train", "validation", "test")

# What a side needs before anything can be measured on it: two people that can make a same-person pair each.
_PEOPLE_A_SIDE = 2
_PHOTOS_FOR_A_PAIR = 2


class TooFewPeopleError(DataError):
    """There are too few people with two photos or more for the sides that are asked for."""


def position(identity: str, *, seed: int) -> float:
    """Place a person in [0, 1), uniformly over names, by nothing but the name and the seed.

    The name is NFC-normalised first, so that a folder copied from a Mac keeps its side.
    """
    name = unicodedata.normalize("NFC", identity)
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def side(identity: str, *, seed: int, validation: float, test: float) -> str:
    """Return the side of a person: "test" below `test`, "validation" next, "train" above.

    Raises DataError when the fractions are negative or leave nobody to train on.
    """
    _check_fractions(validation=validation, test=test)
    return _side_at(position(identity, seed=seed), validation=validation, test=test)


def assign(counts: Mapping[str, int], *, seed: int, validation: float, test: float) -> dict[str, str]:
    """Assign every person of `counts` (identity -> photos) to a side.

    Each person's side is that of `side`, so adding photos or people moves nobody. In a set so small that a
    side which is asked for would hold fewer than two people with two photos or more, the borders between
    test, validation and train move over the next such people in order of their positions.

    Raises DataError, a TooFewPeopleError where too few people have two photos or more for the sides asked for.
    """
    _check_fractions(validation=validation, test=test)
    positions = {name: position(name, seed=seed) for name in counts}
    sides = {name: _side_at(at, validation=validation, test=test) for name, at in positions.items()}
    if validation == 0 and test == 0:
        return sides
    several = sorted(
        (name for name, photos in counts.items() if photos >= _PHOTOS_FOR_A_PAIR),
        key=lambda name: (positions[name], name),
    )
    least_test, least_validation = (_PEOPLE_A_SIDE if fraction > 0 else 0 for fraction in (test, validation))
    needed = least_test + least_validation + _PEOPLE_A_SIDE
    if len(several) < needed:
        raise TooFewPeopleError(
            f"a split with validation {validation:g} and test {test:g} needs at least {needed} people with "
            f"{_PHOTOS_FOR_A_PAIR} photos or more, got {len(several)} (of {len(counts)} people). "
            "Add photos, or set a fraction to 0."
        )
    # In order of position the sides are three intervals, so their lengths say everything.
    held = [sides[name] for name in several]
    tested = min(max(held.count("test"), least_test), len(several) - least_validation - _PEOPLE_A_SIDE)
    validated = min(max(held.count("validation"), least_validation), len(several) - tested - _PEOPLE_A_SIDE)
    for rank, name in enumerate(several):
        sides[name] = "test" if rank < tested else "validation" if rank < tested + validated else "train"
    return sides


def assign_photos(
    photos: Mapping[str, Sequence[str]], *, seed: int, validation: float, test: float
) -> dict[str, str] | None:
    """Deal the photos of the same people (identity -> their relative paths) to the sides asked for.

    Every side has at least two photos of a person; whoever has too few for that is for training alone. Returns photo ->
    side; None where fewer than two people have enough.
    """
    _check_fractions(validation=validation, test=test)
    needed = _PHOTOS_FOR_A_PAIR * (1 + (validation > 0) + (test > 0))
    if sum(len(own) >= needed for own in photos.values()) < _PEOPLE_A_SIDE:
        return None
    sides = {}
    for own in photos.values():
        ranked = sorted(own, key=lambda path: (position(path, seed=seed), path))
        tested, validated = (
            max(_PHOTOS_FOR_A_PAIR, math.floor(share * len(own))) if share > 0 and len(own) >= needed else 0
            for share in (test, validation)
        )
        validated = min(validated, max(0, len(own) - tested - _PHOTOS_FOR_A_PAIR))
        for rank, path in enumerate(ranked):
            sides[path] = "test" if rank < tested else "validation" if rank < tested + validated else "train"
    return sides


def _side_at(at: float, *, validation: float, test: float) -> str:
    if at < test:
        return "test"
    return "validation" if at < test + validation else "train"


def _check_fractions(*, validation: float, test: float) -> None:
    right = all(math.isfinite(value) and value >= 0 for value in (validation, test)) and validation + test < 1
    if not right:
        raise DataError(
            "split fractions must be 0 or more and leave people to train on (sum below 1), "
            f"got validation {validation:g} and test {test:g}. Try 0.1 and 0.1."
        )
