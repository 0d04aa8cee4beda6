"""The parts of an update on arrays: exemplars, closed form, retention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from facetl.backbones.photo_net import FeatureMap
from facetl.errors import RunError, TrainingError
from facetl.methods.continual.exemplars import Exemplars, herd
from facetl.methods.continual.linear_head import Affine, LinearHead, affine_of, copy_of, front_and_trunk, write_affine
from facetl.methods.continual.memory import Basis, Memory, seen, solve
from facetl.methods.continual.new_people import People, held_back
from facetl.methods.continual.strategies import Consolidation, learn
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.metrics.linalg import normalised
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.roc import auc
from facetl.metrics.verification import pair_distances
from facetl.training.head import build_trunk, embed, join
from facetl.training.region_lda import joined_discriminants
from facetl.training.settings import TrainingSettings
from facetl.training.whitening import Whitening

RNG = np.random.default_rng(7)
SETTINGS = TrainingSettings(
    widths=(12, 6),
    activations=("linear", "linear"),
    normalised=(False, True),
    sampler="random",
    initialiser="orthogonal",
    input_dropout=0.0,
    batch_size=32,
    learning_rate=2e-3,
)


def people(count: int, photos: int, *, seed: int, first: int = 0, dim: int = 10) -> People:
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(count), photos)
    noise = np.where(np.arange(dim) < 3, 3.0, 0.4)
    rows = rng.normal(size=(count, dim))[person] + noise * rng.normal(size=(len(person), dim))
    return People(rows.astype(np.float32), np.array([f"p{first + one:03d}" for one in person]))


DIM = 5 * 5 * 4
LAYOUT = FeatureMap(((5, 4),))
WIDE = replace(SETTINGS, components=12, input_dropout=0.5)
KEPT: dict[str, Any] = {"layout": LAYOUT, "components": 12, "per_person": 3, "seed": SETTINGS.seed}


def linear_head(*, seed: int, activations: tuple[str, str] = ("linear", "linear")) -> keras.Model:
    """A head on DIM features with random numbers everywhere."""
    rng = np.random.default_rng(seed)
    mean, scale, axes = rng.normal(size=DIM), rng.uniform(0.5, 2.0, DIM), rng.normal(size=(DIM, 10)) / 10
    front = Whitening(True, *(part.astype(np.float32) for part in (mean, scale, axes)))
    trunk = build_trunk(10, **replace(SETTINGS, activations=activations).layer_options)
    trunk.set_weights([rng.normal(size=weight.shape) for weight in trunk.get_weights()])
    return join(front.model(DIM), trunk)


def faces(count: int, *, seed: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [4 · count, DIM] in which a person shows through strong noise, and names."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(2, 8, DIM))
    person = np.repeat(np.arange(count), 4)
    own, noise = rng.normal(size=(count, 8))[person], rng.normal(size=(len(person), 8))
    values = 5 + own @ mixing[0] / 4 + noise @ mixing[1] / 2
    return np.square(np.maximum(values, 0)).astype(np.float32), np.array([f"p{first + one:03d}" for one in person])


def memory() -> tuple[Memory, LinearHead]:
    """What is remembered of 60 people, behind the features' own moments, and a head that knows nothing of people."""
    features, names = faces(60, seed=1)
    front = Whitening.fit(
        features, names, **replace(WIDE, standardise="whiten", components=10).whitening_options, layout=LAYOUT
    )
    head = LinearHead.of(join(front.model(DIM), build_trunk(10, **SETTINGS.layer_options)))
    assert head is not None
    others, _ = faces(30, seed=9, first=300)
    kept = Memory.learnt(features, names, others=others, anchor=head, **KEPT)
    return kept, head


