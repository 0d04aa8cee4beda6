"""The detector `none`: a photo that is a face already comes out of alignment as it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facetl.errors import DataError
from facetl.faces.alignment import align
from facetl.faces.detectors import MtcnnSpec
from facetl.faces.whole_photo import CroppedSpec

RNG = np.random.default_rng(4)


def test_aligning_a_square_photo_is_resizing_it() -> None:
    image = RNG.integers(0, 256, (112, 112, 3), dtype=np.uint8)
    [[face]] = CroppedSpec().make().detect([image])
    assert face.box == (0, 0, 111, 111)
    assert face.confidence == 1
    np.testing.assert_array_equal(align(image, face.landmarks, size=112), image)
    smooth = cv2.resize(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), (224, 224), interpolation=cv2.INTER_CUBIC)
    [[face]] = CroppedSpec().make().detect([smooth])
    half = cv2.resize(smooth, (112, 112), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(align(smooth, face.landmarks, size=112).astype(int), half.astype(int), atol=1)


@pytest.mark.parametrize(("height", "width", "top", "left"), [(50, 80, 0, 15), (81, 50, 15.5, 0)])
def test_the_middle_of_an_oblong_photo(height: int, width: int, top: float, left: float) -> None:
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    [[square]] = CroppedSpec().make().detect([image[:50, :50]])
    [[face]] = CroppedSpec().make().detect([image])
    assert face.box == (0, 0, width - 1, height - 1)
    np.testing.assert_allclose(face.landmarks, square.landmarks + np.array([left, top]), atol=1e-4)


def test_the_landmarks_are_a_face_s() -> None:
    [[face]] = CroppedSpec().make().detect([np.zeros((200, 200, 3), np.uint8)])
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]


def test_it_is_told_from_others() -> None:
    assert CroppedSpec().fingerprint() == CroppedSpec().fingerprint()
    assert CroppedSpec().fingerprint() != MtcnnSpec().fingerprint()


def test_what_is_no_photo() -> None:
    with pytest.raises(DataError, match="uint8"):
        CroppedSpec().make().detect([np.zeros((4, 4), np.uint8)])
    with pytest.raises(DataError, match="uint8"):
        CroppedSpec().make().detect([np.zeros((0, 4, 3), np.uint8)])
