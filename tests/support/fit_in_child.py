"""A training that the tests interrupt: in their own process, or with SIGKILL in a child that runs this file.

The child takes the checkpoint's path and prints a line once an epoch is saved.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from gaussians import gaussian_people, small_settings

from facetl.training.fit import FittedHead, fit_head

# Every choice that keeps state between steps or epochs.
SETTINGS = small_settings(
    sampler="neighbours",
    standardise="within",
    dropout=0.2,
    input_dropout=0.1,
    softness=0.3,
    temperature=(1.0, 0.4),
    candidates=(20, 10),
    uniform_share=(0.1, 0.3),
    weight_decay=1e-3,
    anchors_per_person=5,
    rounds=2,
    epochs=8,
    warmup=2,
    ramp=2,
)


def fit(
    checkpoint: Path | None = None,
    *,
    resume: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, logs: None,
    **changes: object,
) -> FittedHead:
    """Fit the head of SETTINGS, with changes."""
    settings = small_settings(**{**SETTINGS.to_json(), **changes}) if changes else SETTINGS
    return fit_head(
        *gaussian_people(12, 6, seed=0),
        settings,
        validation=gaussian_people(8, 6, seed=0, first=50),
        checkpoint=checkpoint,
        resume=resume,
        on_epoch=on_epoch,
    )


def _slowly(epoch: int, logs: dict[str, float]) -> None:
    print(epoch, flush=True)
    time.sleep(0.1)


if __name__ == "__main__":
    fit(Path(sys.argv[1]), on_epoch=_slowly)
