"""The student: a small net, where its first weights come from, and how it is fitted to its teacher's embeddings.

The whole net learns on crops, or a projection of a frozen trunk's features.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

from facetl.backbones import nsfwjs_weights
from facetl.backbones import weights as weights_module
from facetl.backbones.model_file import scales_itself
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.errors import TrainingError, WeightsError, first_line
from facetl.io.arrays import Rows
from facetl.losses.distillation import (
    AngleDistillationLoss,
    CosineDistillationLoss,
    DistanceDistillationLoss,
    EuclideanDistillationLoss,
    SoftTargetLoss,
)
from facetl.methods.distillation.distillation_settings import STUDENTS, DistillationSettings
from facetl.methods.scratch.crops import CropRows, make_augmenter
from facetl.methods.scratch.scratch_training import FittedNet, NetTrainer
from facetl.samplers import ShuffleSampler
from facetl.training.fit import Fit
from facetl.training.head import embed, join
from facetl.training.objectives import LossAndStats, Objective
from facetl.training.whitening import Whitening

Notify = Callable[[str], None]
_STAND_IN_NET = "mobilenet_v2"
_OUT_OF_REACH = "ImageNet's could not be reached"
# MobileNets keep 0.999 of their running moments, made for a million photos: with fifty steps an epoch these would lag
# behind by twenty epochs.
_MOMENTUM = 0.95


@dataclass(frozen=True)
class Trunk:
    """A student's net before anything is put on it.

    Attributes:
        model: photos [n, side, side, 3] float32 RGB in 0–255 → a map [n, h, w, channels] or a vector [n, dim].
        origin: which net, and where its weights come from, a phrase.
    """

    model: keras.Model
    origin: str

    @property
    def sha256(self) -> str:
        """Hex digest of the architecture and of every weight: what names its features in the cache."""
        digest = hashlib.sha256()
        for weight in self.model.weights:
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            digest.update(repr((value.shape, value.dtype.str)).encode() + value.tobytes())
        digest.update(repr([(type(layer).__name__, layer.output.shape) for layer in self.model.layers]).encode())
        return digest.hexdigest()


def build_student_trunk(settings: DistillationSettings, *, notify: Notify = lambda line: None) -> Trunk:
    """Build the student's trunk with its first weights; `notify` receives where they come from.

    Random ones follow from the seed, which is set for Python, NumPy and TensorFlow. Raises WeightsError for a file or
    stand-in that does not fit, TrainingError for a tap that is not there or another input.
    """
    if settings.student not in STUDENTS:
        trunk = _of_file(Path(settings.student), settings.tap, settings.size)
    else:
        net, origin = _of_zoo(settings, notify)
        trunk = Trunk(_cut(net, settings.tap, settings.size), origin)
    notify(f"student: {trunk.origin}")
    return trunk


def project(trunk: Trunk, width: int, *, dropout: float = 0.0, seed: int = 0) -> keras.Model:
    """Return the student, photos → unit vectors [n, width]: trunk, global depthwise convolution, linear layer.

    A map is weighed by a kernel of its own size in each channel instead of averaged, since in an aligned face each
    place means something else (Chen, Liu, Gao, Han: MobileFaceNets, 2018, section 3.1). Its weights follow from the
    seed, which is set for Python, NumPy and TensorFlow.
    """
    keras.utils.set_random_seed(seed)
    photos = keras.Input(trunk.model.input_shape[1:], name="photos")
    maps = trunk.model(photos)
    if len(maps.shape) == 4:
        maps = keras.layers.DepthwiseConv2D(maps.shape[1:3], use_bias=False, name="places")(maps)
        maps = keras.layers.BatchNormalization(momentum=_MOMENTUM, name="places_bn")(maps)
        maps = keras.layers.Flatten(name="vector")(maps)
    if dropout:
        maps = keras.layers.Dropout(dropout, seed=seed, name="dropout")(maps)
    maps = keras.layers.Dense(width, use_bias=False, name="projection")(maps)
    maps = keras.layers.BatchNormalization(momentum=_MOMENTUM, name="projection_bn")(maps)
    return keras.Model(photos, keras.layers.UnitNormalization(name="unit")(maps), name="student")


def flattened(trunk: Trunk) -> keras.Model:
    """Return the trunk with its map laid out flat, photos → [n, dim]: what a projection of cached features sees."""
    photos = keras.Input(trunk.model.input_shape[1:], name="photos")
    return keras.Model(photos, keras.layers.Flatten(name="vector")(trunk.model(photos)), name="frozen_trunk")


def _of_zoo(settings: DistillationSettings, notify: Notify) -> tuple[Any, str]:
    # Looked for before the net is built: the look clears Keras' session.
    found, why = _imagenet(settings.student, settings.initial, settings.alpha, notify)
    keras.utils.set_random_seed(settings.seed)
    name, wide = settings.student, "" if settings.alpha == 1 else f", {settings.alpha:g} times as wide"
    net = getattr(keras.applications, _TITLES[name].replace("-", ""))(
        include_top=False, weights=None, input_shape=(settings.size, settings.size, 3), alpha=settings.alpha
    )
    title = f"{_TITLES[name]} of {settings.size}×{settings.size} pixels{wide}"
    if found is not None:
        weights_module.load(net, found)
        return net, f"{title}, begun at {found.description}"
    if name == _STAND_IN_NET and why == _OUT_OF_REACH:
        return net, f"{title}, begun at {_stand_in(net)} ({why})"
    return net, f"{title}, begun at random weights ({why})"


def _imagenet(student: str, initial: str, alpha: float, notify: Notify) -> tuple[Weights | None, str]:
    """Return the ImageNet weights, or None and why there are none."""
    if initial == "scratch":
        return None, "as asked for"
    if alpha != 1:
        return None, "trained ones are taken for a width of 1 alone"
    try:
        return weights_module.resolve(ExtractorSpec.of(student)), ""
    except WeightsError as error:
        notify(str(error))
        return None, _OUT_OF_REACH


def _stand_in(net: Any) -> str:
    """Give a MobileNetV2 the registry's weights, and return what they are."""
    archive = weights_module.stand_in_path()
    if not archive.is_file():
        weights_module.fetch_stand_in(archive, because="Keras' ImageNet weights could not be downloaded.")
    nsfwjs_weights.verify(archive)
    nsfwjs_weights.assign_by_name(net, nsfwjs_weights.read(archive, net=_STAND_IN_NET))
    return (
        f"stand-in weights of the npm package {nsfwjs_weights.PACKAGE} {nsfwjs_weights.VERSION} (uint8-quantised, "
        "fine-tuned for another task)"
    )


def _of_file(path: Path, tap: str | None, size: int) -> Trunk:
    try:
        net = keras.models.load_model(path, compile=False)
    except Exception as error:
        raise WeightsError(f"{path}: expected a model saved by Keras (.keras). {first_line(error)}") from error
    if len(net.inputs) != 1 or len(net.outputs) != 1 or len(net.inputs[0].shape) != 4:
        raise WeightsError(f"{path}: expected a net of one input, photos, and one output.")
    return Trunk(_cut(net, tap, size), f"the net of {path.name} as it was, {net.count_params():,} parameters")


def _cut(net: Any, tap: str | None, size: int) -> keras.Model:
    """Return a net up to its tap, which takes photos as they are; TrainingError where nothing is left."""
    output = net.output
    if tap is not None:
        names = [layer.name for layer in net.layers]
        if tap not in names:
            raise TrainingError(f"tap: expected a layer of the student, got {tap!r}: {', '.join(names[:12])}.")
        output = net.get_layer(tap).output
    side, width, channels = net.input_shape[1], net.input_shape[2], net.input_shape[3]
    if side != size or (side, channels) != (width, 3):
        raise TrainingError(
            f"size: the student takes {side}×{width} pixels in {channels} channels, expected a square of "
            f"{size} in 3. Give --size {side}."
        )
    if len(output.shape) not in (2, 4) or None in output.shape[1:]:
        raise TrainingError(f"tap: expected a map or a vector, got {tuple(output.shape)}.")
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, _MOMENTUM)
    cut = keras.Model(net.input, output, name="trunk")
    if scales_itself(cut):
        return cut
    photos = keras.Input(cut.input_shape[1:], name="photos")
    return keras.Model(photos, cut(keras.layers.Rescaling(1 / 127.5, -1, name="scale")(photos)), name="scaled_trunk")


_TITLES = {
    "mobilenet_v3_small": "MobileNetV3-Small",
    "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v2": "MobileNetV2",
}


OnEpoch = Callable[[int, dict[str, float]], None]
_REMEDIES = "Try a lower --learning-rate or a larger --cosine."


@dataclass(frozen=True)
class Lesson:
    """One side of what a student is shown.

    Attributes:
        rows: crops [photos, side, side, 3] uint8, or features [photos, dim] of a frozen trunk.
        labels: [photos] int, who is on them.
        targets: [photos, width] float32 unit vectors, the teacher's embeddings.
    """

    rows: CropRows | Rows
    labels: np.ndarray
    targets: np.ndarray


class DistillationObjective(Objective):
    """The weighted losses between a batch's embeddings and their targets, by rows [m] of `targets`."""

    def __init__(self, settings: DistillationSettings, targets: np.ndarray, centroids: np.ndarray) -> None:
        self.targets = tf.constant(targets, tf.float32)
        losses: dict[str, keras.losses.Loss] = {
            "cosine": CosineDistillationLoss(),
            "l2": EuclideanDistillationLoss(),
            "distances": DistanceDistillationLoss(),
            "angles": AngleDistillationLoss(),
            "soft": SoftTargetLoss(centroids, settings.temperature),
        }
        self.terms = [(weight, losses[name]) for name, weight in settings.weights.items() if weight]

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Measure the embeddings [photos, width] of a batch."""
        targets = tf.gather(self.targets, targets)
        loss = sum(weight * term(targets, embeddings) for weight, term in self.terms)
        alike = ops.matmul(embeddings, ops.transpose(targets))
        wrong = ops.cast(ops.max(alike, axis=1) > ops.diagonal(alike), "float32")
        return LossAndStats(loss, ops.mean(wrong), ops.cast(ops.size(wrong), "float32"))


def centroids_of(targets: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the unit mean embedding of each person with two photos or more, [people, width] float32.

    [photos, width] and [photos]. One photo teaches a net nothing of what a person looks like in others.
    """
    people, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(people), targets.shape[1]), np.float64)
    np.add.at(sums, inverse, targets)
    sums = sums[counts >= 2]
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-12), np.float32)


def fit_student(
    net: keras.Model,
    train: Lesson,
    validation: Lesson,
    settings: DistillationSettings,
    *,
    logs: Path | None = None,
    on_epoch: OnEpoch = lambda epoch, logs: None,
) -> FittedNet:
    """Train a net, in place, to give the teacher's embeddings, and keep the epoch that verifies validation people best.

    Which epoch that is follows from validation people's names alone, not from the teacher. The same seed gives the
    same net. `active` in its history is the share of a batch's photos that are nearer to another photo's target than to
    their own. Raises TrainingError for too few photos or, with soft targets, people; CollapseError.
    """
    began = time.monotonic()
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    if train.rows.shape[0] < 2:
        raise TrainingError(f"distillation: expected at least 2 training photos, got {train.rows.shape[0]}.")
    centroids = centroids_of(train.targets, train.labels)
    if settings.soft and len(centroids) < 2:
        raise TrainingError(
            f"--soft: expected at least 2 training people with 2 photos each, got {len(centroids)}. Set it to 0."
        )
    objective = DistillationObjective(settings, train.targets, centroids)
    augmenter = _augmenter(settings.augment, settings.seed) if isinstance(train.rows, CropRows) else None
    trainer = NetTrainer(net, objective, augmenter)
    # A photo is a class of its own: its target.
    sampler = ShuffleSampler(np.arange(train.rows.shape[0]), smallest_class=1, seed=settings.seed)
    dataset = None if isinstance(train.rows, CropRows) else _of_features(train.rows, settings.batch_size, settings.seed)
    fit = Fit(trainer, settings, validation=(validation.rows, validation.labels), remedies=_REMEDIES)
    fit.run(sampler, train.rows, dataset=dataset, on_epoch=on_epoch, logs=logs)
    return FittedNet(net, pd.DataFrame(fit.history), fit.stopping.best_epoch + 1, time.monotonic() - began)


def fit_projection(
    trunk: keras.Model,
    train: Lesson,
    validation: Lesson,
    settings: DistillationSettings,
    *,
    logs: Path | None = None,
    on_epoch: OnEpoch = lambda epoch, logs: None,
) -> FittedNet:
    """Train a projection of a frozen trunk's features, and return both as one net, photos → unit vectors.

    The features are whitened first, as a head's are; see `fit_student`. trunk: photos → [n, dim].
    """
    whitening = Whitening.fit(train.rows, method="whiten", components=settings.components, seed=settings.seed)
    front = whitening.model(train.rows.shape[1])
    inputs = keras.Input(front.output_shape[1:], name="whitened")
    seen = keras.layers.Dropout(settings.dropout, seed=settings.seed)(inputs) if settings.dropout else inputs
    initialiser = keras.initializers.GlorotUniform(seed=settings.seed)
    dense = keras.layers.Dense(train.targets.shape[1], kernel_initializer=initialiser, name="projection")(seen)
    projection = keras.Model(inputs, keras.layers.UnitNormalization(name="unit")(dense), name="projection")

    def whitened(lesson: Lesson) -> Lesson:
        return Lesson(embed(front, lesson.rows), lesson.labels, lesson.targets)

    fitted = fit_student(projection, whitened(train), whitened(validation), settings, logs=logs, on_epoch=on_epoch)
    head = join(front, projection)
    trunk.trainable = False
    net = keras.Model(trunk.input, head(trunk.output), name="student")
    return replace(fitted, net=net)


def _augmenter(augment: str, seed: int) -> keras.Sequential | None:
    if augment == "mirror":
        return keras.Sequential([keras.layers.RandomFlip("horizontal", seed=seed)], name="mirror")
    return make_augmenter(seed) if augment == "full" else None


def _of_features(rows: Rows, batch_size: int, seed: int) -> tf.data.Dataset:
    photos = rows.shape[0]
    elements = np.asarray(rows), np.arange(photos, dtype=np.int32)
    shuffled = tf.data.Dataset.from_tensor_slices(elements).shuffle(photos, seed=seed)
    return shuffled.batch(batch_size).prefetch(2)
