"""The choice between a trained head and the raw features, which stay where they separate people better.

Two measurements, by how many validation people there are. With 20 or more, the trained head and the raw features are
compared on their pairs, with a standard error by person: pairs share people, so people are left out, not pairs. With
fewer, their pairs show next to nothing (with 5 people the difference of two AUCs has been seen to stray by 0.1): then
all people at hand are split anew several times, and the closed form of the head, its discriminant, is learnt on one
side and compared on the other. How much it gains grows with the people it learns from, and the trained head has
followed it closely.

Either way the trained head must be better by more than one standard error, the rule of Breiman, Friedman, Olshen and
Stone (Classification and Regression Trees, 1984) for the simpler of two models; learnt from fewer than 12 people, by
more than two. A frozen ImageNet net's features were better raw in all of 34 draws of 4 to 8 training people of ORL and
LFW, and on average better with a head from 16 people on; dlib's were better raw up to 150, the most that was tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from facetl.backbones.photo_net import FeatureMap
from facetl.errors import DataError
from facetl.io.arrays import Rows
from facetl.io.json import JsonFields
from facetl.metrics.baselines import Raw
from facetl.metrics.bootstrap import auc_gain_stderr
from facetl.metrics.linalg import Float32s, normalised
from facetl.metrics.pairs import Pairs, sample_pairs
from facetl.metrics.roc import auc
from facetl.metrics.verification import pair_distances
from facetl.training.whitening import Whitening

# Training people below which a gain must be twice as sure.
FEW_PEOPLE = 12
# Validation people from which their own pairs decide.
ENOUGH_PEOPLE = 20
_SPLITS = 8
# Of a person, so many photos take part in the splits: more show little about other people.
_PHOTOS = 10


@dataclass(frozen=True)
class HeadChoice(JsonFields):
    """The choice of the trained head or the raw features as a run's head, and its reason.

    Attributes:
        fallback: whether the raw features are.
        gain: AUC of the trained way less that of the raw features, on people not trained on; None without evidence.
        stderr: of the gain, by person.
        measured_on: `validation` pairs under the trained head, or `splits` of all people under its closed form.
        people: how many people it was measured on.
        trained_auc, raw_auc: of the validation pairs, whatever decided.
    """

    fallback: bool
    gain: float | None
    stderr: float | None
    measured_on: str
    people: int
    trained_auc: float
    raw_auc: float

    @property
    def evidence(self) -> str:
        """The measurement in words."""
        if self.gain is None or self.stderr is None:
            return f"{self.people:,} people are too few to show a gain over the raw features"
        where = (
            f"{self.people:,} validation people"
            if self.measured_on == "validation"
            else f"new splits of {self.people:,} people, in closed form"
        )
        return f"AUC gain over the raw features {self.gain:+.4f} ± {self.stderr:.4f}, on {where}"

    @property
    def sentence(self) -> str:
        """The choice and its evidence in words."""
        what = "the raw features, since no trained head is better" if self.fallback else "the trained one"
        return f"{what}: {self.evidence}"


def choose(
    features: Rows,
    labels: np.ndarray,
    whitening: Mapping[str, Any],
    *,
    raw: Raw,
    validation: tuple[Rows, np.ndarray],
    trained: Float32s,
    pairs: Pairs,
    layout: FeatureMap | None = None,
) -> HeadChoice:
    """Choose between a trained head and the raw features.

    Args:
        features, labels: [photos, dim] float and [photos] int, of the training people.
        whitening: arguments of `Whitening.fit` for the closed form; its seed is of the splits, too.
        raw: fitted on `features`.
        validation: features and labels of other people.
        trained: [validation photos, width] float32, their embeddings under the trained head.
        pairs: of validation photos.
        layout: of which maps a feature is made.
    """
    distances = pair_distances(trained, pairs), pair_distances(raw.transform(validation[0]), pairs)
    trained_auc, raw_auc = (auc(values, pairs.same) for values in distances)
    people = len(np.unique(validation[1]))
    gain: float | None
    stderr: float | None
    if len(np.intersect1d(labels, validation[1])):
        # Other photos of the same people show nothing about strangers.
        measured_on, gain, stderr = "validation", None, None
    elif people >= ENOUGH_PEOPLE:
        measured_on, gain = "validation", trained_auc - raw_auc
        stderr = auc_gain_stderr(*distances, pairs, np.asarray(validation[1]))
    else:
        measured_on = "splits"
        pool = [_few(features, np.asarray(labels)), _few(validation[0], np.asarray(validation[1]))]
        gain, stderr = gain_over_splits(pool[0], pool[1], whitening, layout=layout)
        people += len(np.unique(labels))
    needed = 2 if len(np.unique(labels)) < FEW_PEOPLE else 1
    fallback = gain is None or stderr is None or gain <= needed * stderr
    return HeadChoice(fallback, gain, stderr, measured_on, people, trained_auc, raw_auc)


def raw_head(raw: Raw) -> keras.Model:
    """Return the raw features as a head, [batch, dim] → [batch, dim] unit vectors: what `raw.transform` gives."""
    if raw.centre is None:
        raise DataError("The raw features must be fitted before they are a head. Received: no call of fit.")
    inputs = keras.Input((len(raw.centre),), name="features")
    centred = keras.layers.Normalization(
        mean=raw.centre, variance=np.ones_like(raw.centre), name="centre", dtype="float32"
    )(inputs)
    return keras.Model(inputs, keras.layers.UnitNormalization(name="unit")(centred), name="head")


def gain_over_splits(
    some: tuple[np.ndarray, np.ndarray],
    others: tuple[np.ndarray, np.ndarray],
    whitening: Mapping[str, Any],
    *,
    layout: FeatureMap | None = None,
) -> tuple[float | None, float | None]:
    """Return the mean AUC gain of the discriminant over the raw features and its standard error, over new splits.

    some, others: features [photos, dim] and labels of two groups of people; each split deals all of them into two
    groups as large, learns on the first and compares on the second. The error is corrected for the people that splits
    share: variance × (1 / splits + tested / learnt) (Nadeau and Bengio, Inference for the Generalization Error, 2003).
    None where no split has pairs to compare.
    """
    learnt, tested = (len(np.unique(labels)) for _, labels in (some, others))
    rows = np.concatenate([some[0], others[0]])
    person = np.concatenate([np.unique(some[1], return_inverse=True)[1], np.unique(others[1], return_inverse=True)[1]])
    person[len(some[1]) :] += learnt
    closed = {**whitening, "method": "discriminant"}
    seed = closed.get("seed", 0)
    gains = []
    splits = GroupShuffleSplit(_SPLITS, test_size=tested, train_size=learnt, random_state=seed)
    for chosen, held in splits.split(rows, groups=person):
        try:
            pairs = sample_pairs(person[held], seed=seed)
        except DataError:
            continue
        front = Whitening.fit(rows[chosen], person[chosen], layout=layout, **closed)
        reduced = front.reduce(rows[held])
        assert reduced is not None
        ways = normalised(reduced), Raw().fit(rows[chosen]).transform(rows[held])
        first, second = (auc(pair_distances(way, pairs), pairs.same) for way in ways)
        gains.append(first - second)
    if len(gains) < 2:
        return None, None
    variance = float(np.var(gains, ddof=1))
    return float(np.mean(gains)), float(np.sqrt(variance * (1 / len(gains) + tested / learnt)))


def _few(features: Rows, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most _PHOTOS rows of each person, evenly over each one's photos, and their labels."""
    rows = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows.append(own[np.linspace(0, len(own) - 1, min(_PHOTOS, len(own))).round().astype(int)])
    chosen = np.sort(np.concatenate(rows))
    return np.asarray(features[chosen]), labels[chosen]
