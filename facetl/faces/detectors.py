"""Face detectors: their results, their names, and the choice of the face that a one-person photo is about.

No TensorFlow is imported here: a detector's settings and fingerprint are known before it is started.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facetl.errors import DataError
from facetl.io.files import sha256_of
from facetl.io.json import JsonFields

# The modules that register a detector, each imported when one is first named.
MODULES = ("yunet", "alignment")

# Raise it when faces come out differently with the same settings: stored ones are then not reused.
_CASCADE = 1

# Of MTCNN, for AnyWayUp. Of LFW's faces 95% have a confidence from 0.989 on, and of those that it finds in photos
# that are turned 68 of 69 less.
_DOUBT, _SURE = 0.99, 0.95
_GLANCE = 512  # longer side of a photo that is looked at in its other ways up, pixels


@dataclass(frozen=True, eq=False)
class Face(JsonFields):
    """A face in a photo; pixel (0, 0) is the centre of the photo's top left pixel.

    Attributes:
        box: left, top, right and bottom edge, pixels, inside the photo.
        landmarks: [5, 2] float32, x and y in pixels of left eye, right eye, nose, left and right corner of the
            mouth, where left is what lies left when the face is upright; may lie outside the photo.
        confidence: the detector's score in [0, 1].
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    confidence: float

    @property
    def width(self) -> float:
        """The width of the box, pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """The height of the box, pixels."""
        return self.box[3] - self.box[1]


class Detector(Protocol):
    """Finds faces: [h, w, 3] uint8 RGB photos of any sizes in, the faces of each out, best first."""

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]: ...


class DetectorSpec(Protocol):
    """A detector's settings: what it finds depends on nothing else.

    Attributes:
        doubt: confidence below which the surest face of a photo has the photo's other ways up looked at, 0 where only a
            photo without a face has.
    """

    doubt: ClassVar[float] = 0.0

    def fingerprint(self) -> str:
        """Return the hex digest that tells what this detector finds from what any other one finds."""
        return sha256_of(json.dumps(self.to_json(), sort_keys=True).encode())

    def to_json(self) -> dict[str, Any]:
        """Return the settings, and a version that rises when other faces are found by the same, as plain types."""
        ...

    def make(self) -> Detector:
        """Build the detector."""
        ...


class AnyWayUp:
    """Looks once more, turned to its sides and upside down, at a photo in which a detector is sure of no face.

    Cameras and scanners that write no orientation leave such photos. To bound the time, the three other ways up are
    searched in a photo shrunk to `_GLANCE` pixels, and the way that shows the surest face then in the whole photo.

    Args:
        net: finds upright faces.
        doubt: confidence below which the surest upright face is doubted; a face that stands on its head is often found,
            with its mouth for its eyes. 0 doubts none.
        sure: confidence that a turned face must reach, `doubt` where there is an upright one; three more ways up are
            three more chances to see a face in leaves and clouds.
    """

    def __init__(self, net: Detector, *, doubt: float, sure: float) -> None:
        self.net, self.doubt, self.sure = net, doubt, sure

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of each photo [height, width, 3] uint8 RGB, best first; DataError on anything else."""
        found = self.net.detect(images)
        return [self._surest(image, faces) for image, faces in zip(images, found, strict=True)]

    def _surest(self, image: NDArray[np.uint8], upright: list[Face]) -> list[Face]:
        if upright and highest(upright) >= self.doubt:
            return upright
        least = self.doubt if upright else self.sure
        height, width = image.shape[:2]
        factor = min(1.0, _GLANCE / max(height, width, 1))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = image if factor == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        found = self.net.detect([np.ascontiguousarray(np.rot90(small, turns)) for turns in (1, 2, 3)])
        turns = 1 + max(range(3), key=lambda way: highest(found[way]))
        if highest(found[turns - 1]) < least:
            return upright
        faces = self.net.detect([np.ascontiguousarray(np.rot90(image, turns))])[0]
        faces = [turned_back(face, turns, (height, width)) for face in faces if face.confidence >= self.sure]
        # So that a face tells by itself that it was not found upright: what was computed of one that was is not its.
        faces = [face for face in faces if quarters(face)]
        return faces if highest(faces) >= least else upright


def highest(faces: Sequence[Face]) -> float:
    """Return the confidence of the surest face, 0 of none."""
    return max((face.confidence for face in faces), default=0.0)


def quarters(face: Face) -> int:
    """Return by how many quarters, counterclockwise, a photo is turned to have a face more upright than sideways."""
    across, down = (face.landmarks[3:].mean(axis=0) - face.landmarks[:2].mean(axis=0)).tolist()
    return round(np.degrees(np.arctan2(-across, down)) / 90) % 4


def turned_back(face: Face, turns: int, shape: tuple[int, int]) -> Face:
    """Return a face of `np.rot90(photo, turns)` in the pixels of the photo, whose height and width are `shape`."""
    points = np.concatenate([np.array(face.box).reshape(2, 2), face.landmarks.astype(np.float64)])
    for turn in range(turns, 0, -1):
        # A quarter less: the width of what was turned last is the photo's, or, every other time, its height.
        points = np.stack([shape[turn % 2] - 1 - points[:, 1], points[:, 0]], axis=1)
    (left, top), (right, bottom) = points[:2].min(axis=0).tolist(), points[:2].max(axis=0).tolist()
    return Face((left, top, right, bottom), points[2:].astype(np.float32), face.confidence)


