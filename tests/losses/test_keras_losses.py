"""Every loss as Keras uses it: saved and loaded, compiled, fitted, on batches that hold nothing to learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import facetl.losses
from facetl.losses import LOSSES, MINERS
from facetl.losses.base import MetricLoss
from facetl.losses.distillation import (
    AngleDistillationLoss,
    CosineDistillationLoss,
    DistanceDistillationLoss,
    EuclideanDistillationLoss,
    SoftTargetLoss,
)
from facetl.losses.miners import AllTriplets, BatchHard, DistanceWeighted, SemiHard
from facetl.losses.proxy import ArcFaceLoss, MetricModel, ProxyLoss
from facetl.losses.registry import register_loss, resolve
from facetl.losses.triplet import TripletLoss
from facetl.samplers import PairSampler, RandomSampler

CENTROIDS = np.array([[0.6, 0.8, 0.0], [0.0, -0.6, 0.8], [1.0, 0.0, 0.0]], np.float32)
NAMED = {name: resolve(spec.source)() for name, spec in LOSSES.items()}
MINED = {
    "batch-hard triplets": TripletLoss(0.3, miner=BatchHard()),
    "semi-hard triplets": TripletLoss(0.3, softness=0.2, miner=SemiHard(positives=3)),
    "distance-weighted triplets": TripletLoss(miner=DistanceWeighted(positives=3, seed=5)),
    "some triplets": TripletLoss(miner=AllTriplets(positives=2)),
    "mined contrastive": resolve(LOSSES["contrastive"].source)(0.7, miner=SemiHard()),
}
DISTILLED = {
    "cosine": CosineDistillationLoss(),
    "l2": EuclideanDistillationLoss(),
    "distances": DistanceDistillationLoss(),
    "angles": AngleDistillationLoss(),
    "soft": SoftTargetLoss(CENTROIDS, temperature=3.0),
}
EVERY: dict[str, keras.losses.Loss] = {**NAMED, **MINED, **DISTILLED}
OF_EMBEDDINGS = [name for name, loss in EVERY.items() if isinstance(loss, MetricLoss)]
OF_PROXIES = [name for name, loss in EVERY.items() if isinstance(loss, ProxyLoss)]


def inputs_of(name: str, *, seed: int = 0, rows: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return what a loss is called with: labels of three classes, or a teacher's embeddings, and embeddings."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(2, rows, 3))
    teacher, embeddings = (unit / np.linalg.norm(unit, axis=2, keepdims=True)).astype(np.float32)
    return (teacher if name in DISTILLED else np.arange(rows) % 3), embeddings


def test_every_loss_of_the_package_is_here() -> None:
    offered = {name for name in facetl.losses.__all__ if name.endswith("Loss")}
    assert offered - {type(loss).__name__ for loss in EVERY.values()} == {"MetricLoss", "PairLoss", "ProxyLoss"}
    for name in facetl.losses.__all__:
        assert getattr(facetl.losses, name) is not None
    assert set(facetl.losses.__all__) == set(dir(facetl.losses))
    with pytest.raises(AttributeError, match="has no attribute 'Loss'"):
        _ = facetl.losses.Loss
    assert [type(resolve(source)()).__name__ for source in MINERS.values()] == [
        "BatchHard",
        "AllTriplets",
        "SemiHard",
        "DistanceWeighted",
    ]


@pytest.mark.parametrize("name", LOSSES)
def test_the_defaults_are_those_of_the_table(name: str) -> None:
    loss, spec = NAMED[name], LOSSES[name]
    assert (getattr(loss, "margin", None), getattr(loss, "scale", None)) == (spec.margin, spec.scale)
    changed = {key: value / 2 for key, value in (("margin", spec.margin), ("scale", spec.scale)) if value is not None}
    target, embeddings = inputs_of(name, seed=3)
    assert float(type(loss)(**changed)(target, embeddings)) != pytest.approx(float(loss(target, embeddings)))


@pytest.mark.parametrize("name", EVERY)
def test_a_loss_is_the_same_after_saving_as_text(name: str) -> None:
    stored = json.dumps(keras.saving.serialize_keras_object(EVERY[name]))
    again = keras.saving.deserialize_keras_object(json.loads(stored))
    assert type(again) is type(EVERY[name])
    assert json.dumps(keras.saving.serialize_keras_object(again)) == stored
    if name != "distance-weighted triplets":
        np.testing.assert_allclose(again(*inputs_of(name)), EVERY[name](*inputs_of(name)), rtol=1e-6)


@pytest.fixture(scope="module")
def compiled_or_not() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return each loss's value and gradient as TensorFlow runs it, and as XLA compiles it."""
    results = []
    for jit_compile in (False, True):

        @tf.function(jit_compile=jit_compile)
        def traced() -> dict[str, Any]:
            values = {}
            for name, loss in EVERY.items():
                target, embeddings = inputs_of(name)
                points = tf.constant(embeddings)
                with tf.GradientTape() as tape:
                    tape.watch(points)
                    value = loss(target, points)
                values[name] = (value, tape.gradient(value, points))
            return values

        results.append(traced())
    return tuple(results)  # type: ignore[return-value]


