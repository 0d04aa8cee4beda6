"""Faces as a run sees them in a photo: where each is, how good, and its embedding."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.spec import ExtractorSpec
from facetl.errors import DataError, PhotoError
from facetl.faces.alignment import CroppedSpec
from facetl.faces.detectors import Detector, DetectorSpec, Face, MtcnnSpec, choose
from facetl.faces.quality import FaceQuality, face_quality


@dataclass(frozen=True, eq=False)
class EmbeddedFace:
    """A face of a photo: where it is, its embedding, float32 [width] of unit norm, and its quality.

    quality is None where the landmarks do not span a face, which a detector may claim of anything.
    """

    face: Face
    embedding: NDArray[np.float32]
    quality: FaceQuality | None

    @property
    def box(self) -> list[float]:
        """Left, top, right and bottom edge, pixels, to a tenth."""
        return [round(edge, 1) for edge in self.face.box]


@dataclass(frozen=True, eq=False)
class EmbeddedPhoto:
    """A photo: its path, the sha256 of its bytes, its height and width in pixels, its faces from left to right."""

    path: Path
    sha: str
    shape: tuple[int, int]
    faces: tuple[EmbeddedFace, ...]

    @property
    def main(self) -> EmbeddedFace:
        """The face that a photo of one person is about, large and near the centre; PhotoError where there is none."""
        found = choose([seen.face for seen in self.faces], self.shape)
        if found is None:
            raise PhotoError(
                "no-face",
                f"{self.path}: a face is needed, none was found (nor in a blank or tiny photo). Give another.",
            )
        return next(seen for seen in self.faces if seen.face is found)

    @property
    def largest(self) -> EmbeddedFace:
        """The face with the largest box; PhotoError where there is none."""
        if not self.faces:
            return self.main
        return max(self.faces, key=lambda seen: seen.face.width * seen.face.height)


@dataclass
class FaceFinder:
    """Finds the faces of single photos; a detector is started when it is first asked."""

    _made: dict[str, Detector] = field(default_factory=dict)

    def detect(self, image: NDArray[np.uint8], spec: DetectorSpec) -> list[Face]:
        """Return the faces of a photo [height, width, 3] uint8 RGB from left to right."""
        fingerprint = spec.fingerprint()
        if fingerprint not in self._made:
            self._made[fingerprint] = spec.make()
        return sorted(self._made[fingerprint].detect([image])[0], key=lambda face: face.box)


def own_detector(spec: ExtractorSpec) -> DetectorSpec:
    """Return the detector that fits what an extractor was trained on: whole photos, or cropped faces."""
    return MtcnnSpec() if spec.align != "none" or spec.family.finds_faces else CroppedSpec()


def shows_more_than_one_face(image: NDArray[np.uint8]) -> bool:
    """Return whether a photo [height, width, 3] uint8 RGB is surely no cropped face.

    That is where MTCNN is sure of several faces, or of one that is less than a third as high as the photo.
    """
    spec = MtcnnSpec()
    sure = [face for face in spec.make().detect([image])[0] if face.confidence >= spec.doubt]
    return len(sure) > 1 or any(3 * face.height < min(image.shape[:2]) for face in sure)


def quality_of(image: NDArray[np.uint8], face: Face) -> FaceQuality | None:
    """Return the quality of a face of a photo, None where its landmarks do not span a face."""
    try:
        return face_quality(image, face)
    except DataError:
        return None
