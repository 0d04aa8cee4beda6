"""Keras callbacks between epochs: learning rate, validation, stopping, the collapse guard."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from facetl.errors import CollapseError, DivergedError, TrainingError
from facetl.io.arrays import Rows
from facetl.metrics.linalg import as_unit
from facetl.metrics.pairs import Pairs, sample_pairs
from facetl.metrics.roc import accuracy_at, auc, best_threshold
from facetl.metrics.verification import pair_distances
from facetl.samplers import Sampler
from facetl.training.head import embed
from facetl.training.settings import FitSettings, TrainingSettings


def learning_rates(settings: FitSettings) -> Callable[[int], float]:
    """Return the rate of an epoch counted from 0, for Keras' `LearningRateScheduler`.

    It is rate · decayᵉᵖᵒᶜʰ, or half a cosine from the rate to 0: a pure function, so that no loop can reset it.
    """
    rate, decay, epochs = settings.learning_rate, settings.decay, settings.epochs
    if settings.schedule == "cosine":
        return lambda epoch: rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return lambda epoch: rate * decay**epoch


class RefreshNeighbours(keras.callbacks.Callback):
    """Lets a sampler draw each epoch by the embeddings of the model as it is when the epoch begins.

    Args:
        sampler: whose `dataset` is given to `fit`.
    """

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.sampler = sampler

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Embed the features of the sampler's data set, if this epoch looks at them."""
        embeddings = None
        if self.sampler.needs_embeddings(epoch):
            if self.sampler.features is None:
                raise TrainingError(
                    "RefreshNeighbours: expected the sampler whose dataset() is trained on, got another."
                )
            embeddings = as_unit(embed(embedder_of(self.model), self.sampler.features))
        self.sampler.refresh(epoch, embeddings)


