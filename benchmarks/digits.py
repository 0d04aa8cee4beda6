"""The losses in a bare `compile` and `fit` on handwritten digits, beside pytorch-metric-learning's.

Both train the same net from the same weights on the same batches with the same Adam: 64 pixels → 128 ReLU → 32, on
half of the photos (batches of 10 digits × 8). Both are measured on the other half by facetl's metrics. Where the rival
has no loss of the same equation the table marks it. Time is the median of a step after the first epoch, the two one
after the other; the rival runs on one thread, which is its fastest for a net as small as this.

Run: python benchmarks/digits.py [--seeds 5] [--epochs 6] [--rival PYTHON | --alone]. PYTHON is an interpreter with
torch and pytorch-metric-learning; without it they are installed into a temporary folder, and where that fails the
benchmark says so and measures facetl alone. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REQUIREMENTS = ("torch==2.13.0", "pytorch-metric-learning")
DIGITS, PHOTOS, STEPS, HIDDEN, WIDTH, RATE = 10, 8, 40, 128, 32, 1e-3
# By name: settings' name of the loss, its miner, and whether the rival's is another equation.
LOSSES: dict[str, tuple[str, str | None, bool]] = {
    "triplet": ("triplet", None, False),
    "triplet, batch-hard": ("triplet", "batch-hard", False),
    "contrastive": ("contrastive", None, True),
    "n-pair": ("n-pair", None, False),
    "multi-similarity": ("multi-similarity", None, False),
    "supcon": ("supcon", None, False),
    "circle": ("circle", None, False),
    "softmax": ("softmax", None, False),
    "arcface": ("arcface", None, False),
    "cosface": ("cosface", None, False),
    "proxy-anchor": ("proxy-anchor", None, False),
}
PROXIES = ("softmax", "arcface", "cosface", "proxy-anchor")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rival", type=Path, help="interpreter with torch and pytorch-metric-learning")
    parser.add_argument("--alone", action="store_true", help="measure facetl alone")
    parser.add_argument("--jobs", type=Path, nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.jobs is not None:
        for job in arguments.jobs:
            run_rival(job)
        return
    with tempfile.TemporaryDirectory() as folder:
        rival = None if arguments.alone else arguments.rival or install_rival(Path(folder))
        compare(Path(folder), rival, seeds=arguments.seeds, epochs=arguments.epochs)


def install_rival(folder: Path) -> Path | None:
    """Return the interpreter of a new environment with the rival, or None where it cannot be installed."""
    venv.create(folder / "rival", with_pip=True)
    python = folder / "rival" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    if subprocess.run(pip, check=False).returncode:
        print(f"digits: {' and '.join(REQUIREMENTS)} cannot be installed; facetl alone is measured", file=sys.stderr)
        return None
    return python


def compare(folder: Path, rival: Path | None, *, seeds: int, epochs: int) -> None:
    """Train every loss with every seed on both sides, and print what comes of it."""
    from sklearn.datasets import load_digits

    from facetl.metrics.retrieval import map_at_r, recall_at_k

    digits = load_digits()
    pixels, labels = (digits.data / 16).astype(np.float32), digits.target
    test = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    train = ~test
    results: dict[str, dict[str, Any]] = {}
    raw = recall_at_k(pixels[test], labels[test]), map_at_r(pixels[test], labels[test])
    print(f"raw pixels: Recall@1 {raw[0]:.4f}, MAP@R {raw[1]:.4f}")
    print(
        f"{'':22s}{'Recall@1':>17s}{'rival':>17s}{'difference':>18s}{'MAP@R':>9s}{'rival':>9s}{'ms':>7s}{'ratio':>7s}"
    )
    for name, (loss, miner, other) in LOSSES.items():
        jobs = [draw_job(pixels[train], labels[train], pixels[test], seed=seed) for seed in range(seeds)]
        for job in jobs:
            job |= {"loss": np.array(loss), "miner": np.array(miner or ""), "epochs": np.array(epochs)}
        sides = {"ours": [run_ours(job) for job in jobs]}
        if rival is not None:
            sides["rival"] = ask_rival(rival, folder, jobs)
        results[name] = {
            side: [
                [
                    recall_at_k(made, labels[test]),
                    map_at_r(made, labels[test]),
                    1e3 * float(np.median(took[1:])) / STEPS,
                ]
                for made, took in runs
            ]
            for side, runs in sides.items()
        }
        print_row(name + (" *" if other else ""), results[name])
    print("* the rival's equation is another one: linear in the distance")
    print(json.dumps({"benchmark": "digits", "seeds": seeds, "epochs": epochs, "raw": raw, "results": results}))


def print_row(name: str, sides: dict[str, list[list[float]]]) -> None:
    """Print a loss: means and standard errors over seeds, the difference seed by seed."""
    ours = np.array(sides["ours"])
    if "rival" not in sides:
        print(f"{name:22s}{mean_error(ours[:, 0]):>17s}{'':35s}{ours[:, 1].mean():9.4f}{'':9s}{ours[:, 2].mean():7.2f}")
        return
    rival = np.array(sides["rival"])
    cells = f"{mean_error(ours[:, 0]):>17s}{mean_error(rival[:, 0]):>17s}{mean_error(ours[:, 0] - rival[:, 0]):>18s}"
    precision = f"{ours[:, 1].mean():9.4f}{rival[:, 1].mean():9.4f}"
    ratio = np.median(ours[:, 2] / rival[:, 2])
    print(f"{name:22s}{cells}{precision}{np.median(ours[:, 2]):7.2f}{ratio:7.2f}", flush=True)


def mean_error(values: np.ndarray) -> str:
    """Return a mean and its standard error."""
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{error}"


def draw_job(pixels: np.ndarray, labels: np.ndarray, tested: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """Return what both sides begin with: an epoch's batches, weights and proxies."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(labels == digit) for digit in range(DIGITS)]
    order = np.concatenate([rng.choice(own, PHOTOS, replace=False) for _ in range(STEPS) for own in rows])

    def glorot(a: int, b: int) -> np.ndarray:
        return rng.uniform(-1, 1, (a, b)).astype(np.float32) * np.sqrt(6 / (a + b), dtype=np.float32)

    first, second, proxies = glorot(64, HIDDEN), glorot(HIDDEN, WIDTH), glorot(DIGITS, WIDTH)
    drawn = {"first": first, "second": second, "proxies": proxies}
    return {"x": pixels[order], "y": labels[order], "tested": tested, **drawn}


