"""Settings: what does not fit together is refused in one line, and what is saved is what is used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gaussians import small_settings

from facetl.errors import TrainingError
from facetl.samplers import SAMPLERS, ShuffleSampler
from facetl.training.settings import LOSSES, TrainingSettings, preset


def refused(**changes: Any) -> str:
    with pytest.raises(TrainingError) as caught:
        small_settings(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_has_options_of_its_own_or_those_given(loss: str) -> None:
    own = LOSSES[loss]
    settings = preset("balanced", loss=loss)
    assert settings.loss_options == own
    margin, scale = (value and value / 2 for value in own[:2])
    assert preset("tutorial", loss=loss, margin=margin, loss_scale=scale).loss_options[:2] == (margin, scale)


@pytest.mark.parametrize("loss", LOSSES)
def test_settings_survive_json_with_the_options_that_are_used(loss: str) -> None:
    settings = preset("balanced", loss=loss, epochs=3)
    stored = json.loads(json.dumps(settings.to_json()))
    assert (stored["margin"], stored["loss_scale"]) == LOSSES[loss][:2]
    again = TrainingSettings.from_json(stored)
    assert again.loss_options == settings.loss_options
    assert again.to_json() == settings.to_json()


def test_schedules_survive_json() -> None:
    settings = small_settings(temperature=(1.0, 0.3), candidates=(500, 60), uniform_share=(0.0, 0.4))
    again = TrainingSettings.from_json(json.loads(json.dumps(settings.to_json())))
    assert again == TrainingSettings.from_json(settings.to_json())
    assert (again.temperature, again.candidates, again.uniform_share) == ((1.0, 0.3), (500, 60), (0.0, 0.4))


def test_settings_of_a_run_before_there_were_losses_are_read() -> None:
    old = {name: value for name, value in small_settings().to_json().items() if name not in ("loss", "loss_scale")}
    assert TrainingSettings.from_json(old).loss_options.margin == 0.2


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"triplet"}))
def test_a_loss_that_needs_people_in_a_batch_gets_them(loss: str) -> None:
    assert preset("balanced", loss=loss).sampler == preset("tutorial", loss=loss).sampler == "pk"
    for sampler in ("random", "neighbours"):
        message = refused(loss=loss, sampler=sampler)
        assert message.startswith(f"loss: {loss} needs")
        assert f"got the sampler {sampler}" in message
        with pytest.raises(TrainingError, match=f"got the sampler {sampler}"):
            preset("balanced", loss=loss, sampler=sampler)


def test_the_triplet_loss_keeps_the_presets_sampler() -> None:
    assert preset("balanced", loss="triplet").sampler == "neighbours"
    assert preset("tutorial", loss="triplet").sampler == "random"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "best"}, "loss: expected one of triplet, contrastive"),
        ({"mining": "hardest"}, "mining: expected one of batch-hard"),
        ({"sampler": "pk", "loss": "supcon", "margin": 0.3}, "margin: the loss supcon has none, got 0.3"),
        ({"sampler": "pk", "loss": "contrastive", "loss_scale": 3.0}, "loss_scale: the loss contrastive has none"),
        ({"loss_scale": 3.0}, "loss_scale: the loss triplet has none, got 3.0"),
        ({"margin": 0.0}, "margin: expected a number above 0"),
        ({"margin": -1.0}, "margin: expected a number above 0"),
        ({"margin": float("nan")}, "margin: expected a number above 0"),
        ({"sampler": "pk", "loss": "arcface", "margin": 2.0}, "above 0 and below 1.571 for arcface, got 2.0"),
        ({"sampler": "pk", "loss": "circle", "margin": 1.0}, "above 0 and below 1 for circle"),
        ({"sampler": "pk", "loss": "arcface", "loss_scale": -64.0}, "loss_scale: expected a number above 0"),
        ({"temperature": (1.0, 0.0)}, "temperature: expected a number above 0, got 1.0:0.0"),
        ({"temperature": (1.0, 0.5, 0.2)}, "temperature: expected a number or a pair"),
        ({"candidates": ("many", 3)}, "candidates: expected a number or a pair"),
        ({"uniform_share": (0.2, 1.2)}, r"uniform_share: expected a share in [0, 1], got 0.2:1.2"),
        (
            {"sampler": "pairs"},
            "sampler: pairs gives pairs of photos, which the loss contrastive takes, got the loss trip",
        ),
        ({"sampler": "pairs", "loss": "supcon"}, "got the loss supcon. Choose the loss contrastive"),
        ({"sampler": "pairs", "loss": "contrastive", "margin": 2.0}, "above 0 and below 2 for contrastive"),
        ({"most_pairs": 1}, "most_pairs: expected 2 or more, or 0 for all, got 1"),
        ({"most_pairs": -5}, "most_pairs: expected 0 or more, got -5"),
        ({"learning_rate": float("inf")}, "learning_rate: expected a number above 0"),
    ],
)
def test_what_does_not_fit_is_reported(changes: dict[str, Any], said: str) -> None:
    assert said in refused(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"mining": "semi-hard"},
        {"mining": "semi-hard", "sampler": "random"},
        {"mining": "semi-hard", "loss": "supcon"},
        {"temperature": 0.3, "sampler": "random"},
        {"candidates": 30, "sampler": "pk"},
        {"uniform_share": 0.5, "loss": "arcface"},
        {"warmup": 0, "sampler": "random"},
        {"batch_size": 64, "sampler": "pk"},
        {"people_per_batch": 16},
        {"photos_per_person": 3, "sampler": "random"},
        {"most_pairs": 300},
        {"most_pairs": 300, "loss": "contrastive"},
        {"mining": "semi-hard", "sampler": "pairs"},
        {"people_per_batch": 16, "sampler": "pairs"},
    ],
    ids=lambda changes: " ".join(map(str, changes)),
)
def test_a_change_without_effect_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=f"^{next(iter(changes))}: counts only with .*Leave it out"):
        preset("balanced", **changes)


def test_changes_with_effect_are_taken() -> None:
    settings = preset("balanced", temperature=(1.0, 0.3), candidates=50, warmup=None, mining=None, batch_size=9)
    assert (settings.temperature, settings.candidates, settings.batch_size, settings.warmup) == ((1.0, 0.3), 50, 9, 2)
    settings = preset("balanced", sampler="pk", mining="distance-weighted", people_per_batch=9, photos_per_person=3)
    assert (settings.mining, settings.people_per_batch, settings.photos_per_person) == ("distance-weighted", 9, 3)


def test_a_sampler_names_the_settings_that_count_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Weighted(ShuffleSampler):
        effective_settings = ("temperature",)

    changes = {"sampler": "weighted", "loss": "supcon"}
    monkeypatch.setitem(SAMPLERS, "weighted", Weighted)
    assert preset("balanced", **changes, temperature=0.3, batch_size=9).temperature == 0.3
    with pytest.raises(
        TrainingError, match=r"^candidates: counts only with the sampler neighbours, got the sampler we"
    ):
        preset("balanced", **changes, candidates=30)


def test_pairs_bring_their_loss_and_the_loss_takes_either_sampler() -> None:
    settings = preset("balanced", sampler="pairs", most_pairs=1000, batch_size=64, margin=0.8)
    assert (settings.loss, settings.most_pairs, settings.batch_size) == ("contrastive", 1000, 64)
    assert settings.loss_options.margin == 0.8
    assert preset("tutorial", loss="contrastive", sampler="pairs").sampler == "pairs"
    assert TrainingSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_settings_of_a_run_before_there_were_pairs_are_read() -> None:
    old = {
        key: value for key, value in small_settings().to_json().items() if key not in ("most_pairs", "plot_embeddings")
    }
    settings = TrainingSettings.from_json(old)
    assert (settings.most_pairs, settings.plot_embeddings) == (0, False)
