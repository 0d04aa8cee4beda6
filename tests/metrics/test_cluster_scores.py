"""Cluster scores against their definitions, the paper's example and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, pair_confusion_matrix

from facetl.errors import DataError
from facetl.metrics.cluster_scores import elbow, elbow_ks, score_clusters


def bcubed_by_definition(labels: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Mean over items of correctness over all items sharing the cluster (or the category), itself included."""
    precision, recall = [], []
    for i in range(len(labels)):
        together = [j for j in range(len(labels)) if clusters[j] == clusters[i]]
        alike = [j for j in range(len(labels)) if labels[j] == labels[i]]
        precision.append(np.mean([labels[j] == labels[i] for j in together]))
        recall.append(np.mean([clusters[j] == clusters[i] for j in alike]))
    return float(np.mean(precision)), float(np.mean(recall))


@pytest.mark.parametrize("seed", range(4))
def test_against_the_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(["Ann", "Bob", "Cy", "Dee"], 60, p=[0.5, 0.3, 0.15, 0.05])
    clusters = rng.choice([3, 7, 8, 20, 21, 22], 60, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    scores = score_clusters(labels, clusters)
    precision, recall = bcubed_by_definition(labels, clusters)
    assert (scores.bcubed.precision, scores.bcubed.recall) == pytest.approx((precision, recall))
    assert scores.bcubed.f == pytest.approx(2 * precision * recall / (precision + recall))
    (_, false_positive), (false_negative, positive) = pair_confusion_matrix(labels, clusters)
    assert scores.pairwise.precision == pytest.approx(positive / (positive + false_positive))
    assert scores.pairwise.recall == pytest.approx(positive / (positive + false_negative))
    assert scores.ari == pytest.approx(adjusted_rand_score(labels, clusters))
    assert (scores.people, scores.clusters, scores.photos) == (4, len(set(clusters)), 60)


def test_by_hand() -> None:
    # Ann Ann Ann | Ann Bob || Bob: clusters {A A A}, {A B}, {B}
    scores = score_clusters(["A", "A", "A", "A", "B", "B"], [0, 0, 0, 5, 5, 2])
    assert scores.bcubed.precision == pytest.approx((3 * 1 + 2 * 0.5 + 1) / 6)
    assert scores.bcubed.recall == pytest.approx((3 * 0.75 + 0.25 + 2 * 0.5) / 6)
    assert scores.pairwise.precision == pytest.approx(3 / 4)
    assert scores.pairwise.recall == pytest.approx(3 / 7)
    assert scores.pairwise.f == pytest.approx(2 * (3 / 4) * (3 / 7) / (3 / 4 + 3 / 7))
    assert (scores.people, scores.clusters, scores.noise) == (2, 3, 0)


def test_noise_is_a_cluster_of_its_own_each() -> None:
    labels = ["A", "A", "B", "B", "B", "C"]
    noisy = score_clusters(labels, [-1, 0, -1, 4, 4, -1])
    alone = score_clusters(labels, [9, 0, 8, 4, 4, 7])
    assert noisy.noise == 3
    assert noisy.clusters == alone.clusters == 5
    assert (noisy.bcubed, noisy.pairwise, noisy.ari) == (alone.bcubed, alone.pairwise, alone.ari)


def test_perfect_and_degenerate() -> None:
    perfect = score_clusters([4, 4, 9], [1, 1, 0])
    assert (perfect.bcubed.f, perfect.pairwise.f, perfect.ari) == (1.0, 1.0, 1.0)
    apart = score_clusters([1, 1, 2], [0, 1, 2])
    assert (apart.pairwise.precision, apart.pairwise.recall, apart.pairwise.f) == (1.0, 0.0, 0.0)
    one = score_clusters(["A"], [0])
    assert (one.pairwise.f, one.bcubed.f, one.people) == (1.0, 1.0, 1)
    json.dumps(apart.to_json(), allow_nan=False)


def test_many_people_and_clusters_fit_into_memory() -> None:
    # 60,000 people × 60,000 clusters would be 29 GB as a full table.
    labels = np.arange(120_000) // 2
    scores = score_clusters(labels, np.roll(labels, 1))
    assert scores.bcubed.precision == 0.5
    assert scores.pairwise.recall == 0.0


@pytest.mark.parametrize(
    ("labels", "clusters"), [([], []), (["A", "B"], [0]), (["A", "B"], [0.0, 1.0]), (["A", "B"], [[0], [1]])]
)
def test_what_cannot_be_scored(labels: list[str], clusters: list[object]) -> None:
    with pytest.raises(DataError, match="a person and a whole cluster number for each photo"):
        score_clusters(labels, clusters)


def test_the_elbow_is_where_the_groups_are() -> None:
    # Six groups as far from each other as any two: the sum falls in equal steps up to six.
    rows, _ = make_blobs(150, centers=5 * np.eye(6), cluster_std=0.2, random_state=2)
    bend = elbow(rows, [12, 1, 2, 4, 5, 6, 7, 9, 6], seed=0)
    assert bend.ks == (1, 2, 4, 5, 6, 7, 9, 12)
    assert bend.elbow == 6
    assert bend.sse[0] == pytest.approx(np.sum((rows - rows.mean(axis=0)) ** 2), rel=1e-5)
    assert all(np.diff(bend.sse) < 0)
    assert bend == elbow(rows, bend.ks, seed=0)
    json.dumps(bend.to_json(), allow_nan=False)


def test_the_bend_by_hand() -> None:
    from facetl.metrics.cluster_scores import _bend

    # Scaled: (0, 1), (1/8, 0.5), (3/8, 0.1), (1, 0): below the chord by 0.375 and 0.525.
    assert _bend(np.array([1.0, 2, 4, 9]), np.array([13.0, 8, 4, 3])) == 4
    assert _bend(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) is None  # straight
    assert _bend(np.array([1.0, 2, 3]), np.array([3.0, 2.9, 1])) is None  # bulges upwards
    assert _bend(np.array([1.0, 2]), np.array([3.0, 1])) is None
    assert _bend(np.array([1.0, 2, 3]), np.array([0.0, 0, 0])) is None


def test_numbers_of_clusters() -> None:
    assert elbow_ks(400)[0] == 1
    assert elbow_ks(400)[-1] == 200
    assert 15 <= len(elbow_ks(400)) <= 20
    assert elbow_ks(1) == (1,)
    assert elbow_ks(5) == (1, 2)


@pytest.mark.parametrize(
    ("ks", "message"), [([], "none"), ([0, 2], "0 to 2"), ([1, 4], "3 different photos takes 1 to 3 .*1 to 4")]
)
def test_numbers_of_clusters_that_cannot_be(ks: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        elbow(np.array([[0.0, 1], [1, 0], [1, 0], [0, 0]]), ks, seed=0)


def test_embeddings_that_cannot_be_clustered() -> None:
    with pytest.raises(DataError, match="finite"):
        elbow([[np.nan, 1.0]], [1], seed=0)
