"""An ONNX file as an extractor, for nets of the ArcFace kind: one aligned face in, one vector out.

The layout of the input, NCHW or NHWC, and its size are read from the graph. Pixels are RGB and become
(x − 127.5) / 127.5, as InsightFace's nets take them; a name may set other values: `onnx:FILE?std=128&channels=bgr`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from facetl.backbones.photo_net import formed
from facetl.backbones.spec import AVERAGE, ExtractorSpec, InputForm, Weights, register_backbone, with_input_options
from facetl.backbones.weights import find_own_file
from facetl.errors import WeightsError, first_line

PREFIX = "onnx:"

# Side of the template that ArcFace's nets are trained on, for graphs that leave the size open.
_ALIGNED = 112
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@register_backbone(
    "onnx",
    about="an ONNX file",
    find_weights=find_own_file,
    matches=lambda name: name.startswith(PREFIX),
    identity=with_input_options("onnx"),
    file_prefix=PREFIX,
)
class OnnxExtractor:
    """An ONNX file as a net of prepared photos; mirror images are averaged where `spec.mirror` is set.

    Attributes:
        spec, weights: its settings, and the file.
        form: what the net takes.
        dim: length of a feature.
    """

    flagged: Mapping[str, int] = {}

    def __init__(self, spec: ExtractorSpec, weights: Weights) -> None:
        self.spec = spec
        self.weights = weights
        self._session = _session(weights)
        entry = self._session.get_inputs()
        self._channels_first, size = _layout(weights, entry)
        self._entry = entry[0].name
        self._one_by_one = isinstance(entry[0].shape[0], int)
        if self._one_by_one and entry[0].shape[0] != 1:
            raise WeightsError(f"{weights.path}: expected batches of any size or of 1, got {entry[0].shape[0]}.")
        if entry[0].type not in _DTYPES:
            raise WeightsError(f"{weights.path}: expected an input of {', '.join(_DTYPES)}, got {entry[0].type}.")
        self._dtype = _DTYPES[entry[0].type]
        # A graph that takes bytes scales them itself.
        plain = InputForm(mean=(0.0,), std=(1.0,)) if self._dtype is np.uint8 else InputForm()
        form = plain.with_options(spec.name)
        if form.size is not None and size is not None and form.size != size:
            raise WeightsError(f"{weights.path}: its graph takes {size}×{size} pixels, got size={form.size}.")
        self.form = replace(form, size=size or form.size or _ALIGNED)
        self.size = int(self.form.size or _ALIGNED)
        self._output = _output(weights, self._session.get_outputs(), spec.tap)
        self.dim = self._run(np.zeros((1, self.size, self.size, 3), np.float32)).shape[1] * len(spec.crops)

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of photos of any sizes: [height, width, 3] uint8 RGB each → [n, dim] float32."""
        if not images:
            return np.zeros((0, self.dim), np.float32)
        return np.concatenate([self._view(images, crop) for crop in self.spec.crops], axis=1)

    def _view(self, images: Sequence[np.ndarray], crop: float) -> np.ndarray:
        from facetl.images.resize import in_grey, prepare

        prepared = [prepare(image, size=self.size, crop=crop) for image in images]
        pixels = np.stack([np.asarray(in_grey(one) if self.spec.grey else one) for one in prepared])
        features = self._run(pixels)
        if self.spec.mirror:
            features = (features + self._run(pixels[:, :, ::-1])) / 2
        return features

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """[batch, size, size, 3] float32 RGB in 0–255 → [batch, dim] float32."""
        scaled = formed(pixels, self.form)
        if self._dtype is np.uint8:
            scaled = np.clip(np.round(scaled), 0, 255)
        if self._channels_first:
            scaled = scaled.transpose(0, 3, 1, 2)
        scaled = np.ascontiguousarray(scaled, self._dtype)
        parts = np.split(scaled, len(scaled)) if self._one_by_one else [scaled]
        try:
            vectors = [self._session.run([self._output], {self._entry: part})[0] for part in parts]
        except Exception as error:
            raise WeightsError(f"{self.weights.path}: the net cannot be run. {first_line(error)}") from error
        vector = np.concatenate(vectors).astype(np.float32)
        if vector.ndim == 4 and vector.shape[2:] == (1, 1):
            vector = vector[:, :, 0, 0]
        if vector.ndim != 2 or len(vector) != len(pixels):
            raise WeightsError(
                f"{self.weights.path}: expected a vector per photo from {self._output}, got {tuple(vector.shape)}."
            )
        return np.asarray(vector)


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry, which writes a number of this machine into HOME."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def _session(weights: Weights) -> Any:
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise WeightsError("extractor: onnx needs onnxruntime. Run pip install facetl[onnx].") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(weights.path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError(f"{weights.path}: expected an ONNX file. {first_line(error)}") from error


def _layout(weights: Weights, entries: Sequence[Any]) -> tuple[bool, int | None]:
    """Return whether channels come first, and the side of the input where the graph fixes it."""
    shape = entries[0].shape if len(entries) == 1 else []
    if len(shape) == 4 and shape[1] == 3:
        first, sides = True, set(shape[2:])
    elif len(shape) == 4 and shape[3] == 3:
        first, sides = False, set(shape[1:3])
    else:
        found = ", ".join(f"{entry.name} {entry.shape}" for entry in entries) or "none"
        raise WeightsError(
            f"{weights.path}: expected one input of photos, [n, 3, height, width] or [n, height, width, 3], got "
            f"{found}."
        )
    given = {side for side in sides if isinstance(side, int)}
    if len(given) > 1:
        raise WeightsError(f"{weights.path}: expected a square input, got {shape}.")
    return first, next(iter(given), None)


def _output(weights: Weights, outputs: Sequence[Any], tap: str) -> str:
    names = [output.name for output in outputs]
    if tap == AVERAGE:
        return str(names[0])
    if tap not in names:
        raise WeightsError(f"tap: expected avg or an output of {weights.path.name} ({', '.join(names)}), got {tap!r}.")
    return tap
