"""A run as an ONNX file, by tf2onnx, and what runs such a file. Both belong to the extra `onnx`."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

import numpy as np

from facetl.errors import RunError
from facetl.recognition.recognizer import Recognizer
from facetl.runs.export.litert import frozen_embedder

# The newest set of operations of which tf2onnx knows all that is needed here, and older runtimes, too.
_OPSET = 17


def onnx_model(recognizer: Recognizer) -> bytes:
    """Return the file: `photos` [n, side, side, 3] float32 RGB in 0–255, cropped already, → `embeddings` [n, width].

    Raises RunError without facetl[onnx], and for a run that is not of TensorFlow, of several crops, or cannot be
    converted.
    """
    try:
        import tf2onnx
    except ImportError as error:
        raise RunError("--format onnx needs tf2onnx. Run pip install facetl[onnx].") from error
    frozen = frozen_embedder(recognizer, photos=None)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            model, _ = tf2onnx.convert.from_graph_def(
                frozen.graph.as_graph_def(),
                input_names=[frozen.inputs[0].name],
                output_names=[frozen.outputs[0].name],
                opset=_OPSET,
            )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise RunError(f"--format onnx: tf2onnx gave up ({reason}). Use saved_model.") from error
    return bytes(model.SerializeToString())


class OnnxNet:
    """Runs an ONNX file of one input: photos [n, side, side, 3] float32 → [n, width] float32; needs facetl[onnx]."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """Embed photos."""
        return np.asarray(self._session.run(None, {self._input: np.asarray(photos, np.float32)})[0])
