"""The raw features take the head's place where it is not better: the evidence, the rule, and the head itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from gaussians import gaussian_people, small_settings

from facetl.errors import DataError
from facetl.metrics.baselines import Raw
from facetl.metrics.linalg import Float32s, normalised
from facetl.metrics.pairs import sample_pairs
from facetl.training import model_selection
from facetl.training.fit import fit_head
from facetl.training.head import embed
from facetl.training.model_selection import HeadChoice, choose, gain_over_splits, raw_head

SETTINGS = small_settings(fallback=True)


def face_net(people: int, photos: int, *, first: int = 0, spread: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings that need no head: everyone a direction, photos round about it alike in all directions."""
    rng = np.random.default_rng([7, first])
    labels = np.repeat(np.arange(people), photos)
    features = rng.normal(size=(people, 24))[labels] + spread * rng.normal(size=(len(labels), 24))
    return features.astype(np.float32), labels + first


def in_turn(*values: float) -> Callable[..., float]:
    """Return a function that gives these values, one a call."""
    left = list(values)
    return lambda *_: left.pop(0)


class TestFit:
    def test_embeddings_that_need_no_head_are_kept_as_they_are(self, tmp_path: Path) -> None:
        train, validation = face_net(4, 5), face_net(2, 5, first=50)
        fitted = fit_head(*train, SETTINGS, validation=validation)
        assert fitted.fallback
        assert fitted.choice is not None
        assert len(fitted.history) == 5
        unseen, _ = face_net(9, 3, first=90)
        expected = unseen / np.linalg.norm(unseen, axis=1, keepdims=True)
        np.testing.assert_allclose(embed(fitted.head, unseen), expected, atol=1e-5)
        fitted.head.save(tmp_path / "head.keras")
        np.testing.assert_allclose(embed(keras.models.load_model(tmp_path / "head.keras"), unseen), expected, atol=1e-5)
        assert "the raw features, since no trained head is better" in fitted.choice.sentence
        assert fitted.choice.to_json()["fallback"] is True
        assert fit_head(*train, small_settings(), validation=validation).choice is None

    def test_a_head_that_helps_is_kept(self) -> None:
        train, validation = gaussian_people(30, 5, seed=0), gaussian_people(22, 5, seed=0, first=50)
        trained = fit_head(*train, SETTINGS, validation=validation)
        assert not trained.fallback
        assert trained.choice is not None
        assert (trained.choice.measured_on, trained.choice.people) == ("validation", 22)
        best = trained.history["val_auc"].max()
        assert trained.choice.trained_auc == pytest.approx(best, abs=1e-9)
        other = fit_head(*train, small_settings(), validation=validation)
        for ours, theirs in zip(trained.head.get_weights(), other.head.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestChoose:
    """With the two sides' evidence given."""

    @pytest.mark.parametrize(
        ("gain", "learnt", "stays"),
        [(0.011, 12, False), (0.009, 12, True), (-0.1, 12, True), (0.021, 11, False), (0.019, 11, True)],
    )
    @pytest.mark.parametrize("people", [19, 20])
    def test_better_by_one_standard_error_or_two_where_people_are_few(
        self, gain: float, learnt: int, stays: bool, people: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(model_selection, "gain_over_splits", lambda *_, **__: (gain, 0.01))
        monkeypatch.setattr(model_selection, "auc_gain_stderr", lambda *_: 0.01)
        monkeypatch.setattr(model_selection, "auc", in_turn(0.9 + gain, 0.9))
        choice = self.chosen(people, learnt)
        assert choice.fallback == stays
        assert choice.gain == pytest.approx(gain)
        assert (choice.measured_on, choice.people) == (("validation", 20) if people == 20 else ("splits", 19 + learnt))

    def test_without_evidence_the_raw_features_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model_selection, "gain_over_splits", lambda *_, **__: (None, None))
        choice = self.chosen(3, 20)
        assert choice.fallback
        assert "too few" in choice.sentence

    @staticmethod
    def chosen(people: int, learnt: int) -> HeadChoice:
        features, labels = face_net(learnt, 3)
        held_out, held_out_labels = face_net(people, 3, first=50)
        return choose(
            features,
            labels,
            SETTINGS.whitening_options,
            raw=Raw().fit(features),
            validation=(held_out, held_out_labels),
            trained=normalised(held_out),
            pairs=sample_pairs(held_out_labels, seed=0),
        )


class TestEvidence:
    def test_splits_tell_what_helps_from_what_does_not(self) -> None:
        help_gain, help_error = gain_over_splits(
            gaussian_people(16, 6, seed=0), gaussian_people(5, 6, seed=0, first=50), SETTINGS.whitening_options
        )
        harm_gain, harm_error = gain_over_splits(face_net(4, 5), face_net(2, 5, first=50), SETTINGS.whitening_options)
        assert help_gain is not None
        assert help_error is not None
        assert harm_gain is not None
        assert harm_error is not None
        assert help_gain > help_error > 0
        assert harm_gain < 0 < harm_error

    def test_labels_of_the_two_sides_may_coincide(self) -> None:
        some, others = gaussian_people(8, 4, seed=0), gaussian_people(4, 4, seed=0, first=50)
        same = gain_over_splits(some, (others[0], others[1] - 50), SETTINGS.whitening_options)
        assert same == gain_over_splits(some, others, SETTINGS.whitening_options)

    def test_the_error_is_corrected_for_people_that_splits_share(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values = [0.9, 0.8, 0.7, 0.75] * 4
        monkeypatch.setattr(model_selection, "auc", in_turn(*values))
        gain, error = gain_over_splits(face_net(6, 3), face_net(3, 3, first=50), SETTINGS.whitening_options)
        gains = np.tile([0.1, -0.05], 4)
        assert gain == pytest.approx(gains.mean())
        assert error == pytest.approx(np.sqrt(np.var(gains, ddof=1) * (1 / 8 + 3 / 6)))

    def test_no_pairs_no_evidence(self) -> None:
        features, labels = face_net(5, 1)
        assert gain_over_splits((features, labels), face_net(3, 1, first=50), SETTINGS.whitening_options) == (
            None,
            None,
        )


class TestRawHead:
    def test_it_is_the_raw_baseline(self) -> None:
        features: Float32s = np.random.default_rng(0).uniform(0, 9, (20, 7)).astype(np.float32)
        raw = Raw().fit(features)
        np.testing.assert_allclose(embed(raw_head(raw), features), raw.transform(features), atol=1e-5)
        np.testing.assert_array_equal(embed(raw_head(raw), raw.mean[None]), np.zeros((1, 7)))

    def test_unfitted(self) -> None:
        with pytest.raises(DataError, match="must be fitted"):
            raw_head(Raw())
