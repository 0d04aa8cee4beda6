"""The losses and miners by the names that settings use, with their defaults and bounds. No TensorFlow here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

Class = TypeVar("Class", bound=type)


class LossSpec(NamedTuple):
    """A loss's margin and scale on unit embeddings; None where it has none. `margin_below` bounds the margin.

    `source` is the class, or where it is: `module.Class` of `facetl.losses`.
    """

    margin: float | None = None
    scale: float | None = None
    margin_below: float = math.inf
    source: str | type = ""


# What each loss takes unless given otherwise: docs/recipes.md gives the papers. The classes take their defaults here.
LOSSES: dict[str, LossSpec] = {
    "triplet": LossSpec(margin=0.2, source="triplet.TripletLoss"),
    "contrastive": LossSpec(margin=1.0, margin_below=2, source="pair.ContrastiveLoss"),
    "n-pair": LossSpec(scale=10.0, source="pair.NPairLoss"),
    "multi-similarity": LossSpec(margin=0.1, scale=50.0, margin_below=2, source="pair.MultiSimilarityLoss"),
    "supcon": LossSpec(scale=10.0, source="pair.SupervisedContrastiveLoss"),
    "softmax": LossSpec(scale=10.0, source="proxy.NormalizedSoftmaxLoss"),
    "arcface": LossSpec(margin=0.5, scale=16.0, margin_below=math.pi / 2, source="proxy.ArcFaceLoss"),
    "cosface": LossSpec(margin=0.35, scale=16.0, margin_below=2, source="proxy.CosFaceLoss"),
    "proxy-anchor": LossSpec(margin=0.1, scale=32.0, margin_below=1, source="proxy.ProxyAnchorLoss"),
    "circle": LossSpec(margin=0.4, scale=80.0, margin_below=1, source="pair.CircleLoss"),
}
MINERS: dict[str, str | type] = {
    "batch-hard": "miners.BatchHard",
    "batch-all": "miners.AllTriplets",
    "semi-hard": "miners.SemiHard",
    "distance-weighted": "miners.DistanceWeighted",
}


def default(loss: str, option: str) -> float:
    """Return the default `margin` or `scale` of a loss."""
    value: float = getattr(LOSSES[loss], option)
    return value


def resolve(source: str | type) -> Any:
    """Return the class of an entry, imported now if need be."""
    if isinstance(source, type):
        return source
    module, name = source.split(".")
    return getattr(import_module(f"facetl.losses.{module}"), name)


def register_loss(name: str, *, margin_below: float = math.inf) -> Callable[[Class], Class]:
    """Decorate a loss that is not facetl's own: Keras can save it, and settings know it by `name`.

    The defaults of its `margin` and `scale` are those of its constructor.
    """

    def register(loss: Class) -> Class:
        import keras

        options = inspect.signature(loss).parameters
        margin, scale = (options[option].default if option in options else None for option in ("margin", "scale"))
        LOSSES[name] = LossSpec(margin, scale, margin_below, loss)
        return keras.saving.register_keras_serializable(loss.__module__)(loss)

    return register
