"""A run as one file of a fixed input: Keras' own layers as far as they go, LiteRT (TensorFlow Lite) or ONNX.

Such a net is fed with the face's square, cropped and resized as the run itself sees it. ONNX needs tf2onnx and its
runtime, the extra `onnx`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from facetl._tensorflow import held_back_stderr
from facetl.backbones import keras_applications, model_file
from facetl.backbones.extractor import Extractor, make_extractor
from facetl.backbones.onnx_net import import_onnxruntime
from facetl.backbones.photo_net import PhotoNet, formed
from facetl.backbones.spec import AVERAGE, InputForm
from facetl.data.manifest import Manifest
from facetl.embeddings.fill import with_faces
from facetl.errors import DataError, PhotoError, RunError, first_line
from facetl.faces.alignment import read_cropped
from facetl.images.decode import Decode
from facetl.images.resize import in_grey, prepare
from facetl.recognition.recognizer import Recognizer

QUANTISATIONS = ("none", "float16", "int8")
Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Faces:
    """Photos as images: decoded, the face aligned where the run asks for it.

    Attributes:
        images: [height, width, 3] uint8 RGB each.
        labels: [photos] int, who is on them.
        paths: where they lie.
    """

    images: tuple[np.ndarray, ...]
    labels: np.ndarray
    paths: tuple[Path, ...]

    @classmethod
    def of(
        cls, manifest: Manifest, align: str, *, cache: Path, on_progress: Callable[[int, int], None] | None = None
    ) -> Faces:
        """Decode photos, leaving out what cannot be read or shows no face; faces once found lie in the cache.

        Raises DataError where none is left, CacheError.
        """
        paths: Sequence[Path] = manifest.paths
        decode: Decode = read_cropped
        if align != "none":
            shown = with_faces(manifest, cache, on_progress)
            paths, decode = shown.photos, shown.decode
        images, rows, readable = [], [], set(paths)
        for row, path in enumerate(manifest.paths):
            if path in readable:
                with contextlib.suppress(PhotoError, OSError):
                    images.append(decode(path.read_bytes()))
                    rows.append(row)
        if not rows:
            raise DataError(f"{manifest.root}: expected photos that can be read, found none.")
        return cls(tuple(images), manifest.labels[rows], tuple(manifest.paths[row] for row in rows))

    def pixels(self, side: int, crop: float) -> np.ndarray:
        """Return the photos as a net of a fixed input sees them, [photos, side, side, 3] float32 RGB in 0–255."""
        return np.stack([np.asarray(prepare(image, size=side, crop=crop)) for image in self.images])


def fixed_input(extractor: PhotoNet) -> tuple[int, float]:
    """Return the side of a run's input and its crop; RunError where it has none of its own, or several crops."""
    spec, side = extractor.spec, getattr(extractor, "size", None)
    if not spec.family.in_tensorflow:
        raise RunError(f"export: {spec.name} is not made of TensorFlow operations, so that its own file is its form.")
    if side is None:
        raise RunError(f"export: {spec.name} takes photos of any size. Hand it over as saved_model.")
    if len(spec.crops) > 1:
        raise RunError(
            f"export: a file of one input holds one crop, got a run of {spec.crop_text}. Hand it over as saved_model, "
            "or distil it."
        )
    return int(side), spec.crops[0]


def keras_model(recognizer: Recognizer) -> keras.Model:
    """Return photos [n, side, side, 3] float32 RGB in 0–255, cropped already, → unit embeddings [n, width].

    Mirror image, grey and the net's own scaling of pixels are inside. Raises RunError for a run whose net is no Keras
    model, or of several crops.
    """
    side, _ = fixed_input(recognizer.backbone)
    spec = recognizer.backbone.spec
    net, scaling = _net(recognizer)
    photos = keras.Input((side, side, 3), name="photos")
    pixels = _affine(photos, lambda values: scaling(np.asarray(in_grey(values)) if spec.grey else values))
    features = _flat(net(pixels), spec.taps)
    if spec.mirror:
        mirrored = _flat(net(ops.flip(pixels, axis=2)), spec.taps)
        features = keras.layers.Average(name="both_sides")([features, mirrored])
    return keras.Model(photos, recognizer.head(features), name="recognizer")


def layers_of_facetl(model: keras.Model) -> list[str]:
    """Return the classes of a model's layers that only facetl has: a file with them loads where it is installed."""
    names = {keras.saving.get_registered_name(type(layer)) for layer in _layers(model)}
    return sorted(name for name in names if name.startswith("facetl>"))


