"""Alignment: a similarity brings a face's eyes, nose and mouth to where they lie in a fixed template.

The detector `none` takes a photo for a face that lies there already. No TensorFlow until a face is looked for. Pixel
(0, 0) is the centre of the top left pixel, as in OpenCV.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.errors import DataError, PhotoError
from facetl.faces.detectors import DetectorSpec, Face, MtcnnSpec, check_photo, choose, register_detector
from facetl.images.decode import read_photo
from facetl.io.files import sha256_of

# Raise it when an aligned face's pixels change: features of the old way are then not reused.
VERSION = 1

# Left eye, right eye, nose, left and right corner of the mouth: ArcFace's template for 112 × 112 pixels
# (github.com/deepinsight/insightface, `face_align.py`; Deng et al., CVPR 2019), which most face nets expect.
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
_ARCFACE_SIZE = 112

# Side of the square from which an aligning extractor takes its crops, pixels: there is room around the face, and
# ArcFace's crop, its middle half, has InceptionV3's 299 pixels.
SIZE = 598
_ZOOM = 0.5
NO_FACE = "no-face"

# Below these a photo that should be a cropped face shows none. LFW's flattest photo has a spread of 27, the ORL
# sample's 32: see docs/people.md for how both were measured.
BLANK, TOO_SMALL = "blank", "too-small"
MIN_SPREAD, MIN_SIDE = 5.0, 24

_FINEST = 4  # from this many times larger on, a photo is shrunk as a whole before it is warped


def template(size: int, *, zoom: float = 1.0) -> NDArray[np.float64]:
    """Return where the five landmarks [5, 2] lie in an aligned face of `size` × `size` pixels.

    `zoom` scales the template about the centre of the square: 1 is ArcFace's crop, from brow to chin; 0.7 takes in
    1 / 0.7 times as much each way, hair and ears with it.
    """
    if size < 1 or not 0 < zoom < np.inf:
        raise DataError(f"an aligned face needs a size from 1 and a zoom above 0, got {size} and {zoom}.")
    # Through edges instead of centres of pixels, so that every size shows exactly the same part of the face.
    fractions = (ARCFACE + 0.5) / _ARCFACE_SIZE
    return (0.5 + zoom * (fractions - 0.5)) * size - 0.5


def similarity(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Return the similarity [2, 3] that brings points [n, 2] nearest to others [n, 2], in least squares.

    Rotation, one scale and a shift, never a reflection: the solution of Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns" (PAMI 13, 1991), which in the plane is linear regression
    on complex numbers.

    Raises DataError unless there are as many points on both sides, finite, and not all of them in one place.
    """
    sources, targets = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if sources.ndim != 2 or sources.shape[1] != 2 or sources.shape != targets.shape or len(sources) < 2:
        raise DataError(f"a similarity needs points [n, 2] on both sides, got {sources.shape} and {targets.shape}.")
    if not (np.isfinite(sources).all() and np.isfinite(targets).all()):
        raise DataError("a similarity needs finite points, got nan or infinity. Detect the face again.")
    before, after = sources @ [1, 1j], targets @ [1, 1j]
    spread, moved = before - before.mean(), after - after.mean()
    power = float(np.vdot(spread, spread).real)
    # Single precision of the landmarks: below it the spread is rounding.
    if power <= (1e-6 * np.abs(before).max()) ** 2:
        raise DataError("a similarity needs points in more than one place, got one. Detect the face again.")
    turn = np.vdot(spread, moved) / power
    shift = after.mean() - turn * before.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(image: NDArray[np.uint8], landmarks: ArrayLike, *, size: int, zoom: float = 1.0) -> NDArray[np.uint8]:
    """Return a face upright, centred and of one size: [size, size, 3] uint8.

    The five landmarks go nearest to the template's, by `similarity`. Bilinear; where the face is shrunk, pixels are
    averaged, so that large photos do not alias. What lies outside the photo is its mirror image at the border:
    black corners would be edges, and darkness, that no face has.

    Args:
        image: [height, width, 3] uint8, upright.
        landmarks: [5, 2] x and y in pixels, as in `Face.landmarks`.
        size: side of the aligned face, pixels.
        zoom: see `template`.

    Raises DataError when the image or the landmarks cannot serve.
    """
    points = np.asarray(landmarks, np.float64)
    check_photo(image, "a photo to align")
    matrix = similarity(points, template(size, zoom=zoom))
    shrink = 1 / _scale(matrix)
    if shrink > _FINEST:
        image, factors = _shrunk(image, _FINEST / shrink)
        matrix = similarity((points + 0.5) * factors - 0.5, template(size, zoom=zoom))
        shrink = 1 / _scale(matrix)
    # Warped at a multiple of the size, then averaged: the finest that the photo has is used, and nothing finer.
    times = max(1, min(_FINEST, int(np.ceil(shrink - 1e-3))))
    matrix *= times
    matrix[:, 2] += (times - 1) / 2  # the centre of a pixel that is cut into times × times
    side = size * times
    warped = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if times > 1:
        warped = cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(warped, np.uint8)


