"""Losses and miners for Keras. They are imported when they are first used: the table of losses needs no TensorFlow."""

from __future__ import annotations

from typing import Any

from facetl.losses.registry import LOSSES, MINERS, LossSpec, register_loss, resolve

_SOURCES: dict[str, str] = {
    source.split(".")[1]: source
    for source in (
        *(spec.source for spec in LOSSES.values()),
        *MINERS.values(),
        "base.MetricLoss",
        "base.anchors_of",
        "base.masked_logsumexp",
        "base.pair_masks",
        "base.pairwise_squared_distances",
        "base.similarities",
        "base.spread_mean",
        "miners.Miner",
        "pair.PairLoss",
        "proxy.MetricModel",
        "proxy.ProxyLoss",
        "distillation.AngleDistillationLoss",
        "distillation.CosineDistillationLoss",
        "distillation.DistanceDistillationLoss",
        "distillation.EuclideanDistillationLoss",
        "distillation.SoftTargetLoss",
    )
    if isinstance(source, str)
}
__all__ = ["LOSSES", "MINERS", "LossSpec", "register_loss", *sorted(_SOURCES)]


def __getattr__(name: str) -> Any:
    """Import a loss, a miner or what they are built of, and with it all the others, so that Keras can load them."""
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for source in _SOURCES.values():
        resolve(source)
    return resolve(_SOURCES[name])


def __dir__() -> list[str]:
    """Return what the package offers."""
    return __all__
