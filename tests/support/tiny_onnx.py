"""ONNX files written by hand, in protobuf's wire format, so that no test needs the package that makes them.

Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

FLOAT, UINT8, INT64, FLOAT16 = 1, 2, 7, 10

Field = tuple[int, int | bytes | str]


def message(*fields: Field) -> bytes:
    """Write fields as (number, whole number | bytes | text)."""
    written = b""
    for number, value in fields:
        if isinstance(value, int):
            written += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            written += _varint(number << 3 | 2) + _varint(len(data)) + data
    return written


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def value_info(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """Write a ValueInfoProto; a text in the shape is a size left open."""
    sizes = [(1, message((1, size) if isinstance(size, int) else (2, size))) for size in shape]
    return message((1, name), (2, message((1, message((1, kind), (2, message(*sizes)))))))


def tensor(name: str, values: np.ndarray) -> bytes:
    """Write a TensorProto of float32 or int64."""
    kind = INT64 if values.dtype == np.int64 else FLOAT
    sizes: list[Field] = [(1, size) for size in values.shape]
    return message(*sizes, (2, kind), (8, name), (9, values.tobytes()))


def node(operation: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    """Write a NodeProto."""
    fields: list[Field] = [(1, name) for name in inputs]
    fields += [(2, output), (3, output), (4, operation), *[(5, attribute) for attribute in attributes]]
    return message(*fields)


def whole_number(name: str, value: int) -> bytes:
    """Write an attribute."""
    return message((1, name), (20, 2), (3, value))


def model(
    path: Path,
    *,
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    nodes: Sequence[bytes],
    tensors: Sequence[bytes] = (),
) -> Path:
    """Write a model of operator set 13."""
    fields: list[Field] = [(1, one) for one in nodes] + [(2, "graph")] + [(5, one) for one in tensors]
    graph = message(*fields, *[(11, one) for one in inputs], *[(12, one) for one in outputs])
    path.write_bytes(message((1, 8), (7, graph), (8, message((1, ""), (2, 13)))))
    return path


def corner_net(
    path: Path,
    weights: np.ndarray,
    *,
    channels_first: bool = True,
    size: int | str = 4,
    batch: int | str = "n",
    kind: int = FLOAT,
) -> Path:
    """Write a net whose vector is the flattened input times `weights`, [3 · size · size, dim] float32.

    The layout decides in which order the pixels meet the weights.
    """
    shape = [batch, 3, size, size] if channels_first else [batch, size, size, 3]
    nodes, name = [], "photos"
    if kind != FLOAT:
        nodes.append(node("Cast", [name], "cast", whole_number("to", FLOAT)))
        name = "cast"
    nodes += [node("Flatten", [name], "flat", whole_number("axis", 1)), node("MatMul", ["flat", "weights"], "vector")]
    return model(
        path,
        inputs=[value_info("photos", kind, shape)],
        outputs=[
            value_info("vector", FLOAT, [batch, weights.shape[1]]),
            value_info("flat", FLOAT, [batch, len(weights)]),
        ],
        nodes=nodes,
        tensors=[tensor("weights", weights.astype(np.float32))],
    )
