"""Losses against a proxy (class weight) per class, on the cosines of embeddings to proxies.

`labels` [m] int are rows of the proxies, `cosines` [m, classes] what `cosines_to` or a `MetricModel` gives. Proxies are
trained beside the embedder and thrown away with the training: the embedder that is kept knows none.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from facetl.losses.base import NEVER, SerializableLoss, checked_labels
from facetl.losses.registry import default

# A root's gradient at 0 is infinite: the squared sine of the angle to a proxy is taken to be at least this.
_LEAST = 1e-6


class ProxyLoss(SerializableLoss):
    """The cross-entropy of softmax(scale · cos θ), where a subclass gives the own cosine a margin.

    Called with labels [m] and cosines [m, classes], → [m].
    """

    scale: float

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row, [m] and [m, classes] → [m]."""
        own = self._own(y_true, y_pred)
        logits = self.scale * ops.where(own, self.with_margin(y_pred), y_pred)
        return ops.logsumexp(logits, axis=1) - ops.sum(ops.where(own, logits, 0.0), axis=1)

    def with_margin(self, cosines: Any) -> Any:
        """Return what takes the place of the own cosine, any shape."""
        raise NotImplementedError

    @staticmethod
    def _own(labels: Any, cosines: Any) -> Any:
        """Return which proxy is each row's own, [m, classes] bool."""
        return ops.one_hot(ops.cast(checked_labels(labels), "int32"), cosines.shape[1], dtype="bool")


@keras.saving.register_keras_serializable("facetl")
class NormalizedSoftmaxLoss(ProxyLoss):
    """The cross-entropy of softmax(scale · cos θ): a classifier on unit vectors.

    References:
        Wang, Xiang, Cheng, Yuille: NormFace: L2 Hypersphere Embedding for Face Verification, 2017, equation 4.
    """

    def __init__(self, scale: float = default("softmax", "scale"), **options: Any) -> None:
        super().__init__(**options)
        self.scale = scale

    def with_margin(self, cosines: Any) -> Any:
        """Return the cosines as they are."""
        return cosines


@keras.saving.register_keras_serializable("facetl")
class ArcFaceLoss(ProxyLoss):
    """The cross-entropy of softmax(scale · cos θ), the own angle widened to θ + margin.

    `margin` is in radians. Where θ + margin would pass π, cos θ − margin · sin(margin) takes its place, so that the
    logit goes on falling with θ (as in the authors' code).

    References:
        Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019,
        equation 3.
    """

    def __init__(
        self, margin: float = default("arcface", "margin"), scale: float = default("arcface", "scale"), **options: Any
    ) -> None:
        super().__init__(**options)
        self.margin = margin
        self.scale = scale

    def with_margin(self, cosines: Any) -> Any:
        """Return cos(θ + margin) or, past π, what goes on falling."""
        sine = ops.sqrt(ops.maximum(1.0 - ops.square(cosines), _LEAST))
        widened = cosines * math.cos(self.margin) - sine * math.sin(self.margin)
        past = cosines <= math.cos(math.pi - self.margin)
        return ops.where(past, cosines - self.margin * math.sin(self.margin), widened)


@keras.saving.register_keras_serializable("facetl")
class CosFaceLoss(ProxyLoss):
    """The cross-entropy of softmax(scale · cos θ), the own cosine lessened by the margin.

    References:
        Wang et al.: CosFace: Large Margin Cosine Loss for Deep Face Recognition, CVPR 2018, equation 4.
    """

    def __init__(
        self, margin: float = default("cosface", "margin"), scale: float = default("cosface", "scale"), **options: Any
    ) -> None:
        super().__init__(**options)
        self.margin = margin
        self.scale = scale

    def with_margin(self, cosines: Any) -> Any:
        """Return cos θ − margin."""
        return cosines - self.margin


