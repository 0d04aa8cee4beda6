"""Nearest photos of other people against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from facetl.samplers import neighbour_sampler
from facetl.samplers.neighbour_sampler import nearest_others


@pytest.mark.parametrize("block", [5, 1024])
def test_nearest_others_agree_with_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_sampler, "_BLOCK", block)
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(43, 6)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = rng.integers(0, 9, 43)
    # Not a multiple of the block, not in order, one anchor twice.
    anchors = np.concatenate([rng.permutation(43)[:17], [3]]).astype(np.int32)
    rows, distances = nearest_others(embeddings, labels, anchors, candidates=8)
    assert rows.shape == distances.shape == (18, 8)
    assert (rows.dtype, distances.dtype) == (np.int32, np.float32)
    for place, anchor in enumerate(anchors):
        others = [row for row in range(43) if labels[row] != labels[anchor]]
        far = {row: float(np.sum((embeddings[row].astype(float) - embeddings[anchor]) ** 2)) for row in others}
        expected = sorted(others, key=far.__getitem__)[:8]
        assert rows[place].tolist() == expected
        np.testing.assert_allclose(distances[place], [far[row] for row in expected], atol=1e-5)


def test_the_same_point_under_two_names_is_at_distance_zero() -> None:
    embeddings = np.array([[0.6, 0.8], [0.6, 0.8], [1.0, 0.0]], np.float32)
    rows, distances = nearest_others(embeddings, np.array([0, 1, 0]), np.array([0, 1], np.int32), candidates=1)
    assert rows.tolist() == [[1], [0]]
    assert np.all(distances >= 0)
    np.testing.assert_allclose(distances, 0, atol=1e-6)
