"""Calibration checked on other people: everything is fitted on two folds' people, and tried on the other three.

Run: python benchmarks/calibration.py [LFW_FOLDER] [--far 0.01] [--couples N]. LFW_FOLDER holds images/ and pairs.txt;
without it FACETL_LFW_DEV is taken, without either the benchmark says so and ends. For each couple of folds of View 2 a
head is trained on people of the couple and of no fold, a threshold and a probability fitted on further people of the
couple, and both tried on the people of the other folds, whom nothing has seen: the FAR over all their pairs against the
stated interval, the expected calibration error over their official pairs. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from facetl._tensorflow import start_tensorflow

# Of the couple's people, for the threshold and the choice of the epoch: a threshold for a low FAR takes many.
HELD_OUT = 0.4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--far", type=float, default=1e-2)
    parser.add_argument("--couples", type=int, default=0, help="0 for all")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("calibration: needs LFW; give its folder or set FACETL_LFW_DEV")
        return
    start_tensorflow()
    rows = _measure(Path(arguments.folder), arguments.far, arguments.couples)
    titles = {"people": 8, "others": 8, "FAR": 9, "interval": 20, "inside": 8, "ECE": 8, "FAR, official": 15}
    print(f"{'folds':8s}" + "".join(f"{title:>{width}s}" for title, width in titles.items()))
    for row in rows:
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        print(
            f"{row['folds']:8s}{row['people']:8d}{row['others']:8d}{row['far']:9.4f}{interval:>20s}"
            f"{'yes' if row['inside'] else 'no':>8s}{row['ece']:8.3f}{row['official_far']:15.4f}"
        )
    errors = [float(row["ece"]) for row in rows]
    print(
        f"inside {sum(bool(row['inside']) for row in rows)} of {len(rows)}; mean FAR "
        f"{np.mean([row['far'] for row in rows]):.4f}; ECE {np.mean(errors):.4f}, at most {max(errors):.4f}"
    )
    print(json.dumps({"benchmark": "calibration", "asked": arguments.far, "results": rows}))


def _measure(folder: Path, far: float, couples: int) -> list[dict[str, object]]:
    from facetl.backbones.backbone import Backbone
    from facetl.calibration.calibration import Target, calibrate_pairs
    from facetl.calibration.error_rates import PeoplePairs, interval_elsewhere
    from facetl.calibration.probability import reliability
    from facetl.data.manifest import Manifest
    from facetl.data.pair_lists import read_lfw_pairs
    from facetl.embeddings import dataset
    from facetl.metrics.verification import pair_distances
    from facetl.runs.lfw import rows_of_pairs
    from facetl.training.fit import fit_head
    from facetl.training.head import embed
    from facetl.training.settings import BALANCED

    settings = replace(BALANCED, fallback=False)
    protocol = read_lfw_pairs(folder / "pairs.txt")
    collection = dataset.embed(Manifest.from_folder(folder / "images"), Backbone(align="mtcnn", crop=0.5))
    names = np.array([photo.identity for photo in collection.manifest.photos])
    fold_of = {name: fold for fold in range(protocol.folds) for name in protocol.people(fold)}
    fold = np.array([fold_of.get(name, -1) for name in names])
    official, _ = rows_of_pairs(collection, protocol)
    found: list[dict[str, object]] = []
    every = list(itertools.combinations(range(protocol.folds), 2))
    for couple in every[: couples or len(every)]:
        own = np.isin(fold, couple)
        people = np.unique(names[own])
        chosen = np.random.default_rng(0).permutation(people)[: round(HELD_OUT * len(people))]
        held = own & np.isin(names, chosen)
        others = ~own & (fold >= 0)
        features, labels, _ = collection.rows(~held & ~others)
        held_out, held_out_labels, _ = collection.rows(held)
        fitted = fit_head(features, labels, settings, validation=(held_out, held_out_labels), layout=collection.layout)
        calibration = calibrate_pairs(
            embed(fitted.head, held_out), held_out_labels, target=Target("far", far), seed=0
        ).calibration
        embeddings = embed(fitted.head, collection.features)
        elsewhere = PeoplePairs(embeddings[others], collection.manifest.labels[others], seed=0)
        measured = elsewhere.errors_at(calibration.threshold).far
        assert calibration.far.variance is not None
        interval = interval_elsewhere(
            calibration.far.value, calibration.far.variance, people=calibration.people, elsewhere=elsewhere.people
        )
        tested = [official[number] for number in range(protocol.folds) if number not in couple]
        distances = np.concatenate([pair_distances(embeddings, pairs) for pairs in tested])
        same = np.concatenate([pairs.same for pairs in tested])
        row: dict[str, object] = {
            "folds": "+".join(str(number + 1) for number in couple),
            "people": calibration.people,
            "others": elsewhere.people,
            "far": measured,
            "low": interval.low,
            "high": interval.high,
            "inside": bool(interval.low <= measured <= interval.high),
            "ece": reliability(calibration.probability(distances), same).error,
            "official_far": float(np.mean(distances[~same] <= calibration.threshold)),
        }
        found.append(row)
        print(row, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
