"""What a step minimises, by settings: the right loss with the right options, and the state that it keeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gaussians import small_settings

from facetl.training import losses, pair_losses, proxy_losses
from facetl.training.objectives import BatchObjective, PairObjective, ProxyObjective, TripletObjective, make_objective
from facetl.training.settings import LOSSES

# Squared distances by hand: 01 0.8, 02 2, 03 4, 12 0.4, 13 3.2, 23 2.
POINTS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], np.float32)
LABELS = np.array([8, 8, 3, 3], np.int32)
# Whom the training knows: person 5 has one photo only.
PEOPLE = np.array([3, 8, 5, 3, 6, 8, 6])

EXPECTED: dict[str, Any] = {
    "contrastive": lambda margin, scale: pair_losses.contrastive_loss(POINTS, LABELS, margin=margin),
    "n-pair": lambda margin, scale: pair_losses.n_pair_loss(POINTS, LABELS, scale=scale),
    "multi-similarity": lambda margin, scale: pair_losses.multi_similarity_loss(
        POINTS, LABELS, margin=margin, scale=scale
    ),
    "supcon": lambda margin, scale: pair_losses.supervised_contrastive_loss(POINTS, LABELS, scale=scale),
    "circle": lambda margin, scale: pair_losses.circle_loss(POINTS, LABELS, margin=margin, scale=scale),
}
PROXY_LOSSES = {
    "arcface": proxy_losses.arcface_loss,
    "cosface": proxy_losses.cosface_loss,
    "softmax": proxy_losses.softmax_loss,
    "proxy-anchor": proxy_losses.proxy_anchor_loss,
}


def test_every_loss_is_tested_here() -> None:
    assert {"triplet", *EXPECTED, *PROXY_LOSSES} == set(LOSSES)


@pytest.mark.parametrize("loss", EXPECTED)
@pytest.mark.parametrize("given", [False, True], ids=["its own options", "given options"])
def test_a_pair_loss_has_its_options_and_counts_hardest_triplets(loss: str, given: bool) -> None:
    own = LOSSES[loss]
    changes = {"margin": own.margin and own.margin / 2, "loss_scale": own.scale and own.scale / 3} if given else {}
    objective = make_objective(small_settings(loss=loss, sampler="pk", **changes), PEOPLE, width=2)
    assert isinstance(objective, BatchObjective)
    assert objective.proxies is objective.unsolved is None
    measured = objective(POINTS, {"labels": LABELS})
    expected = EXPECTED[loss](changes.get("margin", own.margin), changes.get("loss_scale", own.scale))
    assert float(measured.loss) == pytest.approx(float(np.mean(expected)), rel=1e-6)
    # Anchors 1 and 2 have each other nearer than their mates; 3's mate is 2 away, the nearest stranger 3.2.
    assert (float(measured.active), float(measured.count)) == (0.5, 4)


@pytest.mark.parametrize("loss", PROXY_LOSSES)
def test_a_proxy_loss_finds_a_photos_person_among_those_with_two_photos(loss: str) -> None:
    objective = make_objective(small_settings(loss=loss, sampler="pk"), PEOPLE, width=2)
    assert isinstance(objective, ProxyObjective)
    assert objective.people.tolist() == [3, 6, 8]
    objective.proxies.assign([[0.0, 2.0], [-0.6, 0.8], [1.0, 1.0]])
    measured = objective(POINTS, {"labels": LABELS})
    options = {"margin": LOSSES[loss].margin, "scale": LOSSES[loss].scale}
    options = {name: value for name, value in options.items() if value is not None}
    expected = PROXY_LOSSES[loss](POINTS, np.array([2, 2, 0, 0]), objective.proxies, **options)
    assert float(measured.loss) == pytest.approx(float(np.mean(expected)), rel=1e-6)


def test_proxies_begin_as_the_mean_directions_of_their_people() -> None:
    objective = make_objective(small_settings(loss="arcface", sampler="pk"), PEOPLE, width=2)
    embeddings = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.6, 0.8], [-1, 0], [0, -1], [0, 1]], np.float32)
    objective.imprint(embeddings, PEOPLE)  # type: ignore[attr-defined]
    # Person 8's photos are opposite each other: no direction.
    expected = np.array([[1.6, 0.8], [-1.0, 1.0], [0.0, 0.0]])
    expected[:2] /= np.linalg.norm(expected[:2], axis=1, keepdims=True)
    np.testing.assert_allclose(objective.proxies, expected, atol=1e-6)
    measured = objective(POINTS, {"labels": LABELS})
    assert math.isfinite(measured.loss)


@pytest.mark.parametrize(
    ("mining", "loss"),
    [
        ("batch-hard", losses.batch_hard_triplet_loss),
        ("semi-hard", losses.semi_hard_triplet_loss),
    ],
)
def test_the_triplet_loss_is_mined_as_asked(mining: str, loss: Any) -> None:
    objective = make_objective(small_settings(sampler="pk", mining=mining, margin=1.5), PEOPLE, width=2)
    assert isinstance(objective, TripletObjective)
    measured = objective(POINTS, {"labels": LABELS})
    expected = np.asarray(loss(POINTS, LABELS, margin=1.5))
    assert float(measured.loss) == pytest.approx(float(expected.mean()), rel=1e-6)
    assert float(measured.active) == pytest.approx(float(np.mean(expected > 0)))
    assert float(measured.count) == 4


def test_distance_weighted_draws_go_on_from_the_seed_of_the_settings() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    batch = {"labels": np.repeat(np.arange(10, dtype=np.int32), 3)}

    def measured(seed: int) -> list[float]:
        settings = small_settings(sampler="pk", mining="distance-weighted", seed=seed)
        objective = make_objective(settings, batch["labels"], width=4)
        return [float(objective(embeddings, batch).loss) for _ in range(3)]

    assert len(set(measured(1))) == 3
    assert measured(1) == measured(1) != measured(2)


def test_what_an_unsolved_triplet_costs() -> None:
    def unsolved(**changes: Any) -> float | None:
        return make_objective(small_settings(**changes), PEOPLE, width=2).unsolved

    assert unsolved(margin=0.3) == pytest.approx(0.3)
    assert unsolved(softness=0.5) == pytest.approx(0.5 * math.log(1 + math.exp(0.2 / 0.5)))
    assert unsolved(sampler="pk", mining="batch-all") == pytest.approx(0.2)
    # In health, too, a semi-hard negative is hardly farther than the positive.
    assert unsolved(sampler="pk", mining="semi-hard") is None
    assert unsolved(sampler="pk", loss="supcon") is None
    # Outside batches of people nothing is mined.
    assert unsolved(sampler="random", mining="semi-hard") == pytest.approx(0.2)


def test_pairs_cost_what_the_paper_says() -> None:
    objective = make_objective(small_settings(loss="contrastive", sampler="pairs", margin=1.5), PEOPLE, width=2)
    assert isinstance(objective, PairObjective)
    assert objective.proxies is objective.seed_generator is objective.unsolved is None
    batch = {"pairs": np.array([[1, 0], [1, 2], [3, 1], [3, 2], [0, 2]]), "same": np.array([1, 0, 0, 1, 0], bool)}
    measured = objective(POINTS, batch)
    # D² 0.8 and 2 of one person; of two people 0.4 and 2 lie within the margin, 3.2 does not.
    near, far = [0.8 / 2, 2.0 / 2], [(1.5 - math.sqrt(0.4)) ** 2 / 2, (1.5 - math.sqrt(2)) ** 2 / 2]
    assert float(measured.loss) == pytest.approx(sum(near) / 2 + sum(far) / 2, rel=1e-6)
    assert (float(measured.active), float(measured.count)) == (pytest.approx(2 / 3), 3)
    squared = np.array([0.8, 0.4, 3.2, 2.0, 2.0])
    assert objective.of_distances(squared, batch["same"]) == pytest.approx(float(measured.loss), rel=1e-6)
    assert LOSSES["contrastive"].margin == 1.0
    plain = make_objective(small_settings(loss="contrastive", sampler="pairs"), PEOPLE, width=2)
    assert float(plain(POINTS, batch).active) == pytest.approx(1 / 3)
