"""Joint retraining: a head trained anew on everybody, the dear way that an update is measured against."""

from __future__ import annotations

import time
from dataclasses import replace

import keras
import numpy as np

from facetl.evaluation.projection import Rows
from facetl.features.layout import Layout
from facetl.methods.continual.linear import Affine, affine_of, rotation, write_affine
from facetl.methods.continual.parts import front_and_trunk
from facetl.training.fitting import fit_head
from facetl.training.head import embed
from facetl.training.settings import TrainingSettings

# Photos by which the new head is turned to where the old one lies.
_FEW = 2000


def retrain(
    features: Rows,
    labels: np.ndarray,
    *,
    old: keras.Model | None,
    settings: TrainingSettings,
    validation: tuple[Rows, np.ndarray],
    layout: Layout | None,
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
