"""Linear algebra on features too large for memory in float32: moments, principal axes, projections.

Features may be float16 and large (13,000 photos × 14,112): they are read in blocks and worked on in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.linalg

from facetl.errors import DataError

Float32s = npt.NDArray[np.float32]

_BLOCK = 1024  # photos: 58 MB of float32 at 14,112 dimensions
_OVERSAMPLE = 10  # Halko et al., 2011: a few more directions than wanted
_FIRST = 256
_SIGNED = 0.25  # share of negative magnitude from which features count as signed
_POWER_ITERATIONS = 3  # spectra of CNN features fall slowly; the last components need them


class Rows(Protocol):
    """Features as an array or as rows of a cache: indexed by an int array, [photos, dim]."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


def moments(features: Rows) -> tuple[Float32s, Float32s]:
    """Mean and standard deviation of each column, float32 [dim] each; constant columns have deviation 1."""
    photos, dim = _checked_shape(features)
    total, squares = np.zeros(dim), np.zeros(dim)
    pivot: Float32s | None = None
    for _, block in blocks(features):
        if pivot is None:
            pivot = block[0].copy()  # sums of squares about a value nearby do not cancel
        block -= pivot
        total += block.sum(axis=0, dtype=np.float64)
        squares += np.einsum("ij,ij->j", block, block, dtype=np.float64)
    if not np.all(np.isfinite(squares)):
        raise DataError("Features must be finite. Received: NaN or infinity; run `facetl cache verify`.")
    assert pivot is not None
    shift = total / photos
    deviation = np.sqrt(np.maximum(squares / photos - shift**2, 0.0))
    constant = deviation <= 1e-6 * np.maximum(1.0, np.abs(pivot + shift))
    return (pivot + shift).astype(np.float32), np.where(constant, 1.0, deviation).astype(np.float32)


def principal_axes(
    features: Rows, mean: Float32s, scale: Float32s, components: int, rng: np.random.Generator
) -> tuple[Float32s, Float32s]:
    """Leading right singular vectors of the standardised features and the deviation along each.

    features: float [photos, dim]; mean, scale: float32 [dim]. Returns float32 [dim, components] orthonormal and
    float32 [components], both falling. Randomised subspace iteration (Halko, Martinsson and Tropp, 2011).
    """
    photos, dim = _checked_shape(features)
    width = min(components + _OVERSAMPLE, photos, dim)
    basis = rng.standard_normal((dim, width), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        image = np.zeros((dim, width), np.float32)
        for _, block in blocks(features):
            block -= mean
            block /= scale
            image += block.T @ (block @ basis)
        basis = scipy.linalg.qr(image, mode="economic", check_finite=False)[0]  # NumPy's would be in float64
    gram = np.zeros((width, width))
    for _, block in blocks(features):
        block -= mean
        block /= scale
        reduced = block @ basis
        gram += (reduced.T @ reduced).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    leading = vectors[:, ::-1][:, :components].astype(np.float32)
    deviation = np.sqrt(np.maximum(values[::-1][:components], 0.0) / photos)
    return basis @ leading, deviation.astype(np.float32)


def projected(features: Rows, axes: Float32s, offset: Float32s) -> Float32s:
    """Return features @ axes − offset: float [photos, dim] → float32 [photos, components]."""
    out = np.empty((features.shape[0], axes.shape[1]), np.float32)
    for rows, block in blocks(features):
        out[rows] = block @ axes - offset
    return out


def blocks(features: Rows) -> Iterator[tuple[slice, Float32s]]:
    """Blocks of rows as float32, free to be written over; taken by an int array, as a cache wants it."""
    photos = features.shape[0]
    for start in range(0, photos, _BLOCK):
        stop = min(start + _BLOCK, photos)
        yield slice(start, stop), np.asarray(features[np.arange(start, stop)]).astype(np.float32)


def signed(features: Rows) -> bool:
    """Tell whether features lie around the origin, as the embeddings of a trained metric do, and not above it.

    features: float [photos, dim]. Judged by the share of negative values in the sum of magnitudes of the first rows:
    0 for maps behind a ReLU, a few hundredths behind a swish, one half for a centred embedding.
    """
    photos, _ = _checked_shape(features)
    first = np.asarray(features[np.arange(min(photos, _FIRST))], np.float32)
    return bool(-first.sum(where=first < 0, dtype=np.float64) > _SIGNED * np.abs(first).sum(dtype=np.float64))


def normalised(rows: Float32s) -> Float32s:
    """Return rows of unit norm, [n, dim] float32; a row of zeros stays."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0.0, norms, 1.0), np.float32)


def _checked_shape(features: Rows) -> tuple[int, int]:
    if len(features.shape) != 2 or 0 in features.shape:
        raise DataError(f"Features must be [photos, dim] with at least one of each. Received: {features.shape}.")
    return features.shape[0], features.shape[1]


def check_dim(features: Rows, dim: int) -> None:
    """Raise DataError unless features are [photos, dim]."""
    if len(features.shape) != 2 or features.shape[1] != dim:
        raise DataError(f"Features must be [photos, {dim}] as in fit. Received: {features.shape}.")
