"""Pose against rotations made independently, sharpness against SciPy's Laplacian."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from drawings import landmarks, picture
from scipy import ndimage

from facetl.errors import DataError
from facetl.faces.detectors import Face
from facetl.faces.quality import _MEAN_FACE, FaceQuality, Pose, QualityRule, face_quality, pose, sharpness


def turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Project the mean face: nose up by pitch, then to the right by yaw, then clockwise by roll; degrees."""
    a, b, c = np.radians([yaw, pitch, roll])
    up = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    right = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    clockwise = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return 7.5 * (_MEAN_FACE @ (clockwise @ right @ up).T)[:, :2] + [310, 95]


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, -10, 15), (-40, 12, -30), (5, 30, 170)])
def test_the_turn_of_the_mean_face_is_found(angles: tuple[float, float, float]) -> None:
    found = pose(turned(*angles))
    np.testing.assert_allclose((found.yaw, found.pitch, found.roll), angles, atol=1e-6)


def test_the_signs_are_those_of_the_picture() -> None:
    straight = turned(0, 0, 0)
    assert straight[0, 0] < straight[1, 0], "the left eye is left in the picture"
    assert straight[0, 1] < straight[3, 1], "eyes above the mouth"
    nose = np.array([[0, 0], [0, 0], [1, 0], [0, 0], [0, 0]])
    assert pose(straight + 4 * nose).yaw > 5
    assert pose(straight - 4 * nose[:, ::-1]).pitch > 5
    lower_right_eye = np.array([[0, 0], [0, 9], [0, 0], [0, 0], [0, 0]])
    assert pose(straight + lower_right_eye).roll > 3


@pytest.mark.parametrize(
    "points",
    [np.zeros((5, 2)), np.outer(np.arange(5.0), [1, 2]), np.full((5, 2), np.inf), np.zeros((4, 2)), np.zeros(10)],
)
def test_no_pose_without_a_face(points: np.ndarray) -> None:
    with pytest.raises(DataError, match="a pose needs"):
        pose(points)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    assert sharpness(image) == pytest.approx(ndimage.laplace(grey, mode="mirror").var())
    assert sharpness(np.full((20, 31, 3), 200, np.uint8)) == 0
    assert sharpness(cv2.GaussianBlur(image, (0, 0), 1)) < sharpness(image) / 10


def test_quality_of_a_face() -> None:
    image = picture(300, 260, ((120, 140), 200))
    face = Face((60.0, 70.0, 190.0, 240.0), landmarks((120, 140), 200).astype(np.float32), 0.97)
    quality = face_quality(image, face)
    assert (quality.size, quality.confidence) == (130.0, 0.97)
    assert abs(quality.pose.roll) < 1e-3
    assert face_quality(cv2.GaussianBlur(image, (0, 0), 6), face).sharpness < quality.sharpness / 2
    assert json.loads(json.dumps(quality.to_json()))["pose"]["roll"] == quality.pose.roll
    # The same face, photographed twice as large, is as sharp: it is judged at one size.
    large = cv2.resize(image, (520, 600), interpolation=cv2.INTER_CUBIC)
    doubled = Face((120.0, 140.0, 380.0, 480.0), 2 * face.landmarks + 0.5, 0.97)
    assert face_quality(large, doubled).sharpness == pytest.approx(quality.sharpness, rel=0.2)


class TestQualityRule:
    RULE = QualityRule(min_size=30, min_sharpness=20, max_turn=50)

    @pytest.mark.parametrize(
        ("size", "sharp", "yaw", "pitch", "reasons"),
        [
            (30, 20, 50, -50, ()),
            (29.9, 20, 0, 0, ("tiny",)),
            (30, 19.9, 0, 0, ("blurred",)),
            (30, 20, -50.1, 0, ("turned",)),
            (30, 20, 0, 50.1, ("turned",)),
            (10, 1, 80, 0, ("tiny", "blurred", "turned")),
        ],
    )
    def test_what_makes_a_face_poor(
        self, size: float, sharp: float, yaw: float, pitch: float, reasons: tuple[str, ...]
    ) -> None:
        # Roll does not count: the face is turned upright.
        quality = FaceQuality(size, 0.9, sharp, Pose(yaw, pitch, 170))
        assert self.RULE.reasons(quality) == reasons
        assert self.RULE.kind(quality) == ("poor" if reasons else "good")

    def test_limits_that_are_none(self) -> None:
        with pytest.raises(DataError, match="limits from 0"):
            QualityRule(min_size=-1)
        with pytest.raises(DataError, match="limits from 0"):
            QualityRule(max_turn=float("nan"))

    def test_to_json_has_plain_types(self) -> None:
        assert self.RULE.to_json() == {"min_size": 30, "min_sharpness": 20, "max_turn": 50}