@pytest.mark.parametrize("name", EVERY)
def test_compiled_by_xla_it_is_the_same(name: str, compiled_or_not: tuple[dict[str, Any], dict[str, Any]]) -> None:
    (plain, gradient), (compiled, its_gradient) = (values[name] for values in compiled_or_not)
    assert np.any(gradient != 0)
    if name != "distance-weighted triplets":  # XLA draws other numbers
        np.testing.assert_allclose(compiled, plain, rtol=1e-5)
        np.testing.assert_allclose(its_gradient, gradient, rtol=1e-4, atol=1e-6)
    assert np.isfinite(its_gradient).all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("batch", ["one class", "singletons", "one point", "one row"])
def test_gradients_are_finite_where_there_is_little_to_learn(name: str, batch: str) -> None:
    target, embeddings = inputs_of(name, rows=1 if batch == "one row" else 9)
    if name not in DISTILLED:
        target = {"one class": np.zeros(9, int), "singletons": np.arange(9)}.get(batch, target)
    if batch == "one point":
        embeddings = np.repeat(embeddings[:1], 9, axis=0)
    if name in OF_PROXIES:
        target = target % 3
    variable = tf.Variable(embeddings)
    with tf.GradientTape() as tape:
        value = EVERY[name](target, variable)
    assert np.isfinite(value)
    gradient = tape.gradient(value, variable, unconnected_gradients="zero")
    assert np.isfinite(gradient).all()
    if batch in ("one class", "singletons", "one row") and name in OF_EMBEDDINGS and "contrastive" not in name:
        assert float(value) == 0.0


def embedder(seed: int = 1) -> keras.Model:
    layers = [keras.Input((5,)), keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed))]
    return keras.Sequential(layers)


def clusters() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    labels = np.tile(np.arange(3), 8)
    return (rng.normal(size=(3, 5))[labels] + 0.8 * rng.normal(size=(24, 5))).astype(np.float32), labels


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
def test_it_fits_a_keras_model(name: str) -> None:
    x, labels = clusters()
    model = embedder()
    model.compile(keras.optimizers.Adam(0.03), loss=EVERY[name], jit_compile=False)
    # A mined loss need not fall: the loss of all triplets does.
    before = float(TripletLoss()(labels, model(x)))
    model.fit(x, labels, batch_size=24, epochs=12, shuffle=False, verbose=0)
    assert float(TripletLoss()(labels, model(x))) < before


