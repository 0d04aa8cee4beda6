"""A finished run calibrated anew, on the people whom its training held out to choose by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from facetl.backbones.backbone import Backbone
from facetl.backbones.spec import ExtractorSpec
from facetl.backbones.weights import resolve
from facetl.calibration.calibration import Calibration, Target, calibrate_pairs
from facetl.data.published_layouts import FOLDERS, read_layout
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection
from facetl.errors import DataError, RunError
from facetl.recognition import calibration_files, sides
from facetl.recognition.run_folder import CONFIG, HEAD, stored_extractor
from facetl.runs import documents
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
    say: Callable[[str], None] = lambda line: None,
) -> Recalibrated:
    """Calibrate a run on its validation people and write calibration.json, reliability.png and the model card.

    data: the folder of people, by default the one of the training. Nothing is written unless the target can be
    supported. Raises DataError when photos are gone or people too few, RunError for a run folder that is damaged or
    does not say who its validation people are, WeightsError, CacheError.
    """
    config = run_config(folder)
    people = sides.read(folder)
    if people is None:
        raise RunError(
            f"{folder}: the run does not say who its validation people are (it was made before that was kept). "
            "Train it again."
        )
    collection = run_collection(folder, config, cache=cache, data=data, on_progress=on_progress, say=say)
    chosen = np.array([photo.identity in people["validation"] for photo in collection.manifest.photos])
    features, labels, found = collection.rows(chosen)
    gone = len(people["validation"]) - len(set(found.identities))
    if not chosen.any():
        raise DataError(
            f"{collection.manifest.root}: expected photos of the run's {len(people['validation']):,} validation "
            "people, got none. Restore them, or name their folder by --data."
        )
    embeddings = embed(_head(folder), features)
    calibrated = calibrate_pairs(embeddings, labels, target=target, seed=int(config["settings"]["seed"]), prior=prior)
    calibration_files.write(folder, calibrated)
    documents.update_calibration(folder, calibrated.calibration)
    return Recalibrated(folder, calibrated.calibration, gone)


def run_config(folder: Path) -> dict[str, Any]:
    """Return the config of a run that was trained on a folder of people; RunError for any other, or a damaged one."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if isinstance(config, dict) and "extractor" in config and "data" not in config:
            raise RunError(
                f"{folder}: the photos of people whom training held out are needed, and this run was not made from a "
                "folder of people. Take one that facetl train made."
            )
        # All that is needed further on is asked for here, so that a damaged file is told as such.
        _ = config["data"], int(config["settings"]["seed"]), config["extractor"]["weights"]["sha256"]
        ExtractorSpec.from_json(config["extractor"]["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: expected a complete run folder ({error!r}). Run facetl train.") from error
    return config


def _head(folder: Path) -> keras.Model:
    try:
        return keras.models.load_model(folder / HEAD)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: expected a complete run folder ({error}). Run facetl train.") from error


def run_collection(
    folder: Path,
    config: dict[str, Any],
    *,
    cache: Path,
    data: Path | None,
    on_progress: Callable[[int, int], None] | None,
    say: Callable[[str], None],
) -> Collection:
    """Open the photos that a run was trained on, or others in `data`, with the features of its own extractor.

    Raises DataError where the folder is gone, RunError for other weights than the run's, WeightsError, CacheError.
    """
    root = Path(config["data"]) if data is None else data
    if not root.is_dir():
        raise DataError(
            f"{root}: the photos of the run's validation people are needed, and this folder is gone. "
            "Restore it, or name the folder where they are now by --data."
        )
    spec, stored = stored_extractor(folder, config)
    given = stored.path if spec.family.takes_weights else None
    # Before the cache is opened: another net's features would all be computed, and for nothing.
    weights = resolve(spec, given=given, say=say)
    if weights.sha256 != stored.sha256:
        raise RunError(
            f"{weights.path}: {folder.name} was trained with weights of sha256 {stored.sha256[:12]}, found "
            f"{weights.sha256[:12]}. Restore that file, or train again."
        )
    manifest = read_layout(root, str(config.get("layout", FOLDERS)))
    return dataset.embed(manifest, Backbone.from_spec(spec, given, on_notice=say), cache=cache, on_progress=on_progress)