class TestExemplars:
    def test_herding_by_hand(self) -> None:
        rows = np.array([[0.0, 4.0], [1.0, 1.0], [5.0, 0.0], [2.0, 1.0]], np.float32)
        # The mean is (2, 1.5): nearest is row 3, (2, 1). With it, (0, 4) gives (1, 2.5), (1, 1) gives (1.5, 1), (5, 0)
        # gives (3.5, .5): row 1. With both, sum (3, 2), row 0 gives (1, 2), row 2 gives (2.67, .67): row 2.
        assert herd(rows, 3).tolist() == [3, 1, 2]
        assert herd(rows, 9).tolist() == [3, 1, 2, 0]

    def test_a_memory_keeps_the_best_first_and_can_shrink(self) -> None:
        rows, raw = RNG.normal(size=(9, 4)).astype(np.float32), RNG.normal(size=(9, 3)).astype(np.float32)
        names = np.array(list("bababbaab"))
        kept = Exemplars.of(rows, raw, names).herded(3)
        assert kept.names.tolist() == ["a"] * 3 + ["b"] * 3
        own = names == "b"
        # float16 lies between the embeddings and their herding.
        order = herd(raw[own].astype(np.float16).astype(np.float32), 3)
        np.testing.assert_array_equal(kept.rows[3:], rows[own][order].astype(np.float16))
        np.testing.assert_array_equal(kept.embeddings[3:], raw[own][order].astype(np.float16))
        few = kept.at_most(1)
        np.testing.assert_array_equal(few.rows, kept.rows[[0, 3]])
        assert few.bytes_per_person == (4 + 3) * 2
        joined = kept.joined(Exemplars(kept.rows[:1] + 1, kept.embeddings[:1], np.array(["a"])))
        assert joined.names.tolist() == ["a"] * 4 + ["b"] * 3
        np.testing.assert_array_equal(joined.at_most(3).rows, kept.rows)
        assert joined.without(["a"]).people == ("b",)

    def test_they_are_stored_and_a_damaged_file_is_reported(self, tmp_path: Path) -> None:
        assert Exemplars.read(tmp_path) is None
        rows, embeddings = (RNG.normal(size=(3, dim)).astype(np.float16) for dim in (4, 2))
        kept = Exemplars(rows, embeddings, np.array(["Zoë", "b", "b"]))
        kept.write(tmp_path)
        assert (tmp_path / "exemplars.npz").stat().st_mode & 0o777 == 0o600
        again = Exemplars.read(tmp_path)
        assert again is not None
        np.testing.assert_array_equal(again.rows, rows)
        np.testing.assert_array_equal(again.embeddings, embeddings)
        assert again.names.tolist() == ["Zoë", "b", "b"]
        content = (tmp_path / "exemplars.npz").read_bytes()
        for damaged in (b"", content[:-40], b"PK" + content[9:]):
            (tmp_path / "exemplars.npz").write_bytes(damaged)
            with pytest.raises(RunError, match="cannot be read"):
                Exemplars.read(tmp_path)
        replace(kept, embeddings=embeddings[:2]).write(tmp_path)
        with pytest.raises(RunError, match="do not belong together"):
            Exemplars.read(tmp_path)


