"""Linear algebra on features too large for memory in float32: moments, principal axes, projections.

Features may be float16 and large (13,000 photos × 14,112): they are read in blocks and worked on in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy

from facetl.errors import DataError
from facetl.io.arrays import Rows

Float32s = npt.NDArray[np.float32]

_BLOCK = 1024  # photos: 58 MB of float32 at 14,112 dimensions
_OVERSAMPLE = 10  # Halko et al., 2011: a few more directions than wanted
_FIRST = 256
_NORM_TOLERANCE = 1e-2  # a unit vector that went through float16 is off by about 1e-3
_SIGNED = 0.25  # share of negative magnitude from which features count as signed
_POWER_ITERATIONS = 3  # spectra of CNN features fall slowly; the last components need them
_EXACT = 1536  # photos up to which the eigenvectors of their inner products are computed exactly
_FEW = 6000  # photos up to which their inner products (144 MB) are cheaper than iterating over long features


def moments(features: Rows) -> tuple[Float32s, Float32s]:
    """Return the mean and standard deviation of each column, float32 [dim] each; constant columns have deviation 1."""
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
    features: Rows,
    mean: Float32s,
    scale: Float32s,
    components: int,
    rng: np.random.Generator,
    *,
    near: Float32s | None = None,
) -> tuple[Float32s, Float32s]:
    """Return the leading right singular vectors of the standardised features and the deviation along each.

    features: float [photos, dim]; mean, scale: float32 [dim]. Returns float32 [dim, components] orthonormal and
    float32 [components], both falling. Of few photos by their inner products (Sirovich and Kirby, 1987), exactly up
    to 1,536; else by randomised subspace iteration (Halko, Martinsson and Tropp, 2011). Where the photos' components
    are known nearly, [photos, components] float32, it begins from these, and nothing is random.
    """
    photos, dim = _checked_shape(features)
    if photos <= min(_EXACT, dim) or photos <= min(_FEW, dim // 2):
        return _by_inner_products(features, mean, scale, components)
    if near is None:
        basis = rng.standard_normal((dim, min(components + _OVERSAMPLE, photos, dim)), dtype=np.float32)
    else:
        basis = np.zeros((dim, components), np.float32)
        for rows, block in blocks(features):
            basis += ((block - mean) / scale).T @ near[rows]
    for _ in range(_POWER_ITERATIONS):
        image = np.zeros_like(basis)
        for _, block in blocks(features):
            block -= mean
            block /= scale
            image += block.T @ (block @ basis)
        basis = _householder(image) if near is None else _orthonormal(image)
    gram = np.zeros((basis.shape[1], basis.shape[1]))
    for _, block in blocks(features):
        block -= mean
        block /= scale
        reduced = block @ basis
        gram += (reduced.T @ reduced).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    leading = vectors[:, ::-1][:, :components].astype(np.float32)
    deviation = np.sqrt(np.maximum(values[::-1][:components], 0.0) / photos)
    return basis @ leading, deviation.astype(np.float32)


def _by_inner_products(features: Rows, mean: Float32s, scale: Float32s, components: int) -> tuple[Float32s, Float32s]:
    """Return what `principal_axes` does, from the eigenvectors of the photos' inner products."""
    photos, dim = features.shape
    # Of many photos in float16, as they come from the cache: standardised, they fit it.
    rows = np.empty((photos, dim), np.float32 if photos <= _EXACT else np.float16)
    for at, block in blocks(features):
        rows[at] = (block - mean) / scale
    gram = np.zeros((photos, photos), np.float32)
    parts = [slice(start, start + _BLOCK) for start in range(0, dim, _BLOCK)]
    for part in parts:
        block = rows[:, part].astype(np.float32)
        gram += block @ block.T
    vectors, values = leading(gram, components, np.random.default_rng(0))
    deviation = np.sqrt(values)
    vectors /= np.maximum(deviation, np.finfo(np.float32).tiny)
    axes = np.concatenate([rows[:, part].astype(np.float32).T @ vectors for part in parts])
    if deviation[-1] < 1e-3 * deviation[0]:  # centred rows have a direction less than photos; it must be orthogonal
        axes = _householder(axes)
    return axes, (deviation / np.sqrt(photos)).astype(np.float32)


def leading(gram: Float32s, components: int, rng: np.random.Generator) -> tuple[Float32s, Float32s]:
    """Return the leading eigenvectors [n, components] of a positive semidefinite matrix [n, n], and their values.

    Both float32, falling. Exact for a small matrix, else by randomised subspace iteration, cheap for one in memory.
    """
    if len(gram) <= _EXACT:
        values, vectors = np.linalg.eigh(gram.astype(np.float64))
        values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    else:
        basis = rng.standard_normal((len(gram), min(components + _OVERSAMPLE, len(gram))), dtype=np.float32)
        for _ in range(_POWER_ITERATIONS - 1):
            basis = _orthonormal(gram @ basis, passes=1)  # enough for the next product
        basis = _orthonormal(gram @ basis)
        values, turn = np.linalg.eigh((basis.T @ (gram @ basis)).astype(np.float64))
        values, vectors = values[::-1][:components], basis @ turn[:, ::-1][:, :components].astype(np.float32)
    return vectors.astype(np.float32), np.maximum(values, 0.0).astype(np.float32)


