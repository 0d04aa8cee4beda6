"""The nets that can be trained from scratch, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import keras

from facetl.errors import TrainingError
from facetl.methods.nets import inception, small, zeiler_fergus


class Build(Protocol):
    """Builds a net with random weights: photos [n, side, side, 3] RGB in 0–255 → [n, width] unit vectors."""

    def __call__(self, side: int, *, width: int, grey: bool) -> keras.Model: ...


@dataclass(frozen=True)
class Design:
    """A net as it can be asked for.

    Attributes:
        title: what it is, a phrase.
        side: of its input unless told otherwise, pixels.
        build: builds it.
    """

    title: str
    side: int
    build: Build


DESIGNS: Mapping[str, Design] = MappingProxyType(
    {
        "small": Design("a small convolutional net", small.SIDE, small.small),
        "nn1": Design("FaceNet NN1 (Zeiler-Fergus, maxout)", zeiler_fergus.SIDE, zeiler_fergus.nn1),
        "nn1-relu": Design("FaceNet NN1 (Zeiler-Fergus, ReLU and dropout)", zeiler_fergus.SIDE, zeiler_fergus.nn1_relu),
        "nn2": Design("FaceNet NN2 (Inception)", inception.NN2_SIDE, inception.nn2),
        "nns1": Design("FaceNet NNS1 (mini Inception, our reading)", inception.NNS1_SIDE, inception.nns1),
        "nns2": Design("FaceNet NNS2 (tiny Inception, our reading)", inception.NNS2_SIDE, inception.nns2),
    }
)
# Below it some map of some net has no pixel left.
LEAST_SIDE = 32


def build_net(name: str, *, side: int | None = None, width: int = 128, grey: bool = False, seed: int) -> keras.Model:
    """Build a net of DESIGNS with weights that follow from the seed; TrainingError for none of them or too few pixels.

    Sets the seed of Python, NumPy and TensorFlow.
    """
    if name not in DESIGNS:
        raise TrainingError(f"net: expected one of {', '.join(DESIGNS)}, got {name!r}.")
    side = DESIGNS[name].side if side is None else side
    if side < LEAST_SIDE or width < 2:
        raise TrainingError(f"net: expected at least {LEAST_SIDE} pixels and a width from 2, got {side} and {width}.")
    keras.utils.set_random_seed(seed)
    return DESIGNS[name].build(side, width=width, grey=grey)
