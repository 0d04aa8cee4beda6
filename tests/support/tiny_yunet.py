"""A net of YuNet's inputs and outputs, written by hand: it takes red squares for faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_onnx import FLOAT, message, model, node, tensor, value_info

STRIDES = (8, 16, 32)
_CHANNELS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
# Of a cell: how far right and down of its corner the middle lies, the logarithm of the sides, in strides.
BOX = (0.5, 0.25, float(np.log(3)), float(np.log(4)))
LANDMARKS = np.arange(10).reshape(5, 2) / 10


def _whole_numbers(name: str, *values: int) -> bytes:
    return message((1, name), (20, 7), *[(8, value) for value in values])


def tiny_yunet(path: Path, *, side: int = 64) -> Path:
    """Write the net, for squares of `side` pixels: the score of a cell is the share of red in it, red last (BGR)."""
    nodes, outputs, tensors = [], {}, []
    for stride in STRIDES:
        kernel = _whole_numbers("kernel_shape", stride, stride), _whole_numbers("strides", stride, stride)
        nodes.append(node("AveragePool", ["input"], f"cells_{stride}", *kernel))
        for kind, channels in _CHANNELS.items():
            name = f"{kind}_{stride}"
            weights, bias = np.zeros((channels, 3, 1, 1), np.float32), np.zeros(channels, np.float32)
            if kind in ("cls", "obj"):
                weights[0, 2] = 1 / 255
            else:
                bias[:] = BOX if kind == "bbox" else LANDMARKS.ravel()
            shape = np.array([1, -1, channels], np.int64)
            tensors += [tensor(f"w{name}", weights), tensor(f"b{name}", bias), tensor(f"s{name}", shape)]
            nodes += [
                node("Conv", [f"cells_{stride}", f"w{name}", f"b{name}"], f"c{name}"),
                node("Transpose", [f"c{name}"], f"t{name}", _whole_numbers("perm", 0, 2, 3, 1)),
                node("Reshape", [f"t{name}", f"s{name}"], name),
            ]
            outputs[name] = value_info(name, FLOAT, [1, (side // stride) ** 2, channels])
    return model(
        path,
        inputs=[value_info("input", FLOAT, [1, 3, side, side])],
        outputs=[outputs[f"{kind}_{stride}"] for kind in _CHANNELS for stride in STRIDES],
        nodes=nodes,
        tensors=tensors,
    )
