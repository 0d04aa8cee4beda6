"""Aligned faces with room around them: what an aligning extractor takes its crops from. No TensorFlow until a face is
looked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetl.errors import PhotoError
from facetl.faces.alignment import VERSION, align
from facetl.faces.detectors import Detector, Face, MtcnnSpec, choose

# Side of the square, pixels. ArcFace's crop is its middle half, which then has InceptionV3's 299 pixels.
SIZE = 598
_ZOOM = 0.5
NO_FACE = "no-face"


def alignment_fingerprint() -> str:
    """Return the hex digest that tells faces aligned this way from those of another detector, template or size."""
    settings = {"detector": MtcnnSpec().fingerprint(), "alignment": VERSION, "size": SIZE, "zoom": _ZOOM}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


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


class Aligner:
    """Finds and aligns the faces of single photos; the detector is started with the first."""

    def __init__(self) -> None:
        self._detector: Detector | None = None

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Align photos [height, width, 3] uint8 → [SIZE, SIZE, 3] uint8 each; PhotoError `no-face`."""
        if self._detector is None:
            self._detector = MtcnnSpec().make()
        found = self._detector.detect(images)
        return [aligned(image, faces) for image, faces in zip(images, found, strict=True)]
