"""A net trained from scratch on the faces of a folder: weights random by intent, from photo to run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial as bound
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

from facetl.data.manifest import Manifest
from facetl.methods.scratch.crops import CropRows, Crops, make_augmenter
from facetl.methods.scratch.nets import DESIGNS, build_net
from facetl.methods.scratch.scratch_settings import RELATIONAL, ScratchSettings
from facetl.metrics.baselines import Baselines
from facetl.metrics.linalg import normalised
from facetl.recognition.run_folder import RunFolder
from facetl.runs.training_run import Embedder, RunReport, Sight, TrainedNet, write_net_run
from facetl.samplers import PKSampler, Sampler, ShuffleSampler
from facetl.training.callbacks import remedies
from facetl.training.fit import Fit
from facetl.training.head import embed
from facetl.training.objectives import HeadTrainer, LossAndStats, Objective, ProxyObjective, make_objective

# Side to which photos are shrunk for the baselines of pixels: finer, they tell people apart no better.
PIXELS = 32
OnEpoch = Callable[[int, dict[str, float]], None]
_EXPLAINED = (
    f"In the tables, raw, PCA-whitened and LDA are of the photos' own pixels, shrunk to {PIXELS}×{PIXELS}; the "
    "untrained head is this net at its first, random weights, and the trained head the net itself."
)


@dataclass(frozen=True)
class FittedNet:
    """A trained net, with the weights of its best epoch.

    Attributes:
        net: what it was trained on, as photos [n, side, side, 3] in 0–255, → [n, width] unit vectors.
        history: a row per epoch: loss, active, learning_rate, val_auc, val_accuracy, spread.
        best_epoch: counted from 1; 0 is the start, when no epoch was better.
        seconds: of the training.
        baselines: of a training from scratch `raw`, `whitened` and `lda` of pixels, and `untrained`.
    """

    net: keras.Model
    history: pd.DataFrame
    best_epoch: int
    seconds: float
    baselines: Mapping[str, Embedder] = field(default_factory=dict)


def train_from_scratch(
    manifest: Manifest,
    settings: ScratchSettings,
    folder: Path,
    *,
    cache: Path,
    on_epoch: OnEpoch = lambda epoch, logs: None,
    on_progress: Callable[[int, int], None] | None = None,
    on_faces: Callable[[int, int], None] | None = None,
) -> RunReport:
    """Train a net on the training people of a split manifest, measure it on the test people, and write the run folder.

    An interrupted training leaves nothing but the crops in the cache. Raises TrainingError for too few people,
    CollapseError, DataError, RunError where the folder holds something else.
    """
    # There is nothing to resume: Ctrl-C and failures leave no half run.
    with RunFolder.new(folder) as partial:
        side = settings.size or DESIGNS[settings.net].side
        sight = Sight(
            cache=cache,
            align=settings.align,
            crop=settings.crop,
            mirror=settings.mirror,
            on_progress=on_progress,
            on_faces=on_faces,
        )
        crops = Crops.open(manifest, sight, side=side)
        fitted = fit_net(crops, settings, logs=partial.path / "logs", on_epoch=on_epoch)
        trained = TrainedNet(
            net=fitted.net,
            settings={**settings.to_json(), "size": side},
            history=fitted.history,
            best_epoch=fitted.best_epoch,
            seconds=fitted.seconds,
            origin=f"{DESIGNS[settings.net].title}, trained from scratch (random weights, by intent) with "
            f"{settings.objective} on the training people",
            limits=("It has seen the faces of its training people and no others.", _EXPLAINED),
        )
        return write_net_run(folder, trained, crops.manifest, sight, baselines=fitted.baselines, partial=partial)


def fit_net(
    crops: Crops,
    settings: ScratchSettings,
    *,
    logs: Path | None = None,
    on_epoch: OnEpoch = lambda epoch, logs: None,
) -> FittedNet:
    """Train a net on the training side and keep the epoch that verifies the validation people best.

    The same seed gives the same net. Raises TrainingError for too few people, CollapseError.
    """
    began = time.monotonic()
    tf.config.experimental.enable_op_determinism()
    photos, labels = crops.side("train")
    held_out, held_out_labels = crops.side("validation")
    net = build_net(
        settings.net, side=crops.rows.shape[1], width=settings.width, grey=settings.grey, seed=settings.seed
    )
    baselines = _baselines(crops, net, grey=settings.grey, mirror=settings.mirror, seed=settings.seed)
    trainer = NetTrainer(
        net,
        make_net_objective(settings, labels, width=settings.width),
        make_augmenter(settings.seed) if settings.augment else None,
    )
    fit = Fit(
        trainer,
        settings,
        validation=(held_out, held_out_labels),
        remedies=remedies(settings.training),
    )
    sampler: Sampler
    if settings.objective in RELATIONAL:
        people, each = settings.people_per_batch, settings.photos_per_person
        sampler = PKSampler(labels, people_per_batch=people, photos_per_person=each, seed=settings.seed)
    else:
        sampler = ShuffleSampler(labels, seed=settings.seed)
    fit.run(sampler, photos, on_epoch=on_epoch, logs=logs)
    seconds = time.monotonic() - began
    return FittedNet(net, pd.DataFrame(fit.history), fit.stopping.best_epoch + 1, seconds, baselines)


def _baselines(crops: Crops, net: keras.Model, *, grey: bool, mirror: bool, seed: int) -> dict[str, Embedder]:
    """Return what the trained net has to beat; the untrained net's embeddings are taken now, before it is trained."""
    photos, labels = crops.side("train")
    fitted = Baselines.fit(_pixels(photos, grey), labels, seed=seed)
    ways: dict[str, Any] = {"raw": fitted.raw, "whitened": fitted.whitened, "lda": fitted.lda}
    embedders: dict[str, Embedder] = {
        name: bound(lambda way, manifest: way.transform(_pixels(crops.of(manifest), grey)), way)
        for name, way in ways.items()
    }
    first = {
        path: row
        for split in ("validation", "test")
        for path, row in zip(
            crops.manifest.subset(split).paths,
            embed_crops(net, crops.side(split)[0], mirror=mirror),
            strict=True,
        )
    }
    return {**embedders, "untrained": lambda manifest: np.array([first[path] for path in manifest.paths])}


