"""YuNet: one small net that finds faces and five landmarks at once, run by OpenCV. No TensorFlow here.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector" (Machine Intelligence Research 20, 2023). Its weights
are a file of OpenCV's model zoo that the user has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError, WeightsError
from facetl.faces.detectors import AnyWayUp, Detector, DetectorSpec, Face, check_photo, register_detector
from facetl.io.files import sha256_of

# Raise it when faces come out differently with the same settings: stored ones are then not reused.
_VERSION = 1
_FILE = "face_detection_yunet_2023mar.onnx"
_STRIDE = 32  # the coarsest map of the net
_CANDIDATES = 5000


@register_detector("yunet", weights=f"{_FILE} of OpenCV's model zoo")
@dataclass(frozen=True, kw_only=True)
class YunetSpec(DetectorSpec):
    """The settings of YuNet.

    Attributes:
        weights: its ONNX file, face_detection_yunet_2023mar.onnx or a later one.
        side: of the square that each photo is brought into, a multiple of 32, pixels; larger photos are shrunk. 640 is
            what the file of 2023 was made for; one with open sizes takes others.
        score: that a face must reach, the zoo's.
        overlap: of two boxes that overlap more, the better one stays.
    """

    weights: Path
    side: int = 640
    score: float = 0.9
    overlap: float = 0.3

    def __post_init__(self) -> None:
        if self.side < _STRIDE or self.side % _STRIDE:
            raise DataError(f"side: expected a multiple of {_STRIDE} pixels, got {self.side}. 640 is usual.")
        if not (0 < self.score < 1 and 0 < self.overlap < 1):
            raise DataError(f"score and overlap: expected shares in (0, 1), got {self.score} and {self.overlap}.")

    def to_json(self) -> dict[str, Any]:
        """Return the settings and the digest of the weights, wherever they lie, as plain types.

        WeightsError without the file.
        """
        settings = {"side": self.side, "score": self.score, "overlap": self.overlap}
        return {"name": "yunet", "version": _VERSION, "weights": sha256_of(self.content), **settings}

    def make(self) -> Detector:
        """Build the detector; WeightsError where the file is none of YuNet's."""
        return AnyWayUp(YunetDetector(self), doubt=self.doubt, sure=self.score)

    @cached_property
    def content(self) -> bytes:
        """The bytes of the weights, read once."""
        try:
            return self.weights.expanduser().read_bytes()
        except OSError as error:
            raise WeightsError(
                f"{self.weights}: the weights of yunet cannot be read ({error.strerror}). Give the path of "
                f"{_FILE} of OpenCV's model zoo."
            ) from error


class YunetDetector:
    """Finds faces with five landmarks; what it finds in a photo does not depend on the photos beside it."""

    def __init__(self, spec: YunetSpec) -> None:
        self.spec = spec
        # Otherwise its C++ side writes to file descriptor 2.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._net = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(spec.content, np.uint8),
                np.zeros(0, np.uint8),
                (spec.side, spec.side),
                spec.score,
                spec.overlap,
                _CANDIDATES,
            )
            # A net with other outputs is refused only when it is run.
            self._net.detect(np.zeros((spec.side, spec.side, 3), np.uint8))
        except cv2.error as error:
            raise WeightsError(
                f"{spec.weights}: expected YuNet as ONNX, which OpenCV can run at {spec.side} × {spec.side} pixels "
                f"({str(error).strip().splitlines()[0]}). Download face_detection_yunet_2023mar.onnx again."
            ) from error

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of each photo, best first.

        Args:
            images: [height, width, 3] uint8 RGB, upright, of any sizes.

        Raises DataError on anything else.
        """
        return [self._faces(image) for image in images]

    def _faces(self, image: NDArray[np.uint8]) -> list[Face]:
        check_photo(image, "a photo to look for faces in")
        height, width = image.shape[:2]
        factor = min(1.0, self.spec.side / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        shrunk = image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # One size for all photos: the file of 2023 knows no other.
        square = np.zeros((self.spec.side, self.spec.side, 3), np.uint8)
        square[: size[1], : size[0]] = shrunk[..., ::-1]
        found = self._net.detect(square)[1]
        back = np.array([width / size[0], height / size[1]])
        faces = [_face(row, back, (width, height)) for row in (() if found is None else found)]
        return sorted((face for face in faces if face), key=lambda face: -face.confidence)


def _face(row: NDArray[np.float32], back: NDArray[np.float64], size: tuple[int, int]) -> Face | None:
    """Return a face in the pixels of the whole photo, None for one that lies outside it.

    row [15]: left, top, width, height; x and y of the eyes, the nose and the corners of the mouth, the person's right
    ones first, which lie left in the picture; score.
    """
    if not np.isfinite(row).all():
        return None
    left, top, width, height = row[:4].tolist()
    corners = (np.array([[left, top], [left + width, top + height]]) + 0.5) * back - 0.5
    (left, top), (right, bottom) = np.clip(corners, 0, np.array(size) - 1).tolist()
    if right <= left or bottom <= top:
        return None
    landmarks = (row[4:14].reshape(5, 2) + 0.5) * back - 0.5
    return Face((left, top, right, bottom), landmarks.astype(np.float32), float(min(row[14], 1.0)))
