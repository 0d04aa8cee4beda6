"""What a step minimises, by settings: the right loss with the right options, and the state that it keeps."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from gaussians import small_settings

from facetl.losses.miners import BatchHard, Miner, SemiHard
from facetl.losses.proxy import CosFaceLoss, cosines_to
from facetl.losses.registry import LOSSES, resolve
from facetl.losses.triplet import TripletLoss
from facetl.training.objectives import (
    BatchObjective,
    HeadTrainer,
    MinedTripletObjective,
    PairObjective,
    ProxyObjective,
    TripletObjective,
    make_objective,
)

# Squared distances by hand: 01 0.8, 02 2, 03 4, 12 0.4, 13 3.2, 23 2.
POINTS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)
LABELS = np.array([8, 8, 3, 3], np.int32)
# Whom the training knows: person 5 has one photo only.
PEOPLE = np.array([3, 8, 5, 3, 6, 8, 6])

PROXY_LOSSES = ("arcface", "cosface", "softmax", "proxy-anchor")
PAIR_LOSSES = sorted(LOSSES.keys() - {"triplet", *PROXY_LOSSES})


def made(loss: str, **changes: float) -> Any:
    own = {"margin": LOSSES[loss].margin, "scale": LOSSES[loss].scale, **changes}
    return resolve(LOSSES[loss].source)(**{name: value for name, value in own.items() if value is not None})


@pytest.mark.parametrize("loss", PAIR_LOSSES)
@pytest.mark.parametrize("given", [False, True], ids=["its own options", "given options"])
def test_a_pair_loss_has_its_options_and_counts_hardest_triplets(loss: str, given: bool) -> None:
    own = LOSSES[loss]
    margin, scale = (own.margin and own.margin / 2, own.scale and own.scale / 3) if given else (None, None)
    settings = small_settings(loss=loss, sampler="pk", margin=margin, loss_scale=scale)
    objective = make_objective(settings, PEOPLE, width=2)
    assert isinstance(objective, BatchObjective)
    assert objective.proxies is objective.collapsed_loss is None
    measured = objective(tf.constant(POINTS), LABELS)
    expected = (made(loss, margin=margin, scale=scale) if given else made(loss))(LABELS, POINTS)
    assert float(measured.loss) == pytest.approx(float(expected), rel=1e-6)
    # Anchors 1 and 2 have each other nearer than their mates; 3's mate is 2 away, the nearest stranger 3.2.
    assert (float(measured.fraction_active), float(measured.count)) == (0.5, 4)


@pytest.mark.parametrize("loss", PROXY_LOSSES)
def test_a_proxy_loss_finds_a_photos_person_among_those_with_two_photos(loss: str) -> None:
    objective = make_objective(small_settings(loss=loss, sampler="pk"), PEOPLE, width=2)
    assert isinstance(objective, ProxyObjective)
    assert objective.people.tolist() == [3, 6, 8]
    objective.proxies.assign([[0.0, 2.0], [-0.6, 0.8], [1.0, 1.0]])
    measured = objective(tf.constant(POINTS), LABELS)
    expected = made(loss)(np.array([2, 2, 0, 0]), cosines_to(objective.proxies, POINTS))
    assert float(measured.loss) == pytest.approx(float(expected), rel=1e-6)


def test_proxies_begin_as_the_mean_directions_of_their_people() -> None:
    objective = make_objective(small_settings(loss="arcface", sampler="pk"), PEOPLE, width=2)
    embeddings = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.6, 0.8], [-1, 0], [0, -1], [0, 1]], np.float32)
    objective.imprint(embeddings, PEOPLE)  # type: ignore[attr-defined]
    # Person 8's photos are opposite each other: no direction.
    expected = np.array([[1.6, 0.8], [-1.0, 1.0], [0.0, 0.0]])
    expected[:2] /= np.linalg.norm(expected[:2], axis=1, keepdims=True)
    np.testing.assert_allclose(objective.proxies, expected, atol=1e-6)
    measured = objective(tf.constant(POINTS), LABELS)
    assert math.isfinite(measured.loss)


@pytest.mark.parametrize(("mining", "miner"), [("batch-hard", BatchHard()), ("semi-hard", SemiHard())])
def test_the_triplet_loss_is_mined_as_asked(mining: str, miner: Miner) -> None:
    objective = make_objective(small_settings(sampler="pk", mining=mining, margin=1.5), PEOPLE, width=2)
    assert isinstance(objective, MinedTripletObjective)
    measured = objective(tf.constant(POINTS), LABELS)
    expected = np.asarray(TripletLoss(1.5, miner=miner, reduction="none")(LABELS, POINTS))
    assert float(measured.loss) == pytest.approx(float(expected.mean()), rel=1e-6)
    assert float(measured.fraction_active) == pytest.approx(float(np.mean(expected > 0)))
    assert float(measured.count) == 4


def test_distance_weighted_draws_go_on_from_the_seed_of_the_settings() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.repeat(np.arange(10, dtype=np.int32), 3)

    def measured(seed: int) -> list[float]:
        settings = small_settings(sampler="pk", mining="distance-weighted", seed=seed)
        objective = make_objective(settings, labels, width=4)
        return [float(objective(embeddings, labels).loss) for _ in range(3)]

    assert len(set(measured(1))) == 3
    assert measured(1) == measured(1) != measured(2)


def test_what_a_collapsed_head_costs() -> None:
    def collapsed(**changes: Any) -> float | None:
        return make_objective(small_settings(**changes), PEOPLE, width=2).collapsed_loss

    assert collapsed(margin=0.3) == pytest.approx(0.3)
    assert collapsed(softness=0.5) == pytest.approx(0.5 * math.log(1 + math.exp(0.2 / 0.5)))
    assert collapsed(sampler="pk", mining="batch-all") == pytest.approx(0.2)
    # In health, too, a semi-hard negative is hardly farther than the positive.
    assert collapsed(sampler="pk", mining="semi-hard") is None
    assert collapsed(sampler="pk", loss="supcon") is None
    # Outside batches of people nothing is mined.
    assert collapsed(sampler="random", mining="semi-hard") == pytest.approx(0.2)


def test_pairs_cost_what_the_paper_says() -> None:
    objective = make_objective(small_settings(loss="contrastive", sampler="pairs", margin=1.5), PEOPLE, width=2)
    assert isinstance(objective, PairObjective)
    assert objective.proxies is objective.seed_generator is objective.collapsed_loss is None
    pairs = np.array([[1, 0, 1, 0], [1, 2, 0, 1], [3, 1, 0, 1], [3, 2, 1, 0], [0, 2, 0, 1]], np.int32)
    measured = objective(POINTS, pairs)
    # D² 0.8 and 2 of one person; of two people 0.4 and 2 lie within the margin, 3.2 does not.
    near, far = [0.8 / 2, 2.0 / 2], [(1.5 - math.sqrt(0.4)) ** 2 / 2, (1.5 - math.sqrt(2)) ** 2 / 2]
    assert float(measured.loss) == pytest.approx(sum(near) / 2 + sum(far) / 2, rel=1e-6)
    assert (float(measured.fraction_active), float(measured.count)) == (pytest.approx(2 / 3), 3)
    squared = np.array([0.8, 0.4, 3.2, 2.0, 2.0])
    assert objective.of_distances(squared, pairs[:, 2] == 1) == pytest.approx(float(measured.loss), rel=1e-6)
    assert LOSSES["contrastive"].margin == 1.0
    plain = make_objective(small_settings(loss="contrastive", sampler="pairs"), PEOPLE, width=2)
    assert float(plain(POINTS, pairs).fraction_active) == pytest.approx(1 / 3)


def trainer(**options: object) -> HeadTrainer:
    inputs = keras.Input((2,))
    head = keras.Model(inputs, keras.layers.UnitNormalization()(inputs))
    kind = MinedTripletObjective if "miner" in options else TripletObjective
    model = HeadTrainer(head, kind(TripletLoss(**options)))  # type: ignore[arg-type]
    model.compile(optimizer="sgd")
    return model


def loss_of(model: HeadTrainer, targets: np.ndarray) -> float:
    return float(model.compute_loss(POINTS, targets, model(POINTS)))


def test_the_mean_over_triplets_and_the_share_that_is_active() -> None:
    model = trainer(margin=0.2)
    triplets = np.array([[0, 1, 3], [2, 0, 1], [2, 3, 1]], np.int32)
    # −3, 2 − 0.4 + 0.2 = 1.8, 1.8
    assert loss_of(model, triplets) == pytest.approx(3.6 / 3, rel=1e-5)
    assert float(model.active.result()) == pytest.approx(2 / 3)
    # A short last batch counts by its triplets: 2 of 3, then 0 of 1.
    assert loss_of(model, triplets[:1]) == 0.0
    assert float(model.active.result()) == pytest.approx(2 / 4)


def test_batch_all_is_the_mean_over_the_active_triplets() -> None:
    model = trainer(margin=0.2, miner="batch-all")
    labels = np.array([0, 0, 1, 1], np.int32)
    # d(a, p) − d(a, n) + 0.2 for (a, p, n):
    # 012 −1.0, 013 −3.0, 102 0.6, 103 −2.2; 230 0.2, 231 1.8, 320 −1.8, 321 −1.0.
    assert loss_of(model, labels) == pytest.approx((0.6 + 0.2 + 1.8) / 3, rel=1e-5)
    assert float(model.active.result()) == pytest.approx(3 / 8)


def test_batch_hard_is_the_mean_over_the_anchors() -> None:
    model = trainer(margin=0.2, miner="batch-hard")
    labels = np.array([0, 0, 1, 1], np.int32)
    # Nearest negatives: 2.0, 0.4, 0.4, 2 → violations −1.0, 0.6, 1.8, and for 3: 2 − 3.2 + 0.2 = −1.0.
    assert loss_of(model, labels) == pytest.approx((0.6 + 1.8) / 4, rel=1e-5)


def test_a_batch_without_a_triplet_costs_nothing() -> None:
    model = trainer(margin=0.2, miner="batch-hard")
    assert loss_of(model, np.array([1, 1, 1, 1], np.int32)) == 0.0


def test_proxies_are_trained_with_the_head_and_are_no_part_of_it() -> None:
    inputs = keras.Input((2,))
    head = keras.Model(inputs, keras.layers.UnitNormalization()(keras.layers.Dense(2)(inputs)))
    objective = ProxyObjective(CosFaceLoss(0.3, 8.0), np.array([1, 4]), width=2)
    objective.imprint(POINTS, np.array([1, 1, 4, 4]))
    model = HeadTrainer(head, objective)
    assert {id(variable) for variable in model.trainable_variables} == {
        id(variable) for variable in [*head.trainable_variables, objective.proxies]
    }
    model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
    before = [np.array(variable) for variable in model.trainable_variables]
    batch = POINTS, np.array([1, 1, 4, 4], np.int32)
    model.fit(tf.data.Dataset.from_tensors(batch), epochs=1, shuffle=False, verbose=0)
    assert all(np.any(old != np.array(new)) for old, new in zip(before, model.trainable_variables, strict=True))
    assert len(head.variables) == 2


def test_random_draws_of_the_objective_are_among_the_variables() -> None:
    model = trainer(margin=0.2, miner="distance-weighted")
    assert model.objective.seed_generator.state in model.variables
