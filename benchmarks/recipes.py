"""Ablation of the recipe of a small head on a frozen net: one thing changed at a time.

Run: python benchmarks/recipes.py [LFW_FOLDER] [--folds 5] [--only NAME,NAME] [--heads]. LFW_FOLDER holds images/ and
pairs.txt; without it FACETL_LFW_DEV is taken, without either the benchmark says so and ends. All figures are of
validation people inside the training people of a fold of View 2; the folds' own pairs are not looked at: that is for
`facetl benchmark lfw`, once for a finished recipe. Without `--heads`, the closed-form front alone is scored; with it, a
head is trained behind the default's front. Features of an alignment, crop or tap that are not cached yet take minutes.
Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facetl._tensorflow import start_tensorflow

ALIGNED: dict[str, Any] = {"align": "mtcnn", "crop": 0.5}
# name → what the extractor is, and what of the settings is changed.
FRONTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": (ALIGNED, {}),
    "centre crop": ({"crop": 0.512}, {}),
    "centre crop no regions": ({"crop": 0.512}, {"regions": False}),
    "no regions": (ALIGNED, {"regions": False}),
    "joined 128": (ALIGNED, {"joined": 128}),
    "joined 1024": (ALIGNED, {"joined": 1024}),
    "components 150": (ALIGNED, {"components": 150}),
    "components 450": (ALIGNED, {"components": 450}),
    "shrinkage 0.2": (ALIGNED, {"shrinkage": 0.2}),
    "no root": (ALIGNED, {"root": False}),
    "whiten only": (ALIGNED, {"standardise": "whiten", "regions": False}),
    "wide crop": (ALIGNED | {"crop": 0.7}, {}),
    "two crops": (ALIGNED | {"crop": (0.5, 0.7)}, {}),
    "two crops joined 1024": (ALIGNED | {"crop": (0.5, 0.7)}, {"joined": 1024}),
    "three crops": (ALIGNED | {"crop": (0.36, 0.5, 0.7)}, {}),
}
_SEEDS = 4
DISTILLED = "four seeds distilled"
# name → settings of the head behind the default's front.
HEADS: dict[str, dict[str, Any]] = {
    "default": {},
    DISTILLED: {},
    "random": {"sampler": "random"},
    "no dropout": {"input_dropout": 0.0},
    "hinge": {"softness": 0.0},
    "tanh": {"activations": ("linear", "linear", "tanh")},
    "glorot": {"initialiser": "glorot"},
    "one layer of 512": {"widths": (512,), "activations": ("linear",), "normalised": (True,)},
    "weight decay 1e-3": {"weight_decay": 1e-3},
    "batch-hard": {"sampler": "pk", "mining": "batch-hard"},
    "batch-all": {"sampler": "pk", "mining": "batch-all"},
    "semi-hard": {"sampler": "pk", "mining": "semi-hard"},
    "distance-weighted": {"sampler": "pk", "mining": "distance-weighted"},
    **{
        loss: {"sampler": "pk", "loss": loss}
        for loss in (
            "contrastive",
            "n-pair",
            "multi-similarity",
            "supcon",
            "arcface",
            "cosface",
            "proxy-anchor",
            "circle",
        )
    },
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--heads", action="store_true")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("recipes: needs LFW; give its folder or set FACETL_LFW_DEV")
        return
    start_tensorflow()
    names = [name for name in arguments.only.split(",") if name] or list(HEADS if arguments.heads else FRONTS)
    measure = _heads if arguments.heads else _fronts
    results = measure(Path(arguments.folder), names, arguments.folds)
    print(f"{'':26s}{'validation AUC':>20s}{'accuracy':>20s}{'s a fold':>10s}")
    for name, rows in results.items():
        cells = "".join(f"{_mean_error([row[column] for row in rows]):>20s}" for column in ("auc", "accuracy"))
        print(f"{name:26s}{cells}{np.mean([row['seconds'] for row in rows]):10.1f}")
    print(json.dumps({"benchmark": "recipes", "heads": arguments.heads, "results": results}))


def _fronts(folder: Path, names: list[str], folds: int) -> dict[str, list[dict[str, float]]]:
    """Score closed-form fronts; rows of validation people alone are reduced."""
    from facetl.training.settings import BALANCED
    from facetl.training.whitening import Whitening

    results: dict[str, list[dict[str, float]]] = {}
    for name in names:
        extractor, changes = FRONTS[name]
        settings = replace(BALANCED, **changes)
        for collection, side in _folds(folder, extractor, folds):
            began = time.perf_counter()
            features, labels, _ = collection.rows(side == "train")
            front = Whitening.fit(features, labels, **settings.whitening_options, layout=collection.layout)
            held_out, held_out_labels, _ = collection.rows(side == "validation")
            score = _score(front.reduce(held_out), held_out_labels)
            results.setdefault(name, []).append(score | {"seconds": time.perf_counter() - began})
            print(f"{name}: {results[name][-1]}", file=sys.stderr, flush=True)
    return results


def _heads(folder: Path, names: list[str], folds: int) -> dict[str, list[dict[str, float]]]:
    """Score heads behind one front a fold, the default's."""
    from facetl.errors import CollapseError
    from facetl.training.head import embed
    from facetl.training.settings import BALANCED
    from facetl.training.whitening import Whitening

    results: dict[str, list[dict[str, float]]] = {name: [] for name in ("front alone", *names)}
    for collection, side in _folds(folder, ALIGNED, folds):
        features, labels, _ = collection.rows(side == "train")
        front = Whitening.fit(features, labels, **BALANCED.whitening_options, layout=collection.layout)
        rows, (held_out, held_out_labels, _) = front.reduce(features), collection.rows(side == "validation")
        reduced = front.reduce(held_out)
        results["front alone"].append(_score(reduced, held_out_labels) | {"seconds": 0.0})
        for name in names:
            settings = replace(BALANCED, standardise="none", root=False, fallback=False, **HEADS[name])
            began = time.perf_counter()
            try:
                validation = (reduced, held_out_labels)
                train = _seeds_distilled if name == DISTILLED else _fitted
                head = train(rows, labels, settings, validation)
            except CollapseError:
                score = {"auc": float("nan"), "accuracy": float("nan")}
            else:
                score = _score(embed(head, reduced), held_out_labels)
            results[name].append(score | {"seconds": time.perf_counter() - began})
            print(f"{name}: {results[name][-1]}", file=sys.stderr, flush=True)
    return results