@pytest.mark.parametrize(("name", "jit_compile"), [*((name, False) for name in OF_PROXIES), ("arcface", True)])
def test_a_proxy_loss_fits_a_metric_model(name: str, jit_compile: bool) -> None:
    x, labels = clusters()
    model = MetricModel(embedder(), 3, seed=4)
    model.compile(keras.optimizers.Adam(0.05), loss=EVERY[name], metrics=["accuracy"], jit_compile=jit_compile)
    history = model.fit(x, labels, batch_size=10, epochs=8, shuffle=False, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 0.6
    assert model.embedder(x).shape == (24, 3)


def test_a_metric_model_begins_where_it_is_imprinted_and_is_saved(tmp_path: Path) -> None:
    x, labels = clusters()
    model = MetricModel(embedder(), 3, seed=4)
    model.imprint(x, labels)
    unit = keras.utils.normalize(np.array(model.embedder(x)))
    means = np.stack([unit[labels == label].mean(axis=0) for label in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(model.proxies, means, atol=1e-6)
    np.testing.assert_allclose(model(x), unit @ means.T, atol=1e-5)
    model.compile("sgd", loss=ArcFaceLoss(0.3, 8.0))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)
    assert (again.loss.margin, again.loss.scale, again.num_classes) == (0.3, 8.0, 3)
    np.testing.assert_array_equal(MetricModel(embedder(), 3, seed=4)(x), MetricModel(embedder(), 3, seed=4)(x))


def test_labels_may_be_any_numbers_and_a_column() -> None:
    labels, embeddings = inputs_of("triplet")
    expected = float(NAMED["triplet"](labels, embeddings))
    # Neighbours in int64 that are one number in float32.
    assert float(NAMED["triplet"](labels + 2**40, embeddings)) == pytest.approx(expected)
    assert float(NAMED["triplet"](labels[:, None], embeddings)) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"Labels are one number per row.*Received: shape \(9, 3\).*argmax"):
        NAMED["triplet"](np.eye(3)[labels], embeddings)


def test_a_row_weighs_what_its_sample_weight_says() -> None:
    labels, embeddings = inputs_of("supcon")
    rows = np.asarray(type(NAMED["supcon"])(reduction="none")(labels, embeddings))
    weights = np.linspace(0, 2, 9).astype(np.float32)
    assert float(NAMED["supcon"](labels, embeddings, weights)) == pytest.approx(np.mean(rows * weights), rel=1e-5)


def test_a_loss_from_elsewhere_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "spread", LOSSES["triplet"])

    @register_loss("spread", margin_below=3.0)
    class SpreadLoss(MetricLoss):
        def __init__(self, margin: float = 0.25, **options: Any) -> None:
            super().__init__(**options)
            self.margin = margin

    assert LOSSES["spread"] == (0.25, None, 3.0, SpreadLoss)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(SpreadLoss(0.5)))
    assert (type(again), again.margin) == (SpreadLoss, 0.5)


_ON_JAX = """
import json, sys
import jax, keras
import numpy as np
from facetl.losses import ArcFaceLoss, DistanceWeighted, MetricModel, TripletLoss
assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(3)
stored, data, out = sys.argv[1:]
arrays = np.load(data)
losses = {name: keras.saving.deserialize_keras_object(config) for name, config in json.load(open(stored)).items()}
inputs = {name: (arrays[name + ":target"], arrays[name + ":embeddings"]) for name in losses}
drawn = losses.pop("distance-weighted triplets")
every = lambda inputs: {name: loss(*inputs[name]) for name, loss in losses.items()}
results = {name: float(value) for name, value in jax.jit(every)(inputs).items()}
embedder = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
embedder.compile("adam", loss=drawn)
embedder.draws = drawn.miner.seed_generator
before = np.array(drawn.miner.seed_generator.state)
x, labels = arrays["x"], arrays["labels"]
results["drawn"] = embedder.fit(x, labels, batch_size=12, epochs=1, verbose=0).history["loss"]
assert (np.array(drawn.miner.seed_generator.state) != before).any()
model = MetricModel(embedder, 3)
model.compile(keras.optimizers.Adam(0.05), loss=ArcFaceLoss())
results["proxies"] = model.fit(x, labels, batch_size=24, epochs=12, verbose=0).history["loss"]
json.dump(results, open(out, "w"))
"""


