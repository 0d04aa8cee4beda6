"""The detector `none`: each photo is cropped to one face already. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError
from facetl.faces.alignment import template
from facetl.faces.detectors import DetectorSpec, Face, register_detector

_VERSION = 1


@register_detector("none")
@dataclass(frozen=True)
class CroppedSpec(DetectorSpec):
    """The settings of the detector that takes each photo for a face; there are none."""

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types."""
        return {"name": "none", "version": _VERSION}

    def make(self) -> CroppedDetector:
        """Build the detector."""
        return CroppedDetector()


class CroppedDetector:
    """Takes each photo for one face, whose landmarks lie where ArcFace's template has them.

    The template fills the square in the middle of the photo, so that aligning a square photo is resizing it.
    """

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return one face for each photo [height, width, 3] uint8; DataError on anything else."""
        return [[_whole(image)] for image in images]


def _whole(image: NDArray[np.uint8]) -> Face:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(f"a photo of a face is uint8 [height, width, 3], got {image.dtype} {image.shape}.")
    height, width = image.shape[:2]
    side = min(height, width)
    corner = [(width - side) / 2, (height - side) / 2]
    landmarks = (template(side) + corner).astype(np.float32)
    return Face((0.0, 0.0, float(width - 1), float(height - 1)), landmarks, 1.0)
