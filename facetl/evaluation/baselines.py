"""What a trained head has to beat: the features as they are, and the classical PCA → LDA.

Features may be float16 and large (13,000 photos × 14,112): they are read in blocks and worked on in float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg  # type: ignore[import-untyped,unused-ignore]

from facetl.errors import DataError
from facetl.evaluation.projection import (
    Float32s,
    Rows,
    blocks,
    check_dim,
    moments,
    normalised,
    principal_axes,
    projected,
)


class Raw:
    """Features minus the mean of the training features, L2-normalised; nothing else is learnt."""

    def __init__(self) -> None:
        self.mean: Float32s | None = None

    def fit(self, features: Rows) -> Raw:
        """Take the mean of float [photos, dim]. Raises DataError where it is empty or not finite."""
        self.mean = moments(features)[0]
        return self

    def transform(self, features: Rows) -> Float32s:
        """Unit-norm float32 [photos, dim]; a photo that equals the mean stays a row of zeros."""
        if self.mean is None:
            raise DataError("The raw baseline must be fitted before use. Received: no call of fit.")
        check_dim(features, len(self.mean))
        out = np.empty((features.shape[0], len(self.mean)), np.float32)
        for rows, block in blocks(features):
            out[rows] = normalised(block - self.mean)
        return out


class Lda:
    """Standardise, PCA, linear discriminant analysis, L2-normalise: the best that is linear and closed-form.

    components bounds the PCA (randomised: Halko, Martinsson and Tropp, 2011), dim the discriminants; both
    shrink to what the photos and people allow. shrinkage in [0, 1] draws the within-person scatter towards a
    multiple of the identity (Friedman, 1989), so that few photos do not make it singular. People with one
    photo count among the means but say nothing of the scatter within a person.
    """

    def __init__(self, *, components: int = 400, dim: int = 128, shrinkage: float = 0.05, seed: int = 0) -> None:
        self.components = components
        self.dim = dim
        self.shrinkage = shrinkage
        self.seed = seed
        self.projection: Float32s | None = None  # [dim of features, discriminants], standardisation folded in
        self.offset: Float32s | None = None  # [discriminants]

    def fit(self, features: Rows, labels: npt.ArrayLike) -> Lda:
        """Learn from float [photos, dim] and labels [photos] of training people.

        Raises DataError for fewer than 2 people, nobody with 2 photos, or features that are not finite.
        """
        people, person = np.unique(np.asarray(labels), return_inverse=True)
        counts = np.bincount(person, minlength=len(people))
        if len(person) != features.shape[0]:
            raise DataError(f"Each photo needs a label. Received: {features.shape[0]}, {len(person)} labels.")
        if len(people) < 2 or counts.max() < 2:
            raise DataError(
                "PCA→LDA needs at least 2 people, one of them with 2 photos. "
                f"Received: {len(people)} people, at most {counts.max(initial=0)} photos each."
            )
        mean, scale = moments(features)
        components = min(self.components, features.shape[0] - 1, features.shape[1])
        axes, _ = principal_axes(features, mean, scale, components, np.random.default_rng(self.seed))
        axes /= scale[:, None]
        reduced = projected(features, axes, mean @ axes).astype(np.float64)
        discriminants = self._discriminants(reduced, person, counts)
        self.projection = (axes @ discriminants).astype(np.float32)
        self.offset = mean @ self.projection
        return self

    def transform(self, features: Rows) -> Float32s:
        """Unit-norm float32 [photos, discriminants]."""
        if self.projection is None or self.offset is None:
            raise DataError("The PCA→LDA baseline must be fitted before use. Received: no call of fit.")
        check_dim(features, len(self.projection))
        return normalised(projected(features, self.projection, self.offset))

    def _discriminants(
        self, reduced: npt.NDArray[np.float64], person: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Directions of the most scatter between people for a unit of scatter within: [components, dim]."""
        sums = np.zeros((len(counts), reduced.shape[1]))
        np.add.at(sums, person, reduced)
        means = sums / counts[:, None]
        deviation = reduced - means[person]
        freedom = max(1, int(np.sum(counts - 1)))
        within = deviation.T @ deviation / freedom
        between = (means * counts[:, None]).T @ means / len(reduced)  # `reduced` is centred already
        level = np.trace(within) / len(within)
        if level <= 0.0:  # copies of one photo for every person: any direction will do
            level = 1.0
        within *= 1.0 - self.shrinkage
        within[np.diag_indices_from(within)] += (self.shrinkage + 1e-6) * level
        dim = min(self.dim, len(counts) - 1, len(within))
        last = len(within) - 1
        vectors = scipy.linalg.eigh(between, within, subset_by_index=(last - dim + 1, last))[1]
        return np.asarray(vectors[:, ::-1])
