"""The list of photos that everything else works on: a path, a person and a side each."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facetl.data import splits
from facetl.data.walk import walk_people
from facetl.errors import DataError

UNKNOWN = "unknown"
_LONGEST = 200


@dataclass(frozen=True)
class Photo:
    """One photo: where it lies, who is on it, and its side.

    `split` is "train", "validation" or "test", or "" before a split.
    """

    path: Path
    identity: str
    split: str = ""


@dataclass(frozen=True)
class Manifest:
    """Photos in order of (identity, relative path), and how many files were passed over, by reason.

    `layout` is how the folder was read: see `facetl.data.layouts`; `shares` are the validation and the test share of
    people that `with_splits` was asked for.
    """

    root: Path
    photos: tuple[Photo, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    layout: str = "folders"
    shares: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, root: Path | str) -> Manifest:
        """List ROOT/Person_Name/**/photo.jpg without opening a single photo.

        The name of the first folder below the root, NFC-normalised, is the identity; folders inside it belong
        to the same person. Whatever cannot be a photo of a person is counted in `skipped` under "hidden",
        "not-an-image", "empty-file", "empty-folder", "not-in-a-person-folder", "unreadable", "link-loop",
        "broken-link" or "repeated-link" (a link to what the walk already holds), and never fatal; further reasons as
        of `facetl.data.walk.Album`.

        Raises DataError when the root is missing, no folder or unreadable, or holds no photo of a person.
        """
        root, found, skipped = walk_people(Path(root))
        if not found:
            counted = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items())) or "nothing"
            raise DataError(
                f"photos must lie in a folder per person (ROOT/Person_Name/photo.jpg), got {counted} in "
                f"{root}. Put each person's photos into a folder with the person's name."
            )
        return listed(root, [Photo(path, folder) for folder, path in found], skipped)

    def __len__(self) -> int:
        return len(self.photos)

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """The people, sorted; a label is an index into these."""
        return tuple(sorted({photo.identity for photo in self.photos}))

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """The label of the person on each photo, int32 [photos], read-only."""
        index = {identity: label for label, identity in enumerate(self.identities)}
        labels = np.fromiter((index[photo.identity] for photo in self.photos), dtype=np.int32, count=len(self))
        labels.setflags(write=False)
        return labels

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The path of each photo [photos]."""
        return tuple(photo.path for photo in self.photos)

    @cached_property
    def relative_paths(self) -> tuple[str, ...]:
        """The path of each photo below the root, with / between folders [photos]."""
        return tuple(path.relative_to(self.root).as_posix() for path in self.paths)

    def counts(self) -> dict[str, int]:
        """Count the photos of each person, people sorted."""
        counted = Counter(photo.identity for photo in self.photos)
        return {identity: counted[identity] for identity in self.identities}

    def with_splits(self, *, seed: int, validation: float, test: float) -> Manifest:
        """Put every person, with all photos, on one side; see `facetl.data.splits.assign`.

        Where the set's own lists have put people on the test side or the validation side, these stay there, all others
        are kept away from it, and that fraction does not count. Raises DataError for fractions that make no sense or
        too few people.
        """
        official = {photo.identity: photo.split for photo in self.photos if photo.split in ("validation", "test")}
        counts = {identity: count for identity, count in self.counts().items() if identity not in official}
        given = set(official.values())
        sides = official | splits.assign(
            counts,
            seed=seed,
            validation=0 if "validation" in given else validation,
            test=0 if "test" in given else test,
        )
        photos = tuple(replace(photo, split=sides[photo.identity]) for photo in self.photos)
        return replace(self, photos=photos, shares={"validation": validation, "test": test})

    def split_for_training(self, *, seed: int, validation: float, test: float) -> Manifest:
        """Put people on sides as `with_splits` does, or, of few people, some photos of each.

        Where people are too few for three sides, photos of the same people are held out; where photos are too few for
        that, too, nothing is held out to measure by, and the test side is empty. See `held_out`.

        Raises DataError for fractions that make no sense, and where not even a validation side can be had.
        """
        if validation == 0:
            raise DataError(
                "--validation: a run's epoch and threshold are chosen by validation people, so their share is above 0, "
                "got 0. Try 0.2."
            )
        listed_sides = any(photo.split for photo in self.photos)
        placed = list(zip(self.photos, self.relative_paths, strict=True))
        own: dict[str, list[str]] = {identity: [] for identity in self.identities}
        for photo, path in placed:
            own[photo.identity].append(path)
        for share in dict.fromkeys((test, 0.0)):
            photos: tuple[Photo, ...] = ()
            with suppress(splits.TooFewPeopleError):
                photos = self.with_splits(seed=seed, validation=validation, test=share).photos
            if not photos and not listed_sides:
                dealt = splits.assign_photos(own, seed=seed, validation=validation, test=share)
                photos = tuple(replace(photo, split=dealt[path]) for photo, path in placed) if dealt else ()
            if photos:
                return replace(self, photos=photos, shares={"validation": validation, "test": test})
        several = sorted((len(paths) for paths in own.values()), reverse=True)
        raise DataError(
            "training needs 4 people with 2 photos each, or 2 people with 4 photos each; got "
            f"{len(own):,} {'person' if len(own) == 1 else 'people'}, at most {several[0]:,} "
            f"{'photo' if several[0] == 1 else 'photos'} of one and {sum(n >= 2 for n in several):,} with 2 or more. "
            "Add photos; or name these people by a run that was trained on others: facetl quickstart, then facetl "
            "enroll."
        )

    @property
    def held_out(self) -> dict[str, str | None]:
        """Side → `people` that are not trained on, `photos` of people that are, or None where nothing is held out."""
        trained = {photo.identity for photo in self.photos if photo.split == "train"}
        kinds: dict[str, str | None] = {}
        for side in ("validation", "test"):
            people = {photo.identity for photo in self.photos if photo.split == side}
            kinds[side] = None if not people else "photos" if people & trained else "people"
        return kinds

    @property
    def same_people(self) -> bool:
        """Whether photos of the training's own people are held out, and no people."""
        return "photos" in self.held_out.values()

    def rows_of(self, paths: Iterable[Path]) -> list[int]:
        """Return the row of each path, in order; KeyError for one that is not among the photos'."""
        row = {path: place for place, path in enumerate(self.paths)}
        return [row[path] for path in paths]

    def subset(self, split: str) -> Manifest:
        """Keep the photos of one side; `identities` and `labels` are then of that side alone.

        Raises DataError for a side that does not exist.
        """
        if split not in ("", *splits.SIDES):
            raise DataError(f"a side is one of {', '.join(splits.SIDES)}, got {split!r}.")
        return replace(self, photos=tuple(photo for photo in self.photos if photo.split == split))

    def select(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.integer] | Sequence[int]) -> Manifest:
        """Keep the photos of a boolean mask [photos], or of indices [n] in their order.

        Raises DataError when a mask's length is not the number of photos or an index is out of range.
        """
        chosen = np.asarray(which)
        if chosen.size == 0 and chosen.dtype != np.bool_:
            chosen = chosen.astype(np.intp)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise DataError(f"a mask must have one entry a photo, [{len(self)}], got {list(chosen.shape)}.")
            chosen = np.flatnonzero(chosen)
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
            raise DataError(
                f"photos are selected by a mask or by integers [n], got {chosen.dtype} {list(chosen.shape)}."
            )
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise DataError(f"indices must be 0 to {len(self) - 1}, got {chosen.min()} to {chosen.max()}.")
        return replace(self, photos=tuple(self.photos[index] for index in chosen.tolist()))


