"""Faces of named people: those that a head may learn from, and those that are held out to measure it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.bootstrap import auc_gain_stderr
from facetl.metrics.pairs import Pairs
from facetl.metrics.ranking import Gallery
from facetl.metrics.roc import auc
from facetl.metrics.verification import pair_distances
from facetl.people.library import Library
from facetl.people.store.models import LibraryPhoto
from facetl.training.model_selection import FEW_PEOPLE

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
        """Return these faces alone, in their order."""
        place = {face: row for row, face in enumerate(self.faces.tolist())}
        rows = [place[face] for face in faces.tolist()]
        return replace(self, faces=self.faces[rows], names=self.names[rows], kept=self.kept[rows])


def hold_out(library: Library, *, seed: int) -> Held:
    """Choose, of each named person who has enough faces, about a quarter to hold out.

    What belongs together stays together: photos that nearly are another one, and, of a person with photos of three days
    or more, the photos of a day, which show the same clothes, light and hair. Raises DataError where fewer than
    LEAST_PEOPLE can be learnt from.
    """
    resolved = library.resolved()
    by_name: dict[str, list[int]] = defaultdict(list)
    for face, name in resolved.names.items():
        by_name[name].append(face)
    rng = np.random.default_rng(seed)
    photos: dict[int, LibraryPhoto] = {}
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


def _groups(photos: list[LibraryPhoto]) -> list[str]:
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


_FACES = 10  # of a person that take part: more tell little about other people
_OTHERS = 200  # of other people that a face is compared with


@dataclass(frozen=True)
class HeadComparison(JsonFields):
    """Old and new head on held-out faces, each compared with the faces of everybody that were not.

    Attributes:
        auc_before, auc_after: how well the distance separates pairs of one person from pairs of two, in [0, 1].
        gain, stderr: of the AUC, and its standard error by person.
        found_before, found_after: share of the held-out faces that lie nearest to their own person's centroid, each
            person weighing the same.
        unseen_gain, unseen_stderr: as gain and stderr, of people alone whom the new head was not trained on.
        people: whose faces were held out.
        better: whether the gain is more than one standard error, with few people two, and people whom it was not
            trained on are told apart no worse by more than one.
    """

    auc_before: float
    auc_after: float
    gain: float
    stderr: float
    found_before: float
    found_after: float
    unseen_gain: float
    unseen_stderr: float
    people: int
    better: bool

    @property
    def sentence(self) -> str:
        """A sentence for a reader with what was measured."""
        return (
            f"On held-out faces of {self.people:,} people: {self.found_before:.1%} → {self.found_after:.1%} found "
            f"nearest to their own person, AUC {self.auc_before:.4f} → {self.auc_after:.4f} "
            f"({self.gain:+.4f} ± {self.stderr:.4f})."
        )


def compare_heads(
    old: NDArray[np.float32], new: NDArray[np.float32], held: Held, *, unseen: NDArray[np.bool_], seed: int
) -> HeadComparison:
    """Compare two heads.

    Args:
        old, new: unit embeddings [faces, width] of all of `held`.
        held: whose each face is, and which are held out.
        unseen: bool [faces], the faces of people whom the new head was not trained on.
        seed: of the faces that are drawn where there are many.
    """
    labels = held.labels
    pairs = _pairs(labels, held.kept, np.random.default_rng(seed))
    before, after = (pair_distances(rows, pairs) for rows in (old, new))
    gain = auc(after, pairs.same) - auc(before, pairs.same)
    stderr = auc_gain_stderr(after, before, pairs, labels)
    of_unseen = unseen[pairs.first] & unseen[pairs.second]
    part = Pairs(pairs.first[of_unseen], pairs.second[of_unseen], pairs.same[of_unseen])
    unseen_gain = auc(after[of_unseen], part.same) - auc(before[of_unseen], part.same)
    unseen_stderr = auc_gain_stderr(after[of_unseen], before[of_unseen], part, labels)
    people = len(np.unique(labels))
    needed = 2 if people < FEW_PEOPLE else 1
    return HeadComparison(
        auc_before=auc(before, pairs.same),
        auc_after=auc(after, pairs.same),
        gain=gain,
        stderr=stderr,
        found_before=_found(old, held),
        found_after=_found(new, held),
        unseen_gain=unseen_gain,
        unseen_stderr=unseen_stderr,
        people=people,
        better=bool(gain > needed * stderr and unseen_gain >= -unseen_stderr),
    )


def _pairs(labels: NDArray[np.int64], kept: NDArray[np.bool_], rng: np.random.Generator) -> Pairs:
    """Pair each held-out face with some of its own person's other faces, and some of other people's."""
    few = _few(labels, kept, rng)
    known = np.flatnonzero(few & kept)
    first, second = [], []
    for face in np.flatnonzero(few & ~kept).tolist():
        own = known[labels[known] == labels[face]]
        others = known[labels[known] != labels[face]]
        others = rng.choice(others, min(_OTHERS, len(others)), replace=False)
        second += [own, others]
        first.append(np.full(len(own) + len(others), face))
    one, other = np.concatenate(first), np.concatenate(second)
    return Pairs(one, other, labels[one] == labels[other])


def _few(labels: NDArray[np.int64], kept: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which faces take part: at most so many of a person, of those kept and of those held out."""
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        for side in (kept, ~kept):
            own = np.flatnonzero((labels == label) & side)
            chosen[rng.choice(own, min(_FACES, len(own)), replace=False)] = True
    return chosen


def _found(rows: NDArray[np.float32], held: Held) -> float:
    gallery = Gallery(rows[held.kept], held.names[held.kept])
    probes = np.flatnonzero(~held.kept)
    nearest = np.array(gallery.people)[gallery.rank(rows[probes], top=1).people[:, 0]]
    right = nearest == held.names[probes]
    return float(np.mean([right[held.names[probes] == name].mean() for name in np.unique(held.names[probes])]))
