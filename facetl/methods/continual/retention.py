"""Losses that keep a new head near the old one, as pure functions on embeddings; one number a photo or a batch.

Everywhere `embeddings` are the new head's, `old` the old head's of the same photos, [m, width] unit vectors each.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def cosine_distillation_loss(embeddings: Any, old: Any) -> Any:
    """Return 1 − cosine of each photo's new and old embedding, → [m].

    Learning without Forgetting keeps the old model's outputs on the data of the new task (Li and Hoiem, ECCV 2016,
    section 3); of an embedding that has no classes, the outputs are its directions (Hou et al., Learning a Unified
    Classifier Incrementally via Rebalancing, CVPR 2019, equation 6). It also keeps new and old embeddings comparable.
    """
    return 1.0 - ops.sum(embeddings * old, axis=-1)


def consolidation_penalty(weights: Any, anchors: Any, importances: Any) -> Any:
    """Return ½ Σ F · (θ − θ*)² over lists of variables, → [].

    Elastic weight consolidation (Kirkpatrick et al., Overcoming Catastrophic Forgetting in Neural Networks, PNAS 2017,
    equation 3): θ* are the old weights, F the diagonal of the Fisher information there.
    """
    parts = [
        ops.sum(importance * ops.square(weight - anchor))
        for weight, anchor, importance in zip(weights, anchors, importances, strict=True)
    ]
    return 0.5 * sum(parts)
