"""A frozen TensorFlow GraphDef whose input takes RGB in [−1, 1], as InceptionV3 does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facetl.backbones.photo_net import PhotoNet, TensorFlowNet
from facetl.backbones.spec import AVERAGE, SAVED_MODEL_FILE, ExtractorSpec, Weights, register_backbone
from facetl.backbones.weights import find_own_file
from facetl.errors import WeightsError

GRAPH_INPUT = "Model_Input:0"
GRAPH_OUTPUT = "Model_Output:0"
_GRAPH_SIZE = 299


@register_backbone(
    "graph_def",
    about="a frozen GraphDef",
    find_weights=find_own_file,
    matches=lambda name: name.endswith(".pb") and Path(name).name != SAVED_MODEL_FILE,
    identity=lambda name: Path(name).name,
    file_prefix="",
    in_tensorflow=True,
)
def build(spec: ExtractorSpec, weights: Weights) -> PhotoNet:
    """Load a frozen GraphDef; WeightsError when it is damaged or lacks the tensors."""
    from facetl.backbones.extractor import Extractor

    return Extractor(spec, weights, _load(spec, weights.path))


def _load(spec: ExtractorSpec, path: Path) -> TensorFlowNet:
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except Exception as error:
        raise WeightsError(f"{path}: expected a frozen TensorFlow GraphDef ({type(error).__name__}).") from error
    output = GRAPH_OUTPUT if spec.tap == AVERAGE else spec.tap if ":" in spec.tap else f"{spec.tap}:0"
    variables = [node.name for node in graph_def.node if node.op in ("VarHandleOp", "VariableV2", "Variable")]
    if variables:
        raise WeightsError(f"{path}: expected a frozen GraphDef, but {variables[0]} is a variable. Freeze the graph.")
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
        entry = wrapped.graph.get_tensor_by_name(GRAPH_INPUT)
        pruned = wrapped.prune(entry, wrapped.graph.get_tensor_by_name(output))
    except (KeyError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0][:200]
        raise WeightsError(f"{path}: expected tensors {GRAPH_INPUT} and {output} in the graph. {reason}") from error
    size = (entry.shape[1] if entry.shape.rank == 4 else None) or _GRAPH_SIZE

    def trunk(pixels: Any) -> Any:
        result = pruned(pixels / 127.5 - 1.0)
        result = result[0] if isinstance(result, (list, tuple)) else result
        # A graph's pool may keep its 1×1 map.
        return tf.ensure_shape(result, [None, *result.shape[1:]])

    return TensorFlowNet(pruned, trunk, size)