class TestClosedForm:
    def test_a_linear_trunk_is_one_map_and_can_take_another(self) -> None:
        trunk = build_trunk(10, **SETTINGS.layer_options)
        for layer in trunk.layers:
            if layer.weights:
                layer.set_weights([RNG.normal(size=weight.shape) for weight in layer.get_weights()])
        rows = RNG.normal(size=(5, 10)).astype(np.float32)
        affine = affine_of(trunk)
        assert affine is not None
        np.testing.assert_allclose(affine(rows), embed(trunk, rows), atol=1e-5)
        other = Affine(RNG.normal(size=(10, 6)).astype(np.float32), RNG.normal(size=6).astype(np.float32))
        write_affine(trunk, other)
        wanted = rows @ other.kernel + other.bias
        np.testing.assert_allclose(
            embed(trunk, rows), wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"activations": ("tanh", "linear")},
            {"widths": (5, 6)},
            {"widths": (12, 11)},
            {"normalised": (True, True)},
        ],
    )
    def test_other_trunks_are_none(self, changes: dict[str, object]) -> None:
        assert affine_of(build_trunk(10, **replace(SETTINGS, **changes).layer_options)) is None

    def test_a_linear_head_is_one_map_of_standardised_features(self) -> None:
        head, features = linear_head(seed=1), RNG.gamma(2.0, size=(5, DIM)).astype(np.float32)
        read = LinearHead.of(head)
        assert read is not None
        np.testing.assert_allclose(read(features), embed(head, features), atol=1e-5)
        np.testing.assert_allclose(embed(read.model(WIDE), features), embed(head, features), atol=1e-5)

    def test_a_head_that_bends_or_does_not_standardise_is_none(self) -> None:
        assert LinearHead.of(linear_head(seed=1, activations=("tanh", "linear"))) is None
        assert (
            LinearHead.of(join(Whitening(False, None, None, None).model(10), build_trunk(10, **SETTINGS.layer_options)))
            is None
        )

    def test_the_discriminants_are_turned_to_the_old_map(self) -> None:
        some = people(40, 4, seed=1)
        # Of so many columns that their principal components are exact.
        parts = [np.hstack([some.rows, RNG.normal(size=(160, 150)).astype(np.float32)]) for _ in range(3)]
        old = normalised(RNG.normal(size=(len(some.rows), 5)).astype(np.float32))
        found = solve(parts, some.labels, old=old, shrinkage=0.1, seed=0)
        made = np.concatenate(parts, axis=1) @ np.concatenate(found)
        # Its distances are those of the regions' discriminants, joined.
        free, _ = joined_discriminants(parts, some.labels, np.random.default_rng(0), shrinkage=0.1, joined=5)
        plain = np.concatenate(parts, axis=1) @ np.concatenate(free)
        np.testing.assert_allclose(
            normalised(made) @ normalised(made).T, normalised(plain) @ normalised(plain).T, atol=1e-4
        )
        # No other turn agrees with the old embeddings as well.
        agreement = np.sum(normalised(made) * old)
        for seed in range(20):
            other = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
            assert np.sum((normalised(made) @ other) * old) < agreement

    def test_few_photos_leave_directions_empty(self) -> None:
        some = people(2, 2, seed=1)
        found = solve([some.rows], some.labels, old=RNG.normal(size=(4, 8)).astype(np.float32), shrinkage=0.05, seed=0)
        assert found[0].shape == (10, 8)
        assert np.linalg.matrix_rank(found[0], tol=1e-4) <= 3


