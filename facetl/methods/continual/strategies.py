"""Strategies for a new head: solved, learnt from the new people by gradient descent, or trained again on everybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from facetl.backbones.photo_net import FeatureMap
from facetl.io.arrays import Rows, concat_rows
from facetl.losses.distillation import CosineDistillationLoss
from facetl.losses.registry import LOSSES
from facetl.losses.triplet import TripletLoss
from facetl.methods.continual.exemplars import herd_each
from facetl.methods.continual.linear_head import (
    Affine,
    LinearHead,
    affine_of,
    copy_of,
    front_and_trunk,
    rotation,
    same_weights,
    write_affine,
)
from facetl.methods.continual.memory import Memory, seen
from facetl.methods.continual.new_people import Known, NewPeople, Notify, People
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.metrics.linalg import Float32s
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs.versions import Version, history
from facetl.samplers import RandomSampler
from facetl.training.fit import fit_head, fit_trunk
from facetl.training.head import embed, join
from facetl.training.objectives import LossAndStats, Objective, TripletObjective, make_objective
from facetl.training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class Candidate:
    """A head that was learnt, how, and what is remembered for the next update; None where nothing is."""

    head: keras.Model
    way: str
    seconds: float
    memory: Memory | None = None


@dataclass(frozen=True, eq=False)
class Learner:
    """A run, the people it knows, the new people, and which of their photos are learnt from, bool [photos]."""

    folder: Path
    recognizer: Recognizer
    known: Known
    arrivals: NewPeople
    taken: NDArray[np.bool_]
    update: UpdateSettings
    notify: Notify

    @property
    def settings(self) -> TrainingSettings:
        """The run's own."""
        return TrainingSettings.from_json(self.known.config["settings"])

    def learnt(self) -> Candidate:
        """Learn the new people: in closed form where the method has one for such a head, else by gradient descent."""
        anchor = self._anchor()
        if anchor is not None and self.update.solved:
            return self._solved(anchor)
        front, trunk = front_and_trunk(self.recognizer.head)
        chosen, chosen_names = self.known.features("validation")
        features, names = self.known.features("train")
        known = People(embed(front, features), names)
        learnt, seconds = learn(
            trunk,
            self._anchor_behind(front, trunk),
            self.arrivals.some(self.taken, front),
            known.of(herd_each(embed(trunk, known.rows), names, self.update.memory)),
            settings=self.settings,
            update=self.update,
            validation=People(embed(front, chosen), chosen_names),
        )
        return Candidate(join(front, learnt), "gradient", seconds)

    def _solved(self, anchor: LinearHead) -> Candidate:
        began = time.monotonic()
        memory = Memory.read(self.folder) or self._first_memory(anchor)
        features, *_ = self.arrivals.collection.rows(self.taken)
        new = seen(features, self.arrivals.names[self.taken], basis=memory.basis, anchor=anchor)
        head = memory.relearnt(new, self.update, seed=self.settings.seed)
        seconds = time.monotonic() - began
        kept = memory.with_people(new, per_person=self.update.memory)
        return Candidate(head.model(self.settings), "closed form", seconds, kept)

    def _first_memory(self, anchor: LinearHead) -> Memory:
        """Return what there is to remember of the run's own photos."""
        self.notify("nothing is remembered of the run's photos yet: their features are read once")
        features, names = self.known.features("train")
        return Memory.learnt(
            features,
            names,
            others=self.known.features("validation")[0],
            anchor=anchor,
            layout=self.arrivals.collection.layout if self.settings.regions else None,
            components=self.settings.components,
            per_person=self.update.memory,
            seed=self.settings.seed,
        )

    def retrained(self) -> Candidate:
        """Train a head anew on everybody."""
        train, names = self.known.features("train")
        new = self.arrivals.collection.rows(self.taken)[0]
        everyone = np.concatenate([names, self.arrivals.names[self.taken]])
        chosen, chosen_names = self.known.features("validation")
        head, seconds = retrain(
            concat_rows([train, new]),
            np.unique(everyone, return_inverse=True)[1],
            old=self.recognizer.head,
            settings=replace(self.settings, seed=self.update.seed),
            validation=(chosen, np.unique(chosen_names, return_inverse=True)[1]),
            layout=self.arrivals.collection.layout,
        )
        return Candidate(head, "training", seconds)

    def _anchor(self) -> LinearHead | None:
        """Return the head that embedded the oldest gallery for which the run answers; None where it is not linear."""
        older = self.older()
        return LinearHead.of(RunFolder(older[0].folder).head() if older else self.recognizer.head)

    def _anchor_behind(self, front: keras.Model, trunk: keras.Model) -> keras.Model:
        """Return the layers that did, as far back as the front was the same."""
        for version in self.older():
            old_front, old_trunk = front_and_trunk(RunFolder(version.folder).head())
            if same_weights(front, old_front):
                return old_trunk
        return trunk

    def older(self) -> list[Version]:
        """Return the other versions whose galleries the head in use answers for, oldest first."""
        accepted = RunFolder(self.folder).compatible_heads()
        others = [one for one in history(self.folder) if not one.in_use]
        return [one for one in others if RunFolder(one.folder).head_digest() in accepted]


