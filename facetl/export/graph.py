"""A run as one frozen graph: what the converters to other runtimes begin with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tensorflow as tf

from facetl.export.pixels import fixed_input
from facetl.features.extractor import Extractor, make_extractor
from facetl.recognition.recognizer import Recognizer


def frozen_embedder(recognizer: Recognizer, *, photos: int | None) -> Any:
    """Return photos [photos, side, side, 3] float32 RGB in 0–255, cropped already, → unit embeddings, as a function.

    Its weights are constants: as variables the converters would leave them out. photos: how many at a time, None for
    any number. Raises RunError for a run that is not of TensorFlow, or of several crops.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    side, _ = fixed_input(recognizer.extractor)
    spec, weights = recognizer.extractor.spec, recognizer.extractor.weights
    # Photos come in cropped and of the net's own size: nothing is left to resize, which LiteRT has no operation for.
    extractor = make_extractor(replace(spec, crops=(1.0,)), weights)
    assert isinstance(extractor, Extractor)
    head = recognizer.head

    def embed(pixels: tf.Tensor) -> tf.Tensor:
        return tf.identity(head(extractor.features(pixels), training=False), name="embeddings")

    signature = tf.TensorSpec((photos, side, side, 3), tf.float32, name="photos")
    return convert_variables_to_constants_v2(tf.function(embed).get_concrete_function(signature))