class TestMemory:
    def test_rows_are_the_regions_components_and_their_maps_are_the_features(self) -> None:
        features, basis = faces(40, seed=3)[0], memory()[0].basis
        rows = basis.rows(features)
        standard = (np.sqrt(features) - basis.moments.mean) / basis.moments.scale
        assert [len(columns) for columns in basis.columns] == [len(own) for one in LAYOUT.regions() for own in one]
        wanted = [standard[:, columns] @ own for columns, own in zip(basis.columns, basis.axes, strict=True)]
        np.testing.assert_allclose(rows, np.concatenate(wanted, axis=1), atol=5e-3)
        parts = basis.parted(rows)
        mappings = [RNG.normal(size=(part.shape[1], 3)).astype(np.float32) for part in parts]
        made = sum(part @ mapping for part, mapping in zip(parts, mappings, strict=True))
        np.testing.assert_allclose(standard @ basis.directions(mappings), made, atol=0.1)

    def test_components_are_white_in_the_photos_they_were_learnt_from(self) -> None:
        kept, _ = memory()
        features, _ = faces(60, seed=1)
        for part in kept.basis.parted(kept.basis.rows(features)):
            np.testing.assert_allclose(part.T @ part / len(part), np.eye(part.shape[1]), atol=0.05)

    def test_exemplars_spread_as_photos_of_others_do(self) -> None:
        kept, anchor = memory()
        others, _ = faces(30, seed=9, first=300)
        squares = np.square(kept.basis.rows(others).astype(np.float32)).sum(axis=0)
        # 120 photos, and 100 that have spread by 1.
        spread = np.sqrt((squares + 100) / 220)
        assert np.abs(spread - 1).max() > 0.05
        features, names = faces(60, seed=1)
        wanted = seen(features, names, basis=kept.basis, anchor=anchor).herded(3)
        assert kept.exemplars.names.tolist() == wanted.names.tolist()
        np.testing.assert_allclose(kept.exemplars.rows, wanted.rows * spread, atol=0.02)

    def test_of_more_photos_than_components_are_learnt_from_all_are_remembered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept, anchor = memory()
        monkeypatch.setattr("facetl.methods.continual.memory.MAX_PHOTOS", 50)
        features, names = faces(60, seed=1)
        fewer = Memory.learnt(features, names, others=faces(30, seed=9, first=300)[0], anchor=anchor, **KEPT)
        assert fewer.exemplars.people == kept.exemplars.people
        assert len(fewer.exemplars) == len(kept.exemplars)

    def test_without_regions_the_whole_is_one(self) -> None:
        features, _ = faces(60, seed=1)
        moments = LinearHead.of(linear_head(seed=2)).moments
        rows = np.concatenate([block for _, block in moments.standardised(features)]).astype(np.float16)
        basis, _ = Basis.learnt(rows, moments=moments, layout=None, components=12, seed=0)
        assert [len(columns) for columns in basis.columns] == [DIM]

    @pytest.mark.parametrize("method", ["replay", "distillation", "replay+distillation"])
    def test_the_closed_form_is_of_those_whom_the_method_sees(self, method: str) -> None:
        kept, anchor = memory()
        features, names = faces(20, seed=5, first=100)
        new = seen(features, names, basis=kept.basis, anchor=anchor)
        update = UpdateSettings(method=method, shrinkage=0.3)
        head = kept.relearnt(new, update, seed=WIDE.seed)
        taken = kept.exemplars.joined(new) if "replay" in method else new
        labels = np.unique(taken.names, return_inverse=True)[1]
        mappings = solve(
            kept.basis.parted(taken.rows),
            labels,
            old=taken.embeddings.astype(np.float32),
            shrinkage=0.3,
            seed=WIDE.seed,
        )
        made = taken.rows.astype(np.float32) @ np.concatenate(mappings)
        assert taken.names[-len(names) :].tolist() == names.tolist()
        np.testing.assert_allclose(head(features), normalised(made)[-len(names) :], atol=0.01)

    def test_it_tells_strangers_apart_better_than_the_old_head(self) -> None:
        kept, anchor = memory()
        features, names = faces(60, seed=6, first=100)
        new = seen(features, names, basis=kept.basis, anchor=anchor)
        head = kept.relearnt(new, UpdateSettings(), seed=WIDE.seed).model(WIDE)
        strangers, of = faces(60, seed=7, first=200)
        pairs = sample_pairs(np.unique(of, return_inverse=True)[1], seed=0)
        before, after = (
            auc(pair_distances(one, pairs), pairs.same) for one in (anchor(strangers), embed(head, strangers))
        )
        assert after > before + 0.05

    def test_it_takes_people_in_and_is_stored(self, tmp_path: Path) -> None:
        assert Memory.read(tmp_path) is None
        kept, anchor = memory()
        features, names = faces(3, seed=8, first=100)
        more = kept.with_people(seen(features, names, basis=kept.basis, anchor=anchor), per_person=2)
        assert more.exemplars.people == (*kept.exemplars.people, "p100", "p101", "p102")
        assert len(more.exemplars) == 2 * len(more.exemplars.people)
        more.write(tmp_path)
        again = Memory.read(tmp_path)
        assert again is not None
        np.testing.assert_allclose(again.basis.rows(features), kept.basis.rows(features), atol=0.02)
        assert (tmp_path / "basis.npz").stat().st_mode & 0o777 == 0o600
        content = (tmp_path / "basis.npz").read_bytes()
        for damaged in (b"", content[:-40], b"PK" + content[9:]):
            (tmp_path / "basis.npz").write_bytes(damaged)
            with pytest.raises(RunError, match="cannot be read"):
                Memory.read(tmp_path)


