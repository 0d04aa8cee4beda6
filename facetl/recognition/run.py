"""One training run: from a folder of people to a complete `models/NAME/`."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from facetl import __version__
from facetl.errors import RunError
from facetl.evaluation.pairs import FoldedPairs, fold_pairs
from facetl.evaluation.verification import (
    Verification,
    evaluate_embeddings,
    pair_distances,
    threshold_from,
)
from facetl.features.collection import Collection
from facetl.features.extractor import make_extractor
from facetl.recognition import documents
from facetl.recognition.recognizer import CALIBRATION, CONFIG, Recognizer
from facetl.training.contenders import contenders
from facetl.training.fitting import FittedHead, fit_head
from facetl.training.settings import TrainingSettings

METRICS = "metrics.json"
_CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True)
class RunReport:
    """What a run gave.

    Attributes:
        folder: the run's folder.
        epochs: trained, in all processes; `best_epoch` is the one kept, counted from 1; 0 is the start.
        verifications: method → scores on people held out of training and choosing.
        split: side → how many people and photos.
    """

    folder: Path
    epochs: int
    best_epoch: int
    verifications: Mapping[str, Verification]
    split: Mapping[str, Mapping[str, int]]
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return the report as plain types, `verification` by method."""
        return {
            "run": str(self.folder),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "split": {side: dict(counts) for side, counts in self.split.items()},
            "verification": {name: scores.to_json() for name, scores in self.verifications.items()},
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Evaluated:
    """Every method on the held-out people, and the distances of the same pairs for each."""

    verifications: Mapping[str, Verification]
    distances: Mapping[str, np.ndarray]
    pairs: FoldedPairs
    embeddings: np.ndarray
    threshold: float


def train_run(
    collection: Collection,
    settings: TrainingSettings,
    folder: Path,
    *,
    resume: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, logs: None,
) -> RunReport:
    """Train a head on a collection that has its splits, evaluate it, and write the run folder.

    Everything is written beside the folder, under `.NAME.partial`, and renamed when it is complete; a run of the
    same name is replaced only then. With `resume` an interrupted run goes on after its last whole epoch.

    Raises RunError when there is nothing to resume, TrainingError, DataError for too few people.
    """
    partial = _begin(folder, resume=resume)
    features, labels, _ = collection.side("train")
    held_out, held_out_labels, _ = collection.side("validation")
    fitted = fit_head(
        features,
        labels,
        settings,
        validation=(held_out, held_out_labels),
        on_epoch=on_epoch,
        checkpoint=partial / _CHECKPOINT,
        resume=resume,
        logs=partial / "logs",
    )
    evaluated = evaluate(collection, fitted, settings)
    report = RunReport(
        folder=folder,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        verifications=evaluated.verifications,
        split=split_counts(collection),
        seconds=fitted.seconds,
    )
    recognizer = Recognizer(make_extractor(collection.spec, collection.weights), fitted.head, evaluated.threshold)
    recognizer.save(partial)
    config = _config(collection, settings)
    _write_json(partial / CONFIG, config)
    _write_json(partial / CALIBRATION, _calibration(collection, evaluated))
    _write_json(partial / METRICS, report.to_json() | {"run": folder.name})
    documents.write(partial, folder.name, collection, fitted, evaluated, config)
    (partial / _CHECKPOINT).unlink(missing_ok=True)
    _replace(partial, folder)
    return report


def evaluate(collection: Collection, fitted: FittedHead, settings: TrainingSettings) -> Evaluated:
    """Verify pairs of test people by every method, each at a threshold from the validation people."""
    features, labels, _ = collection.side("train")
    held_out, held_out_labels, _ = collection.side("validation")
    tested, tested_labels, _ = collection.side("test")
    pairs = fold_pairs(tested_labels, seed=settings.seed)
    verifications, distances = {}, {}
    embeddings, threshold = np.zeros((0, 0), np.float32), 0.0
    for name, embedder in contenders(features, labels, fitted, seed=settings.seed).items():
        chosen, embeddings = embedder(held_out), embedder(tested)
        verifications[name] = evaluate_embeddings(
            embeddings, tested_labels, thresholds_from=(chosen, held_out_labels), seed=settings.seed
        )
        distances[name] = pair_distances(embeddings, pairs)
        threshold = threshold_from(chosen, held_out_labels, seed=settings.seed)
    # The last contender is the trained head: its embeddings and threshold are the run's.
    return Evaluated(verifications, distances, pairs, embeddings, threshold)


def _begin(folder: Path, *, resume: bool) -> Path:
    if folder.exists() and not (folder / CONFIG).is_file() and any(folder.iterdir()):
        raise RunError(f"{folder}: expected a run folder or none, found other files. Choose another --run.")
    partial = folder.with_name(f".{folder.name}.partial")
    if resume and not (partial / _CHECKPOINT).is_file():
        raise RunError(f"--resume: no interrupted run of {folder.name} was found. Train without --resume.")
    if not resume and partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700, parents=True, exist_ok=True)
    return partial


def _replace(partial: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        if old.exists():
            shutil.rmtree(old)
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def split_counts(collection: Collection) -> dict[str, dict[str, int]]:
    """Return side → people and photos, and for training how many people have one photo."""
    counts = {}
    for side in ("train", "validation", "test"):
        manifest = collection.manifest.subset(side)
        counts[side] = {"people": len(manifest.identities), "photos": len(manifest)}
    alone = [name for name, count in collection.manifest.subset("train").counts().items() if count == 1]
    # People with one photo can be no anchor or positive; they serve as negatives.
    counts["train"]["people_with_one_photo"] = len(alone)
    return counts


def _config(collection: Collection, settings: TrainingSettings) -> dict[str, Any]:
    return {
        "facetl": __version__,
        "data": str(collection.manifest.root.resolve()),
        "settings": settings.to_json(),
        "extractor": {
            "spec": collection.spec.to_json(),
            "weights": {
                "source": collection.weights.source,
                "sha256": collection.weights.sha256,
                "path": str(collection.weights.path.resolve()),
                "description": collection.weights.description,
            },
            "fingerprint": collection.spec.fingerprint(collection.weights.sha256),
            "dim": collection.features.shape[1],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("tensorflow", "keras", "numpy", "scikit-learn")},
        },
    }


def _calibration(collection: Collection, evaluated: Evaluated) -> dict[str, Any]:
    validation = collection.manifest.subset("validation")
    return {
        "threshold": evaluated.threshold,
        "distance": "squared Euclidean between unit vectors, 0 to 4; one person when at most the threshold",
        "chosen": "highest accuracy on balanced pairs of validation people",
        "people": len(validation.identities),
        "photos": len(validation),
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
