"""A finished run calibrated anew, on the people whom its training held out to choose by."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetl.backbones.backbone import Backbone
from facetl.backbones.weights import resolve
from facetl.calibration.calibration import Calibration, Target, calibrate_pairs
from facetl.data.layouts import FOLDERS, read_layout
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection
from facetl.errors import DataError, RunError
from facetl.recognition.run_folder import RunFolder
from facetl.runs.model_card import update_calibration
from facetl.training.head import embed


@dataclass(frozen=True)
class Recalibrated:
    """A run's new calibration.

    Attributes:
        folder: the run's folder.
        calibration: what is stored there now.
        gone: how many of the run's validation people have no photo any more.
    """

    folder: Path
    calibration: Calibration
    gone: int

    def to_json(self) -> dict[str, object]:
        """Return `run`, `people_gone` and all that calibration.json holds."""
        return {"run": str(self.folder), "people_gone": self.gone, **self.calibration.to_json()}


def recalibrate(
    folder: Path,
    target: Target,
    *,
    cache: Path,
    data: Path | None = None,
    prior: float = 0.5,
    on_progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Recalibrated:
    """Calibrate a run on its validation people and write calibration.json, reliability.png and the model card.

    data: the folder of people, by default the one of the training. Nothing is written unless the target can be
    supported. Raises DataError when photos are gone or people too few, RunError for a run folder that is damaged or
    does not say who its validation people are, WeightsError, CacheError.
    """
    run = RunFolder(folder)
    config, people = run.training_config(), run.people_of("who its validation people are")
    collection = run_collection(run, config, cache=cache, data=data, on_progress=on_progress, notify=notify)
    sides = run.on_sides(collection.manifest)
    chosen = np.array([photo.split == "validation" for photo in sides.photos])
    features, labels, found = collection.rows(chosen)
    gone = len(people["validation"]) - len(set(found.identities))
    if not chosen.any():
        raise DataError(
            f"{collection.manifest.root}: expected photos of the run's {len(people['validation']):,} validation "
            "people, got none. Restore them, or name their folder by --data."
        )
    embeddings = embed(run.head(), features)
    seed = int(config["settings"]["seed"])
    calibrated = calibrate_pairs(
        embeddings, labels, target=target, seed=seed, prior=prior, seen=run.held_out_photos() is not None
    )
    run.write_calibration(calibrated)
    update_calibration(folder, calibrated.calibration)
    return Recalibrated(folder, calibrated.calibration, gone)


def run_collection(
    run: RunFolder,
    config: dict[str, Any],
    *,
    cache: Path,
    data: Path | None,
    on_progress: Callable[[int, int], None] | None,
    notify: Callable[[str], None],
) -> Collection:
    """Open the photos that a run was trained on, or others in `data`, with the features of its own extractor.

    Raises DataError where the folder is gone, RunError for other weights than the run's, WeightsError, CacheError.
    """
    root = Path(config["data"]) if data is None else data
    if not os.path.isdir(root):
        raise DataError(
            f"{root}: the photos of the run's validation people are needed, and this folder is gone. "
            "Restore it, or name the folder where they are now by --data."
        )
    spec, stored = run.extractor()
    given = stored.path if spec.family.takes_weights else None
    # Before the cache is opened: another net's features would all be computed, and for nothing.
    weights = resolve(spec, given=given, notify=notify)
    if weights.sha256 != stored.sha256:
        raise RunError(
            f"{weights.path}: {run.name} was trained with weights of sha256 {stored.sha256[:12]}, found "
            f"{weights.sha256[:12]}. Restore that file, or train again."
        )
    manifest = read_layout(root, str(config.get("layout", FOLDERS)))
    return dataset.embed(
        manifest, Backbone.from_spec(spec, given, on_notice=notify), cache=cache, on_progress=on_progress
    )
