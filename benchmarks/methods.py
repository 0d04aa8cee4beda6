"""The ways to learn side by side: heads on frozen features, a net from scratch, distilled students.

Run: python benchmarks/methods.py [LFW_FOLDER] [--sample data/sample] [--only NAME,NAME] [--models FOLDER] [--quick].
Each is what its verb does at its defaults, on the same people: trained on three fifths, chosen on a fifth, verified on
the last. Runs that FOLDER holds already are measured again, not trained. Bytes are of the SavedModel from photo to
embedding; milliseconds are the processor's for one photo on one core, decoded and aligned, in a process of its own.
--quick trains each for two epochs, to see that all of it runs. Prints a table per data set and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from facetl._tensorflow import start_tensorflow

TEACHER = "triplet"
# name → what it is, and its verb with {data}, {sight}, {models} and {epochs} to be filled in.
METHODS: dict[str, tuple[str, str]] = {
    TEACHER: ("frozen features, triplet head", "train {data} --run triplet {sight} {models} {epochs}"),
    "contrastive": (
        "frozen features, contrastive head",
        "train {data} --run contrastive --loss contrastive --sampler pairs {sight} {models} {epochs}",
    ),
    "softmax": ("frozen features, softmax head", "train {data} --run softmax --loss softmax {sight} {models} {epochs}"),
    "scratch": (
        "small net from scratch, softmax",
        "scratch {data} --run scratch --net small {sight} {models} {epochs}",
    ),
    "small": (
        "distilled MobileNetV3-Small",
        f"distill {TEACHER} --run small --student mobilenet_v3_small --no-costs {{models}} {{epochs}}",
    ),
    "large": (
        "distilled MobileNetV3-Large",
        f"distill {TEACHER} --run large --student mobilenet_v3_large --no-costs {{models}} {{epochs}}",
    ),
}


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lfw", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--sample", type=Path, default=Path("data/sample"))
    parser.add_argument("--only", default="", help="methods, with commas: " + ", ".join(METHODS))
    parser.add_argument("--models", type=Path, help="where the runs are kept; a temporary folder by default")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    sets = [("ORL sample", arguments.sample, "")]
    if arguments.lfw is not None:
        sets.append(("LFW", Path(arguments.lfw) / "images", "--align mtcnn --crop 0.5"))
    names = [name for name in arguments.only.split(",") if name] or list(METHODS)
    start_tensorflow()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as room:
        for title, folder, sight in sets:
            if not folder.is_dir():
                print(f"{title}: not found in {folder}; run make train once, or name its folder")
                continue
            models = (arguments.models or Path(room)) / title.split()[0].lower()
            results[title] = _measured(title, folder, sight, names, models, "--epochs 2" if arguments.quick else "")
    print(json.dumps({"benchmark": "methods", "results": results}))


def _measured(
    title: str, folder: Path, sight: str, names: list[str], models: Path, epochs: str
) -> list[dict[str, Any]]:
    print(f"\n{title}")
    print(f"{'':36s}{'accuracy':>16s}{'AUC':>8s}{'parameters':>13s}{'MB':>7s}{'MMAC':>8s}{'ms':>7s}")
    rows = []
    for name in names:
        what, verb = METHODS[name]
        if not (models / name / "metrics.json").is_file():
            _facetl(verb.format(data=folder.absolute(), sight=sight, models=f"--models {models}", epochs=epochs))
        row = {"method": what, **_row(models / name)}
        rows.append(row)
        print(
            f"{what:36s}{row['accuracy']:>8.3f} ± {row['accuracy_stderr']:.3f}{row['auc']:8.3f}{row['parameters']:13,d}"
            f"{row['bytes'] / 1e6:7.1f}{row['multiply_accumulates'] / 1e6:8.0f}{row['milliseconds']:7.1f}",
            flush=True,
        )
    return rows


def _row(folder: Path) -> dict[str, Any]:
    """The scores of a run on its test people, and the cost of a photo."""
    from facetl.recognition.recognizer import Recognizer
    from facetl.runs.export.cost import arithmetic, measure

    scores = json.loads((folder / "metrics.json").read_text())["verification"]["trained"]
    counted = arithmetic(Recognizer.load(folder))
    assert counted is not None
    return {
        **{key: scores[key] for key in ("accuracy", "accuracy_stderr", "auc")},
        "parameters": counted.parameters,
        "multiply_accumulates": counted.multiply_accumulates,
        "bytes": sum(file.stat().st_size for file in (folder / "saved_model").rglob("*") if file.is_file()),
        "milliseconds": measure(folder).milliseconds,
    }


def _facetl(verb: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "facetl", *verb.split(), "--json"], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise SystemExit(f"facetl {verb}: ended with {done.returncode}")


if __name__ == "__main__":
    main()
