"""Triplets of photos drawn evenly over people: drawn, written, read exactly, and found again among the photos."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facetl.data.manifest import Manifest, Photo, listed
from facetl.data.pair_lists import SEE, listed_photo, records, relative_path, shown, wrong_at
from facetl.errors import DataError
from facetl.io.files import csv_bytes, write_atomic
from facetl.io.json import JsonFields
from facetl.io.text import printable

Ints = npt.NDArray[np.int64]

COLUMNS = ("Anchor", "Positive", "Negative")
CLASSES = ("Photo", "Person", "Class", "Side")
TEST = ".test.csv"


class Triplet(NamedTuple):
    """Three photos, each a path relative to the folder of people: two of one person, one of another."""

    anchor: str
    positive: str
    negative: str


@dataclass(frozen=True)
class Spread:
    """Counts of how often each of several things appears: the fewest times, the median and the most."""

    min: int
    median: float
    max: int


@dataclass(frozen=True)
class Coverage(JsonFields):
    """The share of a set that its triplets show.

    people and photos are those in at least one triplet, of people_in_set and photos_in_set; anchor_people have
    an anchor and its positive, negative_people a negative. per_person and per_photo are how often each of those
    who appear does, every cell of the table counting once.
    """

    triplets: int
    people: int
    people_in_set: int
    photos: int
    photos_in_set: int
    anchor_people: int
    negative_people: int
    per_person: Spread
    per_photo: Spread


@dataclass(frozen=True)
class TripletSet:
    """Triplets of the people of one side, `train` or `test`, and the photos that they were drawn from."""

    side: str
    manifest: Manifest
    triplets: Sequence[Triplet]


class Example(NamedTuple):
    """A photo of the classification set: who is on it, the number of that class, and the side."""

    photo: str
    person: str
    number: int
    side: str


def make_triplets(manifest: Manifest, *, count: int, seed: int) -> list[Triplet]:
    """Draw `count` different triplets that show everyone as evenly as the photos allow.

    People with two photos or more give equally many anchors; negatives come equally often from everyone, those
    with one photo among them; a person's photos take turns. A pair stands with its photos swapped only after
    every other pair of that person has had its turn.

    Raises DataError when fewer triplets exist, among them when nobody has two photos or nobody else is there.
    """
    photos, people = len(manifest), len(manifest.identities)
    counts = np.bincount(manifest.labels, minlength=people).astype(np.int64)
    possible = counts * (counts - 1) * (photos - counts)
    if count < 1:
        raise DataError(f"a list of triplets needs a count of 1 or more, got {count}.")
    if count > possible.sum():
        raise DataError(
            f"{photos:,} photos of {people:,} people, {int(np.sum(counts > 1)):,} of them with two or more, make "
            f"{int(possible.sum()):,} different triplets, got a count of {count:,}. Ask for fewer, or add photos."
        )
    rng = np.random.default_rng(seed)
    own = np.split(np.argsort(manifest.labels, kind="stable"), np.cumsum(counts)[:-1])
    quota = dealt_evenly(possible, count, rng)
    pairs = {person: _pairs(rng.permutation(own[person]).tolist()) for person in np.flatnonzero(quota).tolist()}
    anchors = rng.permutation(np.repeat(np.arange(people), quota)).tolist()
    joined = [next(pairs[person]) for person in anchors]
    negatives = _Negatives(own, np.bincount(np.ravel(joined), minlength=photos), rng)
    paths = listed_names(manifest)
    return [
        Triplet(paths[anchor], paths[positive], paths[negatives.take(person, anchor, positive)])
        for person, (anchor, positive) in zip(anchors, joined, strict=True)
    ]


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


def coverage(manifest: Manifest, triplets: Sequence[Triplet]) -> Coverage:
    """Return how many people and photos of a set appear in its triplets, and how often.

    Raises DataError for a triplet of a photo that is not in the set, or for no triplet at all.
    """
    if not triplets:
        raise DataError("coverage needs at least one triplet, got none.")
    identity = _person_of(manifest)
    photos = Counter(chain.from_iterable(triplets))
    missing = next((path for path in photos if path not in identity), None)
    if missing is not None:
        raise DataError(f"triplets must name photos of {manifest.root}, got {missing!r}. Give their own folder.")
    anchors = Counter(identity[triplet.anchor] for triplet in triplets)
    negatives = Counter(identity[triplet.negative] for triplet in triplets)
    people = anchors + anchors + negatives  # an anchor and its positive show the same person
    return Coverage(
        triplets=len(triplets),
        people=len(people),
        people_in_set=len(manifest.identities),
        photos=len(photos),
        photos_in_set=len(manifest),
        anchor_people=len(anchors),
        negative_people=len(negatives),
        per_person=_spread(people),
        per_photo=_spread(photos),
    )


def _person_of(manifest: Manifest) -> dict[str, str]:
    """Return path below the root → person."""
    return {path: photo.identity for path, photo in zip(listed_names(manifest), manifest.photos, strict=True)}


class _Negatives:
    """Photos of other people, taken so that people, and each person's photos, are shown equally often.

    own: the photos of each person; shown: how often each photo is an anchor or a positive, int [photos].
    """

    def __init__(self, own: Sequence[Ints], shown: Ints, rng: np.random.Generator) -> None:
        self.own = own
        self.rng = rng
        self.person_turn = rng.random(len(own))  # times a negative, plus a lot that breaks ties
        self.photo_turn = shown + rng.random(len(shown))  # times in any column, plus a lot
        self.taken: set[tuple[int, int, int]] = set()

    def take(self, person: int, anchor: int, positive: int) -> int:
        """Return a photo of somebody else that this anchor and positive have not met."""
        turn = self.person_turn.copy()
        turn[person] = np.inf
        while True:
            other = int(np.argmin(turn))
            photos = self.own[other]
            for negative in photos[np.argsort(self.photo_turn[photos])].tolist():
                if (anchor, positive, negative) not in self.taken:
                    self.taken.add((anchor, positive, negative))
                    self.person_turn[other] = np.floor(self.person_turn[other]) + 1.0 + self.rng.random()
                    self.photo_turn[negative] += 1.0
                    return int(negative)
            turn[other] = np.inf


def _pairs(photos: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give ordered pairs of a person's photos, each before its swapped twin, photos taking turns; then all again.

    Round s joins every photo with the one s places on; past half of the places the twins come back.
    """
    places = range(len(photos))
    while True:
        for step in places[1:]:
            # The first round takes every second photo, so that half as many rows as photos show them all.
            starts = chain(places[::2], places[1::2]) if step == 1 else places
            for place in starts:
                yield photos[place], photos[(place + step) % len(photos)]


