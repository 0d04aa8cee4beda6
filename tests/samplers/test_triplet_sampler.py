"""What is drawn: never a wrong photo, as often as stated, the same again under a seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from gaussians import small_settings
from scipy import stats

from facetl.errors import TrainingError
from facetl.samplers import NeighbourSampler, PKSampler, RandomSampler, neighbour_sampler
from facetl.samplers.sampler import ClassIndex
from facetl.training.fit import make_sampler

# Person 2 has rows 1 and 4, 5 has 0, 2 and 5, 7 has 6, 9 has 3.
LABELS = np.array([5, 2, 5, 9, 2, 5, 7])
# Below this a test is sure that frequencies are not as stated; the seeds are fixed, so it passes always or never.
SURE = 1e-4


def unit_vectors(count: int, dim: int = 3, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def squared(embeddings: np.ndarray, a: int, b: int) -> float:
    return float(np.sum((embeddings[a].astype(float) - embeddings[b].astype(float)) ** 2))


def softmax(values: dict[int, float]) -> dict[int, float]:
    weights = {row: np.exp(value) for row, value in values.items()}
    return {row: weight / sum(weights.values()) for row, weight in weights.items()}


def mixed(weighted: dict[int, float], uniform: list[int], share: float) -> dict[int, float]:
    return {row: (1 - share) * weighted.get(row, 0.0) + share / len(uniform) for row in uniform}


def assert_drawn_as(drawn: np.ndarray, expected: dict[int, float]) -> None:
    counted = Counter(drawn.tolist())
    assert set(counted) <= {row for row, probability in expected.items() if probability}
    rows = sorted(row for row, probability in expected.items() if probability)
    if len(rows) == 1:
        return
    p = stats.chisquare([counted[row] for row in rows], [expected[row] * len(drawn) for row in rows]).pvalue
    assert p > SURE, f"p = {p:.1e}: drawn {counted}, expected {expected}"


def assert_valid(triplets: np.ndarray, labels: np.ndarray) -> None:
    anchor, positive, negative = triplets.T
    assert triplets.dtype == np.int32
    assert not np.any(anchor == positive)
    np.testing.assert_array_equal(labels[anchor], labels[positive])
    assert not np.any(labels[anchor] == labels[negative])


class TestClassIndex:
    def test_index_arithmetic_by_hand(self) -> None:
        index = ClassIndex(LABELS)
        assert index.order.tolist() == [1, 4, 0, 2, 5, 6, 3]
        assert index.start.tolist() == [2, 0, 2, 6, 0, 2, 5]
        assert index.size.tolist() == [3, 2, 3, 1, 2, 3, 1]
        assert index.place.tolist() == [0, 0, 1, 0, 1, 2, 0]
        assert index.anchors.tolist() == [0, 1, 2, 4, 5]

    @pytest.mark.parametrize("labels", [[3, 3, 3], [0, 1, 2], [4]])
    def test_too_few_people_or_photos_is_reported(self, labels: list[int]) -> None:
        with pytest.raises(TrainingError, match="at least 2 people, one of them with 2 photos"):
            ClassIndex(np.array(labels))


class TestRandomSampler:
    def test_every_anchor_once_a_round(self) -> None:
        sampler = RandomSampler(LABELS, rounds=3, seed=1)
        triplets = sampler.triplets(0)
        assert len(sampler) == len(triplets) == 15
        for part in range(3):
            assert sorted(triplets[5 * part : 5 * part + 5, 0].tolist()) == [0, 1, 2, 4, 5]
        assert triplets[:5, 0].tolist() != triplets[5:10, 0].tolist()
        assert_valid(triplets, LABELS)

    def test_all_are_drawn_alike(self) -> None:
        triplets = RandomSampler(LABELS, rounds=3000, seed=2).triplets(4)
        assert_valid(triplets, LABELS)
        for anchor in (0, 1, 2, 4, 5):
            _, positive, negative = triplets[triplets[:, 0] == anchor].T
            mates = [row for row in range(7) if row != anchor and LABELS[row] == LABELS[anchor]]
            others = [row for row in range(7) if LABELS[row] != LABELS[anchor]]
            assert_drawn_as(positive, mixed({}, mates, 1.0))
            assert_drawn_as(negative, mixed({}, others, 1.0))

    def test_people_with_one_photo_are_negatives_only(self) -> None:
        anchor, positive, negative = RandomSampler(LABELS, rounds=50).triplets(0).T
        assert {3, 6}.isdisjoint([*anchor.tolist(), *positive.tolist()])
        assert {3, 6} < set(negative.tolist())

    def test_anchors_per_person_are_capped_and_drawn_anew(self) -> None:
        labels = np.array([0] * 7 + [1] * 2 + [2] + [3] * 4)
        sampler = RandomSampler(labels, rounds=400, anchors_per_person=3, seed=5)
        triplets = sampler.triplets(0)
        assert len(sampler) == len(triplets) == 400 * (3 + 2 + 3)
        assert_valid(triplets, labels)
        for turn in triplets[:, 0].reshape(400, 8):
            assert len(set(turn.tolist())) == 8
            assert Counter(labels[turn].tolist()) == {0: 3, 1: 2, 3: 3}
        for person in (0, 3):
            rows = np.flatnonzero(labels == person).tolist()
            drawn = triplets[:, 0][np.isin(triplets[:, 0], rows)]
            # Without replacement within a round: frequencies are closer to uniform than chi-square expects.
            assert_drawn_as(drawn, mixed({}, rows, 1.0))

    def test_a_seed_and_an_epoch_say_it_all(self) -> None:
        first = RandomSampler(LABELS, rounds=4, seed=7)
        assert first.triplets(2).tolist() == RandomSampler(LABELS, rounds=4, seed=7).triplets(2).tolist()
        assert first.triplets(2).tolist() != first.triplets(3).tolist()
        assert first.triplets(2).tolist() != RandomSampler(LABELS, rounds=4, seed=8).triplets(2).tolist()
        assert not first.needs_embeddings(9)


def neighbours(labels: np.ndarray = LABELS, **changes: float | tuple[float, float]) -> NeighbourSampler:
    settings = {"temperature": 0.4, "candidates": 2, "uniform_share": 0.25, "warmup": 0, "ramp": 0}
    return NeighbourSampler(labels, **{**settings, "epochs": 5, "rounds": 4000, **changes})  # type: ignore[arg-type]


class TestNeighbourSampler:
    def test_drawn_frequencies_are_the_stated_weights(self) -> None:
        embeddings = unit_vectors(7, seed=3)
        triplets = neighbours(seed=1).triplets(0, embeddings)
        assert_valid(triplets, LABELS)
        for anchor in (0, 1, 2, 4, 5):
            _, positive, negative = triplets[triplets[:, 0] == anchor].T
            mates = [row for row in range(7) if row != anchor and LABELS[row] == LABELS[anchor]]
            others = [row for row in range(7) if LABELS[row] != LABELS[anchor]]
            far = softmax({row: squared(embeddings, anchor, row) / 0.4 for row in mates})
            nearest = sorted(others, key=lambda row: squared(embeddings, anchor, row))[:2]
            near = softmax({row: -squared(embeddings, anchor, row) / 0.4 for row in nearest})
            assert_drawn_as(positive, mixed(far, mates, 0.25))
            assert_drawn_as(negative, mixed(near, others, 0.25))

    def test_without_a_uniform_share_only_the_nearest_candidates_are_drawn(self) -> None:
        embeddings = unit_vectors(7, seed=4)
        triplets = neighbours(candidates=3, uniform_share=0.0, temperature=50.0, rounds=200).triplets(0, embeddings)
        for anchor in (0, 1, 2, 4, 5):
            others = [row for row in range(7) if LABELS[row] != LABELS[anchor]]
            nearest = sorted(others, key=lambda row: squared(embeddings, anchor, row))[:3]
            assert set(triplets[triplets[:, 0] == anchor, 2].tolist()) == set(nearest)

    def test_more_candidates_than_there_are_photos_of_others(self) -> None:
        embeddings = unit_vectors(7, seed=5)
        sampler = neighbours(candidates=100, uniform_share=0.0, seed=2)
        assert sampler.candidates_of(0) == 4  # what the person with three photos has left
        triplets = sampler.triplets(0, embeddings)
        assert_valid(triplets, LABELS)
        others = [1, 3, 4, 6]
        near = softmax({row: -squared(embeddings, 0, row) / 0.4 for row in others})
        assert_drawn_as(triplets[triplets[:, 0] == 0, 2], near)

    def test_the_share_of_weighted_draws_by_hand(self) -> None:
        sampler = neighbours(warmup=2, ramp=4, uniform_share=0.2)
        np.testing.assert_allclose([sampler.share(epoch) for epoch in range(8)], [0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
        assert [sampler.needs_embeddings(epoch) for epoch in range(4)] == [False, False, True, True]
        assert [neighbours(warmup=1, ramp=0, uniform_share=0.1).share(epoch) for epoch in range(3)] == [0, 0.9, 0.9]
        assert not neighbours(uniform_share=1.0).needs_embeddings(5)

    def test_the_share_is_of_whole_triplets(self) -> None:
        # At this temperature a weighted draw is the farthest positive and the nearest negative.
        embeddings = unit_vectors(7, seed=6)
        sampler = neighbours(temperature=1e-5, warmup=2, ramp=4, uniform_share=0.2, seed=3)
        triplets = sampler.triplets(3, embeddings)
        anchor, positive, negative = triplets[triplets[:, 0] == 2].T
        farthest = max([0, 5], key=lambda row: squared(embeddings, 2, row))
        nearest = min([1, 3, 4, 6], key=lambda row: squared(embeddings, 2, row))
        hard = (positive == farthest) & (negative == nearest)
        expected = 0.4 + 0.6 / (2 * 4)
        assert stats.binomtest(int(hard.sum()), len(anchor), expected).pvalue > SURE
        half = int(((positive == farthest) & (negative != nearest)).sum())
        assert stats.binomtest(half, len(anchor), 0.6 * 3 / 8).pvalue > SURE

    def test_warm_up_is_uniform_and_looks_at_no_embeddings(self) -> None:
        triplets = neighbours(warmup=3, temperature=1e-3, seed=4).triplets(2)
        assert_valid(triplets, LABELS)
        _, positive, negative = triplets[triplets[:, 0] == 5].T
        assert_drawn_as(positive, mixed({}, [0, 2], 1.0))
        assert_drawn_as(negative, mixed({}, [1, 3, 4, 6], 1.0))

    def test_temperature_and_candidates_run_from_the_first_value_to_the_last(self) -> None:
        embeddings = unit_vectors(7, seed=9)
        sampler = neighbours(
            temperature=(2.0, 0.2), candidates=(4, 2), uniform_share=0.0, warmup=1, epochs=7, rounds=4000, seed=6
        )
        assert [sampler.candidates_of(epoch) for epoch in range(7)] == [4, 4, 3, 3, 3, 2, 2]
        for epoch, temperature, candidates in ((2, 1.4, 3), (6, 0.2, 2)):
            triplets = sampler.triplets(epoch, embeddings)
            _, positive, negative = triplets[triplets[:, 0] == 2].T
            far = softmax({row: squared(embeddings, 2, row) / temperature for row in (0, 5)})
            nearest = sorted([1, 3, 4, 6], key=lambda row: squared(embeddings, 2, row))[:candidates]
            assert_drawn_as(positive, far)
            assert_drawn_as(negative, softmax({row: -squared(embeddings, 2, row) / temperature for row in nearest}))

    def test_the_uniform_share_runs_too(self) -> None:
        sampler = neighbours(warmup=1, ramp=2, uniform_share=(0.1, 0.5), epochs=5)
        # ε is 0.1, 0.2, 0.3, 0.4, 0.5; the ramp lets half of 1 − 0.2 through at first.
        np.testing.assert_allclose([sampler.share(epoch) for epoch in range(5)], [0, 0.4, 0.7, 0.6, 0.5])

    def test_missing_embeddings_are_reported(self) -> None:
        with pytest.raises(TrainingError, match="epoch 3 draws by distance and needs embeddings"):
            neighbours(warmup=3).triplets(3)

    def test_people_with_more_positives_than_are_weighed_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbour_sampler, "MAX_POSITIVES", 3)
        labels = np.array([1, 0, 1, 1, 0, 1, 1, 2, 1])  # person 1: rows 0, 2, 3, 5, 6, 8
        embeddings = unit_vectors(9, seed=7)
        triplets = neighbours(labels, uniform_share=0.0, seed=5).triplets(0, embeddings)
        assert_valid(triplets, labels)
        rows = [0, 2, 3, 5, 6, 8]
        for anchor in rows:
            # Three that follow one another in the circle of the five mates, each such run alike.
            place = rows.index(anchor)
            circle = rows[place + 1 :] + rows[:place]
            expected = dict.fromkeys(circle, 0.0)
            for first in range(5):
                run = [circle[(first + step) % 5] for step in range(3)]
                weights = softmax({row: squared(embeddings, anchor, row) / 0.4 for row in run})
                for row, weight in weights.items():
                    expected[row] += weight / 5
            assert_drawn_as(triplets[triplets[:, 0] == anchor, 1], expected)

    def test_a_seed_and_an_epoch_say_it_all(self) -> None:
        embeddings = unit_vectors(7, seed=8)
        first = neighbours(rounds=4, seed=7).triplets(2, embeddings).tolist()
        assert first == neighbours(rounds=4, seed=7).triplets(2, embeddings).tolist()
        assert first != neighbours(rounds=4, seed=7).triplets(3, embeddings).tolist()
        assert first != neighbours(rounds=4, seed=8).triplets(2, embeddings).tolist()

    def test_anchors_are_those_of_the_random_sampler(self) -> None:
        labels = np.repeat([0, 1, 2, 3], [9, 1, 2, 4])
        sampler = neighbours(labels, rounds=2, anchors_per_person=3)
        triplets = sampler.triplets(0, unit_vectors(16))
        assert len(sampler) == len(triplets) == 2 * (3 + 2 + 3)
        for turn in triplets[:, 0].reshape(2, 8):
            assert len(set(turn.tolist())) == 8
            assert Counter(labels[turn].tolist()) == {0: 3, 2: 2, 3: 3}


class TestPKSampler:
    # Ten people: one has nine photos, six have two or three, three have one.
    LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), [9, 2, 3, 2, 2, 3, 2, 1, 1, 1]))

    @pytest.mark.parametrize(("people", "photos"), [(3, 4), (2, 2), (5, 3), (7, 9)])
    def test_what_a_batch_holds(self, people: int, photos: int) -> None:
        sampler = PKSampler(self.LABELS, people_per_batch=people, photos_per_person=photos, seed=2)
        for epoch in range(30):
            batches = list(sampler.batches(epoch))
            assert len(batches) == sampler.steps()
            met: set[int] = set()
            for batch in batches:
                assert batch.dtype == np.int32
                assert len(set(batch.tolist())) == len(batch)
                counted = Counter(self.LABELS[batch].tolist())
                assert len(counted) == people
                sizes = {person: int(np.sum(person == self.LABELS)) for person in counted}
                assert counted == {person: min(size, photos) for person, size in sizes.items()}
                met |= set(counted)
            assert met == set(range(7))

    def test_steps_by_hand(self) -> None:
        # 7 people able, 23 photos of theirs.
        assert PKSampler(self.LABELS, people_per_batch=3, photos_per_person=2).steps() == 4  # ⌈23 / 6⌉
        assert PKSampler(self.LABELS, people_per_batch=3, photos_per_person=4).steps() == 3  # ⌈7 / 3⌉
        assert PKSampler(self.LABELS, people_per_batch=100, photos_per_person=100).steps() == 1
        assert PKSampler(self.LABELS, people_per_batch=100, photos_per_person=100).people_per_batch == 7

    def test_which_photos_of_a_person_is_chance(self) -> None:
        sampler = PKSampler(self.LABELS, people_per_batch=7, photos_per_person=4, seed=3)
        rows = np.flatnonzero(self.LABELS == 0)
        drawn = np.concatenate([batch for epoch in range(400) for batch in sampler.batches(epoch)])
        drawn = drawn[np.isin(drawn, rows)]
        assert set(np.unique(drawn)) == set(rows)
        assert_drawn_as(drawn, mixed({}, rows.tolist(), 1.0))

    def test_a_seed_and_an_epoch_say_it_all(self) -> None:
        def drawn(seed: int, epoch: int) -> list[list[int]]:
            batches = PKSampler(self.LABELS, people_per_batch=3, photos_per_person=2, seed=seed).batches(epoch)
            return [batch.tolist() for batch in batches]

        assert drawn(1, 2) == drawn(1, 2)
        assert drawn(1, 2) != drawn(1, 3)
        assert drawn(1, 2) != drawn(2, 2)

    def test_one_able_person_is_too_few(self) -> None:
        with pytest.raises(TrainingError, match="at least 2 people with 2 photos each"):
            PKSampler(np.array([0, 0, 0, 1, 2]), people_per_batch=4, photos_per_person=2)


def test_the_settings_reach_the_sampler() -> None:
    changes = {"rounds": 2, "anchors_per_person": 2, "seed": 11, "temperature": 0.3, "candidates": 3}
    settings = small_settings(sampler="neighbours", uniform_share=0.35, warmup=4, ramp=6, epochs=9, **changes)
    made = make_sampler(LABELS, settings)
    assert isinstance(made, NeighbourSampler)
    assert (made.temperature, made.candidates, made.uniform_share, made.warmup, made.ramp) == (0.3, 3, 0.35, 4, 6)
    assert (made.rounds, made.anchors_per_person, made.seed, made.epochs) == (2, 2, 11, 9)
    made = make_sampler(LABELS, small_settings(sampler="random", **changes))
    assert isinstance(made, RandomSampler)
    assert (made.rounds, made.anchors_per_person, made.seed) == (2, 2, 11)
    made = make_sampler(LABELS, small_settings(sampler="pk", people_per_batch=2, photos_per_person=3, seed=11))
    assert isinstance(made, PKSampler)
    assert (made.people_per_batch, made.photos_per_person, made.seed) == (2, 3, 11)


def test_twenty_thousand_photos() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4000, 20_000)
    sampler = NeighbourSampler(
        labels,
        temperature=0.5,
        candidates=50,
        uniform_share=0.2,
        warmup=1,
        ramp=0,
        epochs=2,
        rounds=5,
        anchors_per_person=4,
    )
    for epoch, embeddings in ((0, None), (1, unit_vectors(20_000, 16))):
        triplets = sampler.triplets(epoch, embeddings)
        assert len(triplets) == len(sampler) > 60_000
        assert_valid(triplets, labels)
    batches = PKSampler(labels, people_per_batch=64, photos_per_person=4).batches(0)
    assert sum(len(batch) for batch in batches) > 10_000
