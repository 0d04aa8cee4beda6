"""The SavedModel of an extractor that is not made of TensorFlow operations: the head alone, and said so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.recognition.recognizer import save_model, signatures_of


class Elsewhere:
    """A net that runs outside TensorFlow."""

    spec = ExtractorSpec.of("onnx:net.onnx")
    weights = Weights("file", "0" * 64, Path("net.onnx"))
    dim = 5
    flagged: dict[str, int] = {}  # noqa: RUF012 - as the extractors have it

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros((len(images), 5), np.float32)


def test_only_the_head_is_served(tmp_path: Path) -> None:
    head = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), keras.layers.UnitNormalization()])
    save_model(Elsewhere(), head, tmp_path / "saved_model")
    assert signatures_of(Elsewhere()) == ("head",)
    signatures = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    assert set(signatures) == {"head", "serving_default"}
    features = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    for name in ("head", "serving_default"):
        np.testing.assert_allclose(signatures[name](features=features)["embeddings"], head(features), atol=1e-6)
