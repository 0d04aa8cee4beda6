"""Nets from scratch: the small one on people it has not seen, and FaceNet's NN1 and NN2 learning five people by heart.

Run: python benchmarks/scratch.py [LFW_FOLDER] [--sample data/sample] [--epochs 60] [--objectives softmax,arcface,…]
[--overfit nn2:96,nn1:96] [--steps 30]. Identity-disjoint throughout: trained on three fifths of the people, the epoch
and the threshold chosen on a fifth, measured on the last fifth. LFW is read aligned. NN1 and NN2 are trained on five
people's photos, without augmentation, until the loss shows that they can learn; NN1 needs about 3 GB. A number behind a
net's name is its input's side; without one it is the paper's, which takes minutes an epoch on a processor. Prints a
table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facetl._tensorflow import start_tensorflow

PEOPLE = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lfw", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--sample", type=Path, default=Path("data/sample"))
    parser.add_argument("--cache", type=Path, help="default: a temporary folder")
    parser.add_argument("--objectives", default="softmax,arcface,triplet")
    parser.add_argument("--size", type=int, help="of the small net's input")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--lfw-epochs", type=int, default=30)
    parser.add_argument("--overfit", default="nn2:96,nn1:96", help="nets with their input's side")
    parser.add_argument("--steps", type=int, default=30, help="epochs of those")
    arguments = parser.parse_args()
    start_tensorflow()
    with tempfile.TemporaryDirectory() as room:
        cache = arguments.cache or Path(room) / "cache"
        results: dict[str, Any] = {"strangers": [], "overfit": []}
        sets = [("ORL sample", arguments.sample, "none", arguments.epochs)]
        if arguments.lfw is not None:
            sets.append(("LFW", Path(arguments.lfw) / "images", "mtcnn", arguments.lfw_epochs))
        for name, folder, align, epochs in sets:
            if not folder.is_dir():
                print(f"{name}: not found in {folder}; run make train once, or name its folder")
                continue
            for objective in filter(None, arguments.objectives.split(",")):
                results["strangers"].append(
                    _strangers(name, folder, align, objective, epochs, arguments.size, cache, Path(room))
                )
        if arguments.sample.is_dir():
            for net in filter(None, arguments.overfit.split(",")):
                results["overfit"].append(_overfit(net, arguments.sample, arguments.steps, cache))
    print(json.dumps(results))


def _strangers(
    name: str, folder: Path, align: str, objective: str, epochs: int, size: int | None, cache: Path, room: Path
) -> dict[str, Any]:
    """Train the small net and print how well it and the baselines separate test people."""
    from _layer_table import layer_table

    from facetl.data.manifest import Manifest
    from facetl.methods.scratch.nets import build_net
    from facetl.methods.scratch.scratch_settings import ScratchSettings
    from facetl.methods.scratch.scratch_training import train_from_scratch

    manifest = Manifest.from_folder(folder).with_splits(seed=0, validation=0.2, test=0.2)
    settings = ScratchSettings(
        objective=objective,
        size=size,
        epochs=epochs,
        patience=epochs,
        align=align,
        crop=1.0 if align == "none" else 0.5,
    )
    report = train_from_scratch(manifest, settings, room / f"{name}-{objective}".replace(" ", "-"), cache=cache)
    rows = layer_table(build_net(settings.net, side=size, width=settings.width, seed=0))
    parameters, operations = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    print(
        f"{name}, {objective}: {parameters:,} parameters, {operations / 1e6:.0f} million multiply-adds; best epoch "
        f"{report.best_epoch} of {report.epochs}, {report.seconds / max(report.epochs, 1):.1f} s an epoch"
    )
    for method, scores in report.verifications.items():
        print(f"  {method:10}  accuracy {scores.accuracy:.3f} ± {scores.accuracy_stderr:.3f}  AUC {scores.auc:.4f}")
    return {
        "set": name,
        "objective": objective,
        "parameters": parameters,
        "multiply_adds": operations,
        "seconds_per_epoch": report.seconds / max(report.epochs, 1),
        **report.to_json(),
    }


def _overfit(net: str, folder: Path, epochs: int, cache: Path) -> dict[str, Any]:
    """Train a net on five people and print how far the loss falls."""
    from facetl.data.manifest import Manifest
    from facetl.methods.scratch.crops import Crops
    from facetl.methods.scratch.nets import DESIGNS
    from facetl.methods.scratch.scratch_settings import ScratchSettings
    from facetl.methods.scratch.scratch_training import fit_net
    from facetl.runs.training_run import Sight

    name, _, side = net.partition(":")
    size = int(side) if side else DESIGNS[name].side
    every = Manifest.from_folder(folder)
    some = every.select(np.flatnonzero(every.labels < 2 * PEOPLE))
    # Five to learn, five others to validate on, which fit_net asks for: nothing is claimed of those.
    learnt = set(every.identities[:PEOPLE])
    photos = (replace(photo, split="train" if photo.identity in learnt else "validation") for photo in some.photos)
    manifest = replace(some, photos=tuple(photos))
    settings = ScratchSettings(
        net=name,
        size=size,
        epochs=epochs,
        patience=epochs,
        batch_size=10,
        learning_rate=1e-4,
        label_smoothing=0.0,
        weight_decay=0.0,
        augment=False,
    )
    fitted = fit_net(Crops.open(manifest, Sight(cache=cache), side=size), settings)
    losses, wrong = fitted.history["loss"].to_numpy(), fitted.history["active"].to_numpy()
    parameters, seconds = fitted.net.count_params(), fitted.seconds / epochs
    print(
        f"{name} at {size} pixels, {parameters:,} parameters, {PEOPLE} people: "
        f"loss {losses[0]:.3f} → {losses[-1]:.4f}, mistaken photos {wrong[0]:.0%} → {wrong[-1]:.0%} "
        f"in {epochs} epochs, {seconds:.1f} s an epoch"
    )
    return {
        "net": name,
        "size": size,
        "parameters": parameters,
        "losses": losses.tolist(),
        "mistaken": wrong.tolist(),
        "seconds_per_epoch": seconds,
    }


if __name__ == "__main__":
    main()
