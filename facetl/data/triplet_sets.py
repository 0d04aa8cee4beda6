"""Triplets for training and for a test, of different people, and the classification set that they flatten into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from facetl.data.manifest import Manifest
from facetl.data.triplet_files import write_table
from facetl.data.triplets import Triplet, make_triplets
from facetl.errors import DataError

CLASSES = ("Photo", "Person", "Class", "Side")
TEST = ".test.csv"


@dataclass(frozen=True)
class TripletSet:
    """Triplets of one side's people.

    Attributes:
        side: `train` or `test`.
        manifest: the photos that they were drawn from; their folder is that of the whole set.
        triplets: as `make_triplets` draws them.
    """

    side: str
    manifest: Manifest
    triplets: Sequence[Triplet]


@dataclass(frozen=True)
class Example:
    """A photo of the classification set: who is on it, the number of that class, and the side."""

    photo: str
    person: str
    number: int
    side: str


def make_triplet_sets(manifest: Manifest, *, count: int, test: float, seed: int) -> tuple[TripletSet, ...]:
    """Draw `count` triplets in all, a share `test` of them of people who are in none of the others.

    People are put on their side by name and seed, as everywhere. With a share of 0 everyone is on the one side.
    Raises DataError for too few people or photos on a side.
    """
    if test == 0:
        return (TripletSet("train", manifest, make_triplets(manifest, count=count, seed=seed)),)
    split = manifest.with_splits(seed=seed, validation=0, test=test)
    of_test = round(count * test)
    made = []
    for side, wanted in (("train", count - of_test), ("test", of_test)):
        own = split.subset(side)
        try:
            made.append(TripletSet(side, own, make_triplets(own, count=wanted, seed=seed)))
        except DataError as error:
            raise DataError(f"{side} side: {error}") from error
    return tuple(made)


def examples(sets: Sequence[TripletSet]) -> list[Example]:
    """Flatten triplets into a classification set: every photo that they show, once, with its person's class.

    Classes are numbered through a side's people in order, from 0 on each: a classifier is trained on one side's, and
    the other's are people whom it has never seen.
    """
    found = []
    for one in sets:
        person = {photo.path.relative_to(one.manifest.root).as_posix(): photo.identity for photo in one.manifest.photos}
        shown = sorted(set(chain.from_iterable(one.triplets)))
        numbers: Mapping[str, int] = {
            name: number for number, name in enumerate(sorted({person[photo] for photo in shown}))
        }
        found += [Example(photo, person[photo], numbers[person[photo]], one.side) for photo in shown]
    return found


def write_examples(path: Path | str, rows: Sequence[Example]) -> None:
    """Write a CSV with the columns Photo, Person, Class and Side; raises DataError where something lies there."""
    write_table(path, CLASSES, [(row.photo, row.person, str(row.number), row.side) for row in rows], what="classes")


def file_of_test(out: Path) -> Path:
    """Return where the test side's triplets go, beside those for training: `faces.csv` → `faces.test.csv`."""
    return out.with_name(f"{out.stem}{TEST}")
