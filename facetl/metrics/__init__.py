"""Metrics, protocols and baselines as functions on arrays, each imported when it is first used. No TensorFlow here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facetl.metrics.bootstrap import verification_intervals
    from facetl.metrics.cluster_scores import bcubed, score_clusters
    from facetl.metrics.openset import dir_at_fpir, identify_openset
    from facetl.metrics.pairs import fold_pairs, identity_folds, sample_pairs
    from facetl.metrics.ranking import Gallery
    from facetl.metrics.retrieval import map_at_r, r_precision, recall_at_k
    from facetl.metrics.roc import (
        accuracy_at,
        auc,
        best_threshold,
        eer,
        far_frr_at,
        roc_curve,
        squared_distances,
        tar_at_far,
    )
    from facetl.metrics.triplet_scores import score_triplets
    from facetl.metrics.verification import Verification, verify, verify_at, verify_folds

# Module → the public names that it has.
_MODULES = {
    "bootstrap": ("verification_intervals",),
    "cluster_scores": ("bcubed", "score_clusters"),
    "ranking": ("Gallery",),
    "openset": ("dir_at_fpir", "identify_openset"),
    "pairs": ("fold_pairs", "identity_folds", "sample_pairs"),
    "retrieval": ("map_at_r", "r_precision", "recall_at_k"),
    "roc": (
        "accuracy_at",
        "auc",
        "best_threshold",
        "eer",
        "far_frr_at",
        "roc_curve",
        "squared_distances",
        "tar_at_far",
    ),
    "triplet_scores": ("score_triplets",),
    "verification": ("Verification", "verify", "verify_at", "verify_folds"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Gallery",
    "Verification",
    "accuracy_at",
    "auc",
    "bcubed",
    "best_threshold",
    "dir_at_fpir",
    "eer",
    "far_frr_at",
    "fold_pairs",
    "identify_openset",
    "identity_folds",
    "map_at_r",
    "r_precision",
    "recall_at_k",
    "roc_curve",
    "sample_pairs",
    "score_clusters",
    "score_triplets",
    "squared_distances",
    "tar_at_far",
    "verification_intervals",
    "verify",
    "verify_at",
    "verify_folds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
