"""Two heads on faces that neither was trained on: do they find who it is, and tell people apart?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.evaluation.gallery import Gallery
from facetl.evaluation.metrics import auc
from facetl.evaluation.pairs import Pairs
from facetl.evaluation.verification import pair_distances
from facetl.library.holding_out import Held
from facetl.training.fallback import FEW_PEOPLE, jackknife_stderr

_FACES = 10  # of a person that take part: more tell little about other people
_OTHERS = 200  # of other people that a face is compared with


@dataclass(frozen=True)
class Measured:
    """Old and new head on held-out faces, each compared with the faces of everybody that were not.

    Attributes:
        auc_before, auc_after: how well the distance tells whether two faces are of one person, in [0, 1].
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
        """What was measured, for a reader."""
        return (
            f"On held-out faces of {self.people:,} people: {self.found_before:.1%} → {self.found_after:.1%} found "
            f"nearest to their own person, AUC {self.auc_before:.4f} → {self.auc_after:.4f} "
            f"({self.gain:+.4f} ± {self.stderr:.4f})."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types."""
        return asdict(self)


def compare(
    old: NDArray[np.float32],
    new: NDArray[np.float32],
    held: Held,
    *,
    unseen: NDArray[np.bool_],
    seed: int,
) -> Measured:
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
    stderr = jackknife_stderr(after, before, pairs, labels)
    of_unseen = unseen[pairs.first] & unseen[pairs.second]
    part = Pairs(pairs.first[of_unseen], pairs.second[of_unseen], pairs.same[of_unseen])
    unseen_gain = auc(after[of_unseen], part.same) - auc(before[of_unseen], part.same)
    unseen_stderr = jackknife_stderr(after[of_unseen], before[of_unseen], part, labels)
    people = len(np.unique(labels))
    needed = 2 if people < FEW_PEOPLE else 1
    return Measured(
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
    """Say which faces take part: at most so many of a person, of those kept and of those held out."""
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
