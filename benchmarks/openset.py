"""Naming people whom training has never seen, and strangers among them, on the ORL sample.

Run: python benchmarks/openset.py [FOLDER] [--seeds 5] [--people 20]. FOLDER holds a folder of photos per person;
without it data/sample is taken (`facetl data fetch sample data/sample`), without either the benchmark says so and ends.
For each seed a head is trained on so many people; of the others 10 give 5 photos each to the gallery, their other
photos and those of 10 strangers are asked for. `trained` is the head whatever it is worth, `kept` what a run keeps: the
raw features, where the head cannot be shown to be better. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from facetl._tensorflow import start_tensorflow

SAMPLE = Path("data/sample")
KNOWN, STRANGERS, PHOTOS = 10, 10, 5
COLUMNS = {"top1": "rank-1", "dir": "DIR@FPIR 10%", "unknown": "accuracy with unknown"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLE if SAMPLE.is_dir() else None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--people", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("openset: needs photos; give their folder or run `facetl data fetch sample data/sample`")
        return
    start_tensorflow()
    results: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        for name, scores in _measure(arguments.folder, arguments.people, seed).items():
            results.setdefault(name, []).append(scores)
            print(f"seed {seed} {name}: {scores}", file=sys.stderr, flush=True)
    print(f"{'':12s}" + "".join(f"{title:>24s}" for title in COLUMNS.values()))
    for name, rows in results.items():
        print(f"{name:12s}" + "".join(f"{_mean_error([row[column] for row in rows]):>24s}" for column in COLUMNS))
    print(json.dumps({"benchmark": "openset", "people": arguments.people, "results": results}))


def _measure(folder: Path, people: int, seed: int) -> dict[str, dict[str, float]]:
    from facetl.backbones.backbone import Backbone
    from facetl.data.manifest import Manifest
    from facetl.data.openset_split import split_openset
    from facetl.embeddings import dataset
    from facetl.metrics.baselines import Baselines
    from facetl.metrics.openset import identify_openset
    from facetl.training.fit import embedders, fit_head
    from facetl.training.settings import BALANCED

    collection = dataset.embed(Manifest.from_folder(folder), Backbone())
    identities = np.array(collection.manifest.identities)
    dealt = np.random.default_rng(seed).permutation(identities)
    trained_on, held_out = np.split(dealt[:people], [round(0.8 * people)])
    names = np.array([photo.identity for photo in collection.manifest.photos])
    features, labels, _ = collection.rows(np.isin(names, trained_on))
    validation = collection.rows(np.isin(names, held_out))[:2]
    settings = replace(BALANCED, seed=seed)
    kept = fit_head(features, labels, settings, validation=validation, layout=collection.layout)
    trained = (
        fit_head(features, labels, replace(settings, fallback=False), validation=validation, layout=collection.layout)
        if kept.fallback
        else kept
    )
    others = collection.manifest.select(~np.isin(names, dealt[:people]))
    split = split_openset(others, known=KNOWN, strangers=STRANGERS, gallery_photos=PHOTOS, seed=seed)
    row_of = {path: row for row, path in enumerate(collection.manifest.paths)}
    gallery, probes = (
        [row_of[photo.path] for photo in photos] for photos in (split.gallery, split.probe + split.unknown)
    )
    baselines = Baselines.fit(features, labels, seed=seed)
    ways = {**embedders(baselines, trained), "kept": embedders(baselines, kept)["trained"]}
    found = {}
    for name, embed in ways.items():
        embeddings = embed(collection.features)
        report = identify_openset(embeddings[gallery], names[gallery], embeddings[probes], names[probes])
        found[name] = {
            "top1": report.top1,
            "dir": float(report.dir_at_fpir["0.1"] or 0.0),
            "unknown": report.accuracy_with_unknown,
            "fallback": float(kept.fallback),
        }
    return found


def _mean_error(values: list[float]) -> str:
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{error}"


if __name__ == "__main__":
    main()
