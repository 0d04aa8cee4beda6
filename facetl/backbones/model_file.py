"""A whole model as an extractor: a Keras file, a SavedModel with a signature that takes photos, or a frozen GraphDef.

A SavedModel that a facetl run left behind prepares photos itself: its signature `serve` gets them as they are. Other
models get a square of their own size, RGB, as (x − 127.5) / 127.5 unless they scale pixels themselves or their name
has other values: `net.keras?mean=0&std=255&channels=bgr&size=112`. A GraphDef gets RGB in [−1, 1], as InceptionV3 does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from facetl._tensorflow import path_for_tensorflow
from facetl.backbones.photo_net import PhotoNet, TensorFlowNet, formed
from facetl.backbones.spec import (
    AVERAGE,
    SAVED_MODEL_FILE,
    ExtractorSpec,
    InputForm,
    Weights,
    register_backbone,
    with_input_options,
)
from facetl.backbones.weights import find_own_file
from facetl.errors import WeightsError, first_line

_GRAPH_INPUT = "Model_Input:0"
_GRAPH_OUTPUT = "Model_Output:0"
_GRAPH_SIZE = 299
_AS_THEY_ARE = InputForm(mean=(0.0,), std=(1.0,))


def _is_model_file(name: str) -> bool:
    path = name.partition("?")[0]
    return path.endswith(".keras") or Path(path).name == SAVED_MODEL_FILE


@register_backbone(
    "model_file",
    about="a Keras file or a SavedModel",
    find_weights=find_own_file,
    matches=_is_model_file,
    identity=with_input_options("model_file"),
    file_prefix="",
    in_tensorflow=True,
)
def build(spec: ExtractorSpec, weights: Weights) -> PhotoNet:
    """Load a model as a backbone; WeightsError when it is damaged or takes no photos."""
    from facetl.backbones.extractor import Extractor

    return Extractor(spec, weights, load(spec, weights))


@register_backbone(
    "graph_def",
    about="a frozen GraphDef",
    find_weights=find_own_file,
    matches=lambda name: name.endswith(".pb") and Path(name).name != SAVED_MODEL_FILE,
    identity=lambda name: Path(name).name,
    file_prefix="",
    in_tensorflow=True,
)
def build_graph_def(spec: ExtractorSpec, weights: Weights) -> PhotoNet:
    """Load a frozen GraphDef; WeightsError when it is damaged or lacks the tensors."""
    from facetl.backbones.extractor import Extractor

    return Extractor(spec, weights, _graph_def(spec, weights.path))


def load(spec: ExtractorSpec, weights: Weights) -> TensorFlowNet:
    """Load the model at `weights.path`; WeightsError when it is damaged or takes no photos."""
    saved_model = weights.path / SAVED_MODEL_FILE
    return _saved_model(spec, weights.path) if saved_model.is_file() else _keras_file(spec, weights.path)


def _keras_file(spec: ExtractorSpec, path: Path) -> TensorFlowNet:
    import keras

    from facetl.backbones import net_layers  # noqa: F401 - registers the layers that a net of facetl's own may hold

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:
        raise WeightsError(f"{path}: expected a model saved by Keras (.keras). {first_line(error)}") from error
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise WeightsError(f"{path}: expected a model of one input, [n, height, width, 3].")
    model.trainable = False
    size = _side(path, tuple(model.inputs[0].shape))
    if spec.tap != AVERAGE:
        layers = [layer.name for layer in model.layers]
        if spec.tap not in layers:
            raise WeightsError(
                f"tap: expected avg or a layer of {path.name}, got {spec.tap!r}: {', '.join(layers[:12])}."
            )
        model = keras.Model(model.inputs[0], model.get_layer(spec.tap).output)
    if len(model.outputs) != 1:
        raise WeightsError(f"{path}: expected a model of one output, got {len(model.outputs)}. Name a layer by --tap.")
    form = _AS_THEY_ARE if scales_itself(model) else InputForm()
    return _net(path, model, lambda pixels: model(pixels, training=False), form, size, spec)


def _saved_model(spec: ExtractorSpec, folder: Path) -> TensorFlowNet:
    import tensorflow as tf

    try:
        with path_for_tensorflow(folder) as path:
            loaded = tf.saved_model.load(path)
    except Exception as error:
        raise WeightsError(f"{folder}: expected a SavedModel. {first_line(error)}") from error
    signatures = loaded.signatures
    name = next((name for name in ("serve", "serving_default") if name in signatures), next(iter(signatures), None))
    entries = signatures[name].structured_input_signature[1] if name is not None else {}
    if len(entries) != 1:
        found = ", ".join(entries) or "none"
        raise WeightsError(
            f"{folder}: expected a signature of one input, photos; {name or 'no signature'} has {found}."
        )
    entry, tensor = next(iter(entries.items()))
    size = _side(folder, tuple(tensor.shape))
    outputs = signatures[name].structured_outputs
    output = next(iter(outputs)) if spec.tap == AVERAGE else spec.tap
    if output not in outputs or (spec.tap == AVERAGE and len(outputs) > 1):
        raise WeightsError(f"tap: expected an output of {name}, {' or '.join(sorted(outputs))}, got {spec.tap!r}.")

    def trunk(pixels: Any) -> Any:
        if tensor.dtype != tf.float32:
            whole = tf.round(tf.clip_by_value(pixels, 0, 255)) if tensor.dtype.is_integer else pixels
            pixels = tf.cast(whole, tensor.dtype)
        return tf.cast(signatures[name](**{entry: pixels})[output], tf.float32)

    own = {"serve", "head"} <= set(signatures) or tensor.dtype.is_integer
    return _net(folder, loaded, trunk, _AS_THEY_ARE if own else InputForm(), size, spec)


def _graph_def(spec: ExtractorSpec, path: Path) -> TensorFlowNet:
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except Exception as error:
        raise WeightsError(f"{path}: expected a frozen TensorFlow GraphDef ({type(error).__name__}).") from error
    output = _GRAPH_OUTPUT if spec.tap == AVERAGE else spec.tap if ":" in spec.tap else f"{spec.tap}:0"
    variables = [node.name for node in graph_def.node if node.op in ("VarHandleOp", "VariableV2", "Variable")]
    if variables:
        raise WeightsError(f"{path}: expected a frozen GraphDef, but {variables[0]} is a variable. Freeze the graph.")
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
        entry = wrapped.graph.get_tensor_by_name(_GRAPH_INPUT)
        pruned = wrapped.prune(entry, wrapped.graph.get_tensor_by_name(output))
    except (KeyError, ValueError, tf.errors.OpError) as error:
        raise WeightsError(
            f"{path}: expected tensors {_GRAPH_INPUT} and {output} in the graph. {first_line(error)}"
        ) from error
    size = (entry.shape[1] if entry.shape.rank == 4 else None) or _GRAPH_SIZE

    def trunk(pixels: Any) -> Any:
        result = pruned(pixels / 127.5 - 1.0)
        result = result[0] if isinstance(result, (list, tuple)) else result
        # A graph's pool may keep its 1×1 map.
        return tf.ensure_shape(result, [None, *result.shape[1:]])

    return TensorFlowNet(pruned, trunk, size)


def _net(
    path: Path,
    held: object,
    model: Callable[[Any], Any],
    form: InputForm,
    size: int | None,
    spec: ExtractorSpec,
) -> TensorFlowNet:
    form = form.with_options(spec.name)
    if form.size is not None and size is not None and form.size != size:
        raise WeightsError(f"{path}: it takes {size}×{size} pixels, got size={form.size}.")
    form = replace(form, size=size or form.size)
    if form.size is None and spec.crops != (1,):
        raise WeightsError(
            f"{path}: it takes whole photos and prepares them itself, got a crop of {spec.crop_text}. Give --crop 1, "
            "or its size behind a ?, as ?size=224."
        )
    return TensorFlowNet(held, lambda pixels: model(formed(pixels, form)), form.size)


def _side(path: Path, shape: tuple[int | None, ...]) -> int | None:
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        raise WeightsError(f"{path}: expected square photos as input, [n, height, width, 3], got {list(shape)}.")
    return shape[1]


def scales_itself(model: Any) -> bool:
    """Return whether a layer ahead of the first kernel rescales the pixels."""
    import keras

    for layer in _layers(model):
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            return True
        if getattr(layer, "kernel", None) is not None:
            return False
    return False


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer
