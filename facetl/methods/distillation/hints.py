"""Hints: a student's inner maps first learn the teacher's cached maps, and a discriminant of them becomes its start.

An embedding adds little to the name of a training photo, and a net from random weights learns the
names by heart. A map has what is to be seen at each place of the photo: dozens of examples a photo, which are as true
of people that no net was trained on.

References:
    Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets, ICLR 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from facetl.backbones.photo_net import FeatureMap
from facetl.errors import CollapseError, FacetlError, TrainingError
from facetl.io.arrays import Rows
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.scratch.crops import CropRows
from facetl.training.whitening import MAX_PHOTOS, Whitening

OnHints = Callable[[int, dict[str, float]], None]
# Epochs over which the rate rises to its height, of a net at random weights.
_WARMUP = 1
_BLOCK = 64


@dataclass(frozen=True)
class Hints:
    """One side of what a student's maps are shown.

    Attributes:
        crops: [photos, side, side, 3] uint8.
        labels: [photos] int, who is on them.
        features: [photos, dim] float, the teacher's maps of them.
    """

    crops: CropRows
    labels: np.ndarray
    features: Rows


def stages(trunk: keras.Model) -> dict[int, Any]:
    """Return the last map of each size within a net, by its side, widest first."""
    found = {}
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.ZeroPadding2D):
            continue  # a part of the convolution behind it, not a size of its own
        shape = tuple(layer.output.shape) if isinstance(layer.output, keras.KerasTensor) else ()
        if len(shape) == 4 and shape[1] == shape[2] and shape[1] is not None and shape[3] > 3:
            found[shape[1]] = layer.output
    return dict(sorted(found.items(), reverse=True))


def viewed(trunk: keras.Model, layout: FeatureMap) -> tuple[keras.Model, FeatureMap]:
    """Return a trunk up to maps that match the teacher's in order and grid, photos → [n, dim], and how they lie there.

    Each of the teacher's maps is matched by the coarsest stage of the trunk that is finer than its grid, brought to
    that grid. Raises TrainingError where the trunk has none.
    """
    inner, ahead = _inner(trunk)
    photos = keras.Input(trunk.input_shape[1:], name="photos")
    found = stages(inner)
    matched = []
    for grid, _ in layout.maps:
        finer = [side for side in found if side > grid]
        if not finer:
            raise TrainingError(
                f"hints: expected a map of more than {grid}×{grid} in the student, the widest is "
                f"{max(found, default=0)}×{max(found, default=0)}. Give a larger --size, or --hint-epochs 0."
            )
        matched.append(found[min(finer)])
    maps = keras.Model(inner.input, matched, name="stages")(ahead(photos))
    maps = maps if isinstance(maps, list) else [maps]
    pooled = [_pooled(one, grid) for one, (grid, _) in zip(maps, layout.maps, strict=True)]
    flat = [keras.layers.Flatten(name=f"view_{place}")(one) for place, one in enumerate(pooled)]
    joined = keras.layers.Concatenate(name="views")(flat) if len(flat) > 1 else flat[0]
    own = FeatureMap(tuple((grid, one.shape[3]) for one, (grid, _) in zip(pooled, layout.maps, strict=True)))
    return keras.Model(photos, joined, name="viewed"), own


def imitate(
    view: keras.Model,
    own: FeatureMap,
    layout: FeatureMap,
    train: Hints,
    validation: Hints,
    settings: DistillationSettings,
    *,
    mirror: bool,
    on_epoch: OnHints = lambda epoch, logs: None,
) -> None:
    """Train a view's weights, in place, until each of its maps gives the teacher's by a linear map of its channels.

    The teacher's features are standardised as a head's front does it, by the training photos. Photos are shown as they
    are, since a cached map does not move with a photo that is shifted; with `mirror` beside their mirror images, and
    the mean over both is compared with the teacher's, which is such a mean, too. `on_epoch` receives the shares of the
    maps' variance that are `explained`, and `val_explained`. The same seed gives the same weights.
    Raises TrainingError for too few photos, CollapseError where the loss is no number.
    """
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    photos = train.crops.shape[0]
    batch = min(settings.batch_size // 2 if mirror else settings.batch_size, photos)
    if photos < 2:
        raise TrainingError(f"distillation: expected at least 2 training photos, got {photos}.")
    standardise = Whitening.fit(train.features, method="features", seed=settings.seed).model(layout.dim)
    learner = _Imitator(view, own, layout, mirror=mirror)
    steps = -(-photos // batch)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        max((settings.hint_epochs - _WARMUP) * steps, 1),
        warmup_target=settings.hint_learning_rate,
        warmup_steps=_WARMUP * steps,
    )
    learner.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay), loss="mse", jit_compile=False
    )
    shown, checked = (_Feed(side, standardise, batch=batch, seed=settings.seed) for side in (train, validation))
    # What a mean of nothing leaves: standardised by the training photos, validation people vary a little more or less.
    spread = [feed.variance() for feed in (shown, checked)]
    explained = []

    def note(epoch: int, logs: dict[str, float]) -> None:
        explained.append(1 - logs["loss"] / spread[0])
        on_epoch(epoch, {"explained": explained[-1], "val_explained": 1 - logs["val_loss"] / spread[1]})

    try:
        learner.fit(
            shown.dataset(shuffled=True),
            validation_data=checked.dataset(shuffled=False),
            epochs=settings.hint_epochs,
            steps_per_epoch=shown.steps,
            callbacks=[keras.callbacks.TerminateOnNaN(), keras.callbacks.LambdaCallback(on_epoch_end=note)],
            shuffle=False,
            verbose=0,
        )
    except tf.errors.OpError:
        error = shown.error or checked.error
        if error is not None:
            raise error from None
        raise
    if not np.isfinite(explained[-1]):
        raise CollapseError(
            f"hints: expected a finite loss, got {explained[-1]} in epoch {len(explained)} at a rate of "
            f"{settings.hint_learning_rate:g}. Try a lower --hint-learning-rate."
        )


def with_discriminant(
    view: keras.Model, own: FeatureMap, train: Hints, width: int, *, mirror: bool, dropout: float, seed: int
) -> keras.Model:
    """Return the student, photos → unit vectors [n, width]: a view, and a linear layer that is a discriminant of it.

    Its directions are those of a head's front, found in closed form; of more than MAX_PHOTOS photos, on a sample.
    """
    rng = np.random.default_rng([seed, 2])
    photos = train.crops.shape[0]
    chosen = np.sort(rng.choice(photos, MAX_PHOTOS, replace=False)) if photos > MAX_PHOTOS else np.arange(photos)
    rows = np.empty((len(chosen), own.dim), np.float16)
    for start in range(0, len(chosen), _BLOCK):
        crops = np.asarray(train.crops[chosen[start : start + _BLOCK]], np.float32)
        seen = view(crops, training=False)
        rows[start : start + _BLOCK] = (seen + view(crops[:, :, ::-1], training=False)) / 2 if mirror else seen
    # Without the root: only so is it one linear layer.
    front = Whitening.fit(rows, train.labels[chosen], root=False, seed=seed, layout=own)
    assert front.axes is not None
    assert front.mean is not None
    assert front.scale is not None
    kernel = front.axes[:, :width] / front.scale[:, None]
    found = np.zeros((own.dim, width), np.float32)
    found[:, : kernel.shape[1]] = kernel
    photo = keras.Input(view.input_shape[1:], name="photos")
    dense = keras.layers.Dense(width, name="projection")
    maps = view(photo)
    if dropout:
        maps = keras.layers.Dropout(dropout, seed=seed, name="dropout")(maps)
    embedding = keras.layers.UnitNormalization(name="unit")(dense(maps))
    dense.set_weights([found, -front.mean @ found])
    return keras.Model(photo, embedding, name="student")


def centred(student: keras.Model, crops: CropRows) -> keras.Model:
    """Return a student of `with_discriminant` that takes its maps' means away before the linear layer, not behind it.

    It gives the same embeddings. But a map's channel may lie far from 0 and vary little: its weights are large then,
    and in half precision their product with the mean would drown what varies.
    """
    view, dense = student.get_layer("viewed"), student.get_layer("projection")
    total = np.zeros(view.output_shape[1])
    for start in range(0, crops.shape[0], _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, crops.shape[0]))
        total += np.sum(view(np.asarray(crops[rows], np.float32), training=False), axis=0, dtype=np.float64)
    mean = (total / crops.shape[0]).astype(np.float32)
    kernel, bias = dense.get_weights()
    photo = keras.Input(view.input_shape[1:], name="photos")
    centre = keras.layers.Normalization(mean=mean, variance=np.ones_like(mean), name="centre")
    linear = keras.layers.Dense(len(bias), name="projection")
    embedding = keras.layers.UnitNormalization(name="unit")(linear(centre(view(photo))))
    linear.set_weights([kernel, bias + mean.astype(np.float64) @ kernel.astype(np.float64)])
    return keras.Model(photo, embedding, name="student")


class _Imitator(keras.Model):
    """Gives the teacher's features from a view's: [n, side, side, 3] → [n, dim]; only the view is kept."""

    def __init__(self, view: keras.Model, own: FeatureMap, teacher: FeatureMap, *, mirror: bool) -> None:
        super().__init__(name="imitator")
        self.view = view
        self.mirror = mirror
        sizes = [grid * grid * channels for grid, channels in own.maps]
        self.ends = [sum(sizes[: place + 1]) for place in range(len(sizes) - 1)]
        self.maps = own.maps
        self.channels = [keras.layers.Dense(channels, name=f"hint_{i}") for i, (_, channels) in enumerate(teacher.maps)]

    def call(self, photos: Any, training: bool = False) -> Any:
        """Imitate the features of a batch."""
        photos = ops.cast(photos, "float32")
        if self.mirror:
            photos = ops.concatenate([photos, ops.flip(photos, axis=2)])
        seen = self.view(photos, training=training)
        parts = ops.split(seen, self.ends, axis=1) if self.ends else [seen]
        if self.mirror:
            parts = [sum(ops.split(part, 2)) / 2 for part in parts]
        given = []
        for part, (grid, channels), dense in zip(parts, self.maps, self.channels, strict=True):
            cells = dense(ops.reshape(part, (-1, grid * grid, channels)))
            given.append(ops.reshape(cells, (-1, grid * grid * dense.units)))
        return ops.concatenate(given, axis=1)


class _Feed:
    """Photos and the standardised features that they are to give, batch by batch, from memory or from disk."""

    def __init__(self, side: Hints, standardise: keras.Model, *, batch: int, seed: int) -> None:
        self.side = side
        self.standardise = standardise
        self.batch = batch
        self.seed = seed
        self.steps = -(-side.crops.shape[0] // batch)
        self.error: FacetlError | None = None

    def dataset(self, *, shuffled: bool) -> tf.data.Dataset:
        """Return the pipeline; shuffled anew in each pass where asked for, which then never ends."""
        photos = self.side.crops.shape[0]
        rows = tf.data.Dataset.range(photos)
        if shuffled:
            rows = rows.shuffle(photos, seed=self.seed).repeat()

        def gathered(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            crops, features = tf.numpy_function(self._gather, [chosen], [tf.uint8, tf.float32], stateful=False)
            crops = tf.ensure_shape(crops, [None, *self.side.crops.shape[1:]])
            return crops, self.standardise(tf.ensure_shape(features, [None, self.side.features.shape[1]]))

        return rows.batch(self.batch, drop_remainder=False).map(gathered).prefetch(2)

    def variance(self) -> float:
        """Return the mean square of the standardised features about their own mean."""
        total = square = 0.0
        for start in range(0, self.side.features.shape[0], _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, self.side.features.shape[0]))
            values = np.asarray(self.standardise(np.asarray(self.side.features[rows], np.float32)), np.float64)
            square += float(np.sum(np.square(values)))
            total = total + np.sum(values, axis=0)
        photos = self.side.features.shape[0]
        return square / (photos * self.side.features.shape[1]) - float(np.mean(np.square(total / photos)))

    def _gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self.side.crops[rows], np.asarray(self.side.features[rows], np.float32)
        except FacetlError as error:
            # TensorFlow would wrap it beyond recognition.
            self.error = error
            raise


def _inner(trunk: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return the net whose layers are the stages, and what stands ahead of it: a file's net lies within a model."""
    last = trunk.layers[-1]
    if isinstance(last, keras.Model):
        return last, keras.Model(trunk.input, last.input if len(trunk.layers) == 1 else trunk.layers[-2].output)
    return trunk, keras.Model(trunk.input, trunk.input)


def _pooled(maps: Any, grid: int) -> Any:
    """Bring a map to grid × grid cells: means over whole cells as far as these go, and from there by interpolation."""
    across = maps.shape[1] // grid
    if across > 1:
        maps = keras.layers.AveragePooling2D(across, padding="same")(maps)
    # Of less than two cells each: so near to the means that the teacher's maps are pooled by as standard layers go.
    return maps if maps.shape[1] == grid else keras.layers.Resizing(grid, grid, interpolation="bilinear")(maps)