@keras.saving.register_keras_serializable("facetl")
class ProxyAnchorLoss(ProxyLoss):
    """The mean over proxies with rows in the batch of log(1 + Σ exp(−α (s − δ))) over their rows, plus the mean over
    all proxies of log(1 + Σ exp(α (s + δ))) over the rows of others; a number for the batch.

    `margin` is δ, `scale` is α.

    References:
        Kim, Kim, Cho, Kwak: Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, equation 4.
    """

    def __init__(
        self,
        margin: float = default("proxy-anchor", "margin"),
        scale: float = default("proxy-anchor", "scale"),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.margin = margin
        self.scale = scale

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of the batch, [m] and [m, classes] → []."""
        own = self._own(y_true, y_pred)
        pull = ops.where(own, -self.scale * (y_pred - self.margin), NEVER)
        push = ops.where(own, NEVER, self.scale * (y_pred + self.margin))
        present = ops.cast(ops.any(own, axis=0), y_pred.dtype)
        pulled = ops.sum(present * ops.softplus(ops.logsumexp(pull, axis=0))) / ops.maximum(ops.sum(present), 1.0)
        return pulled + ops.mean(ops.softplus(ops.logsumexp(push, axis=0)))


def cosines_to(proxies: Any, embeddings: Any) -> Any:
    """Return the cosine of each unit embedding to each proxy, [classes, dim] and [m, dim] → [m, classes]."""
    return ops.matmul(embeddings, ops.transpose(ops.normalize(proxies, axis=-1)))


def imprinted_proxies(embeddings: np.ndarray, rows: np.ndarray, *, classes: int) -> np.ndarray:
    """Return each class's mean direction, unit embeddings [m, dim] and their classes [m] → [classes, dim] float32.

    Proxies that begin there do not first turn an embedder that starts well towards chance.

    References:
        Qi, Brown, Lowe: Low-Shot Learning with Imprinted Weights, CVPR 2018.
    """
    sums = np.zeros((classes, embeddings.shape[1]), np.float64)
    np.add.at(sums, rows, embeddings)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), np.float32)


@keras.saving.register_keras_serializable("facetl")
class MetricModel(keras.Model):
    """An embedder and the proxies of a loss, trained together with `compile(loss=ArcFaceLoss())` and `fit(x, labels)`.

    It gives cosines [m, num_classes]; `embedder` is what is taken away after the training. Labels are 0 to
    num_classes − 1.

    Args:
        embedder: what gives embeddings [m, dim], of any length.
        num_classes: of the labels.
        seed: of the proxies' first directions.
        options: of `keras.Model`.
    """

    def __init__(self, embedder: keras.Model, num_classes: int, *, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.embedder = embedder
        self.num_classes = num_classes
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        """Make the proxies, [num_classes, dim]."""
        width = self.embedder.compute_output_shape(input_shape)[-1]
        initializer = keras.initializers.RandomNormal(seed=self.seed)
        self.proxies = self.add_weight(shape=(self.num_classes, width), initializer=initializer, name="proxies")
        super().build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the cosine of each input's embedding to each proxy, [m, …] → [m, num_classes]."""
        embeddings = self.embedder(inputs, training=training)
        return cosines_to(self.proxies, ops.normalize(embeddings, axis=-1))

    def imprint(self, x: Any, labels: Any) -> None:
        """Set each proxy to the mean direction of its class's embeddings, [m, …] and [m]."""
        embeddings = np.asarray(ops.convert_to_numpy(ops.normalize(self.embedder.predict(x, verbose=0), axis=-1)))
        if not self.built:
            self.build(np.shape(x))
        self.proxies.assign(imprinted_proxies(embeddings, np.asarray(labels), classes=self.num_classes))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        embedder = keras.saving.serialize_keras_object(self.embedder)
        own = {"embedder": embedder, "num_classes": self.num_classes, "seed": self.seed}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Rebuild a model from what `get_config` gave."""
        return cls(**{**config, "embedder": keras.saving.deserialize_keras_object(config["embedder"])})
