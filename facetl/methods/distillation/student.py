"""The student: a small net's trunk, where its first weights come from, and what makes embeddings of its maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from facetl.backbones import nsfwjs_weights
from facetl.backbones import weights as weights_module
from facetl.backbones.model_file import scales_itself
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.errors import TrainingError, WeightsError
from facetl.methods.distillation.distillation_settings import STUDENTS, DistillationSettings

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
    net = _constructor(name)(
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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{path}: expected a model saved by Keras (.keras). {reason}") from error
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


def _constructor(name: str) -> Callable[..., Any]:
    return {
        "mobilenet_v3_small": keras.applications.MobileNetV3Small,
        "mobilenet_v3_large": keras.applications.MobileNetV3Large,
        "mobilenet_v2": keras.applications.MobileNetV2,
    }[name]


_TITLES = {
    "mobilenet_v3_small": "MobileNetV3-Small",
    "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v2": "MobileNetV2",
}
