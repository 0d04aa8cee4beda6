"""The speed of extraction: facetl against Keras' predict, the same net and photos, in one run.

Run: python benchmarks/extraction.py [--photos 64]. Random weights (`weights=None`): speed does not depend on them.
The limit beside it is what the machine's matrix multiplication allows. Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from facetl._tensorflow import start_tensorflow


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=64)
    photos = parser.parse_args().photos
    start_tensorflow()
    import keras
    import tensorflow as tf

    from facetl.backbones.extractor import make_extractor
    from facetl.backbones.spec import ExtractorSpec, Weights

    images = np.random.default_rng(0).integers(0, 256, (photos, 250, 250, 3), dtype=np.uint8)
    net = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg", input_shape=(299, 299, 3))
    prepared = keras.applications.inception_v3.preprocess_input(
        np.array(tf.image.resize(images.astype(np.float32), (299, 299)))
    )
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "random.weights.h5"
        keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(299, 299, 3)).save_weights(path)
        weights = Weights("file", "0" * 64, path)
        whole = make_extractor(ExtractorSpec.of(tap="avg", mirror=False), weights)
        tapped = make_extractor(ExtractorSpec.of(tap="mixed2", mirror=False), weights)
        mirrored = make_extractor(ExtractorSpec.of(tap="mixed2"), weights)
        rates = {
            "predict, one by one, whole net": _rate(
                lambda: [net.predict(x[None], verbose=0) for x in prepared], photos
            ),
            "predict, batch 32, whole net": _rate(lambda: net.predict(prepared, batch_size=32, verbose=0), photos),
            "facetl --tap avg": _rate(lambda: _batches(whole, images), photos),
            "facetl, mixed2": _rate(lambda: _batches(tapped, images), photos),
            "facetl, mixed2 and mirror": _rate(lambda: _batches(mirrored, images), photos),
        }
    gflops = _gemm()
    mixed2 = keras.Model(net.input, net.get_layer("mixed2").output)
    limit = {"whole net": gflops / _gflop(net), "mixed2": gflops / _gflop(mixed2)}
    slowest = min(rates.values())
    print(f"{'path':40s}{'photos/s':>10s}{'×':>7s}")
    for name, rate in rates.items():
        print(f"{name:40s}{rate:10.1f}{rate / slowest:7.1f}")
    print(f"limit by float32 GEMM at {gflops:.0f} GFLOP/s: {', '.join(f'{k} {v:.1f}' for k, v in limit.items())}")
    print(json.dumps({"benchmark": "extraction", "photos_per_second": rates, "limit": limit}))


def _batches(extractor: object, images: np.ndarray, size: int = 32) -> None:
    for start in range(0, len(images), size):
        extractor.extract(list(images[start : start + size]))  # type: ignore[attr-defined]


def _rate(function: Callable[[], object], photos: int) -> float:
    function()
    began = time.perf_counter()
    function()
    return photos / (time.perf_counter() - began)


def _gflop(model: Any) -> float:
    """Count the floating-point operations of one forward pass of one photo, in 10⁹."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    photo = tf.TensorSpec((1, 299, 299, 3), tf.float32)
    graph = convert_variables_to_constants_v2(tf.function(model).get_concrete_function(photo)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops / 1e9


def _gemm(size: int = 3072) -> float:
    import tensorflow as tf

    a = tf.random.normal((size, size))
    tf.matmul(a, a)
    began = time.perf_counter()
    for _ in range(5):
        result = tf.matmul(a, a)
    result.numpy()
    return 5 * 2 * size**3 / (time.perf_counter() - began) / 1e9


if __name__ == "__main__":
    main()
