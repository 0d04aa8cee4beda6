"""The report of an update: the old head and the new one compared, and what the run's model card has of it.

References:
    Shen, Xiong, Xia, Soatto: Towards Backward-Compatible Representation Learning, CVPR 2020, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facetl.calibration.calibration import Calibration
from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.methods.continual.new_people import Enrolment
from facetl.metrics.bootstrap import auc_gain_stderr
from facetl.metrics.linalg import Float32s
from facetl.metrics.pairs import Pairs, sample_pairs
from facetl.metrics.ranking import Gallery, checked_names
from facetl.metrics.roc import Floats, accuracy_at, auc
from facetl.metrics.verification import pair_distances, threshold_from
from facetl.runs.model_card import put_calibration_into


@dataclass(frozen=True, eq=False)
class Twice:
    """Photos under two heads: unit embeddings [photos, width] `before` and `after`, and names, str [photos]."""

    before: Float32s
    after: Float32s
    names: npt.NDArray[np.str_]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
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


def compatibility(old: npt.ArrayLike, new: npt.ArrayLike, pairs: Pairs) -> Compatibility:
    """Measure the same photos under two models: unit embeddings float [photos, dim] of each, and pairs of rows.

    The first photo of a pair is the probe, the second one the gallery's. Raises DataError where shapes differ.
    """
    ways = cross_distances(old, old, pairs), cross_distances(new, old, pairs), cross_distances(new, new, pairs)
    return Compatibility(*(auc(distances, pairs.same) for distances in ways))


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


def verified(photos: Twice, *, validation: Twice, seed: int, of: frozenset[str] | None = None) -> Verified | None:
    """Compare two heads on pairs of photos; None where there are no pairs of one person, or none of two.

    of: people; only pairs with one of them, at least, are taken.
    """
    pairs = _pairs(photos, seed, of)
    if pairs is None:
        return None
    before, after = (
        accuracy_at(pair_distances(own, pairs), pairs.same, threshold_from(chosen, validation.labels, seed=seed))
        for own, chosen in ((photos.before, validation.before), (photos.after, validation.after))
    )
    separation = compatibility(photos.before, photos.after, pairs)
    people = np.unique(photos.names) if of is None else np.intersect1d(photos.names, sorted(of))
    return Verified(
        people=len(people),
        pairs=len(pairs.same),
        accuracy_before=before,
        accuracy_after=after,
        auc_before=separation.old,
        auc_after=separation.new,
        compatibility=separation,
    )


def gains(photos: Twice, *, seed: int) -> tuple[Gain, Gain]:
    """Return what the new head gains by itself, and what it gains on a gallery of the old one, both over the old one.

    Raises DataError where the photos make no pairs.
    """
    pairs, labels = sample_pairs(photos.labels, seed=seed), photos.labels
    before = pair_distances(photos.before, pairs)
    ways = pair_distances(photos.after, pairs), cross_distances(photos.after, photos.before, pairs)
    by_itself, on_gallery = (
        Gain(auc(after, pairs.same) - auc(before, pairs.same), auc_gain_stderr(after, before, pairs, labels))
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


@dataclass(frozen=True)
class UpdateReport(JsonFields):
    """The report of an update.

    Attributes:
        folder: the run's.
        method: as asked for.
        version: the run's version now.
        in_place: whether a new head is in use; `why_not` is the reason where it is not.
        enrolment: who can be named since; they can be even where the new head was refused.
        people, photos: new ones that were learnt from; `held_out` new people never were.
        seen: photos left out, the run having seen them.
        old: both heads on the run's test people. new: on pairs with the new people among them; None for too few.
        found: new people's held-out photos; None where nobody has 3 photos.
        own_gain, gallery_gain: of the new head, and of the new head on a gallery of the old one, over the old head, on
            the validation people; None without a new head.
        gallery_kept: whether what was enrolled with the old head still answers.
        memory_bytes_per_person: a person, of what is remembered for the next update.
        way: `closed form` or `gradient`, or `training` for joint; None without a new head.
        seconds: of learning alone.
    """

    folder: Path
    method: str
    version: int
    in_place: bool
    why_not: str | None
    enrolment: Enrolment
    people: int
    photos: int
    held_out: int
    seen: int
    old: Verified | None = None
    new: Verified | None = None
    found: Found | None = None
    own_gain: Gain | None = None
    gallery_gain: Gain | None = None
    gallery_kept: bool = True
    memory_bytes_per_person: float | None = None
    way: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, the folder as `run`."""
        report = super().to_json()
        return {"run": report.pop("folder"), **report}


_QUALITY = re.compile(r"^## How good it is\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def updated_card(before: str, config: Mapping[str, Any], calibration: Calibration) -> str:
    """Return a model card with a new version's figures, of its config and calibration, in place of those before."""
    quality = "\n".join(_lines(config)) + "\n"
    card = _QUALITY.sub(lambda _: quality, before, count=1) if _QUALITY.search(before) else f"{before}\n{quality}"
    return put_calibration_into(card, calibration)


def _lines(config: Mapping[str, Any]) -> list[str]:
    update = config["update"]
    lines = [
        "## How good it is",
        "",
        f"Version {config['version']}, updated from version {update['from']} by {update['method']} with "
        f"{update['photos']:,} photos of {update['people']:,} people, {update['made']}. Verification of test people, "
        "used neither for training nor for any choice; thresholds from the validation people.",
        "",
        "| people | pairs | accuracy before | after | AUC before | after | new head on the old gallery |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, shown in (("old", "of the run"), ("new", "new ones among them")):
        part = update[name]
        if part is not None:
            cells = [part[key] for key in ("accuracy_before", "accuracy_after", "auc_before", "auc_after")]
            numbers = [f"{value:.4f}" for value in (*cells, part["compatibility"]["cross"])]
            lines.append(f"| {part['people']:,} {shown} | {part['pairs']:,} | " + " | ".join(numbers) + " |")
    if update["found"] is not None:
        found = update["found"]
        lines += [
            "",
            f"Of {found['photos']:,} held-out photos of {found['people']:,} new people, {found['before']:.1%} lay "
            f"nearest to their own person among {found['among']:,} before, {found['after']:.1%} do now.",
        ]
    return [*lines, ""]
