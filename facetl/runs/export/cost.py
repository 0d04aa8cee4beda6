"""The cost of running a net: multiply-accumulates, and time and memory of a fresh process on one core.

`python -m facetl.runs.export.cost MODEL PHOTOS`, MODEL being a run's folder or a LiteRT file, is that process: it loads
the net, embeds photos of noise, and prints what that took as a line of JSON.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facetl._tensorflow import start_tensorflow
from facetl.errors import RunError
from facetl.io.json import JsonFields
from facetl.io.system import keep_to_one_processor, peak_memory

if TYPE_CHECKING:
    from facetl.recognition.recognizer import Recognizer

PHOTOS = 30
# Of a photo's side where the net takes any size, pixels.
_SIDE = 250
_WARM_UP = 3


@dataclass(frozen=True)
class Cost(JsonFields):
    """The measurements of a fresh process, the photo being decoded, aligned and in memory already.

    Attributes:
        milliseconds: of the processor, median over photos, one at a time, on one core.
        ram_peak: bytes the process held at most, TensorFlow with it.
        ram_start: of that, what it held once TensorFlow was imported and before the net was loaded.
    """

    milliseconds: float
    ram_peak: int
    ram_start: int


def measure(model: Path, *, photos: int = PHOTOS) -> Cost:
    """Embed photos of noise one by one in a fresh process that has one core; RunError where it fails.

    model: a run's folder, or a LiteRT file.
    """
    one = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    command = [sys.executable, "-m", "facetl.runs.export.cost", str(model.absolute()), str(photos)]
    done = subprocess.run(
        command, env={**os.environ, **one, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True, check=False
    )
    try:
        return Cost(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (ValueError, IndexError, TypeError) as error:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise RunError(f"{model}: its cost could not be measured in a process of its own ({reason}).") from error


def weigh(model: Path, photos: int) -> dict[str, float]:
    """Return `milliseconds`, `ram_peak` and `ram_start`; see `Cost`."""
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
    from facetl.runs.export.file_formats import LiteRTNet

    net = LiteRTNet(file)
    photo = np.random.default_rng(0).uniform(0, 255, (1, net.side, net.side, 3)).astype(np.float32)
    return lambda: net(photo)


@dataclass(frozen=True)
class Arithmetic:
    """The operations of one photo, `multiply_accumulates`, and the numbers that were learnt, `parameters`."""

    multiply_accumulates: int
    parameters: int


def arithmetic(recognizer: Recognizer) -> Arithmetic | None:
    """Count what one photo takes in convolutions and matrix products, its mirror image and all crops with it.

    Counted in TensorFlow's graph of extractor and head; None for a net that is not of TensorFlow, or has no size of
    its own.
    """
    import tensorflow as tf  # and not above: the process that measures notes its memory before

    from facetl.backbones.extractor import Extractor

    extractor = recognizer.backbone
    if not isinstance(extractor, Extractor) or extractor.size is None:
        return None
    one = tf.TensorSpec((1, extractor.size, extractor.size, 3), tf.float32)
    traced = tf.function(
        lambda photos: recognizer.head(extractor.features(photos), training=False)
    ).get_concrete_function(one)
    return Arithmetic(
        sum(_multiplied(operation) for operation in _operations(traced.graph)),
        sum(int(variable.shape.num_elements()) for variable in traced.variables),
    )


def _operations(graph: Any) -> Iterator[Any]:
    """Yield a graph's operations and those of the functions it calls, as often as they are called."""
    for operation in graph.get_operations():
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            yield from _operations(graph._get_function(operation.get_attr("f").name).graph)
        else:
            yield operation


def _multiplied(operation: Any) -> int:
    """Return the multiply-accumulates of one operation, 0 for any but convolutions and matrix products."""
    if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
        height, width, channels, _ = operation.inputs[1].shape.as_list()
        places = operation.outputs[0].shape.num_elements()
        return places * height * width * (channels if operation.type == "Conv2D" else 1)
    if operation.type in ("MatMul", "BatchMatMulV2", "BatchMatMul"):
        turned = operation.type == "MatMul" and operation.get_attr("transpose_a")
        turned = turned or (operation.type != "MatMul" and operation.get_attr("adj_x"))
        inner = operation.inputs[0].shape.as_list()[-2 if turned else -1]
        return int(operation.outputs[0].shape.num_elements()) * int(inner)
    if operation.type == "Einsum":
        return _of_einsum(operation)
    return 0


def _of_einsum(operation: Any) -> int:
    letters, _, _ = operation.get_attr("equation").decode().partition("->")
    lengths: dict[str, int] = {}
    for names, tensor in zip(letters.split(","), operation.inputs, strict=True):
        lengths |= dict(zip(names, tensor.shape.as_list(), strict=True))
    return math.prod(lengths.values())


if __name__ == "__main__":
    print(json.dumps(weigh(Path(sys.argv[1]), int(sys.argv[2]))))