def run_ours(job: dict[str, np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Train with facetl's loss in a bare `compile` and `fit`; return embeddings of what is tested, and epoch times."""
    import keras

    from facetl.losses import MetricModel, registry

    name, miner = str(job["loss"]), str(job["miner"])
    embedder = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(HIDDEN, activation="relu"), keras.layers.Dense(WIDTH)]
    )
    embedder.set_weights([job["first"], np.zeros(HIDDEN), job["second"], np.zeros(WIDTH)])
    model = embedder
    if name in PROXIES:
        model = MetricModel(embedder, DIGITS)
        model.build((None, 64))
        model.proxies.assign(job["proxies"])
    loss = registry.resolve(registry.LOSSES[name].source)(**({"miner": miner} if miner else {}))
    model.compile(keras.optimizers.Adam(RATE, epsilon=1e-8), loss=loss)
    times = [time.perf_counter()]
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()))
    options = {"batch_size": DIGITS * PHOTOS, "shuffle": False, "verbose": 0}
    model.fit(job["x"], job["y"], epochs=int(job["epochs"]), callbacks=[clock], **options)
    return unit(embedder.predict(job["tested"], verbose=0)), np.diff(times).tolist()


def ask_rival(python: Path, folder: Path, jobs: list[dict[str, np.ndarray]]) -> list[tuple[np.ndarray, list[float]]]:
    """Let the rival do the same in its own environment."""
    paths = [folder / f"job{number}.npz" for number in range(len(jobs))]
    for path, job in zip(paths, jobs, strict=True):
        np.savez(path, **job)  # type: ignore[arg-type]
    subprocess.run([str(python), __file__, "--jobs", *map(str, paths)], check=True)
    done = [np.load(path.with_suffix(".done.npz")) for path in paths]
    return [(unit(one["embeddings"]), one["seconds"].tolist()) for one in done]


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Return unit vectors, [n, dim] → [n, dim]."""
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def run_rival(path: Path) -> None:
    """Train with pytorch-metric-learning's loss; torch is imported here alone."""
    import torch

    torch.set_num_threads(1)
    job = np.load(path)
    layers = torch.nn.Linear(64, HIDDEN), torch.nn.Linear(HIDDEN, WIDTH)
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    with torch.no_grad():
        for layer, weights in zip(layers, (job["first"], job["second"]), strict=True):
            layer.weight.copy_(torch.tensor(weights.T))
            layer.bias.zero_()
    loss, parameters = rival_loss(str(job["loss"]), str(job["miner"]), torch.tensor(job["proxies"]))
    optimizer = torch.optim.Adam([*net.parameters(), *parameters], lr=RATE)
    size = DIGITS * PHOTOS
    x, y = torch.tensor(job["x"]).split(size), torch.tensor(job["y"]).split(size)
    seconds = []
    for _ in range(int(job["epochs"])):
        began = time.perf_counter()
        for rows, labels in zip(x, y, strict=True):
            optimizer.zero_grad()
            loss(net(rows), labels).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - began)
    with torch.no_grad():
        embeddings = net(torch.tensor(job["tested"])).numpy()
    np.savez(path.with_suffix(".done.npz"), embeddings=embeddings, seconds=seconds)


def rival_loss(name: str, miner: str, proxies: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Return the rival's loss of (embeddings, labels) with facetl's defaults, and its own parameters."""
    import math

    import torch
    from pytorch_metric_learning import distances, losses, miners, reducers

    squared = distances.LpDistance(power=2)
    options = {"num_classes": DIGITS, "embedding_size": WIDTH}
    made: dict[str, Callable[[], Any]] = {
        "triplet": lambda: losses.TripletMarginLoss(
            margin=0.2, distance=squared, reducer=reducers.MeanReducer() if miner else None
        ),
        "contrastive": lambda: losses.ContrastiveLoss(pos_margin=0, neg_margin=1),
        "n-pair": lambda: losses.NTXentLoss(temperature=0.1),
        "multi-similarity": lambda: losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5),
        "supcon": lambda: losses.SupConLoss(temperature=0.1),
        "circle": lambda: losses.CircleLoss(m=0.4, gamma=80),
        "softmax": lambda: losses.NormalizedSoftmaxLoss(**options, temperature=0.1),
        "arcface": lambda: losses.ArcFaceLoss(**options, margin=math.degrees(0.5), scale=16),
        "cosface": lambda: losses.CosFaceLoss(**options, margin=0.35, scale=16),
        "proxy-anchor": lambda: losses.ProxyAnchorLoss(**options, margin=0.1, alpha=32),
    }
    loss = made[name]()
    mine = miners.BatchHardMiner(distance=squared) if miner else None
    if name == "multi-similarity":
        mine = miners.MultiSimilarityMiner(epsilon=0.1)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.copy_(proxies if parameter.shape == proxies.shape else proxies.T)
    if mine is None:
        return loss, list(loss.parameters())
    return (lambda embeddings, labels: loss(embeddings, labels, mine(embeddings, labels))), list(loss.parameters())


if __name__ == "__main__":
    main()
