"""Scores of a model that learns in steps: compatibility with old embeddings, and people found by class means.

References:
    Shen, Xiong, Xia, Soatto: Towards Backward-Compatible Representation Learning, CVPR 2020, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.pairs import Pairs
from facetl.metrics.ranking import Gallery, checked_names
from facetl.metrics.roc import Floats, auc
from facetl.metrics.verification import pair_distances


@dataclass(frozen=True)
class Compatibility(JsonFields):
    """Separation of pairs, AUC in [0, 1], by which model embeds the probe and the gallery.

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

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and `compatible`."""
        return super().to_json() | {"compatible": self.compatible}


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
    float [photos, dim]; names, gallery_names: str [photos]. A probe whose person is not in the gallery counts as
    not found.
    """
    means = Gallery(gallery, gallery_names)
    rows = np.asarray(probes)
    owners = checked_names(names, len(rows))
    nearest = np.array(means.people)[means.rank(rows, top=1).people[:, 0]]
    people, person = np.unique(owners, return_inverse=True)
    right = np.bincount(person, weights=nearest == owners, minlength=len(people))
    return float(np.mean(right / np.bincount(person, minlength=len(people))))
