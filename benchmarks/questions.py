"""The worth of 20 answers to "same person?": chosen by the queue, at random among uncertain pairs, at random.

Run: python benchmarks/questions.py [LFW_FOLDER] [--extractor dlib] [--keep album.npz] [--answers 20] [--seeds 5]. Each
seed is another random half of the album's people; all start from the same stacks, every answer is the truth, and the
faces are stacked anew after each. Prints BCubed F before and after as a table, and a JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
from album import Album, add_arguments, open_album

from facetl.clustering.active_learning import questions
from facetl.clustering.clusters import Clustering, cluster
from facetl.clustering.constraints import Constraints
from facetl.metrics.cluster_scores import score_clusters

UNCERTAIN = (0.1, 0.9)
_ALL = 100_000

Pair = tuple[int, int]
Chooser = Callable[[Album, Clustering, Constraints, np.random.Generator], Pair]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    album = open_album(arguments)
    if album is None:
        return
    print(f"BCubed F before, and after {arguments.answers} answers")
    print(f"seed  faces  people  before  {'  '.join(f'{name:>9s}' for name in CHOOSERS)}")
    rows = []
    for seed in range(arguments.seeds):
        half = album.halves(seed=seed)[0]
        row = {"seed": seed, "before": _f(half, _stacked(half, Constraints()))}
        row |= {name: after(half, choose, answers=arguments.answers, seed=seed) for name, choose in CHOOSERS.items()}
        rows.append(row)
        after_each = "  ".join(f"{row[name]:9.4f}" for name in CHOOSERS)
        people = len(np.unique(half.labels))
        print(f"{seed:4d}  {len(half.labels):5d}  {people:6d}  {row['before']:.4f}  {after_each}", flush=True)
    rises = {name: np.array([row[name] - row["before"] for row in rows]) for name in CHOOSERS}
    for name, rise in rises.items():
        ahead = rises["queue"] - rise
        spread = ahead.std(ddof=1) / np.sqrt(len(ahead)) if len(ahead) > 1 else float("nan")
        print(
            f"{name:9s} rises {rise.mean():+.4f}"
            + (f", queue ahead by {ahead.mean():.4f} ± {spread:.4f}" * (name != "queue"))
        )
    print(json.dumps({"benchmark": "questions", "extractor": arguments.extractor, "rows": rows}))


def after(album: Album, choose: Chooser, *, answers: int, seed: int) -> float:
    """BCubed F of the stacks after so many true answers."""
    rng = np.random.default_rng(seed)
    known = Constraints()
    stacks = _stacked(album, known)
    for _ in range(answers):
        first, second = choose(album, stacks, known, rng)
        if album.labels[first] == album.labels[second]:
            known = Constraints(same=[*known.same, (first, second)], different=known.different)
        else:
            known = Constraints(same=known.same, different=[*known.different, ((first,), (second,))])
        stacks = _stacked(album, known)
    return _f(album, stacks)


def _queue(album: Album, stacks: Clustering, known: Constraints, rng: np.random.Generator) -> Pair:
    best = _asked(album, stacks, known, 1)[0]
    return best.first, best.second


def _uncertain(album: Album, stacks: Clustering, known: Constraints, rng: np.random.Generator) -> Pair:
    low, high = UNCERTAIN
    able = [one for one in _asked(album, stacks, known, _ALL) if low <= one.probability <= high]
    one = able[rng.integers(len(able))]
    return one.first, one.second


def _random(album: Album, stacks: Clustering, known: Constraints, rng: np.random.Generator) -> Pair:
    first, second = rng.choice(len(album.labels), 2, replace=False).tolist()
    return first, second


CHOOSERS: dict[str, Chooser] = {"queue": _queue, "uncertain": _uncertain, "random": _random}


def _asked(album: Album, stacks: Clustering, known: Constraints, count: int) -> list:
    return questions(
        album.embeddings,
        stacks.stack,
        calibration=album.calibration,
        threshold=album.threshold,
        constraints=known,
        count=count,
    )


def _stacked(album: Album, known: Constraints) -> Clustering:
    return cluster(album.embeddings, calibration=album.calibration, threshold=album.threshold, constraints=known)


def _f(album: Album, stacks: Clustering) -> float:
    return score_clusters(album.labels, stacks.stack).bcubed.f


if __name__ == "__main__":
    main()