def alignment_fingerprint() -> str:
    """Return the hex digest that tells faces aligned this way from those of another detector, template or size."""
    settings = {"detector": MtcnnSpec().fingerprint(), "alignment": VERSION, "size": SIZE, "zoom": _ZOOM}
    return sha256_of(json.dumps(settings, sort_keys=True).encode())


def aligned(image: NDArray[np.uint8], faces: Sequence[Face]) -> NDArray[np.uint8]:
    """Return the face that a photo is about, upright in the middle of [SIZE, SIZE, 3] uint8.

    image: [height, width, 3] uint8 RGB, upright; faces: all that were found in it. Raises PhotoError `no-face` where
    there is none.
    """
    face = choose(list(faces), image.shape)
    if face is None:
        raise PhotoError(
            NO_FACE, "a photo to align must show a face, none was found. Give --align none for faces that are cropped."
        )
    return align(image, face.landmarks, size=SIZE, zoom=_ZOOM)


def check_cropped(image: NDArray[np.uint8], name: str = "photo") -> None:
    """Raise PhotoError unless a photo [height, width, 3] uint8 RGB can be a cropped face.

    The reason is `too-small` below MIN_SIDE pixels, `blank` where the standard deviation of its grey values is below
    MIN_SPREAD: any net gives those an embedding, too, and all of one colour the same. The message begins with `name`.
    """
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise PhotoError(
            TOO_SMALL,
            f"{name}: a photo of a face has {MIN_SIDE} pixels a side, got {width}×{height}. Give a larger one.",
        )
    spread = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).std())
    if spread < MIN_SPREAD:
        raise PhotoError(
            BLANK,
            f"{name}: a photo of a face has grey values that spread by {MIN_SPREAD:g} or more, got {spread:.1f}: "
            "it is blank. Give another photo.",
        )


def read_cropped(source: Path | str | bytes) -> NDArray[np.uint8]:
    """Decode a photo that is a cropped face; PhotoError as from `read_photo` and `check_cropped`."""
    image = read_photo(source)
    check_cropped(image, "photo" if isinstance(source, bytes) else str(source))
    return image


@register_detector("none")
@dataclass(frozen=True)
class CroppedSpec(DetectorSpec):
    """The settings of the detector that takes each photo for a face; there are none."""

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types."""
        return {"name": "none", "version": 1}

    def make(self) -> CroppedDetector:
        """Build the detector."""
        return CroppedDetector()


class CroppedDetector:
    """Takes each photo for one face, whose landmarks lie where ArcFace's template has them.

    The template fills the square in the middle of the photo, so that aligning a square photo is resizing it.
    """

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return one face for each photo [height, width, 3] uint8, none of what `check_cropped` refuses.

        Raises DataError on anything else.
        """
        return [self._faces(image) for image in images]

    def _faces(self, image: NDArray[np.uint8]) -> list[Face]:
        check_photo(image, "a photo of a face")
        try:
            check_cropped(image)
        except PhotoError:
            return []
        return [self._face(image)]

    def _face(self, image: NDArray[np.uint8]) -> Face:
        height, width = image.shape[:2]
        side = min(height, width)
        corner = [(width - side) / 2, (height - side) / 2]
        landmarks = (template(side) + corner).astype(np.float32)
        return Face((0.0, 0.0, float(width - 1), float(height - 1)), landmarks, 1.0)


def _scale(matrix: NDArray[np.float64]) -> float:
    """Return how many pixels of the result a pixel of the photo becomes."""
    return float(np.hypot(*matrix[:, 0]))


def _shrunk(image: NDArray[np.uint8], factor: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Shrink by averaging; return also by what width and height were really multiplied."""
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8), np.array([size[0] / width, size[1] / height])
