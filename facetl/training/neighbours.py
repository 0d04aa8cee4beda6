"""Exact nearest photos of other people, found in blocks."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_BLOCK = 1024


def nearest_others(
    embeddings: np.ndarray, labels: np.ndarray, anchors: np.ndarray, *, candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each anchor the nearest photos of other people, exactly.

    Args:
        embeddings: [n, dim] float32 unit vectors.
        labels: [n] int, the person of each.
        anchors: [m] rows of `embeddings`.
        candidates: how many; every anchor must have that many photos of other people.

    Returns:
        rows [m, candidates] int32 and squared distances [m, candidates] float32, nearest first.
    """
    table, people = tf.constant(embeddings), tf.constant(labels)
    rows = np.empty((len(anchors), candidates), np.int32)
    distances = np.empty((len(anchors), candidates), np.float32)
    for start in range(0, len(anchors), _BLOCK):
        block = tf.constant(anchors[start : start + _BLOCK])
        found, near = _block(table, people, block, tf.constant(candidates))
        rows[start : start + _BLOCK] = found
        distances[start : start + _BLOCK] = near
    return rows, distances


@tf.function(reduce_retracing=True)
def _block(table: tf.Tensor, people: tf.Tensor, block: tf.Tensor, candidates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    similarity = tf.matmul(tf.gather(table, block), table, transpose_b=True)
    own = tf.equal(tf.gather(people, block)[:, None], people[None, :])
    similarity = tf.where(own, -2.0, similarity)
    best, rows = tf.math.top_k(similarity, k=candidates)
    return rows, tf.maximum(2.0 - 2.0 * best, 0.0)
