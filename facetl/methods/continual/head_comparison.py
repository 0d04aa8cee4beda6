"""An old head and an updated one on people that neither was trained on, and on new people's held-out photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.continual_scores import Compatibility, compatibility, cross_distances, found_by_nearest_mean
from facetl.metrics.jackknife import auc_gain_stderr
from facetl.metrics.linalg import Float32s
from facetl.metrics.pairs import Pairs, sample_pairs
from facetl.metrics.roc import accuracy_at, auc
from facetl.metrics.verification import pair_distances, threshold_from


@dataclass(frozen=True, eq=False)
class Twice:
    """Photos under two heads: unit embeddings [photos, width] `before` and `after`, and names, str [photos]."""

    before: Float32s
    after: Float32s
    names: NDArray[np.str_]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The person of each photo as a number, people sorted."""
        return np.unique(self.names, return_inverse=True)[1].astype(np.int64)

    def joined(self, others: Twice) -> Twice:
        """Return these photos and others."""
        return Twice(
            np.concatenate([self.before, others.before]),
            np.concatenate([self.after, others.after]),
            np.concatenate([self.names, others.names]),
        )


@dataclass(frozen=True)
class Gain:
    """A difference of two AUCs over the same pairs, and its standard error by person."""

    value: float
    stderr: float

    @property
    def worse(self) -> bool:
        """True where it is below 0 by more than one standard error."""
        return self.value < -self.stderr


@dataclass(frozen=True)
class Verified(JsonFields):
    """Two heads on pairs of people's photos.

    Attributes:
        people, pairs: how many.
        accuracy_before, accuracy_after: each at the threshold that its validation people give.
        auc_before, auc_after: in [0, 1].
        compatibility: probes of the new head against a gallery of the old one.
    """

    people: int
    pairs: int
    accuracy_before: float
    accuracy_after: float
    auc_before: float
    auc_after: float
    compatibility: Compatibility

    @property
    def forgetting(self) -> float:
        """The loss of accuracy; below 0 where it rose."""
        return self.accuracy_before - self.accuracy_after

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and `forgetting`."""
        return super().to_json() | {"forgetting": self.forgetting}


@dataclass(frozen=True)
class Found(JsonFields):
    """Share of new people's held-out photos that lie nearest to their own person's mean among all people known.

    Attributes:
        people, photos: whose photos were held out, and how many.
        among: how many people are known.
        before: by the old head, as soon as the new people are enrolled.
        after: by the new head.
    """

    people: int
    photos: int
    among: int
    before: float
    after: float


def verified(photos: Twice, *, validation: Twice, seed: int, of: frozenset[str] | None = None) -> Verified | None:
    """Compare two heads on pairs of photos; None where there are no pairs of one person, or none of two.

    of: people; only pairs with one of them, at least, are taken.
    """
    pairs = _pairs(photos, seed, of)
    if pairs is None:
        return None
    accuracies, aucs = [], []
    for own, chosen in ((photos.before, validation.before), (photos.after, validation.after)):
        distances = pair_distances(own, pairs)
        threshold = threshold_from(chosen, validation.labels, seed=seed)
        accuracies.append(accuracy_at(distances, pairs.same, threshold))
        aucs.append(auc(distances, pairs.same))
    people = np.unique(photos.names) if of is None else np.intersect1d(photos.names, sorted(of))
    return Verified(
        people=len(people),
        pairs=len(pairs.same),
        accuracy_before=accuracies[0],
        accuracy_after=accuracies[1],
        auc_before=aucs[0],
        auc_after=aucs[1],
        compatibility=compatibility(photos.before, photos.after, pairs),
    )


def gains(photos: Twice, *, seed: int) -> tuple[Gain, Gain]:
    """Return what the new head gains by itself, and what it gains on a gallery of the old one, both over the old one.

    Raises DataError where the photos make no pairs.
    """
    pairs, labels = sample_pairs(photos.labels, seed=seed), photos.labels
    before = pair_distances(photos.before, pairs)
    ways = pair_distances(photos.after, pairs), cross_distances(photos.after, photos.before, pairs)
    by_itself, on_gallery = (
        Gain(
            auc(after, pairs.same) - auc(before, pairs.same),
            auc_gain_stderr(after, before, pairs, labels),
        )
        for after in ways
    )
    return by_itself, on_gallery


def found(probes: Twice, gallery: Twice) -> Found | None:
    """Compare two heads on new people's held-out photos; None where there are none."""
    if not len(probes.names):
        return None
    return Found(
        people=len(np.unique(probes.names)),
        photos=len(probes.names),
        among=len(np.unique(gallery.names)),
        before=found_by_nearest_mean(probes.before, probes.names, gallery.before, gallery.names),
        after=found_by_nearest_mean(probes.after, probes.names, gallery.after, gallery.names),
    )


def _pairs(photos: Twice, seed: int, of: frozenset[str] | None) -> Pairs | None:
    if not len(photos.names):
        return None
    try:
        pairs = sample_pairs(photos.labels, seed=seed)
    except DataError:
        return None
    if of is not None:
        theirs = np.isin(photos.names, sorted(of))
        kept = theirs[pairs.first] | theirs[pairs.second]
        pairs = Pairs(pairs.first[kept], pairs.second[kept], pairs.same[kept])
    return pairs if len(np.unique(pairs.same)) > 1 else None