def _spread(times: Counter[str]) -> Spread:
    counts = list(times.values())
    return Spread(min=min(counts), median=float(np.median(counts)), max=max(counts))


def highest_cap(sizes: Ints, wanted: int, *, times: Ints | int = 1) -> int:
    """Return the highest cap under which Σ times · min(sizes, cap) is at most `wanted`: [n] int64."""
    low, high = 0, int(sizes.max())
    while low < high:
        cap = (low + high + 1) // 2
        low, high = (cap, high) if int(np.sum(times * np.minimum(sizes, cap))) <= wanted else (low, cap - 1)
    return low


def dealt_evenly(possible: Ints, wanted: int, rng: np.random.Generator) -> Ints:
    """Return how many each gives: the highest common cap that fits, the rest by lot; int64 [n] → [n]."""
    cap = highest_cap(possible, wanted)
    quota = np.minimum(possible, cap)
    more = rng.permutation(np.flatnonzero(possible > cap))[: wanted - int(quota.sum())]
    quota[more] += 1
    return quota


def examples(sets: Sequence[TripletSet]) -> list[Example]:
    """Flatten triplets into a classification set: every photo that they show, once, with its person's class.

    Classes are numbered through a side's people in order, from 0 on each: a classifier is trained on one side's, and
    the other's are people whom it has never seen.
    """
    found = []
    for one in sets:
        person = _person_of(one.manifest)
        shown = sorted(set(chain.from_iterable(one.triplets)))
        number = {name: place for place, name in enumerate(sorted({person[photo] for photo in shown}))}
        found += [Example(photo, person[photo], number[person[photo]], one.side) for photo in shown]
    return found


def write_triplets(path: Path | str, triplets: Sequence[Triplet]) -> None:
    """Write a CSV with the columns Anchor, Positive and Negative; the file appears when it is complete.

    A name that is no UTF-8 or breaks a line is escaped, and found again so. Raises DataError where something else lies
    under that name already: a test set is not written over.
    """
    _write_table(path, COLUMNS, triplets, what="triplets")


