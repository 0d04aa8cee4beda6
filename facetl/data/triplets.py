"""Triplets of photos drawn evenly over people: a test set of same/different decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from facetl.data.manifest import Manifest
from facetl.data.quota import dealt_evenly
from facetl.errors import DataError
from facetl.io.json import JsonFields

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Triplet:
    """Three photos, each a path relative to the folder of people: two of one person, one of another."""

    anchor: str
    positive: str
    negative: str

    def __iter__(self) -> Iterator[str]:
        return iter((self.anchor, self.positive, self.negative))


@dataclass(frozen=True)
class Spread:
    """How often each of several things appears: the fewest times, the median and the most."""

    min: int
    median: float
    max: int


@dataclass(frozen=True)
class Coverage(JsonFields):
    """How much of a set its triplets show.

    people and photos are those in at least one triplet, of people_in_set and photos_in_set; anchor_people have
    an anchor and its positive, negative_people a negative. per_person and per_photo tell how often each of those
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
    relative = [path.relative_to(manifest.root).as_posix() for path in manifest.paths]
    return [
        Triplet(relative[anchor], relative[positive], relative[negatives.take(person, anchor, positive)])
        for person, (anchor, positive) in zip(anchors, joined, strict=True)
    ]


def coverage(manifest: Manifest, triplets: Sequence[Triplet]) -> Coverage:
    """Tell how many people and photos of a set appear in its triplets, and how often.

    Raises DataError for a triplet of a photo that is not in the set, or for no triplet at all.
    """
    if not triplets:
        raise DataError("coverage needs at least one triplet, got none.")
    identity = {photo.path.relative_to(manifest.root).as_posix(): photo.identity for photo in manifest.photos}
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


class _Negatives:
    """Hands out photos of other people so that people, and each person's photos, are shown equally often.

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
    """Ordered pairs of a person's photos, each before its swapped twin, photos taking turns; then all again.

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
