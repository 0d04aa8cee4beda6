"""Neighbours against random: the same features, front and first weights, over seeds.

Once with as many gradient steps, once with as much time: neighbours have to be searched for, and random triplets may
take more epochs meanwhile.

Run: python benchmarks/samplers.py [LFW_FOLDER] [--seeds 5] [--folds 5] [--sweep]. LFW_FOLDER holds images/ and
pairs.txt; without it FACETL_LFW_DEV is taken, without either it prints this and ends. A head per fold of View 2
and seed; epoch and threshold from validation people. `--sweep` tries neighbours at other temperatures, candidates,
shares and warm-ups with one seed, on validation people alone. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facetl._tensorflow import start_tensorflow

CHOSEN = ("val_auc", "val_tar_at_far_1e-2")
MEASURED = ("auc", "accuracy", "tar_at_far_1e-1", "tar_at_far_1e-2")
SWEEP: dict[str, dict[str, Any]] = {
    "default": {},
    "temperature 0.2": {"temperature": 0.2},
    "temperature 1": {"temperature": 1.0},
    "candidates 64": {"candidates": 64},
    "uniform share 0": {"uniform_share": 0.0},
    "uniform share 0.5": {"uniform_share": 0.5},
    "no warm-up": {"warmup": 0, "ramp": 0},
    "warm-up 5": {"warmup": 5},
    "sharp": {"temperature": 0.05, "candidates": 64, "uniform_share": 0.0, "warmup": 0, "ramp": 0},
    "random": {"sampler": "random"},
}


SAME_TIME = "random, same time"
RIVALS: dict[str, dict[str, Any]] = {
    "neighbours": {},
    "random": {"sampler": "random"},
    SAME_TIME: {"sampler": "random"},
}


@dataclass(frozen=True)
class Fold:
    """A fold behind its front: rows [photos, components] float32, and who is where."""

    rows: np.ndarray
    labels: np.ndarray
    side: np.ndarray
    pairs: Any

    def of(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and labels of one side."""
        chosen = self.side == side
        return self.rows[chosen], self.labels[chosen]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--sweep", action="store_true")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("samplers: needs LFW; give its folder or set FACETL_LFW_DEV")
        return
    start_tensorflow()
    tried = SWEEP if arguments.sweep else RIVALS
    results: dict[str, list[dict[str, float]]] = {name: [] for name in tried}
    for seed in range(1 if arguments.sweep else arguments.seeds):
        folds = _folds(Path(arguments.folder), seed, arguments.folds)
        for name, changes in tried.items():
            if name == SAME_TIME:
                took = [results[rival][-1]["seconds"] for rival in ("neighbours", "random")]
                changes = {**changes, "epochs": max(1, round(_epochs() * took[0] / took[1]))}
            scores = [_score(fold, seed, changes, tested=not arguments.sweep) for fold in folds]
            results[name].append({key: float(np.mean([score[key] for score in scores])) for key in scores[0]})
            print(f"seed {seed} {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    shown = CHOSEN if arguments.sweep else (*CHOSEN, *MEASURED)
    print(f"{'':22s}" + "".join(f"{column:>21s}" for column in shown) + f"{'s a head':>10s}")
    for name, rows in results.items():
        cells = "".join(f"{_mean_error([row[column] for row in rows]):>21s}" for column in shown)
        print(f"{name:22s}{cells}{np.mean([row['seconds'] for row in rows]):10.1f}")
    if not arguments.sweep:
        for rival in ("random", SAME_TIME):
            both = list(zip(results["neighbours"], results[rival], strict=True))
            paired = [_mean_error([a[column] - b[column] for a, b in both]) for column in shown]
            print(f"{'less ' + rival:22s}" + "".join(f"{cell:>21s}" for cell in paired))
    print(json.dumps({"benchmark": "samplers", "sweep": arguments.sweep, "results": results}))


def _epochs() -> int:
    from facetl.training.settings import BALANCED

    return BALANCED.epochs


def _folds(folder: Path, seed: int, count: int) -> list[Fold]:
    """Fit each fold's front once, for all that are compared."""
    from facetl.backbones.backbone import Backbone
    from facetl.data.manifest import Manifest
    from facetl.data.pair_lists import read_lfw_pairs
    from facetl.embeddings import dataset
    from facetl.runs.lfw import rows_of_pairs, sides_of_fold
    from facetl.training.settings import BALANCED
    from facetl.training.whitening import Whitening

    settings = replace(BALANCED, seed=seed)
    protocol = read_lfw_pairs(folder / "pairs.txt")
    collection = dataset.embed(Manifest.from_folder(folder / "images"), Backbone(align="mtcnn", crop=0.5))
    pairs, _ = rows_of_pairs(collection, protocol)
    folds = []
    for fold in range(min(count, protocol.folds)):
        side = sides_of_fold(collection, protocol, fold, seed=settings.seed, validation=settings.validation)
        features, labels, _ = collection.rows(side == "train")
        rows = Whitening.fit(features, labels, **settings.whitening_options, layout=collection.layout).reduce(
            collection.features
        )
        assert rows is not None
        folds.append(Fold(rows, collection.manifest.labels, side, pairs[fold]))
    return folds


def _score(fold: Fold, seed: int, changes: dict[str, Any], *, tested: bool) -> dict[str, float]:
    """Train a head; the fold's own pairs are looked at only if `tested`."""
    from facetl.errors import CollapseError
    from facetl.metrics.pairs import sample_pairs
    from facetl.metrics.roc import accuracy_at, auc, tar_at_far
    from facetl.metrics.verification import pair_distances, threshold_from
    from facetl.training.fit import fit_head
    from facetl.training.head import embed
    from facetl.training.settings import BALANCED

    # Patience as long as the training: all take every step. The front is behind the rows already.
    steps = {
        "patience": changes.get("epochs", BALANCED.epochs),
        "standardise": "none",
        "root": False,
        "fallback": False,
    }
    settings = replace(BALANCED, seed=seed, **steps, **changes)
    held_out, held_out_labels = fold.of("validation")
    began = time.perf_counter()
    columns = CHOSEN + (MEASURED if tested else ())
    try:
        fitted = fit_head(*fold.of("train"), settings, validation=(held_out, held_out_labels))
    except CollapseError:
        return dict.fromkeys((*columns, "seconds"), float("nan"))
    seconds = time.perf_counter() - began
    pairs = sample_pairs(held_out_labels, seed=seed)
    distances = pair_distances(embed(fitted.head, held_out), pairs)
    chosen = {
        "val_auc": auc(distances, pairs.same),
        "val_tar_at_far_1e-2": tar_at_far(distances, pairs.same, 1e-2) or 0.0,
        "seconds": seconds,
    }
    if not tested:
        return chosen
    threshold = threshold_from(embed(fitted.head, held_out), held_out_labels, seed=seed)
    distances = pair_distances(embed(fitted.head, fold.rows), fold.pairs)
    return chosen | {
        "auc": auc(distances, fold.pairs.same),
        "accuracy": accuracy_at(distances, fold.pairs.same, threshold),
        "tar_at_far_1e-1": tar_at_far(distances, fold.pairs.same, 1e-1) or 0.0,
        "tar_at_far_1e-2": tar_at_far(distances, fold.pairs.same, 1e-2) or 0.0,
    }


def _mean_error(values: list[float]) -> str:
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{error}"


if __name__ == "__main__":
    main()
