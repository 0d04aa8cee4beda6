"""The one saved artefact: extractor, head and threshold, from a photo to a unit-norm embedding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facetl.errors import RunError
from facetl.features.extractor import Extractor
from facetl.features.spec import ExtractorSpec
from facetl.features.weights import Weights
from facetl.imaging.decode import read_photo
from facetl.training import standardisation  # noqa: F401 - registers the layer that a stored head may hold
from facetl.training.head import embed

CONFIG = "config.json"
HEAD = "head.keras"
SAVED_MODEL = "saved_model"
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Recognizer:
    """Embeds faces and tells whether two are of one person.

    Attributes:
        extractor: the frozen net.
        head: features [batch, dim] → unit embeddings [batch, width].
        threshold: squared distance up to which two photos count as one person.
    """

    extractor: Extractor
    head: keras.Model
    threshold: float

    def embed(self, photos: Sequence[Path | bytes | np.ndarray]) -> np.ndarray:
        """Embed photos, each a path, a file's bytes or [h, w, 3] uint8 RGB → [photos, width] float32 unit vectors.

        Raises PhotoError for a photo that cannot be read.
        """
        images = [photo if isinstance(photo, np.ndarray) else read_photo(photo) for photo in photos]
        return embed(self.head, self.extractor.extract(images))

    def distance(self, first: Path | bytes | np.ndarray, second: Path | bytes | np.ndarray) -> float:
        """Return the squared distance of two photos' embeddings, in [0, 4]; one person when ≤ `threshold`."""
        one, other = self.embed([first, second])
        return float(np.sum(np.square(one - other)))

    def save(self, folder: Path) -> None:
        """Write `head.keras` and `saved_model/` into a run folder."""
        self.head.save(folder / HEAD)
        save_model(self.extractor, self.head, folder / SAVED_MODEL)

    @classmethod
    def load(cls, folder: Path) -> Recognizer:
        """Load a run folder; RunError when it is none, WeightsError when the extractor's weights have changed."""
        try:
            config = json.loads((folder / CONFIG).read_text())
            calibration = json.loads((folder / CALIBRATION).read_text())
            head = keras.models.load_model(folder / HEAD)
        except (OSError, ValueError) as error:
            raise RunError(f"{folder}: expected a complete run folder ({error}). Run facetl train.") from error
        stored = config["extractor"]
        weights = Weights(stored["weights"]["source"], stored["weights"]["sha256"], Path(stored["weights"]["path"]))
        if not weights.path.is_file():
            raise RunError(
                f"{folder}: the extractor's weights are gone from {weights.path}. Restore them, or train again."
            )
        spec = ExtractorSpec(**stored["spec"])
        return cls(Extractor(spec, weights), head, float(calibration["threshold"]))


def save_model(extractor: Extractor, head: keras.Model, folder: Path) -> None:
    """Write a SavedModel that TensorFlow alone can serve.

    Signatures: `serve` (also the default) takes `images` [batch, height, width, 3] float32 RGB in 0–255,
    `serve_uint8` the same as uint8; both give `embeddings` [batch, width]. `head` takes `features` [batch, dim].
    """
    module = _Served(extractor, head)
    photos = (None, None, None, 3)
    serve = module.serve.get_concrete_function(tf.TensorSpec(photos, tf.float32, name="images"))
    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": serve,
            "serve": serve,
            "serve_uint8": module.serve.get_concrete_function(tf.TensorSpec(photos, tf.uint8, name="images")),
            "head": module.embed.get_concrete_function(
                tf.TensorSpec((None, extractor.dim), tf.float32, name="features")
            ),
        },
    )


class _Served(tf.Module):
    def __init__(self, extractor: Extractor, head: keras.Model) -> None:
        super().__init__(name="recognizer")
        self.extractor = extractor
        self.head = head

    @tf.function
    def serve(self, images: tf.Tensor) -> dict[str, Any]:
        return {"embeddings": self.head(self.extractor.features(images), training=False)}

    @tf.function
    def embed(self, features: tf.Tensor) -> dict[str, Any]:
        return {"embeddings": self.head(features, training=False)}
