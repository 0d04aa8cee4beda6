"""Fitting a head: it learns, it repeats itself to the bit, it survives interruption, and it says when it collapses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fit_in_child import SETTINGS, fit
from gaussians import gaussian_people, small_settings

from facetl.errors import CacheCorruptError, CollapseError, DataError, FacetlWarning, RunError, TrainingError
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.roc import accuracy_at, auc, best_threshold, squared_distances
from facetl.training.fit import Checkpoint, FittedHead, fit_head
from facetl.training.head import embed
from facetl.training.settings import LOSSES, TrainingSettings

TRAIN = gaussian_people(12, 6, seed=0)
VALIDATION = gaussian_people(8, 6, seed=0, first=50)
TEST = gaussian_people(12, 6, seed=0, first=100)


def fitted_with(settings: TrainingSettings) -> FittedHead:
    return fit_head(*TRAIN, settings, validation=VALIDATION)


def aucs_of_strangers(fitted: FittedHead) -> tuple[float, float]:
    """Return how well the untrained and the trained head tell people apart whom neither has seen."""
    pairs = sample_pairs(TEST[1], seed=9)
    scores = []
    for head in (fitted.untrained, fitted.head):
        embeddings = embed(head, TEST[0])
        scores.append(auc(squared_distances(embeddings[pairs.first], embeddings[pairs.second]), pairs.same))
    return scores[0], scores[1]


def assert_identical(one: FittedHead, other: FittedHead) -> None:
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    assert one.best_epoch == other.best_epoch
    for ours, theirs in zip(one.head.get_weights(), other.head.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def plain() -> FittedHead:
    return fitted_with(small_settings())


@pytest.fixture(scope="module")
def uninterrupted() -> FittedHead:
    return fit()


class TestLearning:
    def test_the_loss_falls_and_people_never_seen_are_told_apart_better(self, plain: FittedHead) -> None:
        assert len(plain.history) == 5
        assert plain.history["loss"].iloc[-1] < 0.5 * plain.history["loss"].iloc[0]
        assert plain.history["active"].iloc[-1] < plain.history["active"].iloc[0]
        untrained, trained = aucs_of_strangers(plain)
        assert trained > untrained + 0.01
        assert plain.seconds > 0

    def test_the_history_has_a_row_per_epoch_and_a_column_per_fact(self, plain: FittedHead) -> None:
        columns = {"epoch", "loss", "active", "learning_rate", "val_auc", "val_accuracy", "spread"}
        assert columns <= set(plain.history.columns)
        assert plain.history["epoch"].tolist() == [1, 2, 3, 4, 5]
        assert np.isfinite(plain.history[sorted(columns)].to_numpy()).all()

    @pytest.mark.parametrize(
        "changes",
        [
            {"sampler": "neighbours"},
            {"sampler": "pk", "mining": "batch-hard"},
            {"sampler": "pk", "mining": "batch-all"},
            {"sampler": "pk", "mining": "semi-hard"},
            {"sampler": "pk", "mining": "distance-weighted"},
            *({"sampler": "pk", "loss": loss} for loss in LOSSES if loss != "triplet"),
            {"sampler": "pairs", "loss": "contrastive"},
            {"sampler": "pairs", "loss": "contrastive", "most_pairs": 600, "margin": 1.4},
            {"sampler": "random", "standardise": "none"},
            {
                "sampler": "neighbours",
                "standardise": "whiten",
                "root": True,
                "softness": 0.4,
                "initialiser": "orthogonal",
            },
        ],
        ids=lambda changes: "-".join(str(value) for value in changes.values()),
    )
    def test_every_way_of_training_learns(self, changes: dict[str, object]) -> None:
        untrained, trained = aucs_of_strangers(fitted_with(small_settings(**changes)))
        assert trained > untrained + 0.01

    def test_dropout_acts_in_training_and_not_after(self, plain: FittedHead) -> None:
        dropped = fitted_with(small_settings(dropout=0.3, input_dropout=0.3))
        assert dropped.history["loss"].tolist() != plain.history["loss"].tolist()
        np.testing.assert_array_equal(embed(dropped.head, TEST[0]), embed(dropped.head, TEST[0]))

    def test_the_untrained_head_has_the_initial_weights_and_the_same_front(self, plain: FittedHead) -> None:
        barely = fitted_with(small_settings(epochs=1, learning_rate=1e-12))
        for ours, theirs in zip(plain.untrained.get_weights(), barely.head.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        changed = [
            not np.allclose(before, after, atol=1e-3)
            for before, after in zip(plain.untrained.get_weights(), plain.head.get_weights(), strict=True)
        ]
        assert any(changed)

    def test_features_may_be_float16(self, plain: FittedHead) -> None:
        half = fit_head(
            TRAIN[0].astype(np.float16),
            TRAIN[1],
            small_settings(),
            validation=(VALIDATION[0].astype(np.float16), VALIDATION[1]),
        )
        np.testing.assert_allclose(half.history["val_auc"], plain.history["val_auc"], atol=0.01)


class TestChoosing:
    @pytest.fixture(scope="class")
    def overshot(self) -> FittedHead:
        return fitted_with(small_settings(standardise="none", learning_rate=1e-2, decay=1.0, epochs=9, patience=3))

    def test_the_weights_are_those_of_the_best_epoch(self, overshot: FittedHead) -> None:
        history = overshot.history
        assert 1 < overshot.best_epoch == int(np.argmax(history["val_auc"])) + 1 < len(history)
        pairs = sample_pairs(VALIDATION[1], seed=3)
        embeddings = embed(overshot.head, VALIDATION[0])
        distances = squared_distances(embeddings[pairs.first], embeddings[pairs.second])
        best = history.iloc[overshot.best_epoch - 1]
        assert auc(distances, pairs.same) == best["val_auc"]
        assert accuracy_at(distances, pairs.same, best_threshold(distances, pairs.same)) == best["val_accuracy"]

    def test_a_head_that_training_only_makes_worse_stays_as_it_began(self, tmp_path: Path) -> None:
        changes = {"learning_rate": 1e-2, "decay": 1.0, "patience": 4, "standardise": "features", "dropout": 0.0}
        changes |= {"input_dropout": 0.0, "sampler": "random", "rounds": 3, "softness": 0.0, "weight_decay": 0.0}
        kept = fit(**changes)
        assert kept.best_epoch == 0
        assert len(kept.history) == 4
        for ours, theirs in zip(kept.head.get_weights(), kept.untrained.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        # That the start is the one to beat outlives an interruption.
        interrupted(tmp_path / "state.npz", 2, **changes)
        assert_identical(fit(tmp_path / "state.npz", resume=True, **changes), kept)

    def test_patience_ends_it(self, overshot: FittedHead) -> None:
        assert len(overshot.history) == overshot.best_epoch + 3 < 9

    def test_validation_people_do_not_reach_the_front_or_the_gradient(self, uninterrupted: FittedHead) -> None:
        strangers, labels = gaussian_people(8, 6, seed=77, first=50)
        other = fit_head(*TRAIN, SETTINGS, validation=(strangers * np.linspace(0.2, 3, 32, dtype=np.float32), labels))
        assert other.history["val_auc"].tolist() != uninterrupted.history["val_auc"].tolist()
        assert other.history["loss"].tolist() == uninterrupted.history["loss"].tolist()
        for ours, theirs in zip(uninterrupted.untrained.get_weights(), other.untrained.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestRepeating:
    def test_one_seed_gives_one_result(self, uninterrupted: FittedHead) -> None:
        assert_identical(fit(), uninterrupted)

    def test_another_seed_gives_another(self, uninterrupted: FittedHead) -> None:
        other = fit(seed=4)
        assert other.history["loss"].tolist() != uninterrupted.history["loss"].tolist()
        assert not np.allclose(other.head.get_weights()[-2], uninterrupted.head.get_weights()[-2], atol=1e-2)


class _Stop(Exception):  # noqa: N818
    pass


def interrupted(checkpoint: Path, epochs: int, **changes: object) -> None:
    def stop(epoch: int, logs: dict[str, float]) -> None:
        if epoch + 1 == epochs:
            raise _Stop

    with pytest.raises(_Stop):
        fit(checkpoint, on_epoch=stop, **changes)


class TestResuming:
    @pytest.mark.parametrize("epochs", [1, 5])
    def test_an_interrupted_training_ends_as_if_it_had_not_been(
        self, epochs: int, uninterrupted: FittedHead, tmp_path: Path
    ) -> None:
        interrupted(tmp_path / "state.npz", epochs)
        trained: list[int] = []
        resumed = fit(tmp_path / "state.npz", resume=True, on_epoch=lambda epoch, logs: trained.append(epoch))
        assert trained == list(range(epochs, 8))
        assert_identical(resumed, uninterrupted)

    @pytest.mark.parametrize(
        "changes",
        [
            {"loss": "arcface"},
            {"loss": "proxy-anchor"},
            {"mining": "distance-weighted"},
            {"loss": "contrastive", "sampler": "pairs"},
        ],
        ids=lambda changes: next(iter(changes.values())),
    )
    def test_with_state_outside_the_head(self, changes: dict[str, object], tmp_path: Path) -> None:
        changes = {"sampler": "pk", **changes}
        whole = fit(**changes)
        assert_identical(fit(**changes), whole)
        interrupted(tmp_path / "state.npz", 2, **changes)
        assert_identical(fit(tmp_path / "state.npz", resume=True, **changes), whole)
        # The proxies are no part of what is handed over.
        assert [weights.shape for weights in whole.head.get_weights()] == [
            weights.shape for weights in whole.untrained.get_weights()
        ]

    def test_with_early_stopping_under_way(self, tmp_path: Path) -> None:
        changes = {"learning_rate": 3e-2, "schedule": "cosine", "patience": 3, "sampler": "pk", "seed": 5}
        whole = fit(**changes)
        assert whole.best_epoch + 3 == len(whole.history) < 8
        interrupted(tmp_path / "state.npz", len(whole.history) - 1, **changes)
        assert_identical(fit(tmp_path / "state.npz", resume=True, **changes), whole)

    @pytest.mark.parametrize("patience", [10, 3])
    def test_after_its_last_epoch_nothing_is_trained_again(self, patience: int, tmp_path: Path) -> None:
        changes = {"learning_rate": 3e-2, "schedule": "cosine", "patience": patience, "sampler": "pk", "seed": 5}
        whole = fit(**changes)
        assert (len(whole.history) < 8) == (patience == 3)
        interrupted(tmp_path / "state.npz", len(whole.history), **changes)
        trained: list[int] = []
        resumed = fit(
            tmp_path / "state.npz", resume=True, on_epoch=lambda epoch, logs: trained.append(epoch), **changes
        )
        assert not trained
        assert_identical(resumed, whole)

    def test_after_sigkill_at_a_random_moment(self, uninterrupted: FittedHead, tmp_path: Path) -> None:
        checkpoint = tmp_path / "state.npz"
        folder = Path(__file__).parents[1] / "support"
        paths = [str(folder), str(folder.parents[1]), os.environ.get("PYTHONPATH", "")]
        child = subprocess.Popen(
            [sys.executable, str(folder / "fit_in_child.py"), str(checkpoint)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"0\n"
            time.sleep(np.random.default_rng().uniform(0, 0.7))
            child.send_signal(signal.SIGKILL)
            told = 1 + len(child.stdout.read().splitlines())
        assert child.wait() == -signal.SIGKILL
        trained: list[int] = []
        resumed = fit(checkpoint, resume=True, on_epoch=lambda epoch, logs: trained.append(epoch))
        # Saved before it is told, so at most one epoch more than was told is not trained again.
        assert trained in (list(range(told, 8)), list(range(told + 1, 8)))
        assert_identical(resumed, uninterrupted)

    def test_without_resume_it_begins_anew(self, uninterrupted: FittedHead, tmp_path: Path) -> None:
        interrupted(tmp_path / "state.npz", 2)
        trained: list[int] = []
        again = fit(tmp_path / "state.npz", on_epoch=lambda epoch, logs: trained.append(epoch))
        assert trained == list(range(8))
        assert_identical(again, uninterrupted)

    def test_a_checkpoint_is_its_owners_alone_and_leaves_nothing_beside_it(self, tmp_path: Path) -> None:
        interrupted(tmp_path / "state.npz", 1)
        assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
        assert (tmp_path / "state.npz").stat().st_mode & 0o777 == 0o600

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        interrupted(tmp_path / "state.npz", 1)
        with pytest.raises(RunError, match=r"others: margin, temperature\.") as caught:
            fit(tmp_path / "state.npz", resume=True, temperature=0.4, margin=0.3)
        assert "without --resume" in str(caught.value)

    def test_other_photos_are_refused(self, tmp_path: Path) -> None:
        interrupted(tmp_path / "state.npz", 1)
        features, labels = TRAIN
        for changed in ((features[1:], labels[1:]), (features, labels[::-1].copy()), (features + 1, labels)):
            with pytest.raises(RunError, match=r"others: data\."):
                fit_head(*changed, SETTINGS, validation=VALIDATION, checkpoint=tmp_path / "state.npz", resume=True)

    @pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
    def test_a_damaged_checkpoint_is_reported(self, damage: str, tmp_path: Path) -> None:
        path = tmp_path / "state.npz"
        weights = [np.arange(600, dtype=np.float32).reshape(30, 20)]
        Checkpoint(2, weights, weights, {"wait": 1}, [{"loss": 0.5}], {"seed": 1}).save(path)
        assert Checkpoint.load(path, settings={"seed": 1}).epochs == 2
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle] ^= 0x10
        path.write_bytes(
            {"cut": content[:middle], "flipped": content, "empty": b"", "text": b"not a checkpoint\n"}[damage]
        )
        with pytest.raises(RunError, match="cannot be read") as caught:
            Checkpoint.load(path, settings={"seed": 1})
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_checkpoint_gives_back_what_it_was_given(self, tmp_path: Path) -> None:
        variables = [np.array([[1.5, -2.0]], np.float32), np.array(7), np.array([3, 4], np.uint32)]
        state = Checkpoint(3, variables, None, {"best": 0.25, "wait": 2}, [{"loss": 0.1}, {"loss": 0.3}], {"a": [1]})
        state.save(tmp_path / "state.npz")
        loaded = Checkpoint.load(tmp_path / "state.npz", settings={"a": [1]})
        assert (loaded.epochs, loaded.best_weights) == (3, None)
        assert (loaded.stopping, loaded.history) == (state.stopping, state.history)
        for ours, theirs in zip(variables, loaded.variables, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


class TestRefusing:
    @staticmethod
    def sigmoid_settings(temperature: float) -> TrainingSettings:
        """A head that begins with everyone close together, and triplets drawn by distance alone."""
        return small_settings(
            sampler="neighbours",
            temperature=temperature,
            learning_rate=1e-2,
            decay=1.0,
            uniform_share=0.0,
            candidates=200,
            warmup=0,
            ramp=0,
            widths=(16, 2),
            activations=("sigmoid", "sigmoid"),
            epochs=16,
            patience=30,
        )

    def test_a_sharp_temperature_collapses_and_is_stopped(self) -> None:
        logs: list[dict[str, float]] = []
        with pytest.raises(CollapseError, match="--temperature") as caught:
            fit_head(
                *gaussian_people(60, 4, seed=0),
                self.sigmoid_settings(0.01),
                validation=VALIDATION,
                on_epoch=lambda epoch, values: logs.append(values),
            )
        assert 1 <= len(logs) < 15
        assert f"epoch {len(logs) + 1}:" in str(caught.value)
        assert logs[-1]["loss"] == pytest.approx(0.2, rel=0.1)
        assert logs[-1]["active"] > 0.95

    def test_a_soft_temperature_does_not(self) -> None:
        history = fit_head(*gaussian_people(60, 4, seed=0), self.sigmoid_settings(1.0), validation=VALIDATION).history
        assert len(history) == 16
        assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]

    def test_a_learning_rate_beyond_all_numbers_is_reported(self) -> None:
        with pytest.raises(CollapseError, match=r"diverged in epoch 1: .*--learning-rate"):
            fitted_with(small_settings(learning_rate=1e30))

    def test_a_late_divergence_keeps_the_best_epoch_before(self) -> None:
        rate = {"schedule": "decay", "learning_rate": 1e-3, "epochs": 12, "patience": 12}
        with pytest.warns(FacetlWarning, match=r"diverged in epoch 4: .* Epoch 1, the best before, is kept\.$"):
            fitted = fitted_with(small_settings(**rate, decay=1e10))
        assert (len(fitted.history), fitted.best_epoch) == (3, 1)
        # Its first epoch is that of a training that goes well.
        well = fitted_with(small_settings(**rate | {"epochs": 1}, decay=1.0))
        np.testing.assert_allclose(embed(fitted.head, TEST[0]), embed(well.head, TEST[0]), atol=1e-6)

    @pytest.mark.parametrize(
        "changes",
        [
            {"sampler": "neighbours", "candidates": 5000, "anchors_per_person": 5000, "batch_size": 10**6},
            {"sampler": "pk", "people_per_batch": 5000, "photos_per_person": 5000},
            {"sampler": "pairs", "loss": "contrastive", "most_pairs": 10**6, "batch_size": 10**6},
        ],
        ids=lambda changes: changes["sampler"],
    )
    def test_more_is_asked_for_than_two_people_have(self, changes: dict[str, Any]) -> None:
        two = gaussian_people(2, 2, seed=0)
        fitted = fit_head(*two, small_settings(epochs=2, **changes), validation=gaussian_people(2, 2, seed=1, first=9))
        assert len(fitted.history) == 2
        assert np.isfinite(fitted.history.to_numpy(float)).all()

    @pytest.mark.parametrize("front", ["none", "discriminant"])
    @pytest.mark.parametrize("side", ["train", "validation"])
    def test_features_that_are_no_numbers_are_refused_before_training(self, side: str, front: str) -> None:
        sides = {"train": TRAIN, "validation": VALIDATION}
        features = sides[side][0].copy()
        features[3, 5] = np.nan
        sides[side] = features, sides[side][1]
        logs: list[dict[str, float]] = []
        with pytest.raises((DataError, TrainingError), match=r"must be finite.*NaN"):
            fit_head(
                *sides["train"],
                small_settings(standardise=front),
                validation=sides["validation"],
                on_epoch=lambda epoch, values: logs.append(values),
            )
        assert not logs

    @pytest.mark.parametrize("sampler", ["random", "pk"])
    def test_a_damaged_cache_met_while_training_is_reported_as_such(self, sampler: str) -> None:
        class Damaged:
            """Rows of which those after the first few are damaged."""

            shape = TRAIN[0].shape
            reads = 0

            def __getitem__(self, rows: Any) -> np.ndarray:
                self.reads += 1
                if self.reads > 3:
                    raise CacheCorruptError("row 7: the bytes changed.")
                return TRAIN[0][rows]

        settings = small_settings(standardise="none", sampler=sampler)
        with pytest.raises(CacheCorruptError, match="row 7: the bytes changed"):
            fit_head(Damaged(), TRAIN[1], settings, validation=VALIDATION)

    def test_too_few_people_to_train_on(self) -> None:
        with pytest.raises(TrainingError, match="at least 2 people"):
            fit_head(TRAIN[0][:5], np.arange(5), small_settings(), validation=VALIDATION)

    def test_too_few_people_to_choose_by(self) -> None:
        with pytest.raises(DataError, match="at least 2 people"):
            fit_head(*TRAIN, small_settings(), validation=(VALIDATION[0][:4], np.zeros(4, int)))