class VerifyPairs(keras.callbacks.Callback):
    """Verifies pairs of validation rows after each epoch, as ordinary logs: put it before what monitors them.

    Logs `val_auc`, `val_accuracy` (at the best threshold of these pairs, so slightly optimistic) and `spread`, the
    variance of the embeddings in [0, 1]: 1 − |mean embedding|²; and, where a `loss` of squared distances and of which
    are of one person is given, `val_loss`. Keeps the last `embeddings` and `distances`. A callback that monitors an AUC
    needs the mode: `keras.callbacks.EarlyStopping(monitor="val_auc", mode="max")`.

    Args:
        validation_data: features [rows, …] and labels [rows], a pair of them or an object with these attributes; of
            people whom the model is not trained on.
        pairs: of rows; None for those that `sample_pairs` draws of the labels.
        seed: of these.
        loss: see above.

    Raises DivergedError in an epoch whose loss or embeddings are not finite.
    """

    def __init__(
        self,
        validation_data: Any,
        *,
        pairs: Pairs | None = None,
        seed: int = 0,
        loss: Callable[[np.ndarray, np.ndarray], float] | None = None,
    ) -> None:
        super().__init__()
        both = hasattr(validation_data, "features") and hasattr(validation_data, "labels")
        features, labels = (validation_data.features, validation_data.labels) if both else validation_data
        self.features: Rows = features
        self.labels = np.asarray(labels)
        self.pairs = sample_pairs(self.labels, seed=seed) if pairs is None else pairs
        self.loss = loss
        self.embeddings: np.ndarray = np.zeros((0, 0), np.float32)
        self.distances: np.ndarray = np.zeros(0)

    def auc_of(self, model: keras.Model) -> float:
        """Return the AUC of the validation pairs under a model."""
        embeddings = embed(model, self.features)
        if not np.isfinite(embeddings).all():
            raise TrainingError(
                "before the first epoch, the embeddings of validation photos must be finite, got NaN or infinity. Give "
                "features, and weights to begin with, that are finite."
            )
        return auc(pair_distances(as_unit(embeddings), self.pairs), self.pairs.same)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Embed the validation rows and log how well their pairs are separated."""
        embeddings = embed(embedder_of(self.model), self.features)
        loss = (logs or {}).get("loss", 0.0)
        if not (np.isfinite(loss) and np.isfinite(embeddings).all()):
            what = "the embeddings are no numbers any more" if np.isfinite(loss) else f"the loss is {loss}"
            raise DivergedError(f"training diverged in epoch {epoch + 1}: {what}. Try a lower --learning-rate.")
        self.embeddings = as_unit(embeddings)
        self.distances = pair_distances(self.embeddings, self.pairs)
        if logs is not None:
            same = self.pairs.same
            if self.loss is not None:
                logs["val_loss"] = self.loss(self.distances, same)
            logs["val_auc"] = auc(self.distances, same)
            logs["val_accuracy"] = accuracy_at(self.distances, same, best_threshold(self.distances, same))
            logs["spread"] = spread(self.embeddings)


def embedder_of(model: Any) -> Any:
    """Return the part of a trained model that gives embeddings: its `embedder`, else the model itself."""
    return getattr(model, "embedder", model)


def spread(embeddings: np.ndarray) -> float:
    """Return the total variance of unit vectors, [n, dim] → 1 − |mean|² in [0, 1]; 0 when all are one point."""
    return float(1 - np.sum(np.square(np.mean(embeddings, axis=0, dtype=np.float64))))


class CollapseGuard(keras.callbacks.Callback):
    """Stops a training whose head maps everyone to one point, or only ever sees triplets it cannot solve.

    Collapse is, with any loss, a spread that has fallen below `least_spread` and a tenth of its highest. With the
    triplet loss it is also, over `window` epochs, a mean loss within 5% of `collapsed_loss`, that of d(a, p) = d(a, n),
    with 98% of the triplets active and a spread that has not doubled: then the gradient only shrinks the embedding
    (Hermans, Beyer, Leibe, 2017, section 4). A sigmoid head starts at one point and leaves it: its spread grows. Put it
    after `VerifyPairs`, which logs the spread; a share of active triplets that is not logged counts as all of them.

    Args:
        collapsed_loss: mean loss of a head that maps everyone to one point; None where the loss alone does not show it.
        remedies: what to try, a sentence.
        history: the logs of the epochs before a resumed training's first.
    """

    def __init__(
        self,
        *,
        collapsed_loss: float | None = None,
        remedies: str = "Try a lower learning rate.",
        least_spread: float = 0.02,
        window: int = 5,
        history: Sequence[Mapping[str, float]] = (),
    ) -> None:
        super().__init__()
        self.collapsed_loss = collapsed_loss
        self.remedies = remedies
        self.least_spread = least_spread
        self.window = window
        self.highest = 0.0
        self.recent: deque[tuple[float, float, float]] = deque(maxlen=window)
        for logs in history:
            self._note(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raise CollapseError when the signs are there."""
        logs = logs or {}
        self._note(logs)
        if self._fallen() or self._stuck():
            collapsed = "" if self.collapsed_loss is None else f" (collapsed: {self.collapsed_loss:.3f})"
            active = f"{logs['active']:.0%} of triplets active, " if "active" in logs else ""
            raise CollapseError(
                f"training collapsed in epoch {epoch + 1}: loss {logs['loss']:.3f}{collapsed}, "
                f"{active}spread of the embeddings {logs['spread']:.3f}. "
                f"{self.remedies}"
            )

    def _note(self, logs: Mapping[str, float]) -> None:
        if "spread" not in logs:
            raise TrainingError(
                "CollapseGuard: expected the spread of the embeddings among the logs, got none. "
                "Put VerifyPairs before it."
            )
        self.recent.append((logs["loss"], logs.get("active", 1.0), logs["spread"]))
        self.highest = max(self.highest, logs["spread"])

    def _fallen(self) -> bool:
        now = self.recent[-1][2]
        return now < self.least_spread and now < 0.1 * self.highest

    def _stuck(self) -> bool:
        if self.collapsed_loss is None or len(self.recent) < self.window:
            return False
        loss, active, _ = np.mean(self.recent, axis=0)
        at_margin = abs(loss - self.collapsed_loss) <= 0.05 * self.collapsed_loss and active >= 0.98
        return bool(at_margin and self.recent[-1][2] < 2 * self.recent[0][2])


def remedies(settings: TrainingSettings) -> str:
    """Return what to try against a collapse, by the options that bear on it."""
    if settings.sampler == "neighbours":
        tried = "a higher --temperature, more --candidates, a larger --uniform-share, a longer --warmup"
    elif settings.loss == "triplet":
        tried = "another --mining" if settings.sampler == "pk" else "a smaller --margin"
    else:
        tried = "a larger --margin" if settings.loss == "contrastive" else "a smaller --loss-scale"
    return f"Try {tried} or a lower --learning-rate."


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' own early stopping, whose memory can be saved and put back."""

    _MEMORY = ("best", "wait", "best_epoch", "stopped_epoch")

    def __init__(self, *, patience: int, memory: dict[str, Any] | None = None) -> None:
        super().__init__(monitor="val_auc", mode="max", patience=patience, restore_best_weights=True)
        self._memory = memory

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin anew, or where the memory left off."""
        super().on_train_begin(logs)
        for name, value in (self._memory or {}).items():
            setattr(self, name, value)

    def begin_with(self, auc: float, weights: list[Any]) -> None:
        """Take the state before the first epoch as the one to beat; its `best_epoch` is −1."""
        self._memory = {"best": auc, "best_epoch": -1, "best_weights": weights, "wait": 0, "stopped_epoch": 0}

    def memory(self) -> dict[str, Any]:
        """Return what a resumed training needs to go on as if it had not stopped."""
        return {name: getattr(self, name) for name in self._MEMORY} | {"best_weights": self.best_weights}

    @property
    def exhausted(self) -> bool:
        """True when patience has run out."""
        return bool(self.wait >= max(self.patience, 1))
