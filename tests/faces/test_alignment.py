"""Templates by hand, similarities against Umeyama's own formula, warps against plain averages and shifts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facetl.errors import DataError, PhotoError
from facetl.faces.alignment import ARCFACE, CroppedSpec, align, check_cropped, similarity, template
from facetl.faces.detectors import MtcnnSpec

RNG = np.random.default_rng(4)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(side: int) -> np.ndarray:
    return cv2.GaussianBlur(noise(side, side, 5), (0, 0), 4)


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Equations 39 to 42 of the paper, by a singular value decomposition."""
    before, after = source - source.mean(axis=0), target - target.mean(axis=0)
    left, singular, right = np.linalg.svd(after.T @ before / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    scale = (singular * signs).sum() / (before**2).sum() * len(source)
    shift = target.mean(axis=0) - scale * rotation @ source.mean(axis=0)
    return np.column_stack([scale * rotation, shift])


class TestTemplate:
    def test_at_112_pixels_it_is_arcface(self) -> None:
        np.testing.assert_allclose(template(112), ARCFACE, rtol=0, atol=1e-9)

    def test_by_hand_at_another_size_and_zoom(self) -> None:
        # The nose: x (56.0252 + 0.5) / 112 = 0.504689, y 0.644970. Twice as wide a view: 0.5 + (0.504689 − 0.5) / 2.
        nose = template(200, zoom=0.5)[2]
        np.testing.assert_allclose(nose, [0.5023446 * 200 - 0.5, 0.5724848 * 200 - 0.5], atol=1e-4)

    @pytest.mark.parametrize(("size", "zoom"), [(0, 1.0), (112, 0.0), (112, -1.0), (112, np.nan), (112, np.inf)])
    def test_nonsense_is_refused(self, size: int, zoom: float) -> None:
        with pytest.raises(DataError, match="size from 1 and a zoom above 0"):
            template(size, zoom=zoom)


class TestSimilarity:
    def test_a_known_one_is_found(self) -> None:
        angle, scale, shift = np.radians(33), 1.7, np.array([12.0, -40.0])
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        np.testing.assert_allclose(similarity(ARCFACE, ARCFACE @ turn.T + shift), np.column_stack([turn, shift]))

    def test_noisy_points_against_umeyama(self) -> None:
        rng = np.random.default_rng(3)
        for _ in range(20):
            source, target = rng.normal(50, 30, (5, 2)), rng.normal(10, 9, (5, 2))
            np.testing.assert_allclose(similarity(source, target), umeyama(source, target), atol=1e-9)

    def test_mirrored_points_are_turned_not_mirrored(self) -> None:
        found = similarity(ARCFACE * [-1, 1], ARCFACE)
        assert np.linalg.det(found[:, :2]) > 0
        np.testing.assert_allclose(found, umeyama(ARCFACE * [-1, 1], ARCFACE), atol=1e-9)

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            (np.full((5, 2), 17.0), "more than one place"),
            (np.full((5, 2), np.nan), "finite"),
            (np.zeros((4, 2)), "on both sides"),
            (np.zeros(10), "on both sides"),
        ],
    )
    def test_points_that_cannot_serve(self, source: np.ndarray, told: str) -> None:
        with pytest.raises(DataError, match=told):
            similarity(source, ARCFACE)


