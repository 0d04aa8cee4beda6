"""The head: its layers, its seeds, and that it comes back from disk as it went."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from gaussians import gaussian_people, small_settings

from facetl.errors import TrainingError
from facetl.training import head as head_module
from facetl.training.head import build_head, build_trunk, embed, join
from facetl.training.settings import preset
from facetl.training.whitening import Whitening


@pytest.fixture(scope="module")
def people() -> tuple[np.ndarray, np.ndarray]:
    return gaussian_people(10, 5, seed=1)


def described(layer: keras.Layer) -> tuple[object, ...]:
    if isinstance(layer, keras.layers.Dense):
        return "dense", layer.units, keras.activations.serialize(layer.activation), layer.use_bias
    return (type(layer).__name__,)


def test_the_tutorial_preset_layer_by_layer() -> None:
    settings = preset("tutorial")
    untouched = Whitening.fit(np.ones((4, 2048), np.float32), np.array([0, 0, 1, 1]), **settings.whitening_options)
    layers = build_head(untouched, input_dim=2048, **settings.layer_options).layers
    assert [described(layer) for layer in layers] == [
        ("InputLayer",),
        ("dense", 512, "sigmoid", True),
        ("dense", 256, "sigmoid", True),
        ("UnitNormalization",),
        ("dense", 128, "tanh", True),
        ("UnitNormalization",),
    ]
    assert layers[0].batch_shape == (None, 2048)
    assert all(isinstance(layers[at].kernel_initializer, keras.initializers.GlorotUniform) for at in (1, 2, 4))


def test_how_the_tutorial_preset_trains() -> None:
    settings = preset("tutorial")
    assert (settings.loss, settings.loss_options.margin) == ("triplet", 0.2)
    assert (settings.softness, settings.sampler) == (0.0, "random")
    assert (settings.learning_rate, settings.schedule, settings.decay) == (1e-4, "decay", 0.999)
    assert (settings.weight_decay, settings.dropout, settings.input_dropout) == (0.0, 0.0, 0.0)
    assert (settings.root, settings.standardise) == (False, "none")


def test_the_tutorial_trunk_agrees_with_numpy() -> None:
    trunk = build_trunk(7, **preset("tutorial", seed=2).layer_options)
    rng = np.random.default_rng(3)
    for variable in trunk.trainable_variables:
        variable.assign(rng.normal(scale=0.3, size=variable.shape))
    rows = rng.normal(size=(5, 7)).astype(np.float32)
    w0, b0, w1, b1, w2, b2 = (np.asarray(variable, np.float64) for variable in trunk.trainable_variables)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.sum(x * x, axis=1, keepdims=True))

    expected = unit(np.tanh(unit(sigmoid(sigmoid(rows @ w0 + b0) @ w1 + b1)) @ w2 + b2))
    np.testing.assert_allclose(trunk(rows), expected, atol=1e-5)


def test_the_settings_reach_the_layers() -> None:
    trunk = build_trunk(
        9,
        **small_settings(
            widths=(12, 6, 5),
            activations=("relu", "tanh", "linear"),
            normalised=(True, False, True),
            dropout=0.25,
            input_dropout=0.4,
            initialiser="orthogonal",
        ).layer_options,
    )
    kinds = [type(layer).__name__ for layer in trunk.layers[1:]]
    assert kinds == [
        "Dropout",
        "Dense",
        "UnitNormalization",
        "Dropout",
        "Dense",
        "Dropout",
        "Dense",
        "UnitNormalization",
    ]
    assert [layer.rate for layer in trunk.layers if isinstance(layer, keras.layers.Dropout)] == [0.4, 0.25, 0.25]
    kernel = np.asarray(trunk.get_layer("dense_1").kernel)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-5)


@pytest.mark.parametrize("initialiser", ["glorot", "orthogonal"])
def test_initial_weights_follow_the_seed(initialiser: str) -> None:
    global_seeds = iter(range(3))

    def kernels(seed: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(next(global_seeds))  # must not matter
        trunk = build_trunk(16, **small_settings(widths=(16, 16), initialiser=initialiser, seed=seed).layer_options)
        return [np.asarray(trunk.get_layer(f"dense_{at}").kernel) for at in range(2)]

    first, again, other = kernels(4), kernels(4), kernels(5)
    for at in range(2):
        np.testing.assert_array_equal(first[at], again[at])
        assert not np.allclose(first[at], other[at])
    assert not np.allclose(first[0], first[1])


def test_an_identity_head_begins_as_the_first_inputs_themselves() -> None:
    trunk = build_trunk(9, **small_settings(widths=(12, 5), initialiser="identity").layer_options)
    rows = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    first = rows[:, :5]
    np.testing.assert_allclose(trunk(rows), first / np.linalg.norm(first, axis=1, keepdims=True), rtol=1e-5)


def test_join_is_the_trunk_behind_the_front_with_shared_layers(people: tuple[np.ndarray, np.ndarray]) -> None:
    settings = small_settings(root=True, standardise="within", components=6)
    front = Whitening.fit(*people, **settings.whitening_options).model(32)
    trunk = build_trunk(6, **settings.layer_options)
    head = join(front, trunk)
    np.testing.assert_allclose(head(people[0]), trunk(front(people[0])), atol=1e-6)
    before = np.asarray(head(people[0]))
    trunk.get_layer("dense_0").kernel.assign(-2 * np.asarray(trunk.get_layer("dense_0").kernel) + 0.1)
    assert not np.allclose(head(people[0]), before, atol=1e-3)
    np.testing.assert_allclose(head(people[0]), trunk(front(people[0])), atol=1e-6)


@pytest.mark.parametrize("standardise", ["none", "features", "whiten", "within"])
def test_embeddings_are_unit_vectors_and_only_the_trunk_trains(
    people: tuple[np.ndarray, np.ndarray], standardise: str
) -> None:
    settings = small_settings(root=standardise != "none", standardise=standardise, components=6)
    head = build_head(Whitening.fit(*people, **settings.whitening_options), input_dim=32, **settings.layer_options)
    embeddings = np.asarray(head(people[0]))
    assert embeddings.shape == (50, 16)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert np.std(embeddings, axis=0).min() > 0.01
    assert len(head.trainable_variables) == 4


@pytest.mark.parametrize("standardise", ["features", "within"])
def test_a_saved_head_comes_back_the_same(
    people: tuple[np.ndarray, np.ndarray], standardise: str, tmp_path: Path
) -> None:
    settings = small_settings(root=True, standardise=standardise, components=6, dropout=0.2, input_dropout=0.5)
    head = build_head(Whitening.fit(*people, **settings.whitening_options), input_dim=32, **settings.layer_options)
    head.save(tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(people[0]), head(people[0]))
    assert loaded.input_shape == (None, 32)


def test_embed_crosses_blocks_and_drops_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "_BLOCK", 7)
    features, labels = gaussian_people(10, 2, seed=2)
    settings = small_settings(dropout=0.5, input_dropout=0.5)
    head = build_head(
        Whitening.fit(features, labels, **settings.whitening_options), input_dim=32, **settings.layer_options
    )
    embeddings = embed(head, features.astype(np.float16))
    assert (embeddings.shape, embeddings.dtype) == ((20, 16), np.float32)
    np.testing.assert_allclose(embeddings, head(features.astype(np.float16).astype(np.float32)), atol=1e-5)


def test_a_head_of_ones_own_widths_on_features_of_ones_own() -> None:
    features, labels = gaussian_people(12, 5, seed=4)
    names = np.array(list("abcdefghijkl"))[labels]
    head = build_head(Whitening.fit(features, names, components=20), widths=(9, 4), dropout=0.2, seed=3)
    assert [layer.units for layer in head.layers if isinstance(layer, keras.layers.Dense)] == [20, 9, 4]
    embeddings = np.asarray(head(features))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    # It begins as the leading discriminants themselves.
    leading = np.asarray(Whitening.fit(features, labels, components=20).reduce(features))[:, :4]
    np.testing.assert_allclose(embeddings, leading / np.linalg.norm(leading, axis=1, keepdims=True), atol=1e-4)
    assert build_head(widths=(3,), input_dim=7, activations="tanh").input_shape == (None, 7)


def test_a_head_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(TrainingError, match="input_dim: expected the length of the features"):
        build_head(widths=(3,))
    with pytest.raises(TrainingError, match=r"widths \(4, 3\), activations \('tanh',\)"):
        build_head(widths=(4, 3), input_dim=5, activations=("tanh",))
    with pytest.raises(TrainingError, match="the last layer normalised"):
        build_head(widths=(4,), input_dim=5, normalised=(False,))
    with pytest.raises(TrainingError, match="initialiser: expected glorot, orthogonal or identity, got 'zeros'"):
        build_head(widths=(4,), input_dim=5, initialiser="zeros")
