"""A training's whole state on disk after each epoch, so that a killed one resumes to the same result."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facetl.errors import RunError
from facetl.io.files import write_arrays


@dataclass
class Checkpoint:
    """The state after some epochs.

    Attributes:
        epochs: how many are done.
        variables: of the model, with its dropout seeds, and of the optimiser, in Keras' order.
        best_weights: of the epoch with the best validation, or None before there is one.
        stopping: memory of the early stopping, without the weights.
        history: one dict of logs per epoch.
        settings: of the training, and a digest of its `data`; a resumed one must have the same.
    """

    epochs: int
    variables: list[np.ndarray]
    best_weights: list[np.ndarray] | None
    stopping: dict[str, Any]
    history: list[dict[str, float]]
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all; readable by its owner alone."""
        best = self.best_weights or []
        arrays = {f"variable_{i}": value for i, value in enumerate(self.variables)}
        arrays |= {f"best_{i}": value for i, value in enumerate(best)}
        facts = {
            "epochs": self.epochs,
            "variables": len(self.variables),
            "best": len(best),
            "stopping": self.stopping,
            "history": self.history,
            "settings": self.settings,
        }
        write_arrays(path, facts=np.array(json.dumps(facts)), **arrays)

    @classmethod
    def load(cls, path: Path, *, settings: dict[str, Any]) -> Checkpoint:
        """Read the state; RunError when it is damaged or of other settings."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                facts = json.loads(str(stored["facts"]))
                variables = [stored[f"variable_{i}"] for i in range(facts["variables"])]
                best = [stored[f"best_{i}"] for i in range(facts["best"])]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{path}: the checkpoint cannot be read ({error}). Train without --resume.") from error
        if facts["settings"] != settings:
            changed = [key for key in settings if facts["settings"].get(key) != settings[key]]
            raise RunError(
                "--resume: settings and data must be those of the interrupted run; received others: "
                f"{', '.join(changed) or 'some'}. Give the same options and photos, or train without --resume."
            )
        return cls(facts["epochs"], variables, best or None, facts["stopping"], facts["history"], settings)
