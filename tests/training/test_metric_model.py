"""What the training step minimises and reports, by hand."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from facetl.training.metric_model import HeadTrainer
from facetl.training.objectives import ProxyObjective, TripletObjective
from facetl.training.proxy_losses import cosface_loss

# Squared distances by hand: 01 0.8, 02 2, 03 4, 12 0.4, 13 3.2, 23 2.
POINTS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)


def trainer(**options: object) -> HeadTrainer:
    inputs = keras.Input((2,))
    made = HeadTrainer(keras.Model(inputs, keras.layers.UnitNormalization()(inputs)), TripletObjective(**options))
    made.compile(optimizer="sgd")
    return made


def loss_of(model: HeadTrainer, **batch: np.ndarray) -> float:
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
    model = trainer(margin=0.2, mining="batch-hard")
    assert loss_of(model, labels=np.array([1, 1, 1, 1], np.int32)) == 0.0


def test_proxies_are_trained_with_the_head_and_are_no_part_of_it() -> None:
    inputs = keras.Input((2,))
    head = keras.Model(inputs, keras.layers.UnitNormalization()(keras.layers.Dense(2)(inputs)))
    objective = ProxyObjective(partial(cosface_loss, margin=0.3, scale=8.0), np.array([1, 4]), width=2)
    objective.imprint(POINTS, np.array([1, 1, 4, 4]))
    model = HeadTrainer(head, objective)
    assert {id(variable) for variable in model.trainable_variables} == {
        id(variable) for variable in [*head.trainable_variables, objective.proxies]
    }
    model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
    before = [np.array(variable) for variable in model.trainable_variables]
    batch = {"features": POINTS, "labels": np.array([1, 1, 4, 4], np.int32)}
    model.fit(tf.data.Dataset.from_tensors(batch), epochs=1, shuffle=False, verbose=0)
    assert all(np.any(old != np.array(new)) for old, new in zip(before, model.trainable_variables, strict=True))
    assert len(head.variables) == 2


def test_random_draws_of_the_objective_are_among_the_variables() -> None:
    model = trainer(margin=0.2, mining="distance-weighted")
    assert model.objective.seed_generator.state in model.variables
