"""A run as a LiteRT (TensorFlow Lite) or an ONNX file of a fixed input, and what runs such files.

ONNX needs tf2onnx and its runtime, the extra `onnx`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from facetl._tensorflow import held_back_stderr
from facetl.backbones.extractor import Extractor, make_extractor
from facetl.errors import RunError
from facetl.recognition.recognizer import Recognizer
from facetl.runs.export.fixed_input import fixed_input

QUANTISATIONS = ("none", "float16", "int8")


def litert_model(recognizer: Recognizer, *, quantise: str = "none", representative: np.ndarray | None = None) -> bytes:
    """Return the file: photos [1, side, side, 3] float32 RGB in 0–255, cropped already, → embedding [1, width].

    Args:
        quantise: `none`, `float16` (weights are stored so) or `int8` (weights and what flows between layers; input and
            output stay float32).
        representative: with int8, photos [n, side, side, 3] whose activations set the scales.

    Raises RunError for a run that is not of TensorFlow, of several crops, or that cannot be converted.
    """
    frozen = frozen_embedder(recognizer, photos=1)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if quantise != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantise == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantise == "int8":
        if representative is None or not len(representative):
            raise RunError("--quantise int8: expected photos to take the scales from, got none. Give --representative.")
        converter.representative_dataset = lambda: ([photo[None]] for photo in representative)
    # Caught within, so that what the converter wrote on its way stays off the screen: one line says it.
    with _quiet():
        try:
            return bytes(converter.convert())
        except Exception as error:  # noqa: BLE001 - of many kinds, and explained below
            cause = error
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
    raise RunError(f"--format litert: TensorFlow's converter gave up ({reason}). Use saved_model.") from cause


class LiteRTNet:
    """Runs a LiteRT file on one core: photos [n, side, side, 3] float32 → [n, width] float32.

    `side` is that of its input, pixels.
    """

    def __init__(self, content: bytes | Path) -> None:
        given: dict[str, Any] = {"model_content": content}
        if isinstance(content, Path):
            given = {"model_path": str(content)}
        # TensorFlow points to another package; its own runs the same files.
        with _quiet():
            self._interpreter = tf.lite.Interpreter(num_threads=1, **given)
            self._interpreter.allocate_tensors()
        entry = self._interpreter.get_input_details()[0]
        self._input, self.side = entry["index"], int(entry["shape"][1])
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """Embed photos one by one."""
        rows = []
        for photo in photos:
            self._interpreter.set_tensor(self._input, np.asarray(photo[None], np.float32))
            self._interpreter.invoke()
            rows.append(self._interpreter.get_tensor(self._output)[0])
        return np.array(rows, np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's C++ lines and Python's warnings off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), held_back_stderr():
        warnings.simplefilter("ignore")
        yield


def frozen_embedder(recognizer: Recognizer, *, photos: int | None) -> Any:
    """Return photos [photos, side, side, 3] float32 RGB in 0–255, cropped already, → unit embeddings, as a function.

    Its weights are constants: as variables the converters would leave them out. photos: how many at a time, None for
    any number. Raises RunError for a run that is not of TensorFlow, or of several crops.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    side, _ = fixed_input(recognizer.backbone)
    spec, weights = recognizer.backbone.spec, recognizer.backbone.weights
    # Photos come in cropped and of the net's own size: nothing is left to resize, which LiteRT has no operation for.
    extractor = make_extractor(replace(spec, crops=(1.0,)), weights)
    assert isinstance(extractor, Extractor)
    head = recognizer.head

    def embed(pixels: tf.Tensor) -> tf.Tensor:
        return tf.identity(head(extractor.features(pixels), training=False), name="embeddings")

    signature = tf.TensorSpec((photos, side, side, 3), tf.float32, name="photos")
    return convert_variables_to_constants_v2(tf.function(embed).get_concrete_function(signature))


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