def listed(root: Path, photos: Iterable[Photo], skipped: Mapping[str, int]) -> Manifest:
    """Make a Manifest of photos in any order, people's names NFC-normalised."""
    named = []
    for photo in photos:
        # A folder name that is not UTF-8 reaches Python as lone surrogates, which no JSON or HTML could carry.
        readable = photo.identity.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        named.append(replace(photo, identity=unicodedata.normalize("NFC", readable)))
    named.sort(key=lambda photo: (photo.identity, photo.path.relative_to(root).as_posix()))
    return Manifest(root, tuple(named), {reason: count for reason, count in sorted(skipped.items()) if count})


def person_name(text: str) -> str:
    """Return a name as it is kept: NFC-normalised, single spaces, none at the ends.

    Raises DataError for an empty or over-long one, one with control characters, and "unknown", which stands for
    strangers.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    # Lone surrogates are what a shell passes of bytes that are no UTF-8: no JSON, page or file could carry them.
    odd = [sign for sign in name if unicodedata.category(sign) in ("Cc", "Cs")]
    if not name or len(name) > _LONGEST or odd:
        raise DataError(f"a name has 1 to {_LONGEST} characters and no control characters, got {text[:60]!r}.")
    if name.casefold() == UNKNOWN:
        raise DataError(f"nobody can be called {name!r}, the answer for strangers. Choose another name.")
    return name
