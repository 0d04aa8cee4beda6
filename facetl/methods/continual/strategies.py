"""Strategies for a new head: learnt from the new people alone, or trained again on everybody."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from facetl.backbones.photo_net import FeatureMap
from facetl.io.arrays import Rows, concat_rows
from facetl.methods.continual.fine_tuning import People, learn
from facetl.methods.continual.linear_head import (
    Affine,
    LinearHead,
    affine_of,
    front_and_trunk,
    rotation,
    same_weights,
    write_affine,
)
from facetl.methods.continual.memory import Memory, seen
from facetl.methods.continual.new_people import Known, NewPeople, Notify, herded
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs.versions import Version, history
from facetl.training.fit import fit_head
from facetl.training.head import embed, join
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
        learnt = learn(
            trunk,
            self._anchor_behind(front, trunk),
            self.arrivals.some(self.taken, front),
            herded(self.known, front, trunk, memory=self.update.memory),
            settings=self.settings,
            update=self.update,
            validation=People(embed(front, chosen), chosen_names),
        )
        return Candidate(join(front, learnt.trunk), "gradient", learnt.seconds)

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
    old: keras.Model | None,
    settings: TrainingSettings,
    validation: tuple[Rows, np.ndarray],
    layout: FeatureMap | None,
) -> tuple[keras.Model, float]:
    """Return a head trained from scratch on everybody's features, front and all, and in how many seconds.

    A linear one is turned to where the old head's embeddings lie, which changes none of its distances.

    Args:
        features: [photos, dim] float; labels: [photos] int, the person of each.
        old: the head in use, features → unit embeddings of the same width; None to turn nothing.
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
    if old is not None and affine is not None:
        few = np.arange(features.shape[0])
        if len(few) > _FEW:
            few = np.sort(np.random.default_rng(settings.seed).choice(len(few), _FEW, replace=False))
        some = np.asarray(features[few], np.float32)
        turn = rotation(embed(head, some), embed(old, some))
        write_affine(trunk, Affine(affine.kernel @ turn, affine.bias @ turn))
    return head, time.monotonic() - began
