"""The quality of a face, without which it cannot be recognised: size, sharpness and pose. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from facetl.errors import DataError
from facetl.faces.alignment import align
from facetl.faces.detectors import Face
from facetl.io.json import JsonFields

# Left eye (mean of its inner and outer corner), right eye, tip of the nose, left and right corner of the mouth of a
# mean face in centimetres: x to the right of the picture, y down, z towards the camera. Vertices 133 and 33, 1, 61
# of MediaPipe's canonical face model (github.com/google-ai-edge/mediapipe, `canonical_face_model.obj`).
_MEAN_FACE = np.array(
    [
        [-3.151146, -2.624618, 3.465663],
        [3.151146, -2.624618, 3.465663],
        [0.0, 1.126865, 7.475604],
        [-2.456206, 4.342621, 4.283884],
        [2.456206, 4.342621, 4.283884],
    ]
)
_SIDE = 112  # sharpness is judged on faces of one size, or large photos would all seem blurred


@dataclass(frozen=True)
class Pose(JsonFields):
    """The turn of a head, degrees, 0 when it faces the camera upright.

    `yaw` is positive when the nose points to the right of the picture, `pitch` when it points up, `roll` when the
    head is turned clockwise in the picture.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class FaceQuality(JsonFields):
    """A face's quality: shorter side of its box in pixels, the detector's score, `sharpness`, and `pose`."""

    size: float
    confidence: float
    sharpness: float
    pose: Pose


@dataclass(frozen=True, kw_only=True)
class QualityRule(JsonFields):
    """The limits beyond which faces are too poor to be distinguished: kept, but apart from the good ones.

    The defaults come from half of LFW's people, with the default extractor and a discriminant learnt on the others: how
    often a photo of the same person is accepted where one of 100 of other people is. Of 80 photos as they are it is
    0.53; shrunk to faces of 42, 30 and 22 pixels 0.51, 0.47 and 0.40; blurred to a median sharpness of 42, 17, 10 and
    6 it is 0.51, 0.38, 0.31 and 0.16. Of 3,182 photos, it is 0.62 for heads turned by less than 10 degrees, 0.49 from
    20, 0.32 from 30 and 0.24 from 40. Blurred and turned faces are poor where less than half is left, small ones where
    less than three quarters are: still smaller ones were not measured, since MTCNN finds them from 20 pixels on.
    dlib's net, trained on faces, loses nothing down to 22 pixels, nor down to a sharpness of 17; at 6 a quarter.

    Attributes:
        min_size: shorter side of the face's box below which it is tiny, pixels of the photo.
        min_sharpness: `FaceQuality.sharpness` below which it is blurred.
        max_turn: degrees of yaw or pitch, to either side, above which it is turned away.
    """

    min_size: float = 24.0
    min_sharpness: float = 8.0
    max_turn: float = 40.0

    def __post_init__(self) -> None:
        if not (self.min_size >= 0 and self.min_sharpness >= 0 and self.max_turn >= 0):
            raise DataError(f"a quality rule needs limits from 0, got {self}.")

    def reasons(self, quality: FaceQuality) -> tuple[str, ...]:
        """Return what makes a face poor: `tiny`, `blurred`, `turned`; nothing of a good one."""
        checks = {
            "tiny": quality.size < self.min_size,
            "blurred": quality.sharpness < self.min_sharpness,
            "turned": max(abs(quality.pose.yaw), abs(quality.pose.pitch)) > self.max_turn,
        }
        return tuple(reason for reason, applies in checks.items() if applies)

    def kind(self, quality: FaceQuality) -> Literal["good", "poor"]:
        """Return whether a face is `good` or `poor`."""
        return "poor" if self.reasons(quality) else "good"


def face_quality(image: NDArray[np.uint8], face: Face) -> FaceQuality:
    """Judge a face of a photo, uint8 [height, width, 3]; DataError as `align` and `pose`."""
    upright = align(image, face.landmarks, size=_SIDE)
    return FaceQuality(min(face.width, face.height), face.confidence, sharpness(upright), pose(face.landmarks))


def sharpness(image: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian of an image's grey values, 0 for a flat one.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study" (ICPR 2000). It depends
    on the image's size and contrast: compare aligned faces of one size.

    Args:
        image: [height, width, 3] uint8 RGB.
    """
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def pose(landmarks: ArrayLike) -> Pose:
    """Estimate how the head is turned from five landmarks [5, 2] as in `Face.landmarks`.

    The turn of a mean face whose scaled orthographic projection comes nearest to the landmarks (DeMenthon and Davis,
    "Model-based object pose in 25 lines of code", IJCV 1995, without its iteration). Faces differ from the mean:
    good to about ten degrees.

    Raises DataError on landmarks that are not [5, 2] or not finite, or that lie on a line.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise DataError(f"a pose needs five finite landmarks [5, 2], got {points.shape}. Detect the face again.")
    model = _MEAN_FACE - _MEAN_FACE.mean(axis=0)
    across, down = np.linalg.lstsq(model, points - points.mean(axis=0), rcond=None)[0].T
    toward = np.cross(across, down)
    if not np.linalg.norm(toward) > 1e-9 * (across @ across + down @ down):
        raise DataError("a pose needs landmarks that span a face, got points on a line. Detect the face again.")
    scale = np.sqrt(np.linalg.norm(toward))
    # SciPy takes the rotation that is nearest to the three rows.
    turn = scipy.spatial.transform.Rotation.from_matrix(np.stack([across / scale, down / scale, toward / scale**2]))
    roll, yaw, pitch = turn.as_euler("ZYX", degrees=True).tolist()
    return Pose(yaw, pitch, roll)
