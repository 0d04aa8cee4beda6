"""Made-up people as Gaussian clouds, and settings of a head small enough to train in seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from facetl.training.settings import TrainingSettings

DIM = 32
# The photos of everyone differ most where people do not: what a head has to learn to look away from.
_NUISANCE = 8


def gaussian_people(people: int, photos: int, *, seed: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features [people · photos, 32] float32 and labels from `first`, in mixed order."""
    rng = np.random.default_rng([seed, first])
    labels = rng.permutation(np.repeat(np.arange(people), photos))
    centres = rng.normal(size=(people, DIM))
    noise = np.where(np.arange(DIM) < _NUISANCE, 3.0, 0.6)
    features = centres[labels] + noise * rng.normal(size=(len(labels), DIM))
    return features.astype(np.float32), labels + first


def small_settings(**changes: Any) -> TrainingSettings:
    """Return settings that name every choice, so that no default is leant on."""
    chosen: dict[str, Any] = {
        "widths": (24, 16),
        "activations": ("linear", "linear"),
        "normalised": (False, True),
        "dropout": 0.0,
        "input_dropout": 0.0,
        "root": False,
        "standardise": "features",
        "components": 16,
        "shrinkage": 0.1,
        "initialiser": "glorot",
        "loss": "triplet",
        "margin": None,
        "loss_scale": None,
        "softness": 0.0,
        "sampler": "random",
        "most_pairs": 0,
        "rounds": 3,
        "anchors_per_person": 0,
        "temperature": 0.5,
        "candidates": 20,
        "uniform_share": 0.2,
        "warmup": 1,
        "ramp": 1,
        "people_per_batch": 4,
        "photos_per_person": 4,
        "mining": "batch-hard",
        "batch_size": 32,
        "epochs": 5,
        "patience": 10,
        "learning_rate": 2e-3,
        "schedule": "decay",
        "decay": 0.9,
        "weight_decay": 0.0,
        "validation": 0.2,
        "fallback": False,
        "plot_embeddings": False,
        "seed": 3,
    }
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    return TrainingSettings(**{**chosen, **given})