def test_every_loss_is_the_same_on_the_jax_backend(tmp_path: Path) -> None:
    arrays = dict(zip(("x", "labels"), clusters(), strict=True))
    for name in EVERY:
        arrays[name + ":target"], arrays[name + ":embeddings"] = inputs_of(name)
    np.savez(tmp_path / "data.npz", **arrays)
    stored = {name: keras.saving.serialize_keras_object(loss) for name, loss in EVERY.items()}
    (tmp_path / "losses.json").write_text(json.dumps(stored))
    command = [sys.executable, "-c", _ON_JAX, *(str(tmp_path / name) for name in ("losses.json", "data.npz", "out"))]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, check=True, env=environment, timeout=200)
    results = json.loads((tmp_path / "out").read_text())
    for name, loss in EVERY.items():
        if name != "distance-weighted triplets":  # JAX draws other numbers
            assert results[name] == pytest.approx(float(loss(*inputs_of(name))), rel=1e-4, abs=1e-6), name
    assert np.isfinite(results["drawn"]).all()
    assert results["proxies"][-1] < results["proxies"][0]


class TestDrawn:
    """Losses that take what a sampler drew instead of labels."""

    ROWS = np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32)

    def squared(self, one: int, other: int) -> float:
        unit = self.ROWS.astype(np.float64) / np.linalg.norm(self.ROWS, axis=1, keepdims=True)
        return float(np.sum((unit[one] - unit[other]) ** 2))

    def test_triplets(self) -> None:
        drawn = np.array([[0, 3, 1], [5, 2, 4], [0, 1, 3], [2, 5, 0]], np.int32)
        expected = [max(0.0, self.squared(a, p) - self.squared(a, n) + 0.3) for a, p, n in drawn]
        loss = facetl.losses.TripletLoss(margin=0.3, miner="batch-hard")
        assert float(loss(drawn, self.ROWS)) == pytest.approx(np.mean(expected), rel=1e-5)
        assert 0 < sum(value == 0 for value in expected) < 4

    def test_pairs(self) -> None:
        drawn = np.array([[0, 3, 1, 0], [5, 2, 0, 1], [1, 4, 0, 1], [2, 0, 1, 0], [4, 3, 0, 1]], np.int32)
        near = [self.squared(a, b) / 2 for a, b, same, _ in drawn if same]
        far = [max(0.0, 1.2 - self.squared(a, b) ** 0.5) ** 2 / 2 for a, b, same, _ in drawn if not same]
        assert 0 < sum(value > 0 for value in far) < 3
        expected = np.mean(near) + np.mean([value for value in far if value])
        assert float(facetl.losses.ContrastiveLoss(margin=1.2)(drawn, self.ROWS)) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("jit", [False, True])
    @pytest.mark.parametrize(
        ("sampler", "loss"), [(RandomSampler, facetl.losses.TripletLoss), (PairSampler, facetl.losses.ContrastiveLoss)]
    )
    def test_in_a_fit(self, sampler: Any, loss: Any, jit: bool) -> None:
        x, labels = clusters()
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(3)])
        model.compile(keras.optimizers.Adam(0.05), loss=loss(), jit_compile=jit)
        drawn = sampler(labels, rounds=3, seed=1)
        history = model.fit(drawn.dataset(x, batch_size=16), epochs=4, shuffle=False, verbose=0).history["loss"]
        assert history[-1] < history[0]

    def test_a_loss_of_labels_says_which_takes_them(self) -> None:
        with pytest.raises(ValueError, match="a sampler of triplets goes with TripletLoss"):
            facetl.losses.MultiSimilarityLoss()(np.zeros((4, 3), np.int32), self.ROWS)
