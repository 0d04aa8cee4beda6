"""Retrieval metrics against plain loops, scikit-learn's neighbours, and values by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from facetl.errors import DataError
from facetl.metrics import retrieval
from facetl.metrics.retrieval import map_at_r, r_precision, recall_at_k


def points(rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, rows)
    labels[0] = 99  # nobody else is of its class
    return rng.normal(size=(7, 4))[labels % 7] + 1.2 * rng.normal(size=(rows, 4)), np.array([f"c{x}" for x in labels])


def ranked(embeddings: np.ndarray, labels: np.ndarray, row: int) -> list[bool]:
    others = [other for other in range(len(labels)) if other != row]
    others.sort(key=lambda other: float(np.sum((embeddings[row] - embeddings[other]) ** 2)))
    return [labels[other] == labels[row] for other in others]


@pytest.mark.parametrize("block_bytes", [1, 8 * 60 * 7, 1 << 26])
def test_they_agree_with_plain_loops_whatever_the_block(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", block_bytes)
    embeddings, labels = points()
    precisions, averages, recalls = [], [], []
    for row in range(1, 60):
        hits = ranked(embeddings, labels, row)
        relevant = sum(hits)
        precisions.append(sum(hits[:relevant]) / relevant)
        averages.append(sum(sum(hits[: i + 1]) / (i + 1) for i in range(relevant) if hits[i]) / relevant)
        recalls.append([any(hits[:k]) for k in (1, 3, 59)])
    assert len(set(precisions)) > 5
    assert r_precision(embeddings, labels) == pytest.approx(np.mean(precisions))
    assert map_at_r(embeddings, labels) == pytest.approx(np.mean(averages))
    for place, k in enumerate((1, 3, 59)):
        assert recall_at_k(embeddings, labels, k) == pytest.approx(np.mean([row[place] for row in recalls]))


def test_they_agree_with_scikit_learn() -> None:
    embeddings, labels = points(seed=3)
    near = NearestNeighbors(n_neighbors=6).fit(embeddings).kneighbors(embeddings, return_distance=False)[:, 1:]
    hits = (labels[near] == labels[:, None])[1:]
    assert recall_at_k(embeddings, labels, 5) == pytest.approx(np.mean(hits.any(axis=1)))
    left_out = [
        KNeighborsClassifier(1).fit(np.delete(embeddings, row, 0), np.delete(labels, row)).predict(embeddings[[row]])[0]
        for row in range(1, 60)
    ]
    assert recall_at_k(embeddings, labels) == pytest.approx(np.mean(np.array(left_out) == labels[1:]))


def test_by_hand() -> None:
    # On a line: a at 0, 1 and 10; b at 2 and 9.
    embeddings, labels = np.array([[0.0], [1.0], [10.0], [2.5], [9.0]]), np.array([0, 0, 0, 1, 1])
    # The R nearest of 0: 1 a, 2.5 b; of 1: 0 a, 2.5 b; of 10: 9 b, 2.5 b; of 2.5: 1 a; of 9: 10 a.
    assert r_precision(embeddings, labels) == pytest.approx((0.5 + 0.5 + 0 + 0 + 0) / 5)
    assert map_at_r(embeddings, labels) == pytest.approx((0.5 + 0.5) / 5)
    assert recall_at_k(embeddings, labels) == pytest.approx(2 / 5)
    # Second nearest: of 9 the b at 2.5; of 10 another b. Third nearest: of 10 the a at 1, of 2.5 the b at 9.
    assert recall_at_k(embeddings, labels, 2) == pytest.approx(3 / 5)
    assert recall_at_k(embeddings, labels, 3) == 1.0


def test_classes_apart_are_perfect() -> None:
    embeddings, labels = np.eye(3)[[0, 0, 1, 1, 2, 2]], np.array([0, 0, 1, 1, 2, 2])
    assert recall_at_k(embeddings, labels) == r_precision(embeddings, labels) == map_at_r(embeddings, labels) == 1.0


def test_what_cannot_be_asked_is_refused() -> None:
    embeddings, labels = points()
    for k in (0, 60):
        with pytest.raises(DataError, match=rf"k is from 1 to the 59 other rows\. Received: {k}"):
            recall_at_k(embeddings, labels, k)
    with pytest.raises(DataError, match=r"Received: \(60, 4\), \(59,\)"):
        map_at_r(embeddings, labels[:-1])
    with pytest.raises(DataError, match="a class with two rows"):
        r_precision(embeddings[:3], np.array([0, 1, 2]))
