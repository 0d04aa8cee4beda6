"""The one saved artefact: extractor, head and threshold, from a photo to a unit-norm embedding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facetl.backbones.extractor import Extractor, make_extractor
from facetl.backbones.photo_net import PhotoNet
from facetl.calibration.calibration import Calibration
from facetl.embeddings.face_features import face_image
from facetl.errors import DataError, RunError
from facetl.faces.aligner import Aligner
from facetl.faces.detection import DetectorSpec
from facetl.images.decode import read_photo
from facetl.recognition import calibration_files
from facetl.recognition.embedded_face import FaceFinder, SeenFace, own_detector
from facetl.recognition.run_folder import CONFIG, HEAD, stored_extractor
from facetl.training import (
    sphere_lift,  # noqa: F401 - register the layers that a stored head may hold
    whitening,  # noqa: F401 - register the layers that a stored head may hold
)
from facetl.training.head import embed

SAVED_MODEL = "saved_model"


@dataclass(frozen=True)
class Recognizer:
    """Embeds faces and tells whether two are of one person.

    Attributes:
        extractor: the frozen net.
        head: features [batch, dim] → unit embeddings [batch, width].
        threshold: squared distance up to which two photos count as one person.
        calibration: where the threshold comes from and how often it errs, probabilities and settings for
            identification; None while a threshold is all there is.
        aligner: finds and aligns the face of a photo, where the extractor takes aligned faces. The SavedModel does not:
            it takes faces that are aligned already.
        detector: finds all faces of a photo, for `faces`; None for the one that the run was trained with.
    """

    extractor: PhotoNet
    head: keras.Model
    threshold: float
    calibration: Calibration | None = None
    aligner: Aligner = field(default_factory=Aligner, repr=False)
    detector: DetectorSpec | None = None
    _finder: FaceFinder = field(default_factory=FaceFinder, repr=False, compare=False)

    def embed(self, photos: Sequence[Path | bytes | np.ndarray]) -> np.ndarray:
        """Embed photos, each a path, a file's bytes or [h, w, 3] uint8 RGB → [photos, width] float32 unit vectors.

        Raises PhotoError for a photo that cannot be read, or that shows no face where faces are aligned.
        """
        images = [photo if isinstance(photo, np.ndarray) else read_photo(photo) for photo in photos]
        if self.extractor.spec.align != "none":
            images = self.aligner(images)
        return embed(self.head, self.extractor.extract(images))

    def faces(self, photo: Path | bytes | np.ndarray) -> tuple[SeenFace, ...]:
        """Find and embed all faces of a photo, a path, a file's bytes or [h, w, 3] uint8 RGB, from left to right.

        For a run that was trained on cropped faces, the photo is one face, unless `detector` says how to find them.
        What has landmarks that span no face is left out. Raises PhotoError for a photo that cannot be read.
        """
        image = photo if isinstance(photo, np.ndarray) else read_photo(photo)
        found, images = [], []
        for face, quality in self._finder.find(image, self.detector or own_detector(self.extractor.spec)):
            try:
                images.append(face_image(image, face, self.extractor.spec))
            except DataError:
                continue
            found.append((face, quality))
        if not found:
            return ()
        embeddings = embed(self.head, self.extractor.extract(images))
        return tuple(SeenFace(face, row, quality) for (face, quality), row in zip(found, embeddings, strict=True))

    def distance(self, first: Path | bytes | np.ndarray, second: Path | bytes | np.ndarray) -> float:
        """Return the squared distance of two photos' embeddings, in [0, 4]; one person when ≤ `threshold`."""
        one, other = self.embed([first, second])
        return float(np.sum(np.square(one - other)))

    def probability(self, distance: float, *, prior: float | None = None) -> float:
        """Return how likely two photos at a squared distance show one person, in [0, 1].

        prior: how likely that is before looking, by default the calibration's. RunError without a calibration.
        """
        if self.calibration is None:
            raise RunError("A probability needs a calibrated run, got a threshold alone. Run facetl calibrate.")
        return float(self.calibration.probability(distance, prior=prior))

    def save(self, folder: Path) -> None:
        """Write `head.keras` and `saved_model/` into a run folder."""
        self.head.save(folder / HEAD)
        save_model(self.extractor, self.head, folder / SAVED_MODEL)

    @classmethod
    def load(cls, folder: Path) -> Recognizer:
        """Load a run folder; RunError when it is none, WeightsError when the extractor's weights have changed."""
        try:
            config = json.loads((folder / CONFIG).read_text())
            head = keras.models.load_model(folder / HEAD)
        except (OSError, ValueError) as error:
            raise RunError(f"{folder}: expected a complete run folder ({error}). Run facetl train.") from error
        # A run without training has its authors' threshold, and nobody to be calibrated on.
        published = config.get("threshold")
        calibration = None if published is not None else calibration_files.read(folder)
        threshold = calibration.threshold if calibration is not None else float(published)
        spec, weights = stored_extractor(folder, config)
        if not weights.path.exists():
            raise RunError(
                f"{folder}: the extractor's weights are gone from {weights.path}. Restore them, or train again."
            )
        return cls(make_extractor(spec, weights), head, threshold, calibration)


def signatures_of(extractor: PhotoNet) -> tuple[str, ...]:
    """Return the signatures of a SavedModel with this extractor: `head` alone where it is not made of TensorFlow."""
    return ("serve", "serve_uint8", "head") if extractor.spec.family.in_tensorflow else ("head",)


def save_model(extractor: PhotoNet, head: keras.Model, folder: Path) -> None:
    """Write a SavedModel that TensorFlow alone can serve.

    Signatures: `serve` (also the default) takes `images` [batch, height, width, 3] float32 RGB in 0–255,
    `serve_uint8` the same as uint8; both give `embeddings` [batch, width]. `head` takes `features` [batch, dim]; it is
    the only one, and the default, where the extractor is not made of TensorFlow operations (dlib, ONNX).
    """
    module = _Served(extractor if isinstance(extractor, Extractor) else None, head)
    embed_features = module.embed.get_concrete_function(
        tf.TensorSpec((None, extractor.dim), tf.float32, name="features")
    )
    signatures = {"serving_default": embed_features, "head": embed_features}
    if module.extractor is not None:
        photos = (None, None, None, 3)
        serve = module.serve.get_concrete_function(tf.TensorSpec(photos, tf.float32, name="images"))
        bytewise = module.serve.get_concrete_function(tf.TensorSpec(photos, tf.uint8, name="images"))
        signatures |= {"serving_default": serve, "serve": serve, "serve_uint8": bytewise}
    tf.saved_model.save(module, str(folder), signatures=signatures)


class _Served(tf.Module):
    def __init__(self, extractor: Extractor | None, head: keras.Model) -> None:
        super().__init__(name="recognizer")
        self.extractor = extractor
        self.head = head

    @tf.function
    def serve(self, images: tf.Tensor) -> dict[str, Any]:
        assert self.extractor is not None
        return {"embeddings": self.head(self.extractor.features(images), training=False)}

    @tf.function
    def embed(self, features: tf.Tensor) -> dict[str, Any]:
        return {"embeddings": self.head(features, training=False)}
