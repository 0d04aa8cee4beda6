"""The frozen extractor: a net cut after its tap, from prepared pixels to a flat feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from facetl.backbones.photo_net import FeatureMap, PhotoNet, TensorFlowNet
from facetl.backbones.spec import AVERAGE, ExtractorSpec, Weights
from facetl.errors import WeightsError
from facetl.images.resize import in_grey, prepare

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

    def __init__(self, spec: ExtractorSpec, weights: Weights, net: TensorFlowNet) -> None:
        super().__init__(name="extractor")
        self.spec = spec
        self.weights = weights
        # The net itself is held so that a SavedModel tracks its variables.
        self._net, self.size = net.held, net.size
        self._trunk = lambda pixels: _as_list(net.trunk(pixels))
        side = self.size or _PROBE
        maps = self._trunk(tf.zeros((1, side, side, 3)))
        view = FeatureMap(tuple(_pooled_map(tap, one.shape) for tap, one in zip(spec.taps, maps, strict=True)))
        self.layout = FeatureMap.joined([view] * len(spec.crops))
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
        return tf.concat([self._features_of_view(pixels) for pixels in self._prepared(images)], axis=1)

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
    return spec.family.build(spec, weights)


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