class TestRetention:
    def test_the_penalty_by_hand(self) -> None:
        layer = keras.layers.Dense(1)
        trunk = keras.Sequential([keras.Input((2,)), layer])
        layer.set_weights([np.array([[1.0], [2.0]]), np.array([3.0])])
        anchors = (np.array([[0.0], [4.0]], np.float32), np.array([2.0], np.float32))
        importances = (np.array([[5.0], [0.5]], np.float32), np.array([2.0], np.float32))
        # ½ (5 · 1 + 0.5 · 4 + 2 · 1)
        assert float(Consolidation(anchors, importances).penalty(trunk)) == pytest.approx(4.5)

    def test_the_fisher_diagonal_is_the_mean_square_of_gradients(self) -> None:
        from facetl.samplers import RandomSampler

        known = people(6, 3, seed=5)
        trunk = build_trunk(10, **SETTINGS.layer_options)
        found = Consolidation.at(trunk, known.rows, known.labels, SETTINGS)
        triplets = RandomSampler(known.labels, anchors_per_person=SETTINGS.anchors_per_person, seed=0).triplets(0)
        squares = np.zeros(trunk.trainable_variables[0].shape)
        batches = [triplets[start : start + 16] for start in range(0, len(triplets), 16)]
        for batch in batches:
            with tf.GradientTape() as tape:
                anchor, positive, negative = (trunk(known.rows[batch[:, place]]) for place in range(3))
                gap = tf.reduce_sum((anchor - positive) ** 2, 1) - tf.reduce_sum((anchor - negative) ** 2, 1) + 0.2
                loss = tf.reduce_mean(0.5 * tf.math.softplus(gap / 0.5))
            squares += tape.gradient(loss, trunk.trainable_variables)[0].numpy() ** 2
        np.testing.assert_allclose(found.importances[0], squares / len(batches), rtol=1e-3, atol=1e-9)
        assert float(found.penalty(trunk)) == 0.0


class TestLearning:
    @pytest.mark.parametrize("method", ["naive", "replay", "ewc", "replay+distillation"])
    def test_every_method_gives_a_trunk_of_its_own(self, method: str) -> None:
        trunk = build_trunk(10, **SETTINGS.layer_options)
        before = [weight.copy() for weight in trunk.get_weights()]
        known, new, chosen = people(12, 4, seed=6), people(8, 4, seed=7, first=50), people(8, 4, seed=8, first=90)
        update = UpdateSettings(method=method, epochs=1)
        learnt, _ = learn(trunk, trunk, new, known, settings=SETTINGS, update=update, validation=chosen)
        for weight, stood in zip(trunk.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, stood)
        norms = np.linalg.norm(embed(learnt, new.rows), axis=1)
        np.testing.assert_allclose(norms, 1.0, atol=1e-5)

    def test_distillation_keeps_a_bent_trunk_nearer_to_the_old_one(self) -> None:
        bent = replace(SETTINGS, activations=("tanh", "linear"))
        trunk = build_trunk(10, **bent.layer_options)
        known, new, chosen = people(12, 4, seed=6), people(8, 4, seed=7, first=50), people(8, 4, seed=8, first=90)
        kept = []
        for weight in (0.0, 100.0):
            update = UpdateSettings(method="replay+distillation", epochs=3, learning_rate=5e-3, distillation=weight)
            learnt, _ = learn(trunk, trunk, new, known, settings=bent, update=update, validation=chosen)
            kept.append(float(np.mean(np.sum(embed(learnt, known.rows) * embed(trunk, known.rows), axis=1))))
        assert kept[1] > kept[0]

    @pytest.mark.parametrize(
        "wrong", [{"method": "magic"}, {"method": "replay+replay"}, {"memory": 0}, {"shrinkage": 1.5}, {"epochs": 0}]
    )
    def test_settings_that_make_no_sense_are_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(TrainingError):
            UpdateSettings(**wrong)


class TestParts:
    def test_a_head_taken_apart_is_the_same_head(self) -> None:
        inputs = keras.Input((10,), name="features")
        front = keras.Model(inputs, keras.layers.Dense(8, use_bias=False, name="whiten")(inputs), name="front")
        front.trainable = False
        head = join(front, build_trunk(8, **SETTINGS.layer_options))
        one, other = front_and_trunk(head)
        rows = RNG.normal(size=(4, 10)).astype(np.float32)
        np.testing.assert_allclose(embed(other, embed(one, rows)), embed(head, rows), atol=1e-6)
        twin = copy_of(other)
        twin.set_weights([0 * weight for weight in twin.get_weights()])
        assert np.abs(other.get_weights()[0]).max() > 0


def test_photos_held_back_leave_two_to_learn_from() -> None:
    names = np.repeat([f"p{number:02d}" for number in range(40)], np.arange(40) % 8 + 1)
    held = held_back(names, seed=2, most=1)
    for name in set(names):
        own = held[name == names]
        assert own.sum() == (1 if len(own) >= 3 else 0)