def _fitted(rows: np.ndarray, labels: np.ndarray, settings: Any, validation: tuple[Any, np.ndarray]) -> Any:
    from facetl.training.fit import fit_head

    return fit_head(rows, labels, settings, validation=validation).head


def _seeds_distilled(rows: np.ndarray, labels: np.ndarray, settings: Any, validation: tuple[Any, np.ndarray]) -> Any:
    """Train heads of four seeds, and one more on what they say together (Hinton, Vinyals, Dean 2015).

    Side by side, the heads' embeddings have the mean of their squared distances; the leading directions of that are
    what the student learns to give, on photos and on mixtures of two.
    """
    import keras

    from facetl.training.fit import fit_head
    from facetl.training.head import build_trunk, embed

    heads = [fit_head(rows, labels, replace(settings, seed=seed), validation=validation).head for seed in range(_SEEDS)]
    rng = np.random.default_rng(0)
    mixed = [(rows + rows[rng.permutation(len(rows))]) / np.sqrt(2) for _ in range(4)]
    inputs = np.concatenate([rows, *mixed]).astype(np.float32)
    together = np.concatenate([embed(head, inputs) for head in heads], axis=1)
    turn = np.linalg.eigh(together[: len(rows)].T @ together[: len(rows)])[1][:, ::-1][:, : settings.widths[-1]]
    # Turned towards the first head, where the student starts.
    left, _, right = np.linalg.svd((together[: len(rows)] @ turn).T @ embed(heads[0], rows))
    targets = together @ (turn @ left @ right)
    student = build_trunk(rows.shape[1], **replace(settings, input_dropout=0.0).layer_options)
    student.set_weights(heads[0].get_weights())
    rate = keras.optimizers.schedules.CosineDecay(1e-3, 20 * len(inputs) // 256)
    student.compile(optimizer=keras.optimizers.Adam(rate), loss=keras.losses.CosineSimilarity())
    student.fit(inputs, targets, batch_size=256, epochs=20, verbose=0)
    return student


def _folds(folder: Path, extractor: dict[str, Any], folds: int) -> Any:
    """Yield the collection and each photo's side, for the first folds."""
    from facetl.backbones.backbone import Backbone
    from facetl.data.manifest import Manifest
    from facetl.data.pair_lists import read_lfw_pairs
    from facetl.embeddings import dataset
    from facetl.runs.lfw import sides_of_fold
    from facetl.training.settings import BALANCED

    collection = dataset.embed(Manifest.from_folder(folder / "images"), Backbone(**extractor))
    protocol = read_lfw_pairs(folder / "pairs.txt")
    for fold in range(min(folds, protocol.folds)):
        yield collection, sides_of_fold(collection, protocol, fold, seed=BALANCED.seed, validation=BALANCED.validation)


def _score(rows: Any, labels: np.ndarray) -> dict[str, float]:
    """Score balanced pairs of validation people; the accuracy is at their own best threshold, so a little high."""
    from facetl.metrics.linalg import normalised
    from facetl.metrics.pairs import sample_pairs
    from facetl.metrics.roc import accuracy_at, auc, best_threshold
    from facetl.metrics.verification import pair_distances

    pairs = sample_pairs(labels, seed=0)
    distances = pair_distances(normalised(rows), pairs)
    return {
        "auc": auc(distances, pairs.same),
        "accuracy": accuracy_at(distances, pairs.same, best_threshold(distances, pairs.same)),
    }


def _mean_error(values: list[float]) -> str:
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{error}"


if __name__ == "__main__":
    main()
