"""The nets of keras.applications by name: how each is built, its input size and its own preprocessing."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from facetl.backbones.photo_net import PhotoNet, TensorFlowNet
from facetl.backbones.spec import AVERAGE, BACKBONES, ExtractorSpec, Notify, Weights, register_backbone
from facetl.backbones.weights import find_keras_weights, load
from facetl.errors import WeightsError

# Side of the input each net was trained with; keras.applications states it only inside the functions.
_SIZES = {
    "inceptionv3": 299,
    "xception": 299,
    "inceptionresnetv2": 299,
    "nasnetlarge": 331,
    "efficientnetb1": 240,
    "efficientnetb2": 260,
    "efficientnetb3": 300,
    "efficientnetb4": 380,
    "efficientnetb5": 456,
    "efficientnetb6": 528,
    "efficientnetb7": 600,
    "efficientnetv2b1": 240,
    "efficientnetv2b2": 260,
    "efficientnetv2b3": 300,
    "efficientnetv2s": 384,
    "efficientnetv2m": 480,
    "efficientnetv2l": 480,
}
_DEFAULT_SIZE = 224
# The layers, each with its grids, that are worth comparing as taps. Of inception_v3 every block from the stem to the
# last that keeps a map of 17×17; what lies behind has forgotten who a person is.
_GRIDS = (5, 7)
_INCEPTION_V3 = ("max_pooling2d_1", "mixed0", "mixed1", "mixed2", "mixed3", "mixed4", "mixed5", "mixed7")

Tap = tuple[str, int]


@dataclass(frozen=True)
class Net:
    """One architecture of keras.applications.

    Attributes:
        function: its constructor.
        size: side of its square input, pixels.
        preprocess: its family's own scaling, float32 RGB in 0–255 → what the net expects.
    """

    function: Callable[..., Any]
    size: int
    preprocess: Callable[[Any], Any]

    def build(self, weights: str | None) -> Any:
        """Build the net without its classifier; [batch, size, size, 3] → last feature map."""
        return self.function(include_top=False, weights=weights, input_shape=(self.size, self.size, 3))


def names() -> list[str]:
    """Return the name of every net that can be an extractor, as `--extractor` takes them."""
    return sorted(_snake(name) for name in vars(_applications()) if _is_net(name))


def net(name: str) -> Net:
    """Return the net called `name`, written as Keras does or with underscores; WeightsError if there is none."""
    wanted = _plain(name)
    for candidate in vars(_applications()):
        if _plain(candidate) == wanted and _is_net(candidate):
            function = getattr(_applications(), candidate)
            module = sys.modules[function.__module__]
            return Net(function, _SIZES.get(wanted, _DEFAULT_SIZE), module.preprocess_input)
    own = [family.name for family in BACKBONES.values() if family.file_prefix is None and not family.takes_weights]
    raise WeightsError(
        f"extractor: expected a net of keras.applications ({', '.join(names())}), {', '.join(own)}, or a file (.pb, "
        f".keras, a SavedModel's folder, onnx:FILE), got {name!r}."
    )


def find_weights(spec: ExtractorSpec, given: Path | None, notify: Notify) -> Weights:
    """Find the weights of a net: the file that is given, Keras' own, or the stand-in of inception_v3."""
    return find_keras_weights(spec.name, lambda weights: net(spec.name).build(weights), given, notify)


@register_backbone(
    "keras_applications",
    about="a net of keras.applications",
    find_weights=find_weights,
    # It takes every name that no other kind of backbone claims.
    matches=lambda name: False,
    takes_weights=True,
    taps_layers=True,
    in_tensorflow=True,
)
def build(spec: ExtractorSpec, weights: Weights) -> PhotoNet:
    """Build a net cut after its taps; nothing behind them is computed."""
    from facetl.backbones.extractor import Extractor

    cut, preprocess, size = cut_net(spec, weights)
    return Extractor(spec, weights, TensorFlowNet(cut, lambda pixels: cut(preprocess(pixels), training=False), size))