# Photos by which the new head is turned to where the old one lies.
_FEW = 2000


def retrain(
    features: Rows,
    labels: np.ndarray,
    *,
    old: keras.Model,
    settings: TrainingSettings,
    validation: tuple[Rows, np.ndarray],
    layout: FeatureMap | None,
) -> tuple[keras.Model, float]:
    """Return a head trained from scratch on everybody's features, front and all, and in how many seconds.

    A linear one is turned to where the old head's embeddings lie, which changes none of its distances.

    Args:
        features: [photos, dim] float; labels: [photos] int, the person of each.
        old: the head in use, features → unit embeddings of the same width.
        settings: the run's.
        validation: features and labels of other people.
        layout: of which maps a feature is made.

    Raises TrainingError, CollapseError.
    """
    began = time.monotonic()
    chosen = replace(settings, fallback=False)
    head = fit_head(features, labels, chosen, validation=validation, layout=layout).head
    _, trunk = front_and_trunk(head)
    affine = affine_of(trunk)
    if affine is not None:
        few = np.arange(features.shape[0])
        if len(few) > _FEW:
            few = np.sort(np.random.default_rng(settings.seed).choice(len(few), _FEW, replace=False))
        some = np.asarray(features[few], np.float32)
        turn = rotation(embed(head, some), embed(old, some))
        write_affine(trunk, Affine(affine.kernel @ turn, affine.bias @ turn))
    return head, time.monotonic() - began


def learn(
    trunk: keras.Model,
    anchor: keras.Model,
    new: People,
    memory: People,
    *,
    settings: TrainingSettings,
    update: UpdateSettings,
    validation: People,
) -> tuple[keras.Model, float]:
    """Return a trunk that has learnt new people by gradient descent, and in how many seconds.

    The one given stays as it is. The loss is the run's own; it ends where validation people are separated best.

    Args:
        trunk: [batch, dim] → [batch, width] unit vectors, the layers in use.
        anchor: the layers whose embeddings fill galleries, which the new ones must stay comparable with; perhaps
            `trunk` itself.
        new, memory: people to learn and people to remember.
        settings: the run's.
        update: the method.
        validation: other people.

    Raises TrainingError for too few people or photos, CollapseError.
    """
    began = time.monotonic()
    updated = copy_of(trunk)
    taken = memory.joined(new) if update.has("replay") and len(memory.names) else new
    chosen = replace(
        settings, seed=update.seed, epochs=update.epochs, patience=update.epochs, learning_rate=update.learning_rate
    )
    objective: Objective = make_objective(chosen, taken.labels, width=trunk.output_shape[-1])
    if update.has("distillation"):

        def moved(rows: Any) -> Any:
            """Return the cosine distillation to the old trunk, both without dropout: its noise is not the old's."""
            old = tf.stop_gradient(anchor(rows, training=False))
            return CosineDistillationLoss()(old, updated(rows, training=False))

        objective = _Retaining(objective, update.distillation, moved)
    if update.has("ewc"):
        consolidation = Consolidation.at(trunk, memory.float32, memory.labels, chosen)
        objective = _Retaining(objective, update.consolidation, lambda rows: consolidation.penalty(updated))
    fit_trunk(
        updated,
        taken.float32,
        taken.labels,
        chosen,
        validation=(validation.float32, validation.labels),
        objective=objective,
    )
    return updated, time.monotonic() - began