def _householder(columns: Float32s) -> Float32s:
    """Return an orthonormal basis of any columns, as many as rows or of zeros, too; NumPy's would be in float64."""
    return np.asarray(scipy.linalg.qr(columns, mode="economic", check_finite=False)[0])


def _orthonormal(columns: Float32s, passes: int = 3) -> Float32s:
    """Return an orthonormal basis of the columns, [n, k] each, n much above k; of fewer passes, one nearly so.

    Shifted Cholesky QR (Fukaya, Kannan, Nakatsukasa, Yamamoto, Yanagisawa, 2020): products of matrices, which a
    Householder QR is ten times as slow as. NumPy alone: SciPy's BLAS has threads of its own, and each library's wait
    for the other's to come to rest.
    """
    for _ in range(passes):
        wide = columns.astype(np.float64)
        gram = wide.T @ wide
        gram[np.diag_indices_from(gram)] += 1e-11 * np.trace(gram) + np.finfo(np.float64).tiny
        columns = (wide @ np.linalg.inv(np.linalg.cholesky(gram)).T).astype(np.float32)
    return columns


def projected(features: Rows, axes: Float32s, offset: Float32s) -> Float32s:
    """Return features @ axes − offset: float [photos, dim] → float32 [photos, components]."""
    out = np.empty((features.shape[0], axes.shape[1]), np.float32)
    for rows, block in blocks(features):
        out[rows] = block @ axes - offset
    return out


def centred(features: Rows, centre: Float32s) -> Float32s:
    """Return features − centre, L2-normalised: float [photos, dim] → float32; DataError for another dim."""
    check_dim(features, len(centre))
    out = np.empty((features.shape[0], len(centre)), np.float32)
    for rows, block in blocks(features):
        out[rows] = normalised(block - centre)
    return out


def blocks(features: Rows) -> Iterator[tuple[slice, Float32s]]:
    """Yield blocks of rows as float32, free to be written over; taken by an int array, as a cache wants it."""
    photos = features.shape[0]
    for start in range(0, photos, _BLOCK):
        stop = min(start + _BLOCK, photos)
        yield slice(start, stop), np.asarray(features[np.arange(start, stop)]).astype(np.float32, copy=False)


def signed(features: Rows) -> bool:
    """Return whether features lie around the origin, as the embeddings of a trained metric do, and not above it.

    features: float [photos, dim]. Judged by the share of negative values in the sum of magnitudes of the first rows:
    0 for maps behind a ReLU, a few hundredths behind a swish, one half for a centred embedding.
    """
    photos, _ = _checked_shape(features)
    first = np.asarray(features[np.arange(min(photos, _FIRST))], np.float32)
    return bool(-first.sum(where=first < 0, dtype=np.float64) > _SIGNED * np.abs(first).sum(dtype=np.float64))


def signed_root(values: Float32s) -> Float32s:
    """Return the root of each magnitude with its value's sign, float32 of the same shape."""
    rooted = np.abs(values)
    np.sqrt(rooted, out=rooted)
    return np.copysign(rooted, values, out=rooted)


def normalised(rows: Float32s) -> Float32s:
    """Return rows of unit norm, [n, dim] float32; a row of zeros stays."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0.0, norms, 1.0), np.float32)


def as_unit(rows: Float32s) -> Float32s:
    """Return rows that are of unit norm as they are, [n, dim] float32; others normalised."""
    return rows if np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3) else normalised(rows)


def _checked_shape(features: Rows) -> tuple[int, int]:
    if len(features.shape) != 2 or 0 in features.shape:
        raise DataError(f"Features must be [photos, dim] with at least one of each. Received: {features.shape}.")
    return features.shape[0], features.shape[1]


def check_dim(features: Rows, dim: int) -> None:
    """Raise DataError unless features are [photos, dim]."""
    if len(features.shape) != 2 or features.shape[1] != dim:
        raise DataError(f"Features must be [photos, {dim}] as in fit. Received: {features.shape}.")


def check_unit(rows: npt.NDArray[np.floating], what: str = "Embeddings") -> None:
    """Raise DataError, which names the rows as `what`, unless they are of unit norm: float [n, dim].

    A zero row is what normalising leaves of a photo with no signal; its distances still lie in [0, 4].
    """
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    wrong = ~((np.abs(norms - 1.0) <= _NORM_TOLERANCE) | (norms == 0.0))
    if wrong.any():
        raise DataError(
            f"{what} must have unit norm. Received: {int(wrong.sum())} of {len(rows)} that do not, "
            f"the first with norm {norms[wrong][0]:.4g}; L2-normalise them."
        )
