"""Perceptual hashes: alike where photos are, and groups that are those of comparing everything with everything."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import scipy.fft
from PIL import Image

from facetl.errors import DataError
from facetl.images import perceptual_hash as perceptual_hash_module
from facetl.images.decode import read_photo
from facetl.images.perceptual_hash import NEAR, near, perceptual_hash


def scene(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for cells in (4, 9, 23):
        coarse = rng.normal(0, 1, (cells, cells, 3))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 200 / cells
    return np.clip(127 + image, 0, 255).astype(np.uint8)


def differ(one: int, other: int) -> int:
    return ((one ^ other) & (2**64 - 1)).bit_count()


def by_brute_force(hashes: np.ndarray, distance: int) -> list[list[int]]:
    """Groups by looking at all pairs."""
    group = list(range(len(hashes)))
    for one in range(len(hashes)):
        for other in range(one):
            if differ(int(hashes[one]), int(hashes[other])) <= distance and group[one] != group[other]:
                old, new = group[one], group[other]
                group = [new if name == old else name for name in group]
    groups = [[at for at, name in enumerate(group) if name == which] for which in sorted(set(group))]
    return sorted(places for places in groups if len(places) > 1)


class TestHash:
    def test_it_is_the_signs_of_the_low_frequencies(self) -> None:
        image = scene(1)
        grey = cv2.cvtColor(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        low = scipy.fft.dctn(grey.astype(float), norm="ortho")[1:9, 1:9].ravel()
        bits = "".join("1" if value > np.median(low) else "0" for value in low)
        expected = int(bits, 2)
        assert perceptual_hash(image) == (expected - 2**64 if expected >= 2**63 else expected)

    def test_it_fits_a_database(self) -> None:
        found = [perceptual_hash(scene(seed)) for seed in range(20)]
        assert all(-(2**63) <= value < 2**63 for value in found)
        assert min(found) < 0 < max(found)

    def test_saved_again_smaller_brighter_blurred(self) -> None:
        image = scene(2)
        room = io.BytesIO()
        Image.fromarray(image).save(room, "JPEG", quality=40)
        variants = [
            read_photo(room.getvalue()),
            cv2.resize(image, (150, 113), interpolation=cv2.INTER_AREA),
            cv2.convertScaleAbs(image, alpha=0.8, beta=30),
            cv2.GaussianBlur(image, (0, 0), 1.5),
        ]
        own = perceptual_hash(image)
        assert max(differ(own, perceptual_hash(variant)) for variant in variants) <= NEAR

    def test_other_photos_and_the_mirror_image_differ(self) -> None:
        hashes = [perceptual_hash(scene(seed)) for seed in range(12)]
        hashes += [perceptual_hash(np.ascontiguousarray(scene(seed)[:, ::-1])) for seed in range(12)]
        assert min(differ(one, other) for at, one in enumerate(hashes) for other in hashes[:at]) > 10

    @pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (500, 2, 3)])
    def test_any_size(self, shape: tuple[int, int, int]) -> None:
        assert isinstance(perceptual_hash(np.full(shape, 9, np.uint8)), int)

    def test_what_is_no_photo(self) -> None:
        for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(DataError, match="uint8"):
                perceptual_hash(image)


class TestNear:
    @pytest.mark.parametrize("distance", [0, 1, 3, 4, 9, 15])
    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_what_comparing_all_pairs_gives(self, distance: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.integers(-(2**63), 2**63, 40, dtype=np.int64)
        hashes = [*centres.tolist(), *centres[:5].tolist()]
        for centre in centres.tolist():
            for flips in rng.integers(0, 18, 3):
                changed = centre & (2**64 - 1)
                for bit in rng.choice(64, flips, replace=False):
                    changed ^= 1 << int(bit)
                hashes.append(changed - 2**64 if changed >= 2**63 else changed)
        values = np.array(hashes, np.int64)[rng.permutation(len(hashes))]
        found = near(values, distance=distance)
        assert [group.tolist() for group in found] == by_brute_force(values, distance)

    def test_the_bits_of_every_band_are_looked_at(self) -> None:
        # d flipped bits may fall into any d of the d + 1 bands.
        for first in range(1, 64):
            for second in range(first % 3, first, 3):
                pair = np.array([0, (1 << first) | (1 << second)], np.uint64).view(np.int64)
                assert len(near(pair, distance=2)) == 1
            single = np.array([0, 1 << first], np.uint64).view(np.int64)
            assert near(single, distance=0) == []

    def test_many_that_share_a_band_are_taken_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hashes = np.random.default_rng(7).integers(0, 2**12, 300, dtype=np.int64)
        whole = [group.tolist() for group in near(hashes, distance=1)]
        monkeypatch.setattr(perceptual_hash_module, "_PAIRS_AT_ONCE", 50)
        assert [group.tolist() for group in near(hashes, distance=1)] == whole == by_brute_force(hashes, 1)

    def test_few_pairs_are_compared_however_many_photos(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared = []
        honest = np.bitwise_count

        def counted(values: np.ndarray) -> np.ndarray:
            compared.append(len(values))
            return honest(values)

        monkeypatch.setattr(perceptual_hash_module.np, "bitwise_count", counted)
        counts = []
        for photos in (2_000, 20_000):
            compared.clear()
            near(np.random.default_rng(1).integers(-(2**63), 2**63, photos, dtype=np.int64))
            counts.append(sum(compared))
        # All pairs would be 2e6 and 2e8.
        assert counts[0] < 2_000 * 5
        assert counts[1] < 20_000 * 20

    def test_copies_of_one_hash_cost_nothing(self) -> None:
        [group] = near(np.full(100_000, -5, np.int64))
        np.testing.assert_array_equal(group, np.arange(100_000))

    def test_none(self) -> None:
        assert near([]) == []
        assert near(np.array([3], np.int64)) == []

    @pytest.mark.parametrize("hashes", [np.zeros(3), np.zeros((2, 2), np.int64), np.zeros(3, np.uint64)])
    def test_what_is_no_hash(self, hashes: np.ndarray) -> None:
        with pytest.raises(DataError, match="64 bits"):
            near(hashes)

    @pytest.mark.parametrize("distance", [-1, 16])
    def test_what_is_no_distance(self, distance: int) -> None:
        with pytest.raises(DataError, match="from 0 to 15"):
            near(np.zeros(2, np.int64), distance=distance)
