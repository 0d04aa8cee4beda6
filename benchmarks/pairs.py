"""Siamese pairs: does a head get worse when it may draw from more of them, and does memory grow with them?

Run: python benchmarks/pairs.py [LFW_FOLDER] [--folds 2] [--seeds 3] [--epochs 20] [--rounds 8] [--front whiten]
[--memory-only]. LFW_FOLDER holds images/ and pairs.txt; without it FACETL_LFW_DEV is taken, without either only memory
is measured. The curve: heads with the contrastive loss that draw from a thousand, ten thousand, a hundred thousand and
all pairs of a fold's training people, as many steps for each, scored on balanced pairs of validation people inside the
training people; the folds' own pairs are not looked at. `--front` is what stands before the head: `whiten` has seen no
labels, so that all that is learnt comes from pairs; `discriminant` is the default of facetl train. Memory: the peak
resident set of a process that draws so many pairs, each size in a process of its own, beside what they would take
written down. Prints two tables and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

PAIRS = (1_000, 10_000, 100_000, 0)
DRAWN = (10_000, 100_000, 1_000_000, 10_000_000, 30_000_000)
PHOTOS = 8_000
_AT_ONCE = 4_096
_WRITTEN = 8  # bytes of a pair as two int32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--margin", type=float, default=None)
    parser.add_argument("--front", choices=("whiten", "discriminant"), default="whiten")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--draw", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draw is not None:
        print(json.dumps(_drawn(arguments.draw)))
        return
    memory = _memory()
    curve: dict[str, list[dict[str, float]]] = {}
    if arguments.folder is None:
        print("pairs: the curve needs LFW; give its folder or set FACETL_LFW_DEV")
    elif not arguments.memory_only:
        curve = _curve(Path(arguments.folder), arguments)
    print(json.dumps({"benchmark": "pairs", "front": arguments.front, "curve": curve, "memory": memory}))


def _memory() -> list[dict[str, float]]:
    print(f"{'pairs drawn':>12s}{'peak RSS, MB':>14s}{'over numpy, MB':>16s}{'written down, MB':>18s}{'pairs/s':>12s}")
    rows = []
    for pairs in DRAWN:
        command = [sys.executable, __file__, "--draw", str(pairs)]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        rows.append(row)
        print(
            f"{pairs:12,}{row['rss'] / 1e6:14.1f}{(row['rss'] - row['idle']) / 1e6:16.1f}"
            f"{row['pairs'] * _WRITTEN / 1e6:18.1f}{row['pairs'] / row['seconds']:12,.0f}",
            flush=True,
        )
    return rows


def _drawn(pairs: int) -> dict[str, float]:
    """Draw every pair of a pool once, or as often as kinds and people are balanced; bytes and seconds."""
    from facetl.samplers import PairSampler

    rng = np.random.default_rng(0)
    # People have from 1 to 60 photos.
    ends = np.cumsum(rng.integers(1, 61, PHOTOS))
    labels = np.searchsorted(ends, np.arange(PHOTOS), side="right")
    idle = _peak()
    began = time.perf_counter()
    sampler = PairSampler(labels, per_epoch=_AT_ONCE, most_pairs=pairs, seed=0)
    same = 0
    for start in range(0, pairs, _AT_ONCE):
        drawn = sampler.draw(start, min(_AT_ONCE, pairs - start))
        same += int(np.count_nonzero(labels[drawn.rows[:, 0]] == labels[drawn.rows[:, 1]]))
    seconds = time.perf_counter() - began
    return {"pairs": pairs, "one_person": same, "idle": idle, "rss": _peak(), "seconds": seconds}


def _peak() -> int:
    """Return the peak resident set so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _curve(folder: Path, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    from facetl._tensorflow import start_tensorflow

    start_tensorflow()
    results: dict[str, list[dict[str, float]]] = {}
    for fold, (train, validation) in enumerate(_folds(folder, arguments)):
        for seed in range(arguments.seeds):
            for pairs in PAIRS:
                name = f"{pairs:,}" if pairs else "all"
                row = _trained(train, validation, pairs, seed, arguments)
                results.setdefault(name, []).append(row | {"fold": fold, "seed": seed})
                print(f"fold {fold} seed {seed} {name}: {row}", file=sys.stderr, flush=True)
    columns = ("val_auc", "val_accuracy", "last_auc", "last_loss", "last_val_loss")
    print(f"{'pairs':>10s}{'distinct':>14s}" + "".join(f"{name:>20s}" for name in columns) + f"{'s a head':>10s}")
    for name, rows in results.items():
        cells = "".join(f"{_mean_error([row[column] for row in rows]):>20s}" for column in columns)
        distinct, seconds = (np.mean([row[column] for row in rows]) for column in ("distinct", "seconds"))
        print(f"{name:>10s}{distinct:14,.0f}{cells}{seconds:10.1f}")
    fewest, every = results[f"{PAIRS[0]:,}"], results["all"]
    gains = [more["val_auc"] - less["val_auc"] for less, more in zip(fewest, every, strict=True)]
    print(f"all less {PAIRS[0]:,}, AUC, paired by fold and seed: {_mean_error(gains)}")
    return results


def _folds(folder: Path, arguments: argparse.Namespace) -> Any:
    """Yield the rows behind the front, and labels, of a fold's training people and of its validation people."""
    from facetl.backbones.backbone import Backbone
    from facetl.data.manifest import Manifest
    from facetl.data.pair_lists import read_lfw_pairs
    from facetl.embeddings import dataset
    from facetl.runs.lfw import sides_of_fold
    from facetl.training.settings import BALANCED
    from facetl.training.whitening import Whitening

    collection = dataset.embed(Manifest.from_folder(folder / "images"), Backbone(align="mtcnn", crop=0.5))
    protocol = read_lfw_pairs(folder / "pairs.txt")
    front_settings = replace(BALANCED, standardise=arguments.front, regions=arguments.front == "discriminant")
    for fold in range(min(arguments.folds, protocol.folds)):
        side = sides_of_fold(collection, protocol, fold, seed=BALANCED.seed, validation=BALANCED.validation)
        features, labels, _ = collection.rows(side == "train")
        front = Whitening.fit(features, labels, **front_settings.whitening_options, layout=collection.layout)
        held_out, held_out_labels, _ = collection.rows(side == "validation")
        yield (front.reduce(features), labels), (front.reduce(held_out), held_out_labels)


def _trained(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    pairs: int,
    seed: int,
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """Train a head for as many steps whatever the pairs, and give its curves' best and last values."""
    from facetl.errors import CollapseError
    from facetl.training.fit import fit_head, make_sampler
    from facetl.training.settings import preset

    settings = preset(
        "balanced",
        sampler="pairs",
        margin=arguments.margin,
        most_pairs=pairs,
        rounds=arguments.rounds,
        epochs=arguments.epochs,
        patience=arguments.epochs,
        standardise="none",
        root=False,
        fallback=False,
        seed=seed,
    )
    sampler: Any = make_sampler(train[1], settings)
    distinct = {"distinct": float(sampler.positives + sampler.negatives)}
    began = time.perf_counter()
    try:
        history = fit_head(*train, settings, validation=validation).history
    except CollapseError:
        nothing = dict.fromkeys(("val_auc", "val_accuracy", "last_auc", "last_loss", "last_val_loss"), float("nan"))
        return distinct | nothing | {"seconds": time.perf_counter() - began}
    best, last = history.loc[history["val_auc"].idxmax()], history.iloc[-1]
    return distinct | {
        "val_auc": float(best["val_auc"]),
        "val_accuracy": float(best["val_accuracy"]),
        "last_auc": float(last["val_auc"]),
        "last_loss": float(last["loss"]),
        "last_val_loss": float(last["val_loss"]),
        "seconds": time.perf_counter() - began,
    }


def _mean_error(values: list[float]) -> str:
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{error}"


if __name__ == "__main__":
    main()