class TestAlign:
    def test_an_aligned_face_stays_as_it_is(self) -> None:
        image = noise(112, 112)
        np.testing.assert_array_equal(align(image, ARCFACE, size=112), image)

    def test_a_face_lying_on_its_side_is_put_upright(self) -> None:
        image = noise(112, 112)
        lying = np.rot90(image)  # anticlockwise: (x, y) goes to (y, 111 − x)
        points = np.column_stack([ARCFACE[:, 1], 111 - ARCFACE[:, 0]])
        np.testing.assert_allclose(align(np.ascontiguousarray(lying), points, size=112), image, atol=1)

    @pytest.mark.parametrize("times", [2, 3, 4, 8, 11])
    def test_a_large_face_is_averaged(self, times: int) -> None:
        image = noise(112 * times, 112 * times)
        cells = image.reshape(112, times, 112, times, 3).mean(axis=(1, 3))
        aligned = align(image, (ARCFACE + 0.5) * times - 0.5, size=112)
        assert aligned.dtype == np.uint8
        # Eleven does not divide by four: there the cells of the first step straddle those of the second.
        np.testing.assert_allclose(aligned, cells, atol=1.1 if times <= 8 else 12)

    def test_a_little_too_large_is_not_aliased(self) -> None:
        # Columns of 0 and 255 shrunk by 1.5: bilinear samples alone would reach from 0 to 255.
        image = np.zeros((168, 168, 3), np.uint8)
        image[:, ::2] = 255
        aligned = align(image, (ARCFACE + 0.5) * 1.5 - 0.5, size=112)
        assert np.ptp(aligned[5:-5, 5:-5]) < 140

    def test_a_small_face_is_enlarged_bilinearly(self) -> None:
        image = smooth(112)
        expected = cv2.resize(image, (336, 336), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(align(image, ARCFACE, size=336)[4:-4, 4:-4], expected[4:-4, 4:-4], atol=2)

    def test_zoom_takes_in_more(self) -> None:
        image = smooth(224)
        # At half the zoom, 112 pixels show all of a photo whose middle half is the template's square.
        points = ARCFACE + 56
        expected = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(align(image, points, size=112, zoom=0.5), expected, atol=1)
        np.testing.assert_array_equal(align(image, points, size=112), image[56:168, 56:168])

    def test_beyond_the_border_it_is_mirrored(self) -> None:
        image = noise(112, 112)
        aligned = align(image, ARCFACE - [10, 0], size=112)
        np.testing.assert_array_equal(aligned[:, 10:], image[:, :-10])
        np.testing.assert_array_equal(aligned[:, :10], image[:, 10:0:-1])

    @pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 2)])
    @pytest.mark.parametrize("factor", [1e-3, 1.0, 1e5, 1e30])
    def test_odd_photos_and_far_landmarks_give_a_face(self, shape: tuple[int, int], factor: float) -> None:
        assert align(noise(*shape), ARCFACE * factor, size=16).shape == (16, 16, 3)

    @pytest.mark.parametrize(
        "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)]
    )
    def test_what_is_no_photo_is_refused(self, image: np.ndarray) -> None:
        with pytest.raises(DataError, match="uint8"):
            align(image, ARCFACE, size=112)


class TestWholePhoto:
    def test_aligning_a_square_photo_is_resizing_it(self) -> None:
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
    def test_the_middle_of_an_oblong_photo(self, height: int, width: int, top: float, left: float) -> None:
        image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
        [[square]] = CroppedSpec().make().detect([image[:50, :50]])
        [[face]] = CroppedSpec().make().detect([image])
        assert face.box == (0, 0, width - 1, height - 1)
        np.testing.assert_allclose(face.landmarks, square.landmarks + np.array([left, top]), atol=1e-4)

    def test_the_landmarks_are_a_face_s(self) -> None:
        [[face]] = CroppedSpec().make().detect([RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)])
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert left_eye[1] < nose[1] < left_mouth[1]

    @pytest.mark.parametrize(
        ("image", "reason"),
        [
            (np.zeros((300, 300, 3), np.uint8), "blank"),
            (np.full((300, 300, 3), 255, np.uint8), "blank"),
            (np.full((300, 300, 3), (250, 120, 60), np.uint8), "blank"),
            (RNG.normal(3, 3, (300, 300, 3)).clip(0, 255).astype(np.uint8), "blank"),  # noise in the dark
            (RNG.integers(0, 256, (1, 1, 3), dtype=np.uint8), "too-small"),
            (RNG.integers(0, 256, (23, 2000, 3), dtype=np.uint8), "too-small"),
            (RNG.integers(0, 256, (900, 1, 3), dtype=np.uint8), "too-small"),
        ],
    )
    def test_what_cannot_be_a_face_is_none(self, image: np.ndarray, reason: str) -> None:
        with pytest.raises(PhotoError) as refused:
            check_cropped(image)
        assert refused.value.reason == reason
        assert CroppedSpec().make().detect([image]) == [[]]

    def test_what_is_barely_enough_is_one(self) -> None:
        # Half its pixels 10 grey values above the others: a spread of 5.
        image = np.full((24, 24, 3), 100, np.uint8)
        image[12:] = 110
        check_cropped(image)
        image[12:] = 109
        with pytest.raises(PhotoError, match=r"spread by 5 or more, got 4\.5"):
            check_cropped(image)

    def test_it_is_told_from_others(self) -> None:
        assert CroppedSpec().fingerprint() == CroppedSpec().fingerprint()
        assert CroppedSpec().fingerprint() != MtcnnSpec().fingerprint()

    def test_what_is_no_photo(self) -> None:
        with pytest.raises(DataError, match="uint8"):
            CroppedSpec().make().detect([np.zeros((4, 4), np.uint8)])
        with pytest.raises(DataError, match="uint8"):
            CroppedSpec().make().detect([np.zeros((0, 4, 3), np.uint8)])