def listed_names(manifest: Manifest) -> tuple[str, ...]:
    """Return the paths of a manifest's photos as a list of text has them."""
    return tuple(map(printable, manifest.relative_paths))


def file_of_test(out: Path) -> Path:
    """Return where the test side's triplets go, beside those for training: `faces.csv` → `faces.test.csv`."""
    return out.with_name(f"{out.stem}{TEST}")


def write_examples(path: Path | str, rows: Sequence[Example]) -> None:
    """Write a CSV with the columns Photo, Person, Class and Side; raises DataError where something lies there."""
    _write_table(path, CLASSES, rows, what="classes")


def _write_table(path: Path | str, columns: Sequence[str], rows: Sequence[tuple[object, ...]], *, what: str) -> None:
    path = Path(path)
    content = csv_bytes([columns, *(map(printable, row) for row in rows)])
    if os.path.lexists(path):
        if path.is_file() and path.read_bytes() == content:
            return
        raise DataError(f"{what} are written into a new file, but {path} exists. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}. Choose another place.") from error


def read_triplets(path: Path | str) -> list[Triplet]:
    """Read a CSV with a header that names Anchor, Positive and Negative; other columns are passed over.

    Paths are relative to the folder of people, with / or, where there is none, with \\ between folders. A
    byte-order mark, Windows line ends, blank lines and capitals in the header do not matter.

    Raises DataError with the file's name and the line when anything else is found.
    """
    path = Path(path)
    columns = [column.casefold() for column in COLUMNS]
    triplets = []
    for line, cells in records(path, columns):
        triplet = Triplet(*(relative_path(path, line, cells[column]) for column in columns))
        if len(set(triplet)) < 3:
            raise wrong_at(path, line, f"expected three photos, got {', '.join(map(shown, triplet))}.")
        triplets.append(triplet)
    return triplets


def triplet_manifest(root: Path | str, triplets: Sequence[Triplet]) -> Manifest:
    """List the photos that triplets name, each once, whatever else lies in the folder.

    A person is the folder right below the deepest one that all paths share; a photo in that one itself is
    nobody's (identity ""). Raises DataError for a photo that does not exist.
    """
    root = Path(os.path.abspath(Path(root).expanduser()))
    named = sorted(set(chain.from_iterable(triplets)))
    shared = len(PurePosixPath(os.path.commonpath([str(PurePosixPath("/", name).parent) for name in named])).parts) - 1
    photos = []
    for name in named:
        folders = PurePosixPath(name).parts[shared:-1]
        photos.append(Photo(listed_photo(root, name), folders[0] if folders else ""))
    return listed(root, photos, {})


def triplet_rows(manifest: Manifest, triplets: Sequence[Triplet]) -> Ints:
    """Return where each triplet's photos stand in a manifest: int64 [triplets, 3], anchor, positive, negative.

    Raises DataError for a photo that is not there, and where people are known and a row does not show two
    photos of one person and one of another.
    """
    place = {unicodedata.normalize("NFC", path): row for row, path in enumerate(listed_names(manifest))}
    rows = np.empty((len(triplets), 3), np.int64)
    for number, triplet in enumerate(triplets):
        for column, name in enumerate(triplet):
            row = place.get(unicodedata.normalize("NFC", name))
            if row is None:
                raise DataError(
                    f"triplet {number + 1} names {shown(name)}, which is not among the {len(manifest):,} photos "
                    f"that can be read in {manifest.root}. Mend the photo, or leave the triplet out."
                )
            rows[number, column] = row
        anchor, positive, negative = (manifest.photos[row].identity for row in rows[number].tolist())
        if anchor and negative and (anchor != positive or anchor == negative):
            raise DataError(
                f"triplet {number + 1} must show one person twice, then another, got {anchor}, {positive}, {negative}. "
                f"{SEE}"
            )
    return rows


def triplet_people(manifest: Manifest, rows: Ints) -> Ints | None:
    """Return who stands against whom: int64 [triplets, 2], the anchor's and the negative's person.

    None where a photo lies in no person's folder, so that nobody knows who it shows.
    """
    if "" in manifest.identities:
        return None
    return manifest.labels[rows[:, [0, 2]]].astype(np.int64)
