"""A net's layers as the tables of the FaceNet paper have them: output, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import keras


@dataclass(frozen=True)
class LayerRow:
    """A layer, or a module of several.

    Attributes:
        name: of the layer, up to a dash.
        output: of the last layer in it, without the batch.
        parameters: trained or not.
        multiply_adds: for one photo, of convolutions and dense layers, a bias counting as one for each output: so the
            FaceNet paper counts its "FLOPS".
    """

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_table(net: keras.Model) -> tuple[LayerRow, ...]:
    """Return the rows of a net in its own order; layers `name-part` next to each other make one row `name`."""
    return tuple(
        _row(name, list(layers)) for name, layers in groupby(net.layers, lambda layer: layer.name.partition("-")[0])
    )


def _row(name: str, layers: Sequence[Any]) -> LayerRow:
    return LayerRow(
        name,
        tuple(layers[-1].output.shape[1:]),
        sum(layer.count_params() for layer in layers),
        sum(_multiply_adds(layer) for layer in layers),
    )


def _multiply_adds(layer: Any) -> int:
    if getattr(layer, "kernel", None) is None:
        return 0
    shape = layer.output.shape[1:]
    positions = shape[0] * shape[1] if isinstance(layer, keras.layers.Conv2D) else 1
    return int(positions * layer.count_params())
