"""Which tap and grid tells people apart best: a closed-form probe of each, on part of LFW.

Run: python benchmarks/taps.py [LFW_FOLDER] [--people 400] [--taps mixed0:7,mixed2:7,…]. The probe is PCA→LDA fitted on
half of the people, scored on pairs of the other half in five folds of people, threshold from a tenth held out of the
first half. People with two photos or more, the first four photos of each. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from facetl.startup import start_tensorflow

TAPS = "mixed0:7,mixed1:7,mixed2:5,mixed2:7,mixed3:4,mixed5:4,mixed7:4,avg:1"
LFW_CROP = 0.512


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--taps", default=TAPS)
    parser.add_argument("--crop", type=float, default=LFW_CROP)
    arguments = parser.parse_args()
    if arguments.folder is None:
        print("taps: needs LFW; give its folder or set FACETL_LFW_DEV")
        return
    start_tensorflow()
    from facetl.data.manifest import Manifest
    from facetl.evaluation.baselines import Lda
    from facetl.evaluation.verification import evaluate_embeddings
    from facetl.features import weights
    from facetl.features.extractor import Extractor
    from facetl.features.spec import ExtractorSpec
    from facetl.imaging.decode import read_photo

    manifest = Manifest.from_folder(Path(arguments.folder) / "images")
    chosen = _some_people(manifest.labels, arguments.people)
    labels = manifest.labels[chosen]
    images = [read_photo(manifest.paths[row]) for row in chosen]
    side = np.random.default_rng(1).permutation(labels.max() + 1)[labels] % 20
    rows = []
    for tap, grid in (pair.split(":") for pair in arguments.taps.split(",")):
        spec = ExtractorSpec.of(tap=tap, grid=int(grid), crop=arguments.crop)
        extractor = Extractor(spec, weights.resolve(spec))
        extractor.extract(images[:32])
        began = time.perf_counter()
        features = np.concatenate(
            [extractor.extract(images[start : start + 32]) for start in range(0, len(images), 32)]
        )
        seconds = (time.perf_counter() - began) / len(images)
        probe = Lda(components=300).fit(np.sqrt(np.maximum(features[side < 9], 0)), labels[side < 9])
        embedded = probe.transform(np.sqrt(np.maximum(features, 0)))
        scores = evaluate_embeddings(
            embedded[side >= 10], labels[side >= 10], thresholds_from=(embedded[side == 9], labels[side == 9]), seed=0
        )
        rows.append({"tap": tap, "grid": int(grid), "ms": 1000 * seconds, **scores.to_json()})
        print(
            f"{tap:8s}{grid:>2s}×{grid}  {extractor.dim:6d}-d  accuracy {scores.accuracy:.3f} ± "
            f"{scores.accuracy_stderr:.3f}  AUC {scores.auc:.3f}  {1000 * seconds:6.1f} ms a photo",
            flush=True,
        )
    keep = ("tap", "grid", "ms", "accuracy", "accuracy_stderr", "auc")
    print(json.dumps({"benchmark": "taps", "rows": [{name: row[name] for name in keep} for row in rows]}))


def _some_people(labels: np.ndarray, people: int) -> np.ndarray:
    """Return rows of `people` people with two photos or more, at most four of each."""
    counts = np.bincount(labels)
    able = np.random.default_rng(0).permutation(np.flatnonzero(counts >= 2))[:people]
    return np.concatenate([np.flatnonzero(labels == person)[:4] for person in np.sort(able)])


if __name__ == "__main__":
    main()
