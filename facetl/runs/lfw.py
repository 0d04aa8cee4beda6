"""Labeled Faces in the Wild, View 2, with a head per fold that has never seen the fold's people.

Protocol: image-restricted pairs for testing, labelled outside photos for training ("unrestricted" in Huang and
Learned-Miller, Labeled Faces in the Wild: Updates and New Reporting Procedures, 2014). The threshold of a fold
comes from validation people among its training people; the fold's pairs are looked at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetl.data.pair_lists import PairsProtocol, lfw_photo
from facetl.data.splits import assign
from facetl.embeddings.dataset import Collection
from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.baselines import Baselines
from facetl.metrics.pairs import Pairs
from facetl.metrics.verification import Verification, pair_distances, threshold_from, verify_at
from facetl.runs.evaluated_run import composed
from facetl.training.fit import embedders, fit_head
from facetl.training.model_selection import HeadChoice
from facetl.training.settings import TrainingSettings


@dataclass(frozen=True)
class FoldReport(JsonFields):
    """One fold: how the trained head did on it, and what it was trained on."""

    fold: int
    accuracy: float
    threshold: float
    train_people: int
    train_photos: int
    validation_people: int
    best_epoch: int
    epochs: int
    seconds: float
    choice: HeadChoice | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fold as plain types; `fallback` says whether its head is the raw features."""
        return super().to_json() | {"fallback": self.choice is not None and self.choice.fallback}


@dataclass(frozen=True)
class BenchmarkReport:
    """A benchmark: method → scores, and what each fold's head was trained on.

    Attributes:
        missing: pairs that could not be scored, their photo being absent or unreadable.
    """

    verifications: Mapping[str, Verification]
    folds: tuple[FoldReport, ...]
    missing: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return the trained head's scores, `folds`, `baselines` (name → scores) and `seconds`."""
        trained = self.verifications["trained"].to_json()
        return {
            **trained,
            "folds": [fold.to_json() for fold in self.folds],
            "baselines": {name: scores.to_json() for name, scores in self.verifications.items() if name != "trained"},
            "missing_pairs": self.missing,
            "seconds": self.seconds,
        }


def benchmark_lfw(
    collection: Collection,
    protocol: PairsProtocol,
    settings: TrainingSettings,
    *,
    on_fold: Callable[[FoldReport], None] = lambda fold: None,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, logs: None,
) -> BenchmarkReport:
    """Train a head per fold on the people outside it, and verify the fold's pairs.

    Raises DataError when the photos do not hold the protocol's people, or two folds share one.
    """
    began = time.monotonic()
    pairs_of_folds, missing = rows_of_pairs(collection, protocol)
    scored: dict[str, list[np.ndarray]] = {}
    thresholds: dict[str, dict[int, float]] = {}
    folds = []
    for fold in range(protocol.folds):
        report, distances, cuts = _fold(collection, protocol, fold, pairs_of_folds[fold], settings, on_epoch)
        for name, values in distances.items():
            scored.setdefault(name, []).append(values)
            thresholds.setdefault(name, {})[fold] = cuts[name]
        folds.append(report)
        on_fold(report)
    same = np.concatenate([pairs.same for pairs in pairs_of_folds])
    fold_of = np.repeat(np.arange(protocol.folds), [len(pairs.same) for pairs in pairs_of_folds])
    verifications = {
        name: verify_at(np.concatenate(values), same, threshold=thresholds[name], fold=fold_of)
        for name, values in scored.items()
    }
    return BenchmarkReport(verifications, tuple(folds), missing, time.monotonic() - began)


def _fold(
    collection: Collection,
    protocol: PairsProtocol,
    fold: int,
    pairs: Pairs,
    settings: TrainingSettings,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> tuple[FoldReport, dict[str, np.ndarray], dict[str, float]]:
    side = sides_of_fold(collection, protocol, fold, seed=settings.seed, validation=settings.validation)
    features, labels, _ = collection.rows(side == "train")
    held_out, held_out_labels, held_out_manifest = collection.rows(side == "validation")
    fitted = fit_head(
        features, labels, settings, validation=(held_out, held_out_labels), layout=collection.layout, on_epoch=on_epoch
    )
    # Only the photos of the fold's pairs are embedded.
    used, inverse = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    first, second = np.split(inverse, 2)
    tested, _, _ = collection.rows(used)
    distances, thresholds = {}, {}
    baselines = Baselines.fit(features, labels, seed=settings.seed)
    for name, embedder in embedders(baselines, fitted).items():
        thresholds[name] = threshold_from(embedder(held_out), held_out_labels, seed=settings.seed)
        distances[name] = pair_distances(embedder(tested), Pairs(first, second, pairs.same))
    trained = verify_at(distances["trained"], pairs.same, threshold=thresholds["trained"])
    report = FoldReport(
        fold=fold + 1,
        accuracy=trained.accuracy,
        threshold=thresholds["trained"],
        train_people=len(np.unique(labels)),
        train_photos=len(labels),
        validation_people=len(held_out_manifest.identities),
        best_epoch=fitted.best_epoch,
        epochs=len(fitted.history),
        seconds=fitted.seconds,
        choice=fitted.choice,
    )
    return report, distances, thresholds


def sides_of_fold(
    collection: Collection, protocol: PairsProtocol, fold: int, *, seed: int, validation: float
) -> np.ndarray:
    """Return each photo's side in a fold, [photos] of `train`, `validation` or, for the fold's people, `test`."""
    # A list may spell a name decomposed; identities are composed.
    tested = composed(protocol.people(fold))
    counts = {name: count for name, count in collection.manifest.counts().items() if name not in tested}
    sides = assign(counts, seed=seed, validation=validation, test=0.0)
    return np.array([sides.get(photo.identity, "test") for photo in collection.manifest.photos])


def rows_of_pairs(collection: Collection, protocol: PairsProtocol) -> tuple[list[Pairs], int]:
    """Find each pair's rows, fold by fold; count pairs of which a photo is not there."""
    root = collection.manifest.root
    row_of: dict[Path, int] = {path: row for row, path in enumerate(collection.manifest.paths)}
    folds, missing = [], 0
    for fold in range(protocol.folds):
        found = []
        for pair in protocol.fold(fold):
            try:
                rows = [row_of.get(lfw_photo(root, *photo)) for photo in (pair.first, pair.second)]
            except DataError:
                rows = [None]
            if None in rows:
                missing += 1
            else:
                found.append((*rows, pair.same))
        if len({same for *_, same in found}) < 2:
            raise DataError(
                f"fold {fold + 1}: expected photos of the pairs below {root}, as Name/Name_0001.jpg; "
                f"found {len(found)} of {len(protocol.fold(fold))} pairs. Check the folder against the pairs file."
            )
        first, second, same = (np.array(column) for column in zip(*found, strict=True))
        folds.append(Pairs(first, second, same))
    _refuse_shared_people(protocol)
    return folds, missing


def _refuse_shared_people(protocol: PairsProtocol) -> None:
    seen: dict[str, int] = {}
    for fold in range(protocol.folds):
        for name in composed(protocol.people(fold)):
            if seen.setdefault(name, fold) != fold:
                raise DataError(
                    f"pairs: a person belongs to one fold, {name} is in folds {seen[name] + 1} and {fold + 1}."
                )
