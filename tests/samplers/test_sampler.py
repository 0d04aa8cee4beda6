"""The pipeline: each row of a batch gathered once, targets that point at the right rows, a pass for each epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.shards import CachedRows
from facetl.errors import TrainingError
from facetl.samplers import (
    SAMPLERS,
    NeighbourSampler,
    PairSampler,
    PKSampler,
    RandomSampler,
    Sampler,
    ShuffleSampler,
    TripletSampler,
)
from facetl.samplers.sampler import linear

LABELS = np.array([5, 2, 5, 9, 2, 5, 7, 9])
# Rows that differ in every place and are exact in float16.
FEATURES = (np.arange(8 * 3).reshape(8, 3) / 4).astype(np.float16)


class CountingRows:
    """Rows that note what was asked of them."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.shape = rows.shape
        self.asked: list[list[int]] = []

    def __getitem__(self, which: Any) -> np.ndarray:
        self.asked.append(np.asarray(which).tolist())
        return self.rows[which]


class Listed(TripletSampler):
    """A sampler whose epochs are written down; the second looks at embeddings."""

    def __init__(self, *epochs: list[list[int]]) -> None:
        super().__init__(LABELS)
        self.epochs = [np.array(epoch, np.int32) for epoch in epochs]
        self.seen: list[np.ndarray | None] = []

    def __len__(self) -> int:
        return len(self.epochs[0])

    def needs_embeddings(self, epoch: int) -> bool:
        return epoch == 1

    def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
        self.seen.append(embeddings)
        return self.epochs[epoch]


@pytest.fixture
def cached(tmp_path: Path) -> CachedRows:
    shas = [hashlib.sha256(bytes([row])).hexdigest() for row in range(8)]
    with EmbeddingCache.open(tmp_path / "c", fingerprint="ab" * 32, dim=3, write=True) as cache:
        cache.append(shas[::-1], FEATURES[::-1].astype(np.float32))
        return cache.gather(shas)


def test_each_row_of_a_batch_is_gathered_once() -> None:
    rows = CountingRows(FEATURES)
    sampler = Listed([[5, 0, 3], [0, 5, 7], [2, 0, 3], [4, 1, 2], [1, 4, 7]])
    first, last = sampler.dataset(rows, batch_size=3).as_numpy_iterator()
    assert sorted(map(sorted, rows.asked)) == [[0, 2, 3, 5, 7], [1, 2, 4, 7]]
    assert first[0].shape == (5, 3)
    assert last[0].shape == (4, 3)


