"""The frozen extractor: a net cut after its tap, from prepared pixels to a flat feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facetl.backbones import keras_applications, model_file
from facetl.backbones import weights as weights_module
from facetl.backbones.family import Family
from facetl.backbones.feature_map import Layout
from facetl.backbones.photo_net import PhotoNet, TensorFlowNet
from facetl.backbones.spec import AVERAGE, ExtractorSpec
from facetl.backbones.weights import Weights
from facetl.errors import WeightsError
from facetl.images.resize import in_grey, prepare

GRAPH_INPUT = "Model_Input:0"
GRAPH_OUTPUT = "Model_Output:0"
_GRAPH_SIZE = 299
# Side of a photo that asks a net of any size for the length of its feature.
_PROBE = 224


class Extractor(tf.Module):
    """Turns photos into features.

    Attributes:
        spec: its settings.
        weights: which weights it holds.
        size: side of the net's input, pixels; None where it takes photos of any size.
        layout: of which maps a feature is made.
        dim: length of a feature.
    """

    flagged: Mapping[str, int] = {}

    def __init__(self, spec: ExtractorSpec, weights: Weights) -> None:
        super().__init__(name="extractor")
        self.spec = spec
        self.weights = weights
        # The net itself is held so that a SavedModel tracks its variables.
        net = _tensorflow_net(spec, weights)
        self._net, self.size = net.held, net.size
        self._trunk = lambda pixels: _as_list(net.trunk(pixels))
        side = self.size or _PROBE
        maps = self._trunk(tf.zeros((1, side, side, 3)))
        view = Layout(tuple(_pooled_map(tap, one.shape) for tap, one in zip(spec.taps, maps, strict=True)))
        self.layout = Layout.joined([view] * len(spec.crops))
        self.dim = self.layout.dim
        self._forward: Callable[[tf.Tensor], tf.Tensor] | None = None
        self._prepare = tf.function(self._prepared, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Return the features of photos of one size, as graph operations.

        Args:
            images: [batch, height, width, 3] uint8 or float in 0–255, RGB, upright.

        Returns:
            [batch, dim] float32.
        """
        return self._features_of_prepared(self._prepared(images))

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of photos of any sizes: [height, width, 3] uint8 RGB each → [n, dim] float32."""
        if not images:
            return np.zeros((0, self.dim), np.float32)
        if self._forward is None:
            self._forward = _frozen(self._features_of_view, self.size)
        prepared = [self._prepare(image) for image in images]
        if self.size is None:
            return np.concatenate([np.asarray(self._forward(pixels[0][None])) for pixels in prepared])
        views = [self._forward(tf.stack(crop)) for crop in zip(*prepared, strict=True)]
        return np.concatenate([np.asarray(view) for view in views], axis=1)

    def _prepared(self, images: tf.Tensor) -> list[tf.Tensor]:
        """Return the net's input, one for each crop."""
        if self.size is None:
            views = [tf.cast(images, tf.float32)]
        else:
            views = [prepare(images, size=self.size, crop=crop) for crop in self.spec.crops]
        return [in_grey(pixels) for pixels in views] if self.spec.grey else views

    def _features_of_prepared(self, views: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat([self._features_of_view(pixels) for pixels in views], axis=1)

    def _features_of_view(self, pixels: tf.Tensor) -> tf.Tensor:
        feature = self._pooled(pixels)
        if self.spec.mirror:
            feature = (feature + self._pooled(tf.reverse(pixels, axis=[2]))) / 2
        return feature

    def _pooled(self, pixels: tf.Tensor) -> tf.Tensor:
        maps = zip(self._trunk(pixels), self.layout.maps, strict=False)  # every crop has the same maps
        return tf.concat([_pooled(one, grid) for one, (grid, _) in maps], axis=1)


def make_extractor(spec: ExtractorSpec, weights: Weights) -> PhotoNet:
    """Build the extractor of `spec` with `weights`; WeightsError when net, tap or weights do not fit."""
    if spec.family is Family.DLIB:
        from facetl.backbones.dlib_net import DlibExtractor

        return DlibExtractor(spec, weights)
    if spec.family is Family.ONNX:
        from facetl.backbones.onnx_net import OnnxExtractor

        return OnnxExtractor(spec, weights)
    return Extractor(spec, weights)


def _tensorflow_net(spec: ExtractorSpec, weights: Weights) -> TensorFlowNet:
    if spec.family is Family.GRAPH_DEF:
        return _graph_def(spec, weights.path)
    return model_file.load(spec, weights) if spec.family is Family.MODEL_FILE else _keras_net(spec, weights)


def _keras_net(spec: ExtractorSpec, weights: Weights) -> TensorFlowNet:
    """Build a net of keras.applications, cut after the tap; nothing behind it is computed."""
    net = keras_applications.net(spec.name)
    model = net.build(None)
    weights_module.load(model, weights)
    model.trainable = False
    layers = keras_applications.layers_by_name(model)
    for tap, _ in spec.taps:
        if tap not in (AVERAGE, *layers):
            known = [name for name in layers if name.startswith(("mixed", "conv", "block", "add", "expanded"))]
            raise WeightsError(
                f"tap: expected avg or a layer of {spec.name}, got {tap!r}. Some of its {len(layers)} layers: "
                f"{', '.join((known or list(layers))[:12])}."
            )
    outputs = [model.output if tap == AVERAGE else layers[tap].output for tap, _ in spec.taps]
    cut = keras.Model(model.input, outputs)
    return TensorFlowNet(cut, lambda pixels: cut(net.preprocess(pixels), training=False), net.size)


def _graph_def(spec: ExtractorSpec, path: Path) -> TensorFlowNet:
    """Load a frozen GraphDef whose input takes RGB in [−1, 1], as InceptionV3 does."""
    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except Exception as error:
        raise WeightsError(f"{path}: expected a frozen TensorFlow GraphDef ({type(error).__name__}).") from error
    output = GRAPH_OUTPUT if spec.tap == AVERAGE else spec.tap if ":" in spec.tap else f"{spec.tap}:0"
    variables = [node.name for node in graph_def.node if node.op in ("VarHandleOp", "VariableV2", "Variable")]
    if variables:
        raise WeightsError(f"{path}: expected a frozen GraphDef, but {variables[0]} is a variable. Freeze the graph.")
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
        entry = wrapped.graph.get_tensor_by_name(GRAPH_INPUT)
        pruned = wrapped.prune(entry, wrapped.graph.get_tensor_by_name(output))
    except (KeyError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0][:200]
        raise WeightsError(f"{path}: expected tensors {GRAPH_INPUT} and {output} in the graph. {reason}") from error
    size = (entry.shape[1] if entry.shape.rank == 4 else None) or _GRAPH_SIZE

    def trunk(pixels: tf.Tensor) -> tf.Tensor:
        result = pruned(pixels / 127.5 - 1.0)
        result = result[0] if isinstance(result, (list, tuple)) else result
        # A graph's pool may keep its 1×1 map.
        return tf.ensure_shape(result, [None, *result.shape[1:]])

    return TensorFlowNet(pruned, trunk, size)


def _as_list(maps: Any) -> list[tf.Tensor]:
    return list(maps) if isinstance(maps, (list, tuple)) else [maps]


def _pooled_map(tap: tuple[str, int], shape: tf.TensorShape) -> tuple[int, int]:
    """Return the grid to which a tapped map is pooled, and its channels; a vector is a map of one cell."""
    name, grid = tap
    if len(shape) == 2:
        return 1, int(shape[1])
    if len(shape) != 4:
        raise WeightsError(f"tap: expected a layer with a map or a vector, {name} gives {tuple(shape)}.")
    grid = 1 if name == AVERAGE else grid
    if grid > min(shape[1], shape[2]):
        raise WeightsError(f"grid: {name} has a map of {shape[1]}×{shape[2]}, got a grid of {grid}×{grid}.")
    return grid, int(shape[3])


def _pooled(maps: tf.Tensor, grid: int) -> tf.Tensor:
    """Average a map [batch, h, w, channels] over grid × grid cells, [batch, grid · grid · channels]."""
    if len(maps.shape) == 2:
        return maps
    rows = tf.constant(_pooling_matrix(maps.shape[1], grid))
    columns = tf.constant(_pooling_matrix(maps.shape[2], grid))
    cells = tf.einsum("gh,bhwc->bgwc", rows, maps)
    cells = tf.einsum("kw,bgwc->bgkc", columns, cells)
    return tf.reshape(cells, (-1, grid * grid * maps.shape[3]))


def _pooling_matrix(length: int, cells: int) -> np.ndarray:
    """Return [cells, length] weights that average `length` positions into `cells`; float32, rows sum to 1.

    Cell i covers positions floor(i·length/cells) to ceil((i+1)·length/cells), as adaptive average pooling does.
    """
    matrix = np.zeros((cells, length), np.float32)
    for cell in range(cells):
        start, stop = cell * length // cells, -((cell + 1) * length // -cells)
        matrix[cell, start:stop] = 1 / (stop - start)
    return matrix


def _frozen(function: Callable[[tf.Tensor], tf.Tensor], size: int | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Compile with the weights as constants, so that batch normalisation folds into the convolutions."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(function).get_concrete_function(tf.TensorSpec((None, size, size, 3), tf.float32))
    frozen = convert_variables_to_constants_v2(concrete)

    def forward(pixels: tf.Tensor) -> tf.Tensor:
        result = frozen(pixels)
        return result[0] if isinstance(result, (list, tuple)) else result

    return forward
