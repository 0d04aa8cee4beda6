"""What happens between epochs, each callback by itself, by hand."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from gaussians import gaussian_people, small_settings

from facetl.errors import CollapseError, TrainingError
from facetl.metrics.linalg import normalised
from facetl.metrics.pairs import Pairs, sample_pairs
from facetl.samplers import NeighbourSampler, RandomSampler
from facetl.training.callbacks import (
    CollapseGuard,
    EarlyStopping,
    RefreshNeighbours,
    VerifyPairs,
    learning_rates,
    remedies,
    spread,
)
from facetl.training.fit import fit_head

# Unit vectors; squared distances 01 0.4, 12 0.8, 03 3.2, 13 2.0, 04 4.0.
POINTS = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8], [-1.0, 0.0]], np.float32)
LABELS = np.array([0, 0, 0, 0, 1])
PAIRS = Pairs(np.array([0, 1, 0, 1, 0]), np.array([1, 2, 3, 3, 4]), np.array([True, True, True, False, False]))


def unit_head() -> keras.Model:
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.UnitNormalization()(inputs))


def test_spread_by_hand() -> None:
    # The mean is (0.04, 0.48).
    assert spread(POINTS) == pytest.approx(1 - 0.04**2 - 0.48**2, abs=1e-6)
    assert spread(np.repeat(POINTS[1:2], 5, axis=0)) == pytest.approx(0, abs=1e-6)
    assert spread(np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)) == 1.0


def test_validate_logs_what_the_pairs_say() -> None:
    validate = VerifyPairs((POINTS * np.array([[3], [1], [7], [2], [0.5]], np.float32), LABELS), pairs=PAIRS)
    validate.set_model(SimpleNamespace(embedder=unit_head()))
    logs: dict[str, Any] = {"loss": 0.1}
    validate.on_epoch_end(0, logs)
    np.testing.assert_allclose(validate.distances, [0.4, 0.8, 3.2, 2.0, 4.0], atol=1e-5)
    # Of the 3 × 2 comparisons one is wrong, 3.2 against 2.0; any threshold misjudges one pair of five.
    assert logs["val_auc"] == pytest.approx(5 / 6)
    assert logs["val_accuracy"] == pytest.approx(4 / 5)
    assert logs["spread"] == pytest.approx(0.768, abs=1e-5)
    assert logs["loss"] == 0.1


def guarded(epochs: list[tuple[float, float, float]], *, collapsed_loss: float | None = 0.2) -> int:
    """Return how many epochs of (loss, active, spread) pass before the guard stops; all of them if it does not."""
    guard = CollapseGuard(collapsed_loss=collapsed_loss, remedies="Try less.")
    for epoch, (loss, active, spread_) in enumerate(epochs):
        try:
            guard.on_epoch_end(epoch, {"loss": loss, "active": active, "spread": spread_})
        except CollapseError:
            return epoch
    return len(epochs)


class TestCollapseGuard:
    def test_an_ordinary_fit_needs_no_more_than_the_spread(self) -> None:
        guard = CollapseGuard()
        guard.on_epoch_end(0, {"loss": 0.4, "spread": 0.5})
        with pytest.raises(CollapseError, match=r"loss 0\.300, spread of the embeddings 0\.010\. Try a lower learning"):
            guard.on_epoch_end(1, {"loss": 0.3, "spread": 0.01})
        with pytest.raises(TrainingError, match="Put VerifyPairs before it"):
            guard.on_epoch_end(2, {"loss": 0.3})

    def test_everyone_falls_to_one_point(self) -> None:
        assert guarded([(0.1, 0.5, 0.6), (0.1, 0.5, 0.019)]) == 1
        assert guarded([(0.1, 0.5, 0.6)] + [(0.1, 0.5, 0.021)] * 5) == 6

    def test_a_head_that_starts_at_one_point_and_leaves_it_goes_on(self) -> None:
        growing = [(0.2, 1.0, 0.0001 * 1.3**epoch) for epoch in range(20)]
        assert guarded(growing) == 20
        assert guarded([(0.2, 1.0, 0.0001)] * 6) == 4

    def test_the_error_is_one_line_that_says_what_to_try(self) -> None:
        remedy = remedies(small_settings(sampler="neighbours"))
        guard = CollapseGuard(
            collapsed_loss=0.2, remedies=remedy, history=[{"loss": 0.1, "active": 0.4, "spread": 0.5}]
        )
        with pytest.raises(
            CollapseError, match=r"epoch 5: loss 0\.123 .collapsed: 0\.200., 40% .* spread .* 0\.010.*--temperature"
        ) as caught:
            guard.on_epoch_end(4, {"loss": 0.123, "active": 0.4, "spread": 0.01})
        assert "\n" not in str(caught.value)

    def test_a_loss_that_hovers_at_the_margin_for_five_epochs(self) -> None:
        assert guarded([(0.201, 1.0, 0.5)] * 5) == 4
        assert guarded([(0.193, 1.0, 0.5), (0.216, 1.0, 0.5)] * 3) == 4
        assert guarded([(0.199, 0.99, 0.5)] * 3 + [(0.1, 0.8, 0.5)] + [(0.199, 0.99, 0.5)] * 4) == 8

    def test_without_a_loss_that_tells_only_a_lost_spread_counts(self) -> None:
        assert guarded([(0.2, 1.0, 0.5)] * 9, collapsed_loss=None) == 9
        assert guarded([(7.0, 0.9, 0.5), (7.0, 0.9, 0.01)], collapsed_loss=None) == 1
        guard = CollapseGuard(
            collapsed_loss=None, remedies="Try less.", history=[{"loss": 7, "active": 0.4, "spread": 0.5}]
        )
        with pytest.raises(CollapseError, match=r"epoch 2: loss 7\.000, 90% of triplets active.*Try less\.$"):
            guard.on_epoch_end(1, {"loss": 7.0, "active": 0.9, "spread": 0.001})

    @pytest.mark.parametrize(
        "healthy",
        [
            (0.2, 0.7, 0.5),  # at the margin by chance: many triplets are solved
            (0.25, 1.0, 0.5),  # hard triplets, wrong way round, but not at one point
            (0.0, 0.0, 0.9),  # all solved
            (0.15, 1.0, 0.5),
        ],
    )
    def test_healthy_logs_pass(self, healthy: tuple[float, float, float]) -> None:
        assert guarded([healthy] * 8) == 8


def test_a_resumed_guard_counts_the_epochs_before() -> None:
    stuck = {"loss": 0.2, "active": 1.0, "spread": 0.5}
    guard = CollapseGuard(
        collapsed_loss=0.2, remedies="Try less.", history=[{**stuck, "loss": 0.1}, stuck, stuck, stuck, stuck]
    )
    with pytest.raises(CollapseError, match="epoch 6"):
        guard.on_epoch_end(5, stuck)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"sampler": "neighbours"}, {"--temperature", "--candidates", "--uniform-share", "--warmup"}),
        ({"sampler": "random"}, {"--margin"}),
        ({"sampler": "pk"}, {"--mining"}),
        ({"sampler": "pk", "loss": "contrastive"}, {"--margin"}),
        ({"sampler": "pk", "loss": "arcface"}, {"--loss-scale"}),
    ],
)
def test_remedies_name_options_that_have_a_say(changes: dict[str, str], options: set[str]) -> None:
    sentence = remedies(small_settings(**changes))
    assert set(re.findall(r"--[a-z-]+", sentence)) == options | {"--learning-rate"}


def test_embeddings_that_are_no_numbers_end_the_training() -> None:
    validate = VerifyPairs((np.where(np.arange(5)[:, None] == 3, np.nan, POINTS), LABELS), pairs=PAIRS)
    validate.set_model(SimpleNamespace(embedder=unit_head()))
    with pytest.raises(CollapseError, match=r"diverged in epoch 3: .*--learning-rate"):
        validate.on_epoch_end(2, {"loss": math.nan})


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(loss: float) -> None:
    validate = VerifyPairs((POINTS, LABELS), pairs=PAIRS)
    validate.set_model(SimpleNamespace(embedder=unit_head()))
    with pytest.raises(CollapseError, match=rf"diverged in epoch 3: the loss is {loss}\. Try a lower --learning-rate"):
        validate.on_epoch_end(2, {"loss": loss})


class Recorded:
    """A model that remembers one weight an epoch."""

    def __init__(self) -> None:
        self.weights = [np.zeros(1)]
        self.stop_training = False

    def get_weights(self) -> list[np.ndarray]:
        return [weight.copy() for weight in self.weights]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = [weight.copy() for weight in weights]


def stopped_at(aucs: list[float], *, cut: int) -> tuple[int, int, float]:
    """Run early stopping, cut in two with its memory carried over; return last epoch, best epoch, kept weight."""
    memory: dict[str, Any] | None = None
    model = Recorded()
    for start, stop in ((0, cut), (cut, len(aucs))):
        stopping = EarlyStopping(patience=3, memory=memory)
        stopping.set_model(model)
        stopping.on_train_begin()
        for epoch in range(start, stop):
            model.weights = [np.full(1, 10.0 * epoch)]
            stopping.on_epoch_end(epoch, {"val_auc": aucs[epoch]})
            if model.stop_training:
                break
        memory = stopping.memory()
    assert stopping.exhausted == model.stop_training
    stopping.on_train_end()
    return epoch, stopping.best_epoch, float(model.weights[0][0])


@pytest.mark.parametrize("cut", range(6))
def test_early_stopping_goes_on_from_its_memory(cut: int) -> None:
    # The best is epoch 2; epochs 3, 4 and 5 are no better, and epoch 6 is never seen.
    assert stopped_at([0.7, 0.6, 0.9, 0.9, 0.8, 0.85, 0.99, 0.99], cut=cut) == (5, 2, 20.0)


def test_early_stopping_lets_progress_go_on() -> None:
    assert stopped_at([0.5, 0.4, 0.6, 0.5, 0.5, 0.7], cut=4) == (5, 5, 50.0)


def test_a_patience_of_none_is_not_exhausted_by_a_better_epoch() -> None:
    stopping = EarlyStopping(patience=0)
    stopping.set_model(Recorded())
    stopping.on_train_begin()
    stopping.on_epoch_end(0, {"val_auc": 0.6})
    stopping.on_epoch_end(1, {"val_auc": 0.7})
    assert not stopping.exhausted
    stopping.on_epoch_end(2, {"val_auc": 0.65})
    assert stopping.exhausted
    assert stopping.model.stop_training


def test_an_ordinary_fit_draws_by_the_embeddings_of_its_model() -> None:
    class Noted(NeighbourSampler):
        drawn: ClassVar[list[tuple[int, np.ndarray | None]]] = []

        def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
            self.drawn.append((epoch, embeddings))
            return super().triplets(epoch, embeddings)

    class Triplets(keras.losses.Loss):
        def call(self, triplets: Any, embeddings: Any) -> Any:
            anchor, positive, negative = (
                keras.ops.take(embeddings, keras.ops.cast(triplets[:, place], "int32"), axis=0) for place in range(3)
            )
            near = keras.ops.sum(keras.ops.square(anchor - positive), axis=1)
            return keras.ops.relu(near - keras.ops.sum(keras.ops.square(anchor - negative), axis=1) + 0.2)

    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    features[:, 0] += np.repeat(np.arange(10), 6)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), keras.layers.UnitNormalization()])
    sampler = Noted(np.repeat(np.arange(10), 6), warmup=1, ramp=1, seed=1)
    model.compile(keras.optimizers.Adam(0.02), loss=Triplets())
    random = RandomSampler(sampler.labels, rounds=5, seed=2)
    before = model.evaluate(random.dataset(features), verbose=0)
    first = np.asarray(model(features))
    dataset = sampler.dataset(features, batch_size=16)
    model.fit(dataset, epochs=8, callbacks=[RefreshNeighbours(sampler)], shuffle=False, verbose=0)
    assert model.evaluate(random.dataset(features), verbose=0) < 0.75 * before
    assert [epoch for epoch, _ in sampler.drawn] == list(range(8))
    assert sampler.drawn[0][1] is None
    assert not np.allclose(sampler.drawn[1][1], first, atol=0.01)
    model.fit(dataset, epochs=2, initial_epoch=1, callbacks=[RefreshNeighbours(sampler)], shuffle=False, verbose=0)
    assert sampler.drawn[8][0] == 1


def test_pairs_are_verified_in_an_ordinary_fit_and_end_it() -> None:
    features, labels = gaussian_people(8, 4, seed=1)
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(3)])  # of any length: they are normalised
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    verify = VerifyPairs(SimpleNamespace(features=features, labels=np.array(list("abcdefgh"))[labels]), seed=4)
    stopping = keras.callbacks.EarlyStopping("val_auc", mode="max", patience=2)
    fitted = model.fit(features, np.zeros((32, 3)), epochs=9, callbacks=[verify, stopping], verbose=0)
    assert fitted.history["val_auc"] == [verify.auc_of(model)] * 3
    unit = normalised(np.asarray(model(features)))
    pairs = sample_pairs(labels, seed=4)
    np.testing.assert_allclose(
        verify.distances, np.sum((unit[pairs.first] - unit[pairs.second]) ** 2, axis=1), atol=1e-5
    )


def test_decay_multiplies_once_an_epoch_and_never_resets() -> None:
    settings = small_settings(schedule="decay", learning_rate=1e-4, decay=0.999, epochs=25)
    rates = [learning_rates(settings)(epoch) for epoch in range(25)]
    expected, rate = [], 1e-4
    for _ in range(25):
        expected.append(rate)
        rate *= 0.999
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_cosine_begins_at_the_rate_halves_in_the_middle_and_ends_near_nothing() -> None:
    settings = small_settings(schedule="cosine", learning_rate=8e-3, epochs=10)
    assert learning_rates(settings)(0) == 8e-3
    assert learning_rates(settings)(5) == pytest.approx(4e-3)
    assert learning_rates(settings)(9) == pytest.approx(8e-3 * math.sin(math.pi / 20) ** 2)
    assert learning_rates(settings)(10) == pytest.approx(0.0, abs=1e-18)


@pytest.mark.parametrize("schedule", ["decay", "cosine"])
def test_the_optimiser_holds_the_rate_of_the_epoch(schedule: str) -> None:
    settings = small_settings(schedule=schedule, learning_rate=4e-3, decay=0.5, epochs=4, rounds=1)
    fitted = fit_head(*gaussian_people(8, 3, seed=0), settings, validation=gaussian_people(4, 3, seed=0, first=8))
    stated = {
        "decay": [4e-3, 2e-3, 1e-3, 5e-4],
        "cosine": [4e-3, 2e-3 * (1 + math.sqrt(0.5)), 2e-3, 2e-3 * (1 - math.sqrt(0.5))],
    }
    np.testing.assert_allclose(fitted.history["learning_rate"], stated[schedule], rtol=1e-6)


_ON_JAX = """
import keras, numpy as np
from facetl.losses import TripletLoss
from facetl.samplers import NeighbourSampler
from facetl.training.callbacks import RefreshNeighbours, VerifyPairs
assert keras.backend.backend() == "jax"
labels = np.repeat(np.arange(10), 6)
x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
x[:, 0] += labels
seen = []

class Noted(NeighbourSampler):
    def triplets(self, epoch, embeddings=None):
        seen.append((epoch, embeddings))
        return super().triplets(epoch, embeddings)

sampler = Noted(labels, warmup=1, ramp=1, seed=1)
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
model.compile(keras.optimizers.Adam(0.02), loss=TripletLoss())
callbacks = [RefreshNeighbours(sampler), VerifyPairs((x, labels))]
model.fit(sampler.dataset(x, batch_size=10), epochs=3, callbacks=callbacks, shuffle=False, verbose=0)
# Keras looks at a first batch before it begins.
assert [epoch for epoch, _ in seen] == [0, 0, 1, 2], seen
assert seen[1][1] is None and np.abs(seen[2][1] - seen[3][1]).max() > 1e-3
"""


def test_neighbours_follow_the_model_on_the_jax_backend() -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", _ON_JAX], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
