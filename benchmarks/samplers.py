"""Neighbours against random: the same features, front, first weights and gradient steps, over seeds.

Run: python benchmarks/samplers.py [LFW_FOLDER] [--seeds 5]. LFW_FOLDER holds images/ and pairs.txt and is taken from
FACETL_LFW_DEV when not given; without either, the benchmark says so and ends. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from facetl.startup import start_tensorflow

SAMPLERS = ("neighbours", "random")
LFW_CROP = 0.512


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("samplers: needs LFW; give its folder or set FACETL_LFW_DEV")
        return
    start_tensorflow()
    from facetl.data.manifest import Manifest
    from facetl.data.protocols import read_lfw_pairs
    from facetl.features.collection import Collection, default_cache_folder
    from facetl.features.spec import ExtractorSpec
    from facetl.training.benchmark import benchmark_lfw
    from facetl.training.settings import BALANCED

    folder = Path(arguments.folder)
    protocol = read_lfw_pairs(folder / "pairs.txt")
    collection = Collection.open(
        Manifest.from_folder(folder / "images"), ExtractorSpec.of(crop=LFW_CROP), cache=default_cache_folder()
    )
    scores: dict[str, dict[str, list[float]]] = {}
    for sampler in SAMPLERS:
        found: dict[str, list[float]] = {"accuracy": [], "auc": [], "seconds": []}
        for seed in range(arguments.seeds):
            # Patience as long as the training: both take every step.
            settings = replace(BALANCED, sampler=sampler, seed=seed, patience=BALANCED.epochs)
            report = benchmark_lfw(collection, protocol, settings)
            trained = report.verifications["trained"]
            found["accuracy"].append(trained.accuracy)
            found["auc"].append(trained.auc)
            found["seconds"].append(sum(fold.seconds for fold in report.folds) / len(report.folds))
            print(f"{sampler} seed {seed}: {trained.accuracy:.4f}", file=sys.stderr, flush=True)
        scores[sampler] = found
    print(f"{'sampler':12s}{'accuracy':>18s}{'AUC':>18s}{'s a head':>10s}")
    for sampler, found in scores.items():
        accuracy, auc = (_mean_error(found[name]) for name in ("accuracy", "auc"))
        print(f"{sampler:12s}{accuracy:>18s}{auc:>18s}{np.mean(found['seconds']):10.1f}")
    print(json.dumps({"benchmark": "samplers", "seeds": arguments.seeds, **scores}))


def _mean_error(values: list[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.4f} ± {error:.4f}"


if __name__ == "__main__":
    main()
