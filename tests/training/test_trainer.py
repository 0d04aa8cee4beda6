"""What the training step minimises and reports, by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from facetl.training.trainer import TripletTrainer

# Squared distances by hand: 01 0.8, 02 2, 03 4, 12 0.4, 13 3.2, 23 2.
POINTS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)


def trainer(**options: object) -> TripletTrainer:
    inputs = keras.Input((2,))
    made = TripletTrainer(keras.Model(inputs, keras.layers.UnitNormalization()(inputs)), **options)
    made.compile(optimizer="sgd")
    return made


def loss_of(model: TripletTrainer, **batch: np.ndarray) -> float:
    embeddings = model({"features": POINTS, **batch})
    return float(model.compute_loss({"features": POINTS, **batch}, y_pred=embeddings))


def test_the_mean_over_triplets_and_the_share_that_is_active() -> None:
    model = trainer(margin=0.2)
    triplets = np.array([[0, 1, 3], [2, 0, 1], [2, 3, 1]], np.int32)
    # −3, 2 − 0.4 + 0.2 = 1.8, 1.8
    assert loss_of(model, triplets=triplets) == pytest.approx(3.6 / 3, rel=1e-5)
    assert float(model.active.result()) == pytest.approx(2 / 3)
    # A short last batch counts by its triplets: 2 of 3, then 0 of 1.
    assert loss_of(model, triplets=triplets[:1]) == 0.0
    assert float(model.active.result()) == pytest.approx(2 / 4)


def test_batch_all_is_the_mean_over_the_active_triplets() -> None:
    model = trainer(margin=0.2, mining="batch-all")
    labels = np.array([0, 0, 1, 1], np.int32)
    # d(a, p) − d(a, n) + 0.2 for (a, p, n):
    # 012 −1.0, 013 −3.0, 102 0.6, 103 −2.2; 230 0.2, 231 1.8, 320 −1.8, 321 −1.0.
    assert loss_of(model, labels=labels) == pytest.approx((0.6 + 0.2 + 1.8) / 3, rel=1e-5)
    assert float(model.active.result()) == pytest.approx(3 / 8)


def test_batch_hard_is_the_mean_over_the_anchors() -> None:
    model = trainer(margin=0.2, mining="batch-hard")
    labels = np.array([0, 0, 1, 1], np.int32)
    # Nearest negatives: 2.0, 0.4, 0.4, 2 → violations −1.0, 0.6, 1.8, and for 3: 2 − 3.2 + 0.2 = −1.0.
    assert loss_of(model, labels=labels) == pytest.approx((0.6 + 1.8) / 4, rel=1e-5)


def test_a_batch_without_a_triplet_costs_nothing() -> None:
    model = trainer(margin=0.2)
    assert loss_of(model, labels=np.array([1, 1, 1, 1], np.int32)) == 0.0
