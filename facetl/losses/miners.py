"""Miners: which triplets of a batch a loss looks at. Distances are squared Euclidean between unit vectors.

A miner chooses by the distances as they are; no gradient flows through the choice.

References:
    Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015 (semi-hard);
    Hermans, Beyer, Leibe: In Defense of the Triplet Loss, 2017 (batch-all, batch-hard);
    Wu, Manmatha, Smola, Krähenbühl: Sampling Matters in Deep Embedding Learning, ICCV 2017 (distance-weighted).
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import keras
from keras import ops

from facetl.losses.base import NEVER, anchors_of, constructor_arguments, pair_masks, pairwise_squared_distances
from facetl.losses.registry import MINERS, resolve

# Wu et al.'s bounds on the Euclidean distance of a negative that is weighted: nearer ones are taken for this near,
# farther ones are not drawn.
NEAREST = 0.5
FARTHEST = 1.4
# Positives compared with all rows at once: bounds memory at 8 · m² numbers.
_BLOCK = 8


class Triplets(NamedTuple):
    """Distances of the triplets of a batch of m rows: k positives of each anchor, q negatives of each of those pairs.

    to_positive: [m, k, 1]; to_negative: [m, k or 1, q]; valid: bool [m, k, q], which of them are triplets.
    """

    to_positive: Any
    to_negative: Any
    valid: Any


class Choice(NamedTuple):
    """Rows chosen for the anchors of a batch: positive and negative [m, k] int, and valid [m, k] bool."""

    positive: Any
    negative: Any
    valid: Any


class Miner:
    """Chooses triplets (anchor, positive, negative) of a batch. A subclass implements `choose`.

    Args:
        positives: of an anchor, looked at; None for all others of the batch. K − 1 is exact where a batch holds at most
            K photos of a person, and saves time and memory.
    """

    def __init__(self, *, positives: int | None = None) -> None:
        self.positives = positives

    def choose(self, distances: Any, positive: Any, negative: Any, *, dim: int) -> Choice:
        """Choose by distances [m, m]; positive, negative: bool [m, m], which rows are of each kind; of dim numbers."""
        raise NotImplementedError

    def triplets(self, labels: Any, embeddings: Any) -> Triplets:
        """Return the distances of the triplets chosen from labels [m] and unit embeddings [m, dim]."""
        distances = pairwise_squared_distances(embeddings)
        chosen = self._choice(labels, embeddings)
        to_positive = ops.take_along_axis(distances, chosen.positive, axis=1)
        to_negative = ops.take_along_axis(distances, chosen.negative, axis=1)
        return Triplets(*(ops.expand_dims(part, 2) for part in (to_positive, to_negative, chosen.valid)))

    def pairs(self, labels: Any, embeddings: Any) -> tuple[Any, Any]:
        """Return which pairs (anchor, positive) and (anchor, negative) the triplets are made of, both [m, m] bool."""
        chosen = self._choice(labels, embeddings)
        return tuple(_marked(rows, chosen.valid) for rows in (chosen.positive, chosen.negative))

    def _choice(self, labels: Any, embeddings: Any) -> Choice:
        distances = ops.stop_gradient(pairwise_squared_distances(embeddings))
        return self.choose(distances, *pair_masks(labels), dim=embeddings.shape[-1])

    def _slots(self, positive: Any, negative: Any) -> tuple[Any, Any]:
        """Return the rows of each anchor's positives [m, k] and whether a slot holds one; first rows first."""
        rows = ops.shape(positive)[0]
        if self.positives is None:
            slots = ops.broadcast_to(ops.arange(rows), ops.shape(positive))
            filled = positive
        else:
            slots_of_each = min(self.positives, rows) if isinstance(rows, int) else ops.minimum(self.positives, rows)
            found, slots = ops.top_k(ops.cast(positive, "float32"), slots_of_each)
            filled = found > 0
        return slots, ops.logical_and(filled, ops.any(negative, axis=1, keepdims=True))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return constructor_arguments(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Miner:
        """Rebuild a miner from what `get_config` gave."""
        return cls(**config)


@keras.saving.register_keras_serializable("facetl")
class AllTriplets(Miner):
    """Every valid triplet: m · k · m numbers, where k is `positives`, or m."""

    def triplets(self, labels: Any, embeddings: Any) -> Triplets:
        """Return the distances of every triplet of labels [m] and unit embeddings [m, dim]."""
        distances = pairwise_squared_distances(embeddings)
        positive, negative = pair_masks(labels)
        slots, filled = self._slots(positive, negative)
        return Triplets(
            ops.expand_dims(ops.take_along_axis(distances, slots, axis=1), 2),
            ops.expand_dims(distances, 1),
            ops.logical_and(ops.expand_dims(filled, 2), ops.expand_dims(negative, 1)),
        )

    def pairs(self, labels: Any, embeddings: Any) -> tuple[Any, Any]:
        """Return the pairs of the rows that have both a positive and a negative."""
        positive, negative = pair_masks(labels)
        anchors = ops.expand_dims(anchors_of(positive, negative), 1)
        return ops.logical_and(positive, anchors), ops.logical_and(negative, anchors)


@keras.saving.register_keras_serializable("facetl")
class BatchHard(Miner):
    """Of each anchor its farthest positive and its nearest negative."""

    def __init__(self) -> None:
        super().__init__()

    def choose(self, distances: Any, positive: Any, negative: Any, *, dim: int) -> Choice:
        """Choose one triplet per anchor, [m, 1]."""
        farthest = ops.argmax(ops.where(positive, distances, -1.0), axis=1, keepdims=True)
        nearest = ops.argmin(ops.where(negative, distances, 5.0), axis=1, keepdims=True)
        return Choice(farthest, nearest, ops.expand_dims(anchors_of(positive, negative), 1))


@keras.saving.register_keras_serializable("facetl")
class SemiHard(Miner):
    """Of each (anchor, positive) the nearest negative beyond the positive, the farthest where none is beyond it.

    FaceNet, section 3.2; as in TensorFlow Addons.
    """

    def choose(self, distances: Any, positive: Any, negative: Any, *, dim: int) -> Choice:
        """Choose one negative per pair."""
        slots, filled = self._slots(positive, negative)
        farthest = ops.argmax(ops.where(negative, distances, -1.0), axis=1)

        def nearest_beyond(to_positive: Any) -> Any:
            to_others = ops.expand_dims(distances, 1)
            beyond = ops.logical_and(ops.expand_dims(negative, 1), to_others > ops.expand_dims(to_positive, 2))
            nearest = ops.argmin(ops.where(beyond, to_others, 5.0), axis=2)
            return ops.where(ops.any(beyond, axis=2), nearest, ops.expand_dims(farthest, 1))

        return Choice(slots, _by_blocks(nearest_beyond, ops.take_along_axis(distances, slots, axis=1)), filled)


@keras.saving.register_keras_serializable("facetl")
class DistanceWeighted(Miner):
    """Of each (anchor, positive) a negative drawn by `distance_weights`.

    On the JAX backend, `fit` advances the draws only if the model knows their state: give it to the model as an
    attribute, `model.draws = miner.seed_generator`.

    Args:
        positives: see `Miner`. seed: of the draws.
    """

    def __init__(self, *, positives: int | None = None, seed: int = 0) -> None:
        super().__init__(positives=positives)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def choose(self, distances: Any, positive: Any, negative: Any, *, dim: int) -> Choice:
        """Draw one negative per pair."""
        slots, filled = self._slots(positive, negative)
        logits = distance_weights(distances, negative, dim=dim)
        drawn = keras.random.categorical(logits, ops.shape(slots)[1], dtype="int32", seed=self.seed_generator)
        return Choice(slots, drawn, filled)


def make_miner(miner: Miner | str | None, **options: Any) -> Miner | None:
    """Return a miner as it is, or the one of a name in `MINERS`, with those options that it has.

    Raises ValueError for another name.
    """
    if not isinstance(miner, str):
        return miner
    if miner not in MINERS:
        raise ValueError(f"A miner is one of {', '.join(MINERS)}. Received: {miner!r}.")
    made = resolve(MINERS[miner])
    taken = inspect.signature(made).parameters
    found: Miner = made(**{name: value for name, value in options.items() if name in taken})
    return found


def distance_weights(distances: Any, negative: Any, *, dim: int) -> Any:
    """Return log weights with which negatives are drawn, [n, m] squared distances and [n, m] bool → [n, m].

    The weight is 1 / q(D), D = √d from NEAREST, 0 above FARTHEST; q(D) ∝ Dⁿ⁻² (1 − D²/4)^((n−3)/2) is how distances
    spread between random points of the sphere in n dimensions (Wu et al., section 4.1). A row with no negative
    nearer than FARTHEST draws among all of its negatives alike.
    """
    near = ops.logical_and(negative, distances < FARTHEST**2)
    bounded = ops.clip(distances, NEAREST**2, FARTHEST**2)
    weights = (2 - dim) / 2 * ops.log(bounded) - (dim - 3) / 2 * ops.log(1 - bounded / 4)
    none_near = ops.logical_not(ops.any(near, axis=1, keepdims=True))
    return ops.where(near, weights, ops.where(ops.logical_and(none_near, negative), 0.0, NEVER))


def _marked(rows: Any, valid: Any) -> Any:
    """Return which rows are chosen for each anchor, [m, k] int and bool → [m, m] bool."""
    number = ops.shape(rows)[0]
    anchor = ops.broadcast_to(ops.expand_dims(ops.arange(number, dtype="int32"), 1), ops.shape(rows))
    places = ops.reshape(anchor * number + ops.cast(rows, "int32"), (-1, 1))
    counts = ops.scatter(places, ops.reshape(ops.cast(valid, "float32"), (-1,)), (number * number,))
    return ops.reshape(counts, (number, number)) > 0


def _by_blocks(function: Any, columns: Any) -> Any:
    """Apply a function of [m, _BLOCK] → [m, _BLOCK] to all columns, [m, k] → [m, k]."""
    rows, number = ops.shape(columns)[0], ops.shape(columns)[1]
    padded = ops.pad(columns, ((0, 0), (0, -number % _BLOCK)))
    blocks = ops.transpose(ops.reshape(padded, (rows, -1, _BLOCK)), (1, 0, 2))
    return ops.reshape(ops.transpose(ops.map(function, blocks), (1, 0, 2)), (rows, -1))[:, :number]
