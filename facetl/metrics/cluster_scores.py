"""Scoring of groups of photos against the people on them, and the elbow of k-means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.pairs import Ints
from facetl.metrics.roc import Floats

NOISE = -1

_ELBOW_POINTS = 20
_STARTS = 3  # of k-means for each k: one start leaves an SSE that may rise with k


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and f, their harmonic mean, each in [0, 1]."""

    precision: float
    recall: float
    f: float


@dataclass(frozen=True)
class ClusterScores(JsonFields):
    """Agreement of clusters with people.

    bcubed is averaged over photos (Amigó et al., 2009), pairwise over pairs of photos, ari is the adjusted Rand
    index (Hubert and Arabie, 1985), 0 for chance. people is the true number, clusters the number found, in which
    each of the `noise` photos that were put nowhere counts as one.
    """

    bcubed: PrecisionRecall
    pairwise: PrecisionRecall
    ari: float
    photos: int
    people: int
    clusters: int
    noise: int


@dataclass(frozen=True)
class Elbow(JsonFields):
    """Within-cluster sum of squares of k-means: sse[i] for ks[i]; elbow is the k of the bend, None without one."""

    ks: tuple[int, ...]
    sse: tuple[float, ...]
    elbow: int | None


def score_clusters(labels: npt.ArrayLike, clusters: npt.ArrayLike) -> ClusterScores:
    """Compare clusters with people.

    labels: [photos], anything that numpy can sort; clusters: int [photos], −1 for a photo that is in no cluster and
    counts as one of its own. Pairwise precision is 1 where no pair was joined, recall where there is none to join.
    Raises DataError where there are no photos, or the lengths differ.
    """
    from sklearn.metrics import adjusted_rand_score
    from sklearn.metrics.cluster import contingency_matrix

    labels, clusters = np.asarray(labels), np.asarray(clusters)
    if labels.ndim != 1 or labels.shape != clusters.shape or not len(labels) or clusters.dtype.kind not in "iu":
        raise DataError(
            "Scoring needs a person and a whole cluster number for each photo. "
            f"Received: {labels.shape} and {clusters.dtype} {clusters.shape}."
        )
    noise = clusters == NOISE
    cluster = np.unique(clusters, return_inverse=True)[1]
    cluster[noise] = len(clusters) + np.arange(np.count_nonzero(noise))
    # Only the cells that occur: at most one a photo, where people × clusters would not fit into memory.
    shared = contingency_matrix(labels, cluster, sparse=True).tocoo()
    cells = shared.data
    of_person, of_cluster = (np.asarray(shared.sum(axis=axis)).ravel() for axis in (1, 0))
    return ClusterScores(
        bcubed=_precision_recall(
            float(np.sum(cells**2 / of_cluster[shared.col]) / len(labels)),
            float(np.sum(cells**2 / of_person[shared.row]) / len(labels)),
        ),
        pairwise=_precision_recall(
            _share(_couples(cells), _couples(of_cluster)), _share(_couples(cells), _couples(of_person))
        ),
        ari=float(adjusted_rand_score(labels, cluster)),
        photos=len(labels),
        people=len(of_person),
        clusters=len(of_cluster),
        noise=int(np.count_nonzero(noise)),
    )


def bcubed(labels: npt.ArrayLike, clusters: npt.ArrayLike) -> PrecisionRecall:
    """Return B³ precision and recall, averaged over photos (Amigó et al., 2009); arguments as of `score_clusters`."""
    return score_clusters(labels, clusters).bcubed


def elbow(embeddings: npt.ArrayLike, ks: Sequence[int], *, seed: int) -> Elbow:
    """Return the sum of squared distances to the nearest of k centres over k, and where it bends.

    embeddings: float [photos, dim]; ks: numbers of clusters, each 1 to the number of different photos. The bend is
    the point farthest below the chord from the first to the last (Satopää et al., 2011: Kneedle). It shows a
    number of people only where they are well apart. Raises DataError for other ks.
    """
    from sklearn.cluster import KMeans

    rows = np.asarray(embeddings, np.float32)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise DataError(f"k-means needs finite embeddings [photos, dim]. Received: shape {rows.shape}.")
    wanted = sorted(set(ks))
    different = len(np.unique(rows, axis=0))
    if not wanted or wanted[0] < 1 or wanted[-1] > different:
        raise DataError(
            f"k-means on {different} different photos takes 1 to {different} clusters. "
            f"Received: {f'{wanted[0]} to {wanted[-1]}' if wanted else 'none'}."
        )
    sse = [float(KMeans(k, n_init=_STARTS, random_state=seed).fit(rows).inertia_) for k in wanted]
    return Elbow(tuple(wanted), tuple(sse), _bend(np.array(wanted, np.float64), np.array(sse)))


def elbow_ks(photos: int) -> tuple[int, ...]:
    """Return about 20 numbers of clusters from 1 to half of the photos, closer together where they are small."""
    last = max(1, photos // 2)
    return tuple(int(k) for k in np.unique(np.rint(np.geomspace(1, last, _ELBOW_POINTS)).astype(np.int64)))


def _bend(ks: Floats, sse: Floats) -> int | None:
    if len(ks) < 3 or sse[0] <= sse[-1]:
        return None
    across = (ks - ks[0]) / (ks[-1] - ks[0])
    below = 1.0 - across - (sse - sse[-1]) / (sse[0] - sse[-1])  # the chord falls from 1 to 0
    best = int(np.argmax(below))
    return int(ks[best]) if below[best] > 1e-9 else None


def _precision_recall(precision: float, recall: float) -> PrecisionRecall:
    total = precision + recall
    return PrecisionRecall(precision, recall, 2.0 * precision * recall / total if total else 0.0)


def _couples(sizes: Ints) -> int:
    return int(np.sum(sizes * (sizes - 1) // 2))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