def cut_net(spec: ExtractorSpec, weights: Weights) -> tuple[Any, Callable[[Any], Any], int]:
    """Return the Keras model of a net cut after its taps, its preprocessing, and the side of its input, pixels."""
    import keras

    found = net(spec.name)
    model = found.build(None)
    load(model, weights)
    model.trainable = False
    layers = layers_by_name(model)
    for tap, _ in spec.taps:
        if tap not in (AVERAGE, *layers):
            known = [name for name in layers if name.startswith(("mixed", "conv", "block", "add", "expanded"))]
            raise WeightsError(
                f"tap: expected avg or a layer of {spec.name}, got {tap!r}. Some of its {len(layers)} layers: "
                f"{', '.join((known or list(layers))[:12])}."
            )
    outputs = [model.output if tap == AVERAGE else layers[tap].output for tap, _ in spec.taps]
    return keras.Model(model.input, outputs, name="net"), found.preprocess, found.size


def tap_candidates(name: str) -> tuple[Tap, ...]:
    """Return (tap, grid) of each feature of a net to compare, `avg` the last.

    Of inception_v3 the blocks up to mixed7; of other nets the last layer of each spatial resolution whose name is its
    own. A map smaller than a grid is taken at its own size. Raises WeightsError for an unknown net.
    """
    if name == ExtractorSpec.name:
        return (*((tap, grid) for tap in _INCEPTION_V3 for grid in _GRIDS), (AVERAGE, 1))
    model = net(name).build(None)
    last: dict[int, str] = {}
    for layer in model.layers[1:]:
        shape = layer.output.shape
        if len(shape) == 4 and min(shape[1:3]) > 1 and not is_automatic(layer):
            last[int(min(shape[1:3]))] = layer.name
    found = [(tap, grid) for side, tap in last.items() for grid in sorted({min(grid, side) for grid in _GRIDS})]
    return (*found, (AVERAGE, 1))


def layers_by_name(model: Any) -> dict[str, Any]:
    """Return a net's layers by the names they have in a fresh process.

    Keras numbers the layers that a net does not name through all nets of a process: the second InceptionV3 has its
    `max_pooling2d_1` as `max_pooling2d_5`.
    """
    numbers: dict[str, int] = {}
    for layer in model.layers:
        if is_automatic(layer):
            base, number = _automatic(layer)
            numbers[base] = min(number, numbers.get(base, number))
    found = {}
    for layer in model.layers:
        name = layer.name
        if is_automatic(layer):
            base, number = _automatic(layer)
            name = f"{base}_{number - numbers[base]}" if number > numbers[base] else base
        found[name] = layer
    return found


def is_automatic(layer: Any) -> bool:
    """Return whether Keras, not the net, named a layer."""
    return re.fullmatch(rf"{_class_name(layer)}(_\d+)?", layer.name) is not None


def _automatic(layer: Any) -> tuple[str, int]:
    base = _class_name(layer)
    return base, int(layer.name.removeprefix(base).removeprefix("_") or 0)


def _class_name(layer: Any) -> str:
    """MaxPooling2D → max_pooling2d, as Keras writes it."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _applications() -> ModuleType:
    import keras

    return keras.applications


def _is_net(name: str) -> bool:
    value = getattr(_applications(), name)
    return inspect.isfunction(value) and "include_top" in inspect.signature(value).parameters


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _snake(name: str) -> str:
    """InceptionResNetV2 → inception_resnet_v2, MobileNetV3Small → mobilenet_v3_small."""
    name = name.replace("ResNet", "Resnet").replace("MobileNet", "Mobilenet").replace("DenseNet", "Densenet")
    name = name.replace("EfficientNet", "Efficientnet").replace("NASNet", "Nasnet").replace("ConvNeXt", "Convnext")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("VGG", "Vgg")).lower()
