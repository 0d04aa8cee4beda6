"""Stacks of an unlabelled album of people whom the head has never seen, beside what else could group them.

Run: python benchmarks/stacks.py [LFW_FOLDER] [--extractor dlib] [--keep album.npz] | --scale 1000,5000,20000,100000.
The album is everybody with 5 photos or more, the head's people are all the others. DBSCAN gets the radius that is best
on this very album, on raw features and on the head's embeddings; Chinese whispers and average linkage get the run's
threshold, and Chinese whispers also the one that is best on this very album. BCubed, pairs, and a JSON line. --scale
times synthetic faces instead, and prints the time of comparing all with all beside it, and of adding 100 new ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
from album import Album, add_arguments, open_album
from sklearn.cluster import DBSCAN

from facetl.clustering.clusters import cluster
from facetl.clustering.incremental import NEW, assign_new
from facetl.clustering.neighbours import neighbours
from facetl.metrics.cluster_scores import ClusterScores, score_clusters
from facetl.metrics.linalg import normalised

RADII = 40
ROUNDS = 30
NEW_FACES = 100
PHOTOS_OF_A_PERSON = 8.0
NOISE = 0.075  # a coordinate's, around a random unit vector in WIDTH dimensions: two photos of a person at 0.85
WIDTH = 128
THRESHOLD = 1.4
DLIB_GROUPS = 0.5  # the distance that dlib's own example of grouping faces takes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--scale", help="numbers of synthetic faces, as 1000,5000; nothing else is measured then")
    arguments = parser.parse_args()
    if arguments.scale is not None:
        scale([int(number) for number in arguments.scale.split(",")])
        return
    album = open_album(arguments)
    if album is None:
        return
    chosen, reported = album.halves()
    rows = []
    for name, part in (("all", album), ("half to choose on", chosen), ("other half", reported)):
        print(f"\n{name}: {len(part.labels):,} faces of {len(np.unique(part.labels)):,} people")
        print(f"{'':32s}BCubed  P      R      F     pairs  P      R     stacks  seconds")
        for method, scores, seconds in measured(part):
            row = {"album": name, "method": method, "seconds": seconds, **scores.to_json()}
            rows.append(row)
            bcubed, pairs = scores.bcubed, scores.pairwise
            print(
                f"{method:38s}{bcubed.precision:.3f}  {bcubed.recall:.3f}  {bcubed.f:.3f}        "
                f"{pairs.precision:.3f}  {pairs.recall:.3f}  {scores.clusters:6d}  {seconds:7.1f}",
                flush=True,
            )
    print(json.dumps({"benchmark": "stacks", "extractor": arguments.extractor, "rows": rows}))


def measured(album: Album) -> Iterator[tuple[str, ClusterScores, float]]:
    """Yield each method's name, scores and time."""
    embedded = np.maximum(2.0 - 2.0 * (album.embeddings @ album.embeddings.T), 0.0)

    def ours() -> np.ndarray:
        return cluster(album.embeddings, calibration=album.calibration, threshold=album.threshold).stack

    def linked() -> np.ndarray:
        from facetl.runs.evaluation import average_linkage

        return average_linkage(album.embeddings, threshold=album.threshold)

    methods: dict[str, Callable[[], np.ndarray]] = {
        "facetl": ours,
        "average linkage at the threshold": linked,
        "Chinese whispers at the threshold": lambda: whispers(embedded, threshold=album.threshold, seed=0),
        "Chinese whispers, best threshold": lambda: best_whispers(embedded, album.labels),
        "DBSCAN, best radius": lambda: best_dbscan(embedded, album.labels),
        "DBSCAN on raw features, best radius": lambda: best_dbscan(album.raw, album.labels),
    }
    if album.vectors.size:
        methods |= untrained(album.vectors)
    for name, method in methods.items():
        began = time.perf_counter()
        stacks = method()
        yield name, score_clusters(album.labels, stacks), time.perf_counter() - began


