"""The one saved artefact: backbone, head and calibration, from a photo to a unit-norm embedding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from facetl._tensorflow import path_for_tensorflow
from facetl.backbones.backbone import Backbone, Source
from facetl.backbones.extractor import Extractor, make_extractor
from facetl.backbones.photo_net import PhotoNet
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.backbones.weights import resolve
from facetl.calibration.calibration import Calibration
from facetl.embeddings.face_features import face_image
from facetl.errors import DataError, PhotoError, RunError
from facetl.faces.alignment import NO_FACE, check_cropped
from facetl.faces.detectors import DetectorSpec, Face, choose
from facetl.images.decode import read_photo
from facetl.io.files import sha256_of_file
from facetl.io.json import JsonFields
from facetl.metrics.roc import squared_distances
from facetl.recognition.embedded_face import EmbeddedFace, EmbeddedPhoto, FaceFinder, own_detector, quality_of
from facetl.recognition.face_embeddings import Box, FaceBatch, FaceEmbeddings, Photos, read_photos
from facetl.recognition.gallery_file import GalleryFile
from facetl.recognition.identifier import IdentifiedFace, Identifier
from facetl.recognition.run_folder import SAVED_MODEL, RunFolder
from facetl.training.head import embed


@dataclass(frozen=True)
class Recognizer:
    """A frozen net, a head and a calibration: embeds faces, verifies pairs of photos, names faces.

    Attributes:
        backbone: the frozen net; a `Backbone` is replaced by its net.
        head: features [batch, dim] → unit embeddings [batch, width].
        calibration: where the threshold comes from and how often it errs, probabilities and settings for
            identification; None while a threshold is all there is.
        threshold: squared distance up to which two photos count as one person, by default the calibration's.
        detector: finds the faces of a photo; None for the one that the run was trained with. The SavedModel holds none:
            it takes faces that are aligned already.
    """

    backbone: PhotoNet
    head: keras.Model
    calibration: Calibration | None = None
    threshold: float = field(default=math.nan, kw_only=True)
    detector: DetectorSpec | None = field(default=None, kw_only=True)
    _finder: FaceFinder = field(default_factory=FaceFinder, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.backbone, Backbone):
            object.__setattr__(self, "backbone", self.backbone.net)
        if math.isnan(self.threshold):
            if self.calibration is None:
                raise RunError("A recognizer needs a calibration or a threshold, got neither. Give calibration=.")
            object.__setattr__(self, "threshold", self.calibration.threshold)

    def embed(
        self,
        photos: Photos,
        *,
        all_faces: bool = False,
        batch_size: int = 32,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FaceEmbeddings:
        """Embed photos: a folder, at any depth, or a sequence of paths, of files' bytes and of [h, w, 3] uint8 RGB.

        A photo that cannot be read, or that shows no face where faces are looked for, is counted in `skipped`; the
        rest keep their order. Memory holds a batch of photos and the embeddings.

        Args:
            all_faces: every face, from left to right, instead of the one that a photo of one person is about. Where
                neither `detector` nor the extractor finds faces, a photo is one cropped face.
            batch_size: photos, or faces, in a forward pass.
            on_progress: called with photos done and photos in all.

        Raises DataError for a folder that cannot be listed.
        """
        skipped: Counter[str] = Counter()
        parts = list(
            self.embed_batches(
                photos, skipped=skipped, all_faces=all_faces, batch_size=batch_size, on_progress=on_progress
            )
        )
        joined = FaceEmbeddings.joined(parts, width=self.head.output_shape[-1], skipped=skipped)
        return joined.select(np.argsort(joined.photos, kind="stable"))

    def embed_batches(
        self,
        photos: Photos,
        *,
        skipped: Counter[str],
        all_faces: bool = False,
        batch_size: int = 32,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[FaceEmbeddings]:
        """Embed as `embed` does, a batch at a time; photos that cannot be embedded are counted in `skipped`.

        Two photos of the same bytes are read once, and their rows follow each other.
        """
        shown = self._all_faces if all_faces else self._main_face
        waiting = FaceBatch()
        for photo in read_photos(photos, skipped, batch_size=batch_size, on_progress=on_progress):
            try:
                waiting.add(photo, shown(photo.image))
            except PhotoError as error:
                skipped[error.reason] += len(photo.places)
            while waiting.is_full(batch_size):
                yield waiting.embedded(self._embed_images, batch_size)
        if waiting.images:
            yield waiting.embedded(self._embed_images, batch_size)

    def _embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return embed(self.head, self.backbone.extract(images))

    def _main_face(self, image: NDArray[np.uint8]) -> list[tuple[Box, NDArray[np.uint8]]]:
        """Return the box of the face that a photo is about, and what the extractor is shown of it."""
        spec = self.backbone.spec
        if self.detector is None and spec.align == "none":
            check_cropped(image)
            height, width = image.shape[:2]
            # A net that finds the face itself gives no box.
            whole = (0.0, 0.0, width - 1.0, height - 1.0)
            return [((np.nan,) * 4 if spec.family.finds_faces else whole, image)]
        found = choose(self._finder.detect(image, self.detector or own_detector(spec)), image.shape)
        if found is None:
            raise PhotoError(NO_FACE, "a photo to embed must show a face, none was found. Give another photo.")
        try:
            return [(found.box, face_image(image, found, spec))]
        except DataError as error:
            raise PhotoError(NO_FACE, f"a photo to embed must show a face: {error}") from error

    def _all_faces(self, image: NDArray[np.uint8]) -> list[tuple[Box, NDArray[np.uint8]]]:
        """Return the same of all faces, from left to right."""
        seen = [(face.box, shown) for face, shown in self._shown_faces(image)]
        if not seen:
            raise PhotoError(NO_FACE, "a photo to embed must show a face, none was found. Give another photo.")
        return seen

    def _shown_faces(self, image: NDArray[np.uint8]) -> Iterator[tuple[Face, NDArray[np.uint8]]]:
        for face in self._finder.detect(image, self.detector or own_detector(self.backbone.spec)):
            # A detector may claim landmarks of anything.
            with suppress(DataError):
                yield face, face_image(image, face, self.backbone.spec)

    def faces(self, photo: Source) -> tuple[EmbeddedFace, ...]:
        """Find and embed all faces of a photo, a path, a file's bytes or [h, w, 3] uint8 RGB, from left to right.

        For a run that was trained on cropped faces, the photo is one face, unless there is a `detector` to find them.
        What has landmarks that span no face is left out. Raises PhotoError for a photo that cannot be read.
        """
        image = photo if isinstance(photo, np.ndarray) else read_photo(photo)
        shown = list(self._shown_faces(image))
        embeddings = self._embed_images([crop for _, crop in shown]) if shown else ()
        return tuple(
            EmbeddedFace(face, row, quality_of(image, face)) for (face, _), row in zip(shown, embeddings, strict=True)
        )

    def embed_photo(self, path: Path | str) -> EmbeddedPhoto:
        """Find and embed all faces of a photo file; PhotoError where it cannot be read."""
        path = Path(path)
        image = read_photo(path)
        try:
            sha = sha256_of_file(path)
        except OSError as error:
            raise PhotoError("unreadable", f"{path}: cannot be read ({error.strerror}).") from error
        return EmbeddedPhoto(path, sha, image.shape[:2], self.faces(image))

    def embed_photos(
        self,
        paths: Sequence[Path],
        *,
        skipped: Counter[str],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[EmbeddedPhoto]:
        """Yield each photo with all its faces; one that cannot be read is counted in `skipped` by its reason."""
        for done, path in enumerate(paths, start=1):
            try:
                yield self.embed_photo(path)
            except PhotoError as error:
                skipped[error.reason] += 1
            if on_progress is not None:
                on_progress(done, len(paths))

    def verify(self, first: Path | str, second: Path | str) -> VerifiedPair:
        """Compare the faces that two photos are about; PhotoError where one cannot be read or shows none."""
        photos = self.embed_photo(first), self.embed_photo(second)
        one, other = (photo.main.embedding for photo in photos)
        distance = float(squared_distances(one[None], other[None])[0])
        return VerifiedPair(
            verified=distance <= self.threshold,
            distance=distance,
            threshold=self.threshold,
            probability=None if self.calibration is None else self.probability(distance),
            faces=(len(photos[0].faces), len(photos[1].faces)),
        )

    def enroll(self, gallery: GalleryFile, name: str, photos: Sequence[Path | str]) -> GalleryFile:
        """Return a gallery that holds, too, the face that each of a person's photos is about; PhotoError, DataError."""
        found = [self.embed_photo(path) for path in photos]
        return gallery.with_faces(name, [(photo.sha, photo.main) for photo in found])[0]

    def identifier(self, gallery: GalleryFile) -> Identifier:
        """Return what names faces by the people of a gallery; RunError for a gallery of nobody."""
        return Identifier(gallery.embeddings, gallery.names, threshold=self.threshold, calibration=self.calibration)

    def identify(self, photo: Path | str, gallery: GalleryFile) -> list[IdentifiedFace]:
        """Name all faces of a photo, from left to right; for many photos make `identifier` once and ask that.

        Raises PhotoError for a photo that cannot be read, RunError for a gallery of nobody.
        """
        return self.identifier(gallery).identify(self.embed_photo(photo))

    def distance(self, first: Source, second: Source) -> float:
        """Return the squared distance of two photos' embeddings, in [0, 4]; one person when ≤ `threshold`.

        Raises PhotoError for a photo that cannot be read, or that shows no face where faces are looked for.
        """
        images = [photo if isinstance(photo, np.ndarray) else read_photo(photo) for photo in (first, second)]
        one, other = self._embed_images([self._main_face(image)[0][1] for image in images])
        return float(np.sum(np.square(one - other)))

    def probability(self, distance: float, *, prior: float | None = None) -> float:
        """Return how likely two photos at a squared distance show one person, in [0, 1].

        prior: how likely that is before looking, by default the calibration's. RunError without a calibration.
        """
        if self.calibration is None:
            raise RunError("A probability needs a calibrated run, got a threshold alone. Run facetl calibrate.")
        return float(self.calibration.probability(distance, prior=prior))

    def save(self, folder: Path | str) -> None:
        """Write `head.keras` and `saved_model/` into a run folder."""
        RunFolder(Path(folder)).write_head(self.head)
        save_model(self.backbone, self.head, Path(folder) / SAVED_MODEL)

    @classmethod
    def load(cls, folder: Path | str) -> Recognizer:
        """Load a run folder; RunError when it is none, or when the extractor's weights are gone or others now."""
        run = RunFolder(Path(folder))
        spec, weights = run.extractor()
        # A net as its authors left it has their threshold, and nobody to be calibrated on.
        published = run.published_threshold()
        calibration = run.calibration() if published is None else None
        if not weights.path.exists():
            raise RunError(
                f"{folder}: the extractor's weights are gone from {weights.path}. Restore them, or train again."
            )
        refuse_other_weights(spec, weights)
        threshold = math.nan if published is None else published
        return cls(make_extractor(spec, weights), run.head(), calibration, threshold=threshold)


@dataclass(frozen=True)
class VerifiedPair(JsonFields):
    """Two photos compared.

    Attributes:
        verified: whether they show one person, the distance being at most the threshold.
        distance: squared, of the embeddings.
        probability: of one person, None without a calibration.
        faces: how many were found in each photo; of several, the large one near the centre counts.
    """

    verified: bool
    distance: float
    threshold: float
    probability: float | None
    faces: tuple[int, int]


def refuse_other_weights(spec: ExtractorSpec, weights: Weights) -> None:
    """Raise RunError unless what lies under the weights' path today is what the run was trained with."""
    found = resolve(spec, given=weights.path if spec.family.takes_weights else None)
    if found.sha256 != weights.sha256:
        raise RunError(
            f"{found.path}: the run was trained with weights of sha256 {weights.sha256[:12]}, found "
            f"{found.sha256[:12]}. Restore them, or train again."
        )


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
    with path_for_tensorflow(folder) as path:
        tf.saved_model.save(module, path, signatures=signatures)


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