def test_triplets_point_at_the_right_rows_to_the_last_short_batch() -> None:
    triplets = [[5, 0, 3], [0, 5, 7], [2, 0, 3], [4, 1, 2], [1, 4, 7]]
    dataset = Listed(triplets).dataset(FEATURES, batch_size=3)
    assert int(dataset.cardinality()) == 2
    for (features, targets), part in zip(dataset.as_numpy_iterator(), (triplets[:3], triplets[3:]), strict=True):
        assert (features.dtype, targets.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(features[targets], FEATURES[np.array(part)])


def test_each_pass_is_the_next_epoch_and_draws_by_what_it_is_given() -> None:
    sampler = Listed([[0, 2, 1], [2, 5, 3]], [[1, 4, 6], [4, 1, 0]], [[0, 5, 1], [2, 5, 1]])
    dataset = sampler.dataset(FEATURES, batch_size=8)  # made once, as Keras' fit holds on to it
    for epoch in range(3):
        ((features, targets),) = dataset.as_numpy_iterator()
        np.testing.assert_array_equal(features[targets], FEATURES[sampler.epochs[epoch]])
    embeddings = np.ones((8, 2), np.float32)
    sampler.refresh(1, embeddings)
    ((features, targets),) = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(features[targets], FEATURES[sampler.epochs[1]])
    assert [seen is embeddings for seen in sampler.seen] == [False, False, False, True]


def test_a_training_goes_on_with_the_epoch_it_is_given() -> None:
    sampler = Listed([[0, 2, 1]], [[1, 4, 6]], [[0, 5, 1]])
    ((features, targets),) = sampler.dataset(FEATURES, initial_epoch=2).as_numpy_iterator()
    np.testing.assert_array_equal(features[targets], FEATURES[[[0, 5, 1]]])


def test_a_look_at_the_first_batch_is_no_epoch() -> None:
    sampler = Listed([[0, 2, 1]] * 9, [[1, 4, 6]] * 9)
    dataset = sampler.dataset(FEATURES, batch_size=1)
    for _ in range(2):
        features, targets = next(dataset.as_numpy_iterator())
        np.testing.assert_array_equal(features[targets], FEATURES[[[0, 2, 1]]])
    assert len(list(dataset)) == 9
    features, targets = next(dataset.as_numpy_iterator())
    np.testing.assert_array_equal(features[targets], FEATURES[[[1, 4, 6]]])


def test_a_real_epoch_from_a_cache(cached: CachedRows) -> None:
    sampler = RandomSampler(LABELS, rounds=3, seed=1)
    batches = sampler.dataset(cached, batch_size=4, initial_epoch=2).as_numpy_iterator()
    got = np.concatenate([features[targets] for features, targets in batches])
    np.testing.assert_array_equal(got, FEATURES[sampler.triplets(2)])


def test_lists_and_tables_are_taken() -> None:
    (expected, labels), *_ = PKSampler(LABELS, seed=4).dataset(FEATURES).as_numpy_iterator()
    for features in (FEATURES.tolist(), pd.DataFrame(FEATURES)):
        (rows, found), *_ = PKSampler(LABELS, seed=4).dataset(features).as_numpy_iterator()
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(found, labels)


def test_memory_mapped_features_are_read_batch_by_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FEATURES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    batches = PKSampler(LABELS, people_per_batch=2, photos_per_person=2, seed=4).dataset(mapped)
    for features, labels in batches.as_numpy_iterator():
        rows = [int(np.flatnonzero((row == FEATURES).all(axis=1))[0]) for row in features]
        np.testing.assert_array_equal(labels, LABELS[rows])


def test_pk_batches_hold_each_row_once_with_its_label(cached: CachedRows) -> None:
    for rows in (CountingRows(FEATURES), cached):
        sampler = PKSampler(LABELS, people_per_batch=2, photos_per_person=2, seed=4)
        dataset = sampler.dataset(rows)
        assert sampler.steps() == int(dataset.cardinality()) == 2
        for epoch in (0, 1):
            batches = list(dataset.as_numpy_iterator())
            for (features, labels), expected in zip(batches, sampler.batches(epoch), strict=True):
                assert (features.dtype, labels.dtype) == (np.float32, np.int32)
                np.testing.assert_array_equal(features, FEATURES[expected])
                np.testing.assert_array_equal(labels, LABELS[expected])


def test_pairs_point_at_the_right_rows_to_the_last_short_batch(cached: CachedRows) -> None:
    for rows in (CountingRows(FEATURES), cached):
        sampler = PairSampler(LABELS, per_epoch=11, seed=4)
        dataset = sampler.dataset(rows, batch_size=4)
        for epoch in (0, 1):
            batches = list(dataset.as_numpy_iterator())
            assert [len(targets) for _, targets in batches] == [4, 4, 3]
            expected = sampler.draw(11 * epoch, 11)
            got = np.concatenate([features[targets[:, :2]] for features, targets in batches])
            np.testing.assert_array_equal(got, FEATURES[expected.rows])
            kinds = np.concatenate([targets[:, 2:] for _, targets in batches])
            np.testing.assert_array_equal(kinds, np.stack([expected.same, ~expected.same], axis=1))
            assert all(len(features) == targets[:, :2].max() + 1 for features, targets in batches)
        if isinstance(rows, CountingRows):
            assert all(asked == sorted(set(asked)) for asked in rows.asked)


@pytest.mark.parametrize(
    ("sampler", "shape"),
    [
        (PKSampler(LABELS), [None]),
        (ShuffleSampler(LABELS), [None]),
        (RandomSampler(LABELS), [None, 3]),
        (PairSampler(LABELS), [None, 4]),
    ],
)
def test_the_shapes_are_known_before_the_first_batch(sampler: Sampler, shape: list[int | None]) -> None:
    features, targets = sampler.dataset(FEATURES).element_spec
    assert features.shape.as_list() == [None, 3]
    assert targets.shape.as_list() == shape


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_takes_names_as_labels_and_gives_numbers(name: str) -> None:
    names = np.array(["p5", "p2", "p5", "p9", "p2", "p5", "p7", "p9"])
    sampler = SAMPLERS[name](names, seed=3)
    same = SAMPLERS[name](LABELS, seed=3)
    for (features, targets), (others, _) in zip(sampler.dataset(FEATURES), same.dataset(FEATURES), strict=True):
        np.testing.assert_array_equal(features, others)
        if sampler.gives == "labels":
            rows = [int(np.flatnonzero((row == FEATURES).all(axis=1))[0]) for row in features.numpy()]
            np.testing.assert_array_equal(targets, np.unique(LABELS, return_inverse=True)[1][rows])


def test_labels_that_float32_cannot_tell_apart_become_small_numbers() -> None:
    sampler = ShuffleSampler([2**40, 2**40 + 1] * 2)
    assert sampler.targets.tolist() == [0, 1, 0, 1]


def test_without_a_model_neighbours_are_those_of_the_features() -> None:
    # Two classes lie apart in direction, the third beside the first.
    angles = np.array([0.0, 0.1, 1.5, 1.6, 0.2, 0.3])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.arange(1, 7)[:, None]
    sampler = NeighbourSampler([0, 0, 1, 1, 2, 2], temperature=1e-4, uniform_share=0.0, warmup=0, ramp=0)
    ((batch, targets),) = sampler.dataset(features).as_numpy_iterator()
    nearest = {0.0: 0.2, 0.1: 0.2, 1.5: 0.3, 1.6: 0.3, 0.2: 0.1, 0.3: 0.1}
    drawn = np.arctan2(batch[:, 1], batch[:, 0])[targets]
    for anchor, _, negative in drawn:
        assert negative == pytest.approx(nearest[round(float(anchor), 3)], abs=1e-5)


def test_long_features_are_compared_under_a_projection() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6000))
    features = (np.repeat(centres, 4, axis=0) + 0.3 * rng.normal(size=(12, 6000))).astype(np.float32)
    features[8:] += 2 * centres[0]  # the third class lies near the first
    sampler = NeighbourSampler(np.repeat([0, 1, 2], 4), temperature=1e-4, uniform_share=0.0, warmup=0, ramp=0)
    ((batch, targets),) = sampler.dataset(features).as_numpy_iterator()
    where = [int(np.flatnonzero((features == row).all(axis=1))[0]) // 4 for row in batch]
    assert {where[negative] for anchor, _, negative in targets if where[anchor] == 0} == {2}
    assert {where[negative] for anchor, _, negative in targets if where[anchor] == 2} == {0}


def test_an_error_of_a_pass_is_kept() -> None:
    class Broken(ShuffleSampler):
        def batches(self, epoch: int, **options: Any) -> Iterator[np.ndarray]:
            raise TrainingError("no batch today")

    sampler = Broken(LABELS)
    with pytest.raises(tf.errors.OpError):
        list(sampler.dataset(FEATURES))
    assert str(sampler.error) == "no batch today"


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"one for each row, \[rows\], got the shape \(8, 1\)"):
        RandomSampler(LABELS[:, None])
    with pytest.raises(TrainingError, match="each of 8 labels, got 7 rows"):
        RandomSampler(LABELS).dataset(FEATURES[:7])
    with pytest.raises(TrainingError, match="batch_size: expected a number above 0, got 0"):
        RandomSampler(LABELS).dataset(FEATURES, batch_size=0)
    with pytest.raises(TrainingError, match=r"batch_size: expected none, .* got 64"):
        PKSampler(LABELS).dataset(FEATURES, batch_size=64)
    with pytest.raises(TrainingError, match="rounds and anchors_per_person"):
        RandomSampler(LABELS, rounds=0)
    with pytest.raises(TrainingError, match="people_per_batch 1"):
        PKSampler(LABELS, people_per_batch=1)
    with pytest.raises(TrainingError, match="most_pairs: expected 2 or more"):
        PairSampler(LABELS, most_pairs=1)
    with pytest.raises(TrainingError, match="at least 2 people with 3 photos each, got 1 of 4"):
        ShuffleSampler(LABELS, smallest_class=3)
    for name, value, rule in (
        ("temperature", 0, "a number above 0, got 0"),
        ("candidates", (5, -1), "a number above 0, got 5:-1"),
        ("uniform_share", 1.5, r"a share in \[0, 1\], got 1.5"),
        ("temperature", (1, 2, 3), "a number or a pair"),
        ("temperature", (1, 2), "needs their number"),
    ):
        with pytest.raises(TrainingError, match=rule):
            NeighbourSampler(LABELS, **{name: value})


def test_a_schedule_runs_from_its_first_value_to_its_last() -> None:
    assert [linear((1.0, 0.2), epoch, 5) for epoch in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert [linear((3, 9), epoch, 3) for epoch in range(3)] == [3, 6, 9]
    assert linear((1.0, 0.2), 0, 1) == 1.0
    assert linear((1.0, 0.2), 8, 5) == 0.2
    assert linear(0.7, 3, 5) == 0.7
