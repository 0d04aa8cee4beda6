"""Crop and resize against OpenCV, and against a triangle kernel written out in NumPy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow as tf

from facetl.images.resize import in_grey, prepare


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def triangle(length: int, size: int) -> np.ndarray:
    """[size, length] weights of bilinear resizing whose kernel widens with the factor when shrinking."""
    factor = length / size
    reach = max(factor, 1.0)
    centres = (np.arange(size) + 0.5) * factor
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    rows, columns = triangle(image.shape[0], size), triangle(image.shape[1], size)
    return np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True)


class TestCrop:
    def test_the_centre_of_a_wide_photo(self) -> None:
        # 6 × 11, half of the shorter side is 3: rows 1–3 ((6 − 3) // 2 = 1), columns 4–6 ((11 − 3) // 2 = 4).
        image = noise(6, 11)
        np.testing.assert_array_equal(prepare(image, size=3, crop=0.5), image[1:4, 4:7])

    def test_the_centre_of_a_tall_photo(self) -> None:
        # 13 × 8, three quarters of the shorter side is 6: rows 3–8, columns 1–6.
        image = noise(13, 8)
        np.testing.assert_array_equal(prepare(image, size=6, crop=0.75), image[3:9, 1:7])

    def test_the_side_is_rounded(self) -> None:
        # 0.66 × 5 = 3.3 → 3; 0.74 × 5 = 3.7 → 4, which lies one pixel nearer to the top left.
        image = noise(5, 5)
        np.testing.assert_array_equal(prepare(image, size=3, crop=0.66), image[1:4, 1:4])
        np.testing.assert_array_equal(prepare(image, size=4, crop=0.74), image[0:4, 0:4])

    def test_a_crop_keeps_one_pixel_at_least(self) -> None:
        image = noise(3, 5)
        np.testing.assert_array_equal(prepare(image, size=2, crop=0.01), np.broadcast_to(image[1, 2], (2, 2, 3)))

    def test_the_whole_photo_is_stretched_not_cut(self) -> None:
        image = np.zeros((2, 8, 3), np.uint8)
        image[:, 0], image[:, -1] = 10, 250
        prepared = prepare(image, size=8, crop=1.0).numpy()
        assert prepared.shape == (8, 8, 3)
        np.testing.assert_array_equal(prepared[:, 0], 10)
        np.testing.assert_array_equal(prepared[:, -1], 250)


class TestResize:
    def test_by_hand(self) -> None:
        # Twice as wide: output centres lie at a quarter and three quarters between the two input pixels.
        image = np.zeros((1, 2, 3), np.uint8)
        image[0, 1] = [40, 80, 200]
        prepared = prepare(image, size=4, crop=1.0).numpy()
        np.testing.assert_allclose(prepared[0, :, 0], [0, 10, 30, 40], atol=1e-4)
        np.testing.assert_allclose(prepared[3, :, 2], [0, 50, 150, 200], atol=1e-4)

    @pytest.mark.parametrize(("height", "width"), [(48, 48), (31, 57), (90, 17)])
    def test_enlarging_is_bilinear_as_in_opencv(self, height: int, width: int) -> None:
        image = noise(height, width)
        expected = cv2.resize(image.astype(np.float32), (99, 99), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(prepare(image, size=99, crop=1.0), expected, atol=2e-3)

    @pytest.mark.parametrize(("height", "width", "size"), [(64, 64, 16), (100, 61, 23), (250, 300, 75)])
    def test_shrinking_widens_the_kernel(self, height: int, width: int, size: int) -> None:
        image = noise(height, width)
        np.testing.assert_allclose(prepare(image, size=size, crop=1.0), resized(image, size), atol=2e-3)

    def test_shrinking_one_way_and_enlarging_the_other(self) -> None:
        image = noise(90, 20)
        np.testing.assert_allclose(prepare(image, size=40, crop=1.0), resized(image, 40), atol=2e-3)

    def test_a_fine_chequerboard_becomes_grey(self) -> None:
        # Without antialiasing, every second pixel of it would be taken, and it would come out black or white.
        board = np.indices((80, 80)).sum(axis=0) % 2 * np.uint8(255)
        prepared = prepare(np.repeat(board[..., None], 3, axis=2), size=20, crop=1.0).numpy()
        np.testing.assert_allclose(prepared, 127.5, atol=2)

    def test_crop_then_resize(self) -> None:
        # 0.6 × 70 = 42: rows (70 − 42) // 2 = 14 on, columns (95 − 42) // 2 = 26 on.
        image = noise(70, 95)
        expected = resized(image[14:56, 26:68], 30)
        np.testing.assert_allclose(prepare(image, size=30, crop=0.6), expected, atol=2e-3)


class TestForms:
    @pytest.mark.parametrize("crop", [1.0, 0.7])
    def test_uint8_and_float_give_the_same(self, crop: float) -> None:
        image = noise(40, 30)
        whole = prepare(image, size=25, crop=crop)
        assert whole.dtype == tf.float32
        np.testing.assert_array_equal(whole, prepare(image.astype(np.float32), size=25, crop=crop))
        np.testing.assert_array_equal(whole, prepare(image.astype(np.float64), size=25, crop=crop))

    def test_fractions_of_a_grey_level_are_kept(self) -> None:
        image = np.full((4, 4, 3), 100.25, np.float32)
        np.testing.assert_array_equal(prepare(image, size=4, crop=1.0), image)

    @pytest.mark.parametrize("crop", [1.0, 0.7])
    def test_a_batch_is_prepared_photo_by_photo(self, crop: float) -> None:
        batch = np.stack([noise(40, 30, seed) for seed in range(3)])
        prepared = prepare(batch, size=25, crop=crop)
        assert prepared.shape == (3, 25, 25, 3)
        for one, of_batch in zip(batch, prepared, strict=True):
            np.testing.assert_allclose(prepare(one, size=25, crop=crop), of_batch, atol=1e-4)

    @pytest.mark.parametrize("crop", [1.0, 0.5])
    def test_in_a_graph_that_does_not_know_the_size(self, crop: float) -> None:
        signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
        graph = tf.function(lambda images: prepare(images, size=10, crop=crop), input_signature=signature)
        for height, width in ((12, 9), (7, 31)):
            batch = noise(height, width)[None]
            np.testing.assert_allclose(graph(batch), prepare(batch, size=10, crop=crop), atol=1e-4)


class TestGrey:
    def test_the_luma_in_three_channels(self) -> None:
        pixels = noise(4, 5).astype(np.float32)
        luma = pixels @ np.array([0.299, 0.587, 0.114])
        grey = np.asarray(in_grey(pixels))
        assert (grey.shape, grey.dtype) == ((4, 5, 3), np.float32)
        np.testing.assert_allclose(grey, np.stack([luma] * 3, axis=-1), rtol=1e-5)
        np.testing.assert_allclose(np.asarray(in_grey(pixels[None]))[0], grey, rtol=1e-6)
        opencv = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        np.testing.assert_allclose(grey[..., 1], opencv, rtol=1e-5)

    def test_what_is_grey_stays_what_it_is(self) -> None:
        pixels = np.repeat(np.arange(256, dtype=np.float32)[:, None, None], 3, axis=-1)
        np.testing.assert_allclose(np.asarray(in_grey(pixels)), pixels, rtol=1e-6)