def embed_crops(net: keras.Model, crops: CropRows, *, mirror: bool) -> np.ndarray:
    """Embed crops as a run does, [n, width] float32 unit vectors: the mean over a photo and its mirror image."""
    embeddings = embed(net, crops)
    if mirror:
        embeddings += embed(net, _Mirrored(crops))
    return normalised(embeddings)


class _Mirrored:
    """Crops as their mirror images."""

    def __init__(self, crops: CropRows) -> None:
        self._crops = crops
        self.shape = crops.shape

    def __getitem__(self, key: Any) -> np.ndarray:
        return self._crops[key][:, :, ::-1]


def _pixels(crops: CropRows, grey: bool) -> np.ndarray:
    """Return crops shrunk to PIXELS × PIXELS and flattened, grey where the net is, [n, …] float32."""
    rows = []
    for place in range(len(crops)):
        small = cv2.resize(crops[place : place + 1][0], (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
        rows.append((cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if grey else small).ravel())
    return np.array(rows, np.float32)


class SoftmaxObjective(Objective):
    """Cross-entropy of a linear classifier of the training people on the penultimate layer.

    `proxies` are the classifier's weights, [people, width]; `people` the sorted labels that batches may hold.
    `fraction_active` is the share of photos that the classifier takes for somebody else.
    """

    def __init__(self, people: np.ndarray, *, width: int, smoothing: float) -> None:
        self.people = people
        self.smoothing = smoothing
        initial = keras.initializers.GlorotUniform()((len(people), width))
        self.proxies: keras.Variable = keras.Variable(initial, name="classifier")

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Measure the penultimate layer's outputs [photos, width], not normalised."""
        own = tf.searchsorted(tf.constant(self.people, targets.dtype), targets)
        logits = ops.matmul(embeddings, ops.transpose(self.proxies))
        wanted = ops.one_hot(own, len(self.people)) * (1 - self.smoothing) + self.smoothing / len(self.people)
        losses = ops.categorical_crossentropy(wanted, logits, from_logits=True)
        wrong = ops.cast(ops.not_equal(ops.argmax(logits, axis=1), ops.cast(own, "int64")), "float32")
        return LossAndStats(ops.mean(losses), ops.mean(wrong), tf.cast(tf.size(wrong), tf.float32))


class NetTrainer(HeadTrainer):
    """Trains a net on photos; only the net is kept.

    Under the softmax the net ends before its L2 normalisation: the classifier stands on the penultimate layer, which
    becomes the embedding when it is chopped off.
    """

    def __init__(self, net: keras.Model, objective: Objective, augmenter: keras.Sequential | None) -> None:
        super().__init__(net, objective)
        self.augmenter = augmenter
        penultimate = isinstance(objective, SoftmaxObjective)
        self.body = keras.Model(net.input, net.layers[-1].input) if penultimate else net

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Embed a batch's photos, [photos, side, side, 3] uint8 → [photos, width]."""
        photos = ops.cast(inputs, "float32")
        if training and self.augmenter is not None:
            photos = self.augmenter(photos, training=True)
        return self.body(photos, training=training)


def make_net_objective(settings: ScratchSettings, labels: np.ndarray, *, width: int) -> Objective:
    """Return what the settings minimise, for photos of the given people ([n] int)."""
    if settings.objective == "softmax":
        people, counts = np.unique(labels, return_counts=True)
        return SoftmaxObjective(people[counts >= 2], width=width, smoothing=settings.label_smoothing)
    objective = make_objective(settings.training, labels, width=width)
    if isinstance(objective, ProxyObjective):
        # An untrained net's embeddings of everyone are alike: imprinted proxies would be, too.
        objective.proxies.assign(keras.initializers.GlorotUniform()(objective.proxies.shape))
    return objective
