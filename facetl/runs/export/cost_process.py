"""A process that loads one net, embeds photos of noise on one core, and prints what that took as a line of JSON.

`python -m facetl.runs.export.cost_process MODEL PHOTOS`, MODEL being a run's folder or a LiteRT file;
see `cost.measure`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facetl._tensorflow import start_tensorflow
from facetl.io.system import keep_to_one_processor, peak_memory

# Of a photo's side where the net takes any size, pixels.
_SIDE = 250
_WARM_UP = 3


def weigh(model: Path, photos: int) -> dict[str, float]:
    """Return `milliseconds`, `ram_peak` and `ram_start`; see `cost.Cost`."""
    if not model.exists():
        raise FileNotFoundError(model)
    keep_to_one_processor()
    start_tensorflow()
    start = peak_memory()
    embed = _of_run(model) if model.is_dir() else _of_litert(model)
    for _ in range(_WARM_UP):
        embed()
    took = []
    for _ in range(photos):
        # What other processes do meanwhile is not the net's cost.
        began = time.process_time()
        embed()
        took.append(time.process_time() - began)
    return {"milliseconds": 1000 * statistics.median(took), "ram_peak": peak_memory(), "ram_start": start}


def _of_run(folder: Path) -> Callable[[], object]:
    from facetl.recognition.recognizer import Recognizer
    from facetl.training.head import embed

    recognizer = Recognizer.load(folder)
    side = getattr(recognizer.backbone, "size", None) or _SIDE
    photo = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return lambda: embed(recognizer.head, recognizer.backbone.extract([photo]))


def _of_litert(file: Path) -> Callable[[], object]:
    from facetl.runs.export.frozen_files import LiteRTNet

    net = LiteRTNet(file)
    photo = np.random.default_rng(0).uniform(0, 255, (1, net.side, net.side, 3)).astype(np.float32)
    return lambda: net(photo)


if __name__ == "__main__":
    print(json.dumps(weigh(Path(sys.argv[1]), int(sys.argv[2]))))
