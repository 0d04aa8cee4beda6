"""How a model that learns in steps is judged: what it gains, what it forgets, and whether old embeddings still serve.

A task is what one step brings: some people, or a domain. Row i of an accuracy matrix R [steps, tasks] is measured after
step i, column j on held-out photos of task j; task j is what step j brings, task 0 what the first model was made of.

References:
    Lopez-Paz, Ranzato: Gradient Episodic Memory for Continual Learning, NeurIPS 2017, equations 2 to 4;
    Chaudhry, Dokania, Ajanthan, Torr: Riemannian Walk for Incremental Learning, ECCV 2018, section 3;
    Shen, Xiong, Xia, Soatto: Towards Backward-Compatible Representation Learning, CVPR 2020, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.metrics.pairs import Pairs
from facetl.metrics.ranking import Gallery, checked_names
from facetl.metrics.roc import Floats, auc
from facetl.metrics.verification import pair_distances


@dataclass(frozen=True, eq=False)
class AccuracyMatrix:
    """Accuracies of tasks after steps.

    Attributes:
        values: float64 [steps, tasks], in [0, 1], as many tasks as steps, at least 2.
    """

    values: Floats

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        object.__setattr__(self, "values", values)
        square = values.ndim == 2 and values.shape[0] == values.shape[1] >= 2
        if not square or not np.all((values >= 0.0) & (values <= 1.0)):
            raise DataError(
                "An accuracy matrix must be [steps, tasks], square, 2 or more, of values in [0, 1]. "
                f"Received: shape {values.shape}."
            )

    @property
    def average_accuracy(self) -> float:
        """Mean accuracy of all tasks after the last step (Lopez-Paz and Ranzato, equation 2)."""
        return float(self.values[-1].mean())

    @property
    def backward_transfer(self) -> float:
        """Mean gain on the earlier tasks since each was learnt, below 0 where they suffered (equation 3)."""
        return float(np.mean(self.values[-1, :-1] - np.diag(self.values)[:-1]))

    @property
    def forgetting(self) -> float:
        """Mean loss on the earlier tasks, each against its best of all steps before the last (Chaudhry et al.).

        It can be below 0, where the last step is the best. The best of many noisy values is too high: of a model that
        only wavers, it is above 0.
        """
        return float(np.mean(self.values[:-1, :-1].max(axis=0) - self.values[-1, :-1]))

    def forward_transfer(self, baseline: npt.ArrayLike) -> float:
        """Mean gain on the later tasks before each is learnt, over a baseline's float [tasks] (equation 4)."""
        given = np.asarray(baseline, np.float64)
        if given.shape != self.values.shape[1:]:
            raise DataError(
                f"A baseline must have an accuracy a task, [{self.values.shape[1]}]. Received: {given.shape}."
            )
        return float(np.mean(np.diag(self.values, 1) - given[1:]))

    def to_json(self) -> dict[str, object]:
        """Return the matrix and what needs no baseline as plain types."""
        return {
            "matrix": self.values.tolist(),
            "average_accuracy": self.average_accuracy,
            "forgetting": self.forgetting,
            "backward_transfer": self.backward_transfer,
        }


@dataclass(frozen=True)
class Compatibility:
    """How well pairs of photos are told apart, AUC in [0, 1], by which model embeds the probe and the gallery.

    Attributes:
        old: both by the old model.
        cross: the probe by the new one, the gallery by the old one.
        new: both by the new one.
    """

    old: float
    cross: float
    new: float

    @property
    def compatible(self) -> bool:
        """Shen et al.'s criterion: the new model on the old gallery is better than the old one."""
        return self.cross > self.old

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain types, and `compatible`."""
        return {"old": self.old, "cross": self.cross, "new": self.new, "compatible": self.compatible}


def compatibility(old: npt.ArrayLike, new: npt.ArrayLike, pairs: Pairs) -> Compatibility:
    """Measure the same photos under two models: unit embeddings float [photos, dim] of each, and pairs of rows.

    The first photo of a pair is the probe, the second one the gallery's. Raises DataError where shapes differ.
    """
    across = cross_distances(new, old, pairs)
    return Compatibility(
        old=auc(pair_distances(old, pairs), pairs.same),
        cross=auc(across, pairs.same),
        new=auc(pair_distances(new, pairs), pairs.same),
    )


def cross_distances(probes: npt.ArrayLike, gallery: npt.ArrayLike, pairs: Pairs) -> Floats:
    """Return squared distances of pairs, the first photo as one model embeds it, the second as another: [pairs].

    probes, gallery: unit embeddings float [photos, dim] of the same photos. Raises DataError where shapes differ.
    """
    first, second = np.asarray(probes), np.asarray(gallery)
    if first.shape != second.shape or first.ndim != 2:
        raise DataError(
            "Embeddings of two models are compared photo by photo, [photos, dim] each of one width. "
            f"Received: {first.shape} and {second.shape}."
        )
    both = np.concatenate([first, second])
    return pair_distances(both, Pairs(pairs.first, pairs.second + len(first), pairs.same))


def found_by_nearest_mean(
    probes: npt.ArrayLike, names: npt.ArrayLike, gallery: npt.ArrayLike, gallery_names: npt.ArrayLike
) -> float:
    """Return the share of probes that lie nearest to the mean embedding of their own person, people weighing alike.

    Nearest class mean, as in iCaRL (Rebuffi, Kolesnikov, Sperl, Lampert, CVPR 2017). probes, gallery: unit embeddings
    float [photos, dim]; names, gallery_names: str [photos]. A probe of somebody who is not in the gallery is not
    found.
    """
    means = Gallery(gallery, gallery_names)
    rows = np.asarray(probes)
    owners = checked_names(names, len(rows))
    nearest = np.array(means.people)[means.rank(rows, top=1).people[:, 0]]
    people, person = np.unique(owners, return_inverse=True)
    right = np.bincount(person, weights=nearest == owners, minlength=len(people))
    return float(np.mean(right / np.bincount(person, minlength=len(people))))


def verified_against_gallery(
    probes: npt.ArrayLike,
    names: npt.ArrayLike,
    gallery: npt.ArrayLike,
    gallery_names: npt.ArrayLike,
    *,
    threshold: float,
) -> float:
    """Return how often probe and gallery photo are rightly told to show one person or two, both kinds weighing alike.

    Of pairs of one person, each probe's person weighs the same; of pairs of two people, each pair. probes, gallery:
    unit embeddings float [photos, dim]; names, gallery_names: str [photos]; threshold: a squared distance up to which
    two photos count as one person. Raises DataError where no probe's person is in the gallery, or nobody else is.
    """
    rows, stored = np.asarray(probes, np.float64), np.asarray(gallery, np.float64)
    owners, kept = checked_names(names, len(rows)), checked_names(gallery_names, len(stored))
    same = owners[:, None] == kept
    accepted = 2.0 - 2.0 * (rows @ stored.T) <= threshold
    people = np.unique(owners[same.any(axis=1)])
    if not len(people) or same.all():
        raise DataError(
            "Verifying against a gallery needs a probe's person in it, and somebody else. "
            f"Received: {len(people)} people of the probes, {len(np.unique(kept))} in the gallery."
        )
    right = [accepted[owners == person][same[owners == person]].mean() for person in people]
    return float((np.mean(right) + 1.0 - accepted[~same].mean()) / 2.0)