def untrained(vectors: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """The thresholds of dlib without a head or a calibration: its authors' thresholds, of faces and for grouping."""
    from facetl.runs.pretrained import PUBLISHED, RADIUS
    from facetl.training.layers import SphereLift

    lifted = np.asarray(SphereLift(RADIUS)(vectors))
    squares = np.square(vectors).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2.0 * (vectors @ vectors.T), 0.0)
    return {
        "facetl, dlib as it is": lambda: (
            cluster(lifted, calibration=None, threshold=PUBLISHED["dlib"] / RADIUS**2).stack
        ),
        "Chinese whispers at dlib's 0.5": lambda: whispers(distances, threshold=DLIB_GROUPS**2, seed=0),
    }


def whispers(distances: np.ndarray, *, threshold: float, seed: int) -> np.ndarray:
    """Chinese whispers (Biemann, 2006) as dlib does it: edges up to the threshold, all of one weight."""
    rng = np.random.default_rng(seed)
    near = [np.flatnonzero(row) for row in (distances <= threshold) & ~np.eye(len(distances), dtype=bool)]
    labels = np.arange(len(distances))
    for _ in range(ROUNDS):
        before = labels.copy()
        for row in rng.permutation(len(labels)):
            if len(near[row]):
                seen, votes = np.unique(labels[near[row]], return_counts=True)
                labels[row] = seen[np.argmax(votes)]
        if (labels == before).all():
            break
    return labels


def best_whispers(distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Chinese whispers with the threshold of the highest BCubed F on this album: nobody could know it."""
    return _best([whispers(distances, threshold=radius, seed=0) for radius in radii(distances)], labels)


def best_dbscan(distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """DBSCAN (two photos make a group) with the radius of the highest BCubed F on this album: nobody could know it."""
    return _best(
        [DBSCAN(eps=radius, min_samples=2, metric="precomputed").fit_predict(distances) for radius in radii(distances)],
        labels,
    )


def radii(distances: np.ndarray) -> list[float]:
    """Return distances to try: quantiles of those to the nearest face."""
    nearest = np.sort(distances + 8.0 * np.eye(len(distances), dtype=np.float32), axis=1)[:, 0]
    return [max(float(radius), 1e-9) for radius in np.quantile(nearest, np.linspace(0.02, 0.98, RADII))]


def _best(found: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return max(found, key=lambda stacks: score_clusters(labels, stacks).bcubed.f)


def scale(sizes: list[int]) -> None:
    """Time synthetic faces: people's sizes are geometric, each a random direction with noise around it."""
    print("     faces  people   stack all   of it neighbours   stacks  BCubed F   add 100 new")
    rows = []
    for size in sizes:
        embeddings, labels = synthetic(size, seed=0)
        began = time.perf_counter()
        neighbours(embeddings, 20)
        listing = time.perf_counter() - began
        began = time.perf_counter()
        done = cluster(embeddings, calibration=None, threshold=THRESHOLD)
        seconds = time.perf_counter() - began
        fresh = np.arange(size) >= size - NEW_FACES
        stack = np.where(fresh, NEW, done.stack)
        began = time.perf_counter()
        assign_new(embeddings, stack, done.confidence, calibration=None, threshold=THRESHOLD)
        adding = time.perf_counter() - began
        f = score_clusters(labels, done.stack).bcubed.f
        people = len(np.unique(labels))
        print(
            f"{size:10,d}  {people:6,d}  {seconds:8.1f} s  {listing:14.1f} s  {len(done.stacks):7,d}  {f:8.3f}"
            f"  {adding:10.2f} s",
            flush=True,
        )
        rows.append({"faces": size, "seconds": seconds, "neighbours": listing, "adding": adding, "bcubed_f": f})
    print(json.dumps({"benchmark": "stacks --scale", "rows": rows}))


def synthetic(faces: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors float32 [faces, WIDTH] and whose they are."""
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(1.0 / PHOTOS_OF_A_PERSON, faces)
    labels = np.repeat(np.arange(faces), sizes)[:faces]
    centres = normalised(rng.standard_normal((labels.max() + 1, WIDTH)).astype(np.float32))
    noise = NOISE * rng.standard_normal((faces, WIDTH)).astype(np.float32)
    order = rng.permutation(faces)
    return normalised(centres[labels] + noise)[order], labels[order]


if __name__ == "__main__":
    main()
