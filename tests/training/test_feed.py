"""The tf.data pipeline: each photo of a batch gathered once, and triplets that point at the right features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetl.embeddings.embedding_cache import CachedRows, EmbeddingCache
from facetl.training.feed import PairFeed, PKFeed, TripletFeed
from facetl.training.pair_sampler import PairSampler
from facetl.training.samplers import PKSampler, RandomSampler

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


class Listed:
    """A sampler whose epochs are written down."""

    def __init__(self, *epochs: list[list[int]]) -> None:
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


def test_each_photo_of_a_batch_is_gathered_once() -> None:
    rows = CountingRows(FEATURES)
    feed = TripletFeed(rows, Listed([[5, 0, 3], [0, 5, 7], [2, 0, 3], [4, 1, 2], [1, 4, 7]]), batch_size=3)
    feed.refresh(0, None)
    first, last = feed.dataset().as_numpy_iterator()
    assert sorted(map(sorted, rows.asked)) == [[0, 2, 3, 5, 7], [1, 2, 4, 7]]
    assert first["features"].shape == (5, 3)
    assert last["features"].shape == (4, 3)


def test_triplets_point_at_the_right_features_to_the_last_short_batch() -> None:
    triplets = [[5, 0, 3], [0, 5, 7], [2, 0, 3], [4, 1, 2], [1, 4, 7]]
    feed = TripletFeed(FEATURES, Listed(triplets), batch_size=3)
    assert feed.steps == 2
    feed.refresh(0, None)
    first, last = feed.dataset().as_numpy_iterator()
    for batch, part in ((first, triplets[:3]), (last, triplets[3:])):
        assert (batch["features"].dtype, batch["triplets"].dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(batch["features"][batch["triplets"]], FEATURES[np.array(part)])


def test_a_refresh_changes_what_the_next_iteration_gives() -> None:
    sampler = Listed([[0, 2, 1], [2, 5, 3]], [[1, 4, 6], [4, 1, 0]])
    feed = TripletFeed(FEATURES, sampler, batch_size=8)
    dataset = feed.dataset()  # made once, as Keras' fit holds on to it
    embeddings = np.ones((8, 2), np.float32)
    for epoch, given in ((0, None), (1, embeddings), (0, None)):
        feed.refresh(epoch, given)
        (batch,) = dataset.as_numpy_iterator()
        np.testing.assert_array_equal(batch["features"][batch["triplets"]], FEATURES[sampler.epochs[epoch]])
    assert [seen is embeddings for seen in sampler.seen] == [False, True, False]
    assert [feed.needs_embeddings(epoch) for epoch in range(3)] == [False, True, False]


def test_a_real_epoch_from_a_cache(cached: CachedRows) -> None:
    sampler = RandomSampler(LABELS, rounds=3, seed=1)
    feed = TripletFeed(cached, sampler, batch_size=4)
    feed.refresh(2, None)
    got = np.concatenate([batch["features"][batch["triplets"]] for batch in feed.dataset().as_numpy_iterator()])
    np.testing.assert_array_equal(got, FEATURES[sampler.triplets(2)])


def test_the_shapes_are_known_before_the_first_batch() -> None:
    element = TripletFeed(FEATURES, Listed([[0, 2, 1]]), batch_size=2).dataset().element_spec
    assert element["features"].shape.as_list() == [None, 3]
    assert element["triplets"].shape.as_list() == [None, 3]


def test_pk_batches_hold_each_photo_once_with_its_person(cached: CachedRows) -> None:
    for rows in (CountingRows(FEATURES), cached):
        sampler = PKSampler(LABELS, people=2, photos=2, seed=4)
        feed = PKFeed(rows, LABELS, sampler)
        assert feed.steps == sampler.steps == 2
        assert not feed.needs_embeddings(3)
        dataset = feed.dataset()
        for epoch in (0, 1):
            feed.refresh(epoch, None)
            batches = list(dataset.as_numpy_iterator())
            for batch, expected in zip(batches, sampler.batches(epoch), strict=True):
                assert (batch["features"].dtype, batch["labels"].dtype) == (np.float32, np.int32)
                np.testing.assert_array_equal(batch["features"], FEATURES[expected])
                np.testing.assert_array_equal(batch["labels"], LABELS[expected])


def test_pairs_point_at_the_right_features_to_the_last_short_batch(cached: CachedRows) -> None:
    for rows in (CountingRows(FEATURES), cached):
        sampler = PairSampler(LABELS, per_epoch=11, seed=4)
        feed = PairFeed(rows, sampler, batch_size=4)
        assert feed.steps == 3
        assert not feed.needs_embeddings(3)
        dataset = feed.dataset()
        for epoch in (0, 2):
            feed.refresh(epoch, None)
            batches = list(dataset.as_numpy_iterator())
            assert [len(batch["same"]) for batch in batches] == [4, 4, 3]
            expected = sampler.draw(11 * epoch, 11)
            got = np.concatenate([batch["features"][batch["pairs"]] for batch in batches])
            np.testing.assert_array_equal(got, FEATURES[expected.rows])
            np.testing.assert_array_equal(np.concatenate([batch["same"] for batch in batches]), expected.same)
            assert all(len(batch["features"]) == batch["pairs"].max() + 1 for batch in batches)
        if isinstance(rows, CountingRows):
            assert all(asked == sorted(set(asked)) for asked in rows.asked)


def test_the_shapes_of_pairs_are_known_before_the_first_batch() -> None:
    element = PairFeed(FEATURES, PairSampler(LABELS, per_epoch=6), batch_size=2).dataset().element_spec
    assert element["features"].shape.as_list() == [None, 3]
    assert element["pairs"].shape.as_list() == [None, 2]
    assert element["same"].shape.as_list() == [None]