@dataclass(frozen=True)
class RegisteredDetector:
    """The maker of a detector's settings, and the file of weights that it needs, if any."""

    make: Callable[..., DetectorSpec]
    weights: str | None


DETECTORS: dict[str, RegisteredDetector] = {}


def register_detector(
    name: str, *, weights: str | None = None
) -> Callable[[Callable[..., DetectorSpec]], Callable[..., DetectorSpec]]:
    """Register a detector under the name that `--detector` takes.

    The class of its settings, or a function that gives them, is called without arguments or, where a file of weights
    must be given, with `weights`, its path. weights: which file that is, for people who have to find it.
    """

    def register(make: Callable[..., DetectorSpec]) -> Callable[..., DetectorSpec]:
        DETECTORS[name] = RegisteredDetector(make, weights)
        return make

    return register


def detector_spec(name: str, weights: Path | None = None) -> DetectorSpec:
    """Return the settings of a detector by its name: `mtcnn`; `yunet`, whose weights file is given; `none`, for photos
    that are cropped to one face already; or one of your own.

    Raises DataError for another name, or weights that are missing or have no use.
    """
    for module in MODULES:
        import_module(f"facetl.faces.{module}")
    if name not in DETECTORS:
        raise DataError(f"a detector is one of {', '.join(sorted(DETECTORS))}, got {name!r}.")
    found = DETECTORS[name]
    if found.weights is None:
        if weights is not None:
            raise DataError(f"the detector {name} takes no weights file, got {weights}. Leave it out, or choose yunet.")
        return found.make()
    if weights is None:
        raise DataError(
            f"the detector {name} needs its weights, got none. Give --detector-weights FILE: {found.weights}."
        )
    return found.make(weights=weights)


@dataclass(frozen=True, kw_only=True)
class MtcnnSpec(DetectorSpec):
    """The settings of MTCNN (Zhang et al., 2016), whose three nets come with the package `mtcnn`.

    Attributes:
        min_face: side of the smallest face that is looked for, pixels of the (shrunk) photo, at least 12.
        max_side: a photo whose longer side exceeds it is shrunk to it before faces are looked for, pixels; found
            faces are in pixels of the whole photo.
        thresholds: scores that a face must exceed in the proposal, refinement and output net.
    """

    min_face: int = 20
    max_side: int = 1024
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8)
    doubt: ClassVar[float] = _DOUBT

    def __post_init__(self) -> None:
        if not 12 <= self.min_face <= self.max_side:
            raise DataError(
                f"min_face: expected pixels from 12 to max_side ({self.max_side}), got {self.min_face}. 20 is usual."
            )
        if not all(0 < threshold < 1 for threshold in self.thresholds):
            raise DataError(f"thresholds: expected three scores in (0, 1), got {self.thresholds}.")

    def fingerprint(self) -> str:
        """Return the hex digest that tells what this detector finds from what any other one finds."""
        settings = self.to_json() | {"cascade": _CASCADE, "weights": _weights_digest()}
        return sha256_of(json.dumps(settings, sort_keys=True).encode())

    def to_json(self) -> dict[str, Any]:
        """Return the settings and the package's version as plain types."""
        settings = asdict(self) | {"thresholds": list(self.thresholds)}
        return {"name": "mtcnn", "version": metadata.version("mtcnn"), **settings}

    def make(self) -> Detector:
        """Start TensorFlow, quietly, and build the detector."""
        from facetl._tensorflow import start_tensorflow

        start_tensorflow()
        from facetl.faces.mtcnn import MtcnnDetector

        return AnyWayUp(MtcnnDetector(self), doubt=self.doubt, sure=_SURE)


@register_detector("mtcnn")
def _mtcnn() -> DetectorSpec:
    return MtcnnSpec()


def mtcnn_weights(net: str) -> Path:
    """Return the file of the weights of `pnet`, `rnet` or `onet` inside the package."""
    # The package itself would sooner load a file of that name from the working directory, a pickle by anyone.
    path = next(file for file in metadata.files("mtcnn") or () if file.name == f"{net}.lz4").locate()
    return Path(str(path))


@cache
def _weights_digest() -> str:
    return sha256_of(b"".join(mtcnn_weights(net).read_bytes() for net in ("pnet", "rnet", "onet")))


def check_photo(image: NDArray[np.uint8], what: str) -> None:
    """Raise DataError unless `image` is [height, width, 3] uint8 and not empty; `what` it is, for the message."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(f"{what} is uint8 [height, width, 3], got {image.dtype} {image.shape}.")


def choose(faces: Sequence[Face], shape: tuple[int, ...]) -> Face | None:
    """Return the face that a photo of one person is about, None if there is no face.

    A large face near the centre wins: the score is the box's area less twice the squared distance between the
    centres of box and photo, both in square pixels. The rule is that of FaceNet's alignment script
    (github.com/davidsandberg/facenet, `align_dataset_mtcnn.py`).

    Args:
        faces: all faces of the photo.
        shape: the photo's shape, (height, width, ...).
    """

    def score(face: Face) -> tuple[float, float]:
        left, top, right, bottom = face.box
        across = (left + right) / 2 - (shape[1] - 1) / 2
        down = (top + bottom) / 2 - (shape[0] - 1) / 2
        return face.width * face.height - 2 * (across**2 + down**2), face.confidence

    return max(faces, key=score, default=None)
