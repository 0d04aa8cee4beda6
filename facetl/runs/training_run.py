"""One training run: from a folder of people to a complete `models/NAME/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facetl import __version__
from facetl.backbones.extractor import make_extractor
from facetl.calibration.calibration import Calibrated, Target, calibrate_pairs
from facetl.data.splits import SIDES
from facetl.embeddings.dataset import Collection
from facetl.io.json import JsonFields, write_json
from facetl.metrics.baselines import Baselines
from facetl.metrics.verification import Verification
from facetl.recognition.recognizer import Recognizer, signatures_of
from facetl.recognition.run_folder import CHECKPOINT, METRICS, RunFolder, extractor_record, versions
from facetl.runs.model_card import CardText, card_of_head, write_documents
from facetl.runs.run_baselines import RunBaselines
from facetl.runs.split_evaluation import Method, SplitEvaluation, evaluate_split
from facetl.training.fit import FittedHead, embedders, fit_head
from facetl.training.head import embed
from facetl.training.model_selection import HeadChoice
from facetl.training.settings import TrainingSettings


@dataclass(frozen=True)
class RunReport(JsonFields):
    """What a run gave.

    Attributes:
        folder: the run's folder.
        epochs: trained, in all processes; `best_epoch` is the one kept, counted from 1; 0 is the start.
        verifications: method → scores on people held out of training and choosing.
        split: side → how many people and photos.
        choice: whether the trained head or the raw features are the run's head, and why; None where not asked.
        signatures: of the SavedModel; without `serve` it takes features, not photos.
    """

    folder: Path
    epochs: int
    best_epoch: int
    verifications: Mapping[str, Verification]
    split: Mapping[str, Mapping[str, int]]
    seconds: float
    choice: HeadChoice | None
    signatures: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain types, `verification` by method."""
        report = super().to_json()
        return {
            "run": report.pop("folder"),
            "fallback": self.choice is not None and self.choice.fallback,
            "verification": report.pop("verifications"),
            **report,
        }


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
    partial = RunFolder.begin(folder, resume=resume)
    features, labels, _ = collection.side("train")
    held_out, held_out_labels, _ = collection.side("validation")
    fitted = fit_head(
        features,
        labels,
        settings,
        validation=(held_out, held_out_labels),
        layout=collection.layout,
        on_epoch=on_epoch,
        checkpoint=partial.path / CHECKPOINT,
        resume=resume,
        logs=partial.path / "logs",
    )
    baselines = Baselines.fit(features, labels, seed=settings.seed)
    evaluation = evaluate_split(collection, _methods(collection, baselines, fitted), seed=settings.seed)
    extractor = make_extractor(collection.spec, collection.weights)
    report = RunReport(
        folder=folder,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        verifications=evaluation.verifications,
        split=split_counts(collection),
        seconds=fitted.seconds,
        choice=fitted.choice,
        signatures=signatures_of(extractor),
    )
    Recognizer(extractor, fitted.head, threshold=evaluation.threshold).save(partial.path)
    thresholds = {name: scores.threshold for name, scores in evaluation.verifications.items()}
    RunBaselines.of(baselines, fitted.untrained, thresholds).save(partial.path)
    config = _config(collection, settings, fitted)
    card = card_of_head(collection, fitted, config)
    (partial.path / CHECKPOINT).unlink(missing_ok=True)
    complete(
        partial,
        collection,
        report=report,
        evaluation=evaluation,
        calibrated=calibrate(embed(fitted.head, held_out), held_out_labels, seed=settings.seed),
        config=config,
        history=fitted.history,
        card=card,
    )
    return report


def calibrate(embeddings: np.ndarray, labels: np.ndarray, *, seed: int) -> Calibrated:
    """Calibrate on validation people's embeddings for the highest accuracy, the threshold that the results are at."""
    return calibrate_pairs(embeddings, labels, target=Target("accuracy"), seed=seed)


def complete(
    partial: RunFolder,
    collection: Collection,
    *,
    report: RunReport,
    evaluation: SplitEvaluation,
    calibrated: Calibrated,
    config: Mapping[str, Any],
    history: pd.DataFrame,
    card: CardText,
) -> None:
    """Write whatever every run holds into the folder it is written in, and put that in its place.

    What embeds photos must lie in `partial` already.
    """
    folder = report.folder
    partial.write_people({side: collection.manifest.subset(side).identities for side in SIDES})
    partial.write_config(config)
    partial.write_calibration(calibrated)
    write_json(partial.path / METRICS, report.to_json() | {"run": folder.name})
    write_documents(partial.path, folder.name, collection, evaluation, config, calibrated, history=history, card=card)
    partial.complete(folder)


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


def _config(collection: Collection, settings: TrainingSettings, fitted: FittedHead) -> dict[str, Any]:
    return {
        "facetl": __version__,
        "data": str(collection.manifest.root.resolve()),
        "layout": collection.manifest.layout,
        "split": dict(collection.manifest.shares),
        "settings": settings.to_json(),
        "head": {"fallback": fitted.fallback, "width": fitted.head.output_shape[-1]},
        "extractor": extractor_record(collection.spec, collection.weights, collection.features.shape[1]),
        "versions": versions(),
    }


def _methods(collection: Collection, baselines: Baselines, fitted: FittedHead) -> Iterator[Method]:
    held_out, tested = collection.side("validation")[0], collection.side("test")[0]
    for name, embedder in embedders(baselines, fitted).items():
        yield name, embedder(held_out), embedder(tested)
