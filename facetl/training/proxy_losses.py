"""Losses against a proxy (class weight) per training person, as pure functions on embeddings, labels and proxies.

Everywhere `embeddings` are [m, dim] unit vectors, `proxies` [people, dim] of any length, normalised here, and
`labels` [m] int the row of each photo's person among the proxies. Proxies are trained beside the head and thrown away
with the training: the head that is kept knows none.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from facetl.training.losses import NEVER

# A root's gradient at 0 is infinite: the squared sine of the angle to a proxy is taken to be at least this.
_LEAST = 1e-6


def softmax_loss(embeddings: Any, labels: Any, proxies: Any, *, scale: float) -> Any:
    """Return per photo the cross-entropy of softmax(scale · cos θ): a classifier of people on unit vectors, → [m].

    References:
        Wang, Xiang, Cheng, Yuille: NormFace: L2 Hypersphere Embedding for Face Verification, 2017, equation 4.
    """
    cosine = _cosines(embeddings, proxies)
    return _cross_entropy(cosine, cosine, labels, scale)


def arcface_loss(embeddings: Any, labels: Any, proxies: Any, *, margin: float, scale: float) -> Any:
    """Return per photo the cross-entropy of softmax(scale · cos θ), the own angle widened to θ + margin, → [m].

    `margin` is in radians. Where θ + margin would pass π, cos θ − margin · sin(margin) takes its place, so that the
    logit goes on falling with θ (as in the authors' code).

    References:
        Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019,
        equation 3.
    """
    cosine = _cosines(embeddings, proxies)
    sine = ops.sqrt(ops.maximum(1.0 - ops.square(cosine), _LEAST))
    widened = cosine * math.cos(margin) - sine * math.sin(margin)
    past = cosine <= math.cos(math.pi - margin)
    return _cross_entropy(cosine, ops.where(past, cosine - margin * math.sin(margin), widened), labels, scale)


def cosface_loss(embeddings: Any, labels: Any, proxies: Any, *, margin: float, scale: float) -> Any:
    """Return per photo the cross-entropy of softmax(scale · cos θ), the own cosine lessened by the margin, → [m].

    References:
        Wang et al.: CosFace: Large Margin Cosine Loss for Deep Face Recognition, CVPR 2018, equation 4.
    """
    cosine = _cosines(embeddings, proxies)
    return _cross_entropy(cosine, cosine - margin, labels, scale)


def proxy_anchor_loss(embeddings: Any, labels: Any, proxies: Any, *, margin: float, scale: float) -> Any:
    """Return the Proxy-Anchor loss of a batch, → [].

    Mean over proxies with photos in the batch of log(1 + Σ exp(−α (s − δ))) over their photos, plus mean over all
    proxies of log(1 + Σ exp(α (s + δ))) over the photos of others. `margin` is δ, `scale` is α.

    References:
        Kim, Kim, Cho, Kwak: Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, equation 4.
    """
    similarity = _cosines(embeddings, proxies)
    own = _own(labels, similarity.shape[1])
    pull = ops.where(own, -scale * (similarity - margin), NEVER)
    push = ops.where(own, NEVER, scale * (similarity + margin))
    present = ops.cast(ops.any(own, axis=0), similarity.dtype)
    pulled = ops.sum(present * ops.softplus(ops.logsumexp(pull, axis=0))) / ops.maximum(ops.sum(present), 1.0)
    return pulled + ops.mean(ops.softplus(ops.logsumexp(push, axis=0)))


def _cosines(embeddings: Any, proxies: Any) -> Any:
    """Return the cosine of each photo to each proxy, [m, people]."""
    return ops.matmul(embeddings, ops.transpose(ops.normalize(proxies, axis=-1)))


def _own(labels: Any, people: int) -> Any:
    """Tell which proxy is each photo's own, [m, people] bool."""
    return ops.one_hot(labels, people, dtype="bool")


def _cross_entropy(cosine: Any, own_cosine: Any, labels: Any, scale: float) -> Any:
    own = _own(labels, cosine.shape[1])
    logits = scale * ops.where(own, own_cosine, cosine)
    return ops.logsumexp(logits, axis=1) - ops.sum(ops.where(own, logits, 0.0), axis=1)