def _net(recognizer: Recognizer) -> tuple[keras.Model, Callable[[np.ndarray], Any]]:
    """Return the net cut at its taps, and how it wants its pixels, as a function of [n, h, w, 3]."""
    spec, weights = recognizer.backbone.spec, recognizer.backbone.weights
    if spec.family.name == "keras_applications":
        net, preprocess, _ = keras_applications.cut_net(spec, weights)
        return net, preprocess
    held = model_file.load(spec, weights).held if spec.family.name == "model_file" else None
    if not isinstance(held, keras.Model):
        raise RunError(
            f"--format keras: the net of {spec.name} is no Keras model. Hand it over as saved_model or litert."
        )
    own = InputForm(mean=(0.0,), std=(1.0,)) if model_file.scales_itself(held) else InputForm()
    form = own.with_options(spec.name)
    return held, lambda values: formed(values, form)


def _affine(photos: Any, function: Callable[[np.ndarray], Any]) -> Any:
    """Return what `function` makes of pixels as a 1×1 convolution: every net's own scaling is an affine map."""
    # One black pixel, then one of each primary colour.
    probe = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype(np.float32).reshape(4, 1, 1, 3)
    seen = np.asarray(function(probe.copy()), np.float64).reshape(4, 3)
    kernel, bias = (seen[1:] - seen[0]) / 255, seen[0]
    if np.allclose(kernel, np.eye(3), atol=1e-6) and not bias.any():
        return photos
    layer = keras.layers.Conv2D(3, 1, name="pixels", trainable=False)
    pixels = layer(photos)
    layer.set_weights([kernel.reshape(1, 1, 3, 3).astype(np.float32), bias.astype(np.float32)])
    return pixels


def _flat(maps: Any, taps: tuple[tuple[str, int], ...]) -> Any:
    every = maps if isinstance(maps, (list, tuple)) else [maps]
    flat = [_pooled(one, 1 if name == AVERAGE else grid) for one, (name, grid) in zip(every, taps, strict=True)]
    return flat[0] if len(flat) == 1 else keras.layers.Concatenate()(flat)


def _pooled(maps: Any, grid: int) -> Any:
    """Average a map over grid × grid cells as the extractor does, [n, h, w, c] → [n, grid · grid · c]."""
    if len(maps.shape) == 2:
        return maps
    for equation, length, others in (
        ("nhwc,hg->ngwc", maps.shape[1], (maps.shape[2], maps.shape[3])),
        ("nhwc,wg->nhgc", maps.shape[2], (grid, maps.shape[3])),
    ):
        shape = (grid, *others) if "hg" in equation else (others[0], grid, others[1])
        layer = keras.layers.EinsumDense(equation, output_shape=shape, trainable=False)
        maps = layer(maps)
        layer.set_weights([pooling_weights(length, grid)])
    return keras.layers.Flatten()(maps)


def pooling_weights(length: int, cells: int) -> np.ndarray:
    """Return [length, cells] float32 weights of an adaptive average: cell i covers ⌊i·l/c⌋ to ⌈(i+1)·l/c⌉."""
    weights = np.zeros((length, cells), np.float32)
    for cell in range(cells):
        start, stop = cell * length // cells, -((cell + 1) * length // -cells)
        weights[start:stop, cell] = 1 / (stop - start)
    return weights


def _layers(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        yield layer


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
    raise RunError(
        f"--format litert: TensorFlow's converter gave up ({first_line(cause)}). Use saved_model."
    ) from cause


class LiteRTNet:
    """Runs a LiteRT file on one core: photos [n, side, side, 3] float32 → [n, width] float32.

    `side` is that of its input, pixels.
    """

    def __init__(self, file: Path) -> None:
        # TensorFlow points to another package; its own runs the same files.
        with _quiet():
            self._interpreter = tf.lite.Interpreter(model_path=str(file), num_threads=1)
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
        raise RunError(f"--format onnx: tf2onnx gave up ({first_line(error)}). Use saved_model.") from error
    return bytes(model.SerializeToString())


class OnnxNet:
    """Runs an ONNX file of one input: photos [n, side, side, 3] float32 → [n, width] float32; needs facetl[onnx]."""

    def __init__(self, file: Path) -> None:
        self._session = import_onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """Embed photos."""
        return np.asarray(self._session.run(None, {self._input: np.asarray(photos, np.float32)})[0])
