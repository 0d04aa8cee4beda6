"""The trained head and the baselines that stand beside it, each as a way from features to embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from facetl.evaluation.baselines import Baselines
from facetl.evaluation.projection import Rows
from facetl.training.fitting import FittedHead
from facetl.training.head import embed

Embedder = Callable[[Rows], np.ndarray]


def contenders(features: Rows, labels: np.ndarray, fitted: FittedHead, *, seed: int) -> Mapping[str, Embedder]:
    """Return `raw`, `whitened`, `lda`, `untrained` and `trained`, each features [n, dim] → unit embeddings [n, width].

    All of them have seen the same training people, `features` [photos, dim] and `labels` [photos], and no others.
    """
    return embedders(Baselines.fit(features, labels, seed=seed), fitted)


def embedders(baselines: Baselines, fitted: FittedHead) -> Mapping[str, Embedder]:
    """Return the contenders of baselines that are fitted already."""
    return {
        "raw": baselines.raw.transform,
        "whitened": baselines.whitened.transform,
        "lda": baselines.lda.transform,
        "untrained": lambda rows: embed(fitted.untrained, rows),
        "trained": lambda rows: embed(fitted.head, rows),
    }
