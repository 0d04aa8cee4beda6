"""One training run: from a folder of people to a complete `models/NAME/`, by a head that is trained or a whole net.

Of a net that was trained here, from photo to embedding, `net.keras` lies in the run folder itself. Behind it stands a
head that changes nothing but the length, so that everything that reads a run reads this one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
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
from facetl.calibration.calibration import Target, calibrate_pairs
from facetl.data.manifest import Manifest
from facetl.data.splits import SIDES
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection
from facetl.errors import RunError
from facetl.io.json import JsonFields, write_json
from facetl.metrics.baselines import Baselines
from facetl.metrics.verification import Verification
from facetl.recognition.recognizer import Recognizer, signatures_of
from facetl.recognition.run_folder import CHECKPOINT, METRICS, NET, RunFolder, extractor_record, versions
from facetl.runs.evaluated_run import RunBaselines
from facetl.runs.model_card import CardText, card_of_head, seen_of_photos, write_documents
from facetl.runs.pair_evaluation import Method, SplitEvaluation, evaluate_split
from facetl.training.fit import FittedHead, embedders, fit_head
from facetl.training.head import embed
from facetl.training.model_selection import HeadChoice
from facetl.training.settings import TrainingSettings

# From photos to embeddings, [photos, width]; a row of zeros for a photo that it does not know.
Embedder = Callable[[Manifest], np.ndarray]


@dataclass(frozen=True)
class RunReport(JsonFields):
    """The results of a training run.

    Attributes:
        folder: the run's folder.
        epochs: trained, in all processes; `best_epoch` is the one kept, counted from 1; 0 is the start.
        verifications: method → scores on people held out of training and choosing.
        split: side → how many people and photos.
        choice: whether the trained head or the raw features are the run's head, and why; None where not asked.
        signatures: of the SavedModel; without `serve` it takes features, not photos.
        held_out: `validation` and `test` → `people` that were not trained on, `photos` of those that were, None.
        rank_1: method → share of held-out photos whose nearest person is the right one; empty of held-out people.
    """

    folder: Path
    epochs: int
    best_epoch: int
    verifications: Mapping[str, Verification]
    split: Mapping[str, Mapping[str, int]]
    seconds: float
    choice: HeadChoice | None
    signatures: tuple[str, ...]
    held_out: Mapping[str, str | None]
    rank_1: Mapping[str, float]

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
    with RunFolder.new(folder, keep=True, resume=resume) as partial:
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
        RunBaselines.of(baselines, fitted.untrained, evaluation.thresholds).save(partial.path)
        config = _config(collection, settings.to_json(), fallback=fitted.fallback, width=fitted.head.output_shape[-1])
        return _complete(
            folder,
            partial,
            collection,
            evaluation,
            head=fitted.head,
            config=config,
            card=card_of_head(collection, fitted, config),
            history=fitted.history,
            best_epoch=fitted.best_epoch,
            seconds=fitted.seconds,
            choice=fitted.choice,
        )


def _methods(collection: Collection, baselines: Baselines, fitted: FittedHead) -> Iterator[Method]:
    held_out, tested = collection.side("validation")[0], collection.side("test")[0]
    for name, embedder in embedders(baselines, fitted).items():
        yield name, *_both(embedder, held_out, tested)


def _both(embedder: Callable[[Any], np.ndarray], held_out: Any, tested: Any) -> tuple[np.ndarray, np.ndarray]:
    """Embed the validation side and the test side, which few people may have left empty."""
    chosen = embedder(held_out)
    return chosen, embedder(tested) if len(tested) else chosen[:0]


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
    """The part of a photo that a net sees; see ExtractorSpec. `cache` keeps what it makes of photos."""

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
        partial: what `RunFolder.new(folder)` gave, where it holds the logs of the training.

    Raises RunError for a net of another form or where the folder holds something else, DataError, CacheError.
    """
    seed = _checked(trained)
    with RunFolder.new(folder) if partial is None else nullcontext(partial) as partial:
        trained.net.save(partial.path / NET)
        spec = ExtractorSpec.of(str(partial.path / NET), align=sight.align, crop=sight.crop, mirror=sight.mirror)
        collection = dataset.embed(
            manifest,
            Backbone.from_spec(spec),
            cache=sight.cache,
            on_progress=sight.on_progress,
            on_faces=sight.on_faces,
        )
        width = collection.features.shape[1]
        head = identity_head(width)
        return _complete(
            folder,
            partial,
            collection,
            evaluate_split(collection, _net_methods(collection, head, baselines or {}), seed=seed),
            head=head,
            config=_config(
                collection,
                trained.settings,
                fallback=False,
                width=width,
                net={"origin": trained.origin, "parameters": trained.net.count_params()},
                inside=partial.path,
            ),
            card=_card_of_net(collection, trained),
            history=trained.history,
            best_epoch=trained.best_epoch,
            seconds=trained.seconds,
        )


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


