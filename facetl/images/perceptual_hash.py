"""Photos that look the same though their bytes differ: saved again, smaller, a little brighter. No TensorFlow here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array  # type: ignore[import-untyped,unused-ignore]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped,unused-ignore]

from facetl.errors import DataError

BITS = 64
_SIDE, _FREQUENCIES = 32, 8
# Bits in which two photos may differ and still be taken for one. Of 1,500 photos of LFW, portraits all, no two of
# different scenes are as near (one pair of 1.1 million is within 6); of copies that were saved again, made grey,
# blurred, brighter, or shrunk to a third, 91 to 100 % are. A copy that was cropped mostly is not.
NEAR = 4
_PAIRS_AT_ONCE = 2**20
# Side at which pictures of faces are compared. Of 40 people of LFW, photos that were cropped, shrunk, turned by 5°,
# made brighter, grey or richer in contrast correlate by 0.964 at least with their original; other photos of the same
# person by 0.928 at most, other people by 0.933.
_FACE, _SAME_PIXELS = 64, 0.95


def perceptual_hash(image: npt.NDArray[np.uint8]) -> int:
    """Return 64 bits that change little when a photo is saved again, resized or made brighter.

    The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1:
    of the photo in 32 × 32 grey values, the signs of the 8 × 8 lowest frequencies, the mean left out, about their
    median. As a signed number, which SQLite and NumPy keep in 8 bytes.

    Args:
        image: [height, width, 3] uint8 RGB, upright.

    Raises DataError on anything else.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(f"a photo to compare is uint8 [height, width, 3], got {image.dtype} {image.shape}.")
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = cv2.dct(grey)[1 : 1 + _FREQUENCIES, 1 : 1 + _FREQUENCIES]
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def near(hashes: npt.ArrayLike, *, distance: int = NEAR) -> list[npt.NDArray[np.int64]]:
    """Return groups of photos, each of two or more, whose hashes differ in at most `distance` bits.

    A group is what is connected: its ends may differ in more. Hashes that differ in d bits agree in at least one of
    d + 1 bands of bits, so that only those that share a band are compared (the pigeonhole principle; Manku, Jain and
    Das Sarma, "Detecting near-duplicates for web crawling", WWW 2007): n log n for hashes that are spread evenly.

    Args:
        hashes: [photos] int64, as `perceptual_hash` gives them.
        distance: bits, from 0 to 15.

    Returns:
        Places [group] of the photos of each group, rising, the group of the first photo first.

    Raises DataError on other hashes or distances.
    """
    values = np.asarray(hashes)
    if values.ndim != 1 or (values.size and values.dtype != np.int64):
        raise DataError(f"hashes are whole numbers of 64 bits [photos], got {values.dtype} {values.shape}.")
    if not 0 <= distance < BITS // 4:
        raise DataError(f"a distance between hashes is from 0 to {BITS // 4 - 1} bits, got {distance}.")
    # Copies of one hash are one here, however many: only different ones have to be compared.
    unique, place = np.unique(values.astype(np.int64), return_inverse=True)
    count = len(unique)
    links = [pair for band in _bands(distance) for pair in _close_pairs(unique, band, distance)]
    first, second = np.concatenate(links, axis=1) if links else np.zeros((2, 0), np.int64)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    component = connected_components(graph, directed=False)[1][place] if count else place
    order = np.argsort(component, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def _bands(distance: int) -> list[np.uint64]:
    """Cut the bits into distance + 1 bands; return the mask of each."""
    ends = np.linspace(0, BITS, distance + 2).astype(int)
    return [np.uint64((1 << int(end)) - (1 << int(start))) for start, end in itertools.pairwise(ends)]


def _close_pairs(unique: npt.NDArray[np.int64], band: np.uint64, distance: int) -> Iterator[npt.NDArray[np.int64]]:
    """Give pairs [2, n] of places of hashes that agree in the band and differ in at most `distance` bits."""
    bits = unique.view(np.uint64)
    order = np.argsort(bits & band, kind="stable")
    kept = (bits & band)[order]
    # Of each hash in this order, how many after it share its band.
    after = np.searchsorted(kept, kept, side="right") - np.arange(len(kept)) - 1
    start = 0
    while start < len(kept):
        # At least one hash with all that share its band, and as many more as fit.
        total = np.cumsum(after[start:])
        stop = start + max(1, int(np.searchsorted(total, _PAIRS_AT_ONCE, side="right")))
        counts = after[start:stop]
        left = np.repeat(np.arange(start, stop), counts)
        right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
        differ = np.bitwise_count(bits[order[left]] ^ bits[order[right]])
        close = differ <= distance
        yield np.stack([order[left[close]], order[right[close]]])
        start = stop


def same_pixels(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> bool:
    """Return whether two pictures of an aligned face are cut from the same pixels, edited or not.

    first, second: [side, side, 3] uint8, as `thumbnail` makes them. Their correlation is the highest that a few turns,
    sizes and all shifts give, since a detector places landmarks elsewhere in a photo that was cropped or made brighter.
    """
    old, new = (
        cv2.GaussianBlur(
            cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), (_FACE, _FACE), interpolation=cv2.INTER_AREA), (0, 0), 1.0
        )
        for one in (first, second)
    )
    middle = slice(_FACE // 4 - 2, _FACE - _FACE // 4 + 2)
    centre = ((_FACE - 1) / 2, (_FACE - 1) / 2)
    for scale, turn in itertools.product((1.0, 0.94, 1.06, 0.88, 1.12), (0, -4, 4)):
        turned = cv2.warpAffine(
            old, cv2.getRotationMatrix2D(centre, turn, scale), (_FACE, _FACE), borderMode=cv2.BORDER_REPLICATE
        )
        found = cv2.matchTemplate(new, turned[middle, middle], cv2.TM_CCOEFF_NORMED)
        if float(found.max()) >= _SAME_PIXELS:
            return True
    return False
