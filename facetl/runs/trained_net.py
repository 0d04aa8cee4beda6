"""A run whose net was trained here, from photo to embedding: `net.keras` lies in the run folder itself.

Behind it stands a head that changes nothing but the length, so that everything that reads a run reads this one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from facetl import __version__
from facetl.backbones.backbone import Backbone
from facetl.backbones.extractor import make_extractor
from facetl.backbones.spec import ExtractorSpec
from facetl.data.manifest import Manifest
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection
from facetl.errors import RunError
from facetl.recognition.recognizer import Recognizer, signatures_of
from facetl.recognition.run_folder import NET, RunFolder, extractor_record, versions
from facetl.runs.model_card import CardText, seen_of_photos
from facetl.runs.split_evaluation import Method, evaluate_split
from facetl.runs.training_run import RunReport, calibrate, complete, split_counts
from facetl.training.head import embed

# From photos to embeddings, [photos, width]; a row of zeros for a photo that it does not know.
Embedder = Callable[[Manifest], np.ndarray]
OWN = "trained"


@dataclass(frozen=True, kw_only=True)
class TrainedNet:
    """A net and how it came about.

    Attributes:
        net: photos [n, side, side, 3] float32 RGB in 0–255 → [n, width] unit vectors; it scales pixels itself, in a
            Rescaling or Normalization layer ahead of its first kernel, and all its layers are serialisable.
        settings: every choice as plain types, `seed` among them.
        history: a row per epoch.
        best_epoch: the one kept, counted from 1; 0 is the start.
        seconds: of the training.
        origin: what the net is and how it was trained, a phrase for the model card.
        limits: sentences for the model card on whom or what it may serve badly.
    """

    net: keras.Model
    settings: Mapping[str, Any]
    history: pd.DataFrame
    best_epoch: int
    seconds: float
    origin: str
    limits: tuple[str, ...] = ("It has seen the faces of its training people and no others.",)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What of a photo a net sees; see ExtractorSpec. `cache` keeps what it makes of photos."""

    cache: Path
    align: str = "none"
    crop: float = 1.0
    mirror: bool = True
    on_progress: Callable[[int, int], None] | None = field(default=None, repr=False)
    on_faces: Callable[[int, int], None] | None = field(default=None, repr=False)


def write_net_run(
    folder: Path,
    trained: TrainedNet,
    manifest: Manifest,
    sight: Sight,
    *,
    baselines: Mapping[str, Embedder] | None = None,
    partial: RunFolder | None = None,
) -> RunReport:
    """Write the run folder of a trained net, measured on the test people of a split manifest.

    The net is measured as it was saved: by the extractor that reads `net.keras`, through the cache, which then has
    the embeddings of all photos. The folder takes its place when it is complete.

    Args:
        folder: the run's folder.
        manifest: photos with their sides; thresholds and calibration are from the validation people.
        baselines: name → embeddings of photos, measured beside the net on the same pairs.
        partial: what `RunFolder.begin(folder)` gave, where it was begun before, for the logs of the training.

    Raises RunError for a net of another form or where the folder holds something else, DataError, CacheError.
    """
    seed = _checked(trained)
    partial = RunFolder.begin(folder) if partial is None else partial
    trained.net.save(partial.path / NET)
    spec = ExtractorSpec.of(str(partial.path / NET), align=sight.align, crop=sight.crop, mirror=sight.mirror)
    collection = dataset.embed(
        manifest, Backbone.from_spec(spec), cache=sight.cache, on_progress=sight.on_progress, on_faces=sight.on_faces
    )
    head = identity_head(collection.features.shape[1])
    evaluation = evaluate_split(collection, _methods(collection, head, baselines or {}), seed=seed)
    extractor = make_extractor(spec, collection.weights)
    report = RunReport(
        folder=folder,
        epochs=len(trained.history),
        best_epoch=trained.best_epoch,
        verifications=evaluation.verifications,
        split=split_counts(collection),
        seconds=trained.seconds,
        choice=None,
        signatures=signatures_of(extractor),
    )
    Recognizer(extractor, head, threshold=evaluation.threshold).save(partial.path)
    held_out, labels, _ = collection.side("validation")
    complete(
        partial,
        collection,
        report=report,
        evaluation=evaluation,
        calibrated=calibrate(embed(head, held_out), labels, seed=seed),
        config=_config(collection, trained, partial.path),
        history=trained.history,
        card=_card(collection, trained),
    )
    return report


def identity_head(width: int) -> keras.Model:
    """Return the head of a net that embeds by itself, [batch, width] → the same at unit length.

    The mean of a photo's embedding and its mirror image's is shorter than either.
    """
    inputs = keras.Input((width,), name="features")
    return keras.Model(inputs, keras.layers.UnitNormalization(name="unit")(inputs), name="head")


def _checked(trained: TrainedNet) -> int:
    """Return the seed; RunError for a net that no run can hold."""
    inputs, outputs = trained.net.inputs, trained.net.outputs
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 2:
        raise RunError(
            "a net for a run takes photos [n, side, side, 3] and gives embeddings [n, width], got "
            f"{[one.shape for one in inputs]} → {[one.shape for one in outputs]}."
        )
    if "seed" not in trained.settings:
        raise RunError(f"the settings of a run hold its seed, got {', '.join(sorted(trained.settings)) or 'none'}.")
    return int(trained.settings["seed"])


def _methods(collection: Collection, head: keras.Model, baselines: Mapping[str, Embedder]) -> Iterator[Method]:
    (held_out, _, chosen), (tested, _, measured) = collection.side("validation"), collection.side("test")
    for name, embedder in baselines.items():
        yield name, embedder(chosen), embedder(measured)
    yield OWN, embed(head, held_out), embed(head, tested)


def _config(collection: Collection, trained: TrainedNet, partial: Path) -> dict[str, Any]:
    width = collection.features.shape[1]
    return {
        "facetl": __version__,
        "data": str(collection.manifest.root.resolve()),
        "layout": collection.manifest.layout,
        "split": dict(collection.manifest.shares),
        "settings": dict(trained.settings),
        "head": {"fallback": False, "width": width},
        "net": {"origin": trained.origin, "parameters": trained.net.count_params()},
        "extractor": extractor_record(collection.spec, collection.weights, width, inside=partial),
        "versions": versions(),
    }


def _card(collection: Collection, trained: TrainedNet) -> CardText:
    side = trained.net.input_shape[1]
    what = [
        f"Net: {trained.origin}; {trained.net.count_params():,} parameters in `{NET}`.",
        f"It sees {side}×{side} pixels of {seen_of_photos(collection.spec)}.",
        f"Kept: epoch {trained.best_epoch} of {len(trained.history)}"
        + (", the start" if trained.best_epoch == 0 else "")
        + ", by AUC on validation people.",
    ]
    return CardText(what, trained.limits)