def _net_methods(collection: Collection, head: keras.Model, baselines: Mapping[str, Embedder]) -> Iterator[Method]:
    (held_out, _, chosen), (tested, _, measured) = collection.side("validation"), collection.side("test")
    for name, embedder in baselines.items():
        yield name, *_both(embedder, chosen, measured)
    yield "trained", embed(head, held_out), embed(head, tested)


def _card_of_net(collection: Collection, trained: TrainedNet) -> CardText:
    side = trained.net.input_shape[1]
    what = [
        f"Net: {trained.origin}; {trained.net.count_params():,} parameters in `{NET}`.",
        f"It sees {side}×{side} pixels of {seen_of_photos(collection.spec)}.",
        f"Kept: epoch {trained.best_epoch} of {len(trained.history)}"
        + (", the start" if trained.best_epoch == 0 else "")
        + ", by AUC on the validation side.",
    ]
    return CardText(what, trained.limits)


def _config(
    collection: Collection,
    settings: Mapping[str, Any],
    *,
    fallback: bool,
    width: int,
    net: Mapping[str, Any] | None = None,
    inside: Path | None = None,
) -> dict[str, Any]:
    return {
        "facetl": __version__,
        "data": str(collection.manifest.root.resolve()),
        "layout": collection.manifest.layout,
        "split": dict(collection.manifest.shares),
        "settings": dict(settings),
        "head": {"fallback": fallback, "width": width},
        **({} if net is None else {"net": net}),
        "extractor": extractor_record(collection.spec, collection.weights, collection.features.shape[1], inside=inside),
        "versions": versions(),
    }


def _complete(
    folder: Path,
    partial: RunFolder,
    collection: Collection,
    evaluation: SplitEvaluation,
    *,
    head: keras.Model,
    config: Mapping[str, Any],
    card: CardText,
    history: pd.DataFrame,
    best_epoch: int,
    seconds: float,
    choice: HeadChoice | None = None,
) -> RunReport:
    """Write whatever every run holds into the folder it is written in."""
    extractor = make_extractor(collection.spec, collection.weights)
    report = RunReport(
        folder=folder,
        epochs=len(history),
        best_epoch=best_epoch,
        verifications=evaluation.verifications,
        split=split_counts(collection),
        seconds=seconds,
        choice=choice,
        signatures=signatures_of(extractor),
        held_out=collection.manifest.held_out,
        rank_1=evaluation.rank_1,
    )
    Recognizer(extractor, head, threshold=evaluation.threshold).save(partial.path)
    held_out, labels, _ = collection.side("validation")
    # The highest accuracy: that is the threshold that the results are at.
    calibrated = calibrate_pairs(
        embed(head, held_out),
        labels,
        target=Target("accuracy"),
        seed=int(config["settings"]["seed"]),
        seen=collection.manifest.same_people,
    )
    partial.write_sides(collection.manifest)
    partial.write_config(config)
    partial.write_calibration(calibrated)
    write_json(partial.path / METRICS, report.to_json() | {"run": folder.name})
    write_documents(partial.path, folder.name, collection, evaluation, config, calibrated, history=history, card=card)
    return report


def split_counts(collection: Collection) -> dict[str, dict[str, int]]:
    """Return side → people and photos, and for training how many people have one photo."""
    counts = {}
    for side in SIDES:
        manifest = collection.manifest.subset(side)
        counts[side] = {"people": len(manifest.identities), "photos": len(manifest)}
    alone = [name for name, count in collection.manifest.subset("train").counts().items() if count == 1]
    # People with one photo can be no anchor or positive; they serve as negatives.
    counts["train"]["people_with_one_photo"] = len(alone)
    return counts