class _Retaining(Objective):
    """An objective with another one's loss and something added to it, which hides the loss of a collapsed head.

    added: a batch's features → a scalar.
    """

    def __init__(self, base: Objective, weight: float, added: Callable[[Any], Any]) -> None:
        self.base = base
        self.weight = weight
        self.added = added
        self.proxies = base.proxies
        self.seed_generator = base.seed_generator

    def __call__(self, embeddings: Any, targets: Any, features: Any = None) -> LossAndStats:
        """Return the base's measure, its loss increased."""
        measured = self.base(embeddings, targets, features)
        return measured._replace(loss=measured.loss + self.weight * self.added(features))


_BATCH = 16  # triplets a gradient: squares of the mean of many would be small everywhere
_MOST = 2048  # triplets


@dataclass(frozen=True, eq=False)
class Consolidation:
    """Old weights, and the diagonal of the Fisher information there; an array for each variable."""

    anchors: tuple[np.ndarray, ...]
    importances: tuple[np.ndarray, ...]

    @classmethod
    def at(cls, trunk: keras.Model, rows: Float32s, labels: np.ndarray, settings: TrainingSettings) -> Consolidation:
        """Measure the weights that a trunk has: rows [photos, dim] of known people and labels [photos] int.

        The Fisher information is the mean square of the gradient of the triplet loss, over small batches of random
        triplets (Kirkpatrick et al., PNAS 2017, with the empirical Fisher). Raises TrainingError for too few people.
        """
        margin = LOSSES["triplet"].margin if settings.loss != "triplet" else settings.loss_options.margin
        assert margin is not None
        objective = TripletObjective(TripletLoss(margin, settings.softness))
        sampler = RandomSampler(labels, anchors_per_person=settings.anchors_per_person, seed=settings.seed)
        triplets = sampler.triplets(0)[:_MOST]
        squares = [np.zeros(variable.shape, np.float64) for variable in trunk.trainable_variables]
        batches = [triplets[start : start + _BATCH] for start in range(0, len(triplets), _BATCH)]
        for batch in batches:
            for total, gradient in zip(squares, _gradient(trunk, objective, rows, batch), strict=True):
                total += np.square(gradient)
        anchors = tuple(np.asarray(variable.numpy()) for variable in trunk.trainable_variables)
        return cls(anchors, tuple((total / len(batches)).astype(np.float32) for total in squares))

    def penalty(self, trunk: keras.Model) -> Any:
        """Return ½ Σ F · (θ − θ*)² of a trunk of the same layers, a scalar (equation 3)."""
        parts = [
            ops.sum(importance * ops.square(weight - anchor))
            for weight, anchor, importance in zip(
                trunk.trainable_variables, self.anchors, self.importances, strict=True
            )
        ]
        return 0.5 * sum(parts)


def _gradient(
    trunk: keras.Model, objective: TripletObjective, rows: Float32s, triplets: np.ndarray
) -> list[np.ndarray]:
    unique, inverse = np.unique(triplets, return_inverse=True)
    places = tf.constant(inverse.reshape(triplets.shape).astype(np.int32))
    with tf.GradientTape() as tape:
        loss = objective(trunk(rows[unique], training=False), places).loss
    return [np.asarray(gradient) for gradient in tape.gradient(loss, trunk.trainable_variables)]
