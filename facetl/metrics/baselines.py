"""The baselines of a trained head: the features as they are, the same whitened, and the classical PCA → LDA.

`probe` scores features by the last of them on people it was not fitted on: a quick measure of what a net gives.

Features may be float16 and large (13,000 photos × 14,112): they are read in blocks and worked on in float32.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from facetl.errors import DataError
from facetl.io.arrays import Rows
from facetl.metrics.bootstrap import jackknife_variance
from facetl.metrics.linalg import Float32s, centred, check_dim, moments, normalised, principal_axes, projected, signed
from facetl.metrics.pairs import Ints, fold_pairs, identity_folds
from facetl.metrics.roc import auc
from facetl.metrics.verification import pair_distances, verify_folds

# Principal components of Whitened and Lda, which thereby differ in the labels alone.
COMPONENTS = 400
_NO_DEVIATION = 1e-6
_FOLDS = 3  # of people, in which features are probed
_PARTS = 20  # of people, for the jackknife


class Raw:
    """Features minus the mean of the training features, L2-normalised; nothing else is learnt.

    Features that are signed already are normalised as they are: a net that was trained to embed means its own origin
    (dlib's on LFW: AUC 0.9995, centred 0.9988), while maps behind a ReLU all point one way and gain by it.

    Attributes:
        mean: of the training features, float32 [dim].
        centre: what is subtracted, that mean or zeros.
    """

    def __init__(self) -> None:
        self.mean: Float32s | None = None
        self.centre: Float32s | None = None

    def fit(self, features: Rows) -> Raw:
        """Take the mean of float [photos, dim]. Raises DataError where it is empty or not finite."""
        self.mean = moments(features)[0]
        self.centre = np.zeros_like(self.mean) if signed(features) else self.mean
        return self

    def transform(self, features: Rows) -> Float32s:
        """Return unit-norm float32 [photos, dim]; a photo that equals the centre stays a row of zeros."""
        if self.centre is None:
            raise DataError("The raw baseline must be fitted before use. Received: no call of fit.")
        return centred(features, self.centre)


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of standardised features: (x − mean) @ axes has deviation `deviation`.

    Attributes:
        mean: float32 [dim].
        axes: float32 [dim, components], the standardisation folded in.
        deviation: float32 [components], falling.
    """

    mean: Float32s
    axes: Float32s
    deviation: Float32s

    @classmethod
    def fit(cls, features: Rows, *, components: int, seed: int) -> PrincipalComponents:
        """Learn at most `components` from float [photos, dim] (randomised: Halko, Martinsson and Tropp, 2011).

        Raises DataError where the features are empty or not finite.
        """
        mean, scale = moments(features)
        components = max(1, min(components, features.shape[0] - 1, features.shape[1]))
        axes, deviation = principal_axes(features, mean, scale, components, np.random.default_rng(seed))
        axes /= scale[:, None]
        return cls(mean, axes, deviation)


class _Linear:
    """A linear map of features, L2-normalised.

    components bounds the PCA, seed is of it.
    """

    name: str

    def __init__(self, *, components: int = COMPONENTS, seed: int = 0) -> None:
        self.components = components
        self.seed = seed
        self.projection: Float32s | None = None  # [dim of features, dim], standardisation folded in
        self.offset: Float32s | None = None  # [dim]

    def transform(self, features: Rows) -> Float32s:
        """Return unit-norm float32 [photos, dim]; a photo that equals the mean stays a row of zeros."""
        if self.projection is None or self.offset is None:
            raise DataError(f"The {self.name} baseline must be fitted before use. Received: no call of fit.")
        check_dim(features, len(self.projection))
        return normalised(projected(features, self.projection, self.offset))


class Whitened(_Linear):
    """Standardise, PCA, divide each component by its deviation, L2-normalise: no labels are looked at.

    Whitening takes the weight from directions that vary in every photo (Jégou and Chum, 2012). components bounds
    the PCA; at most half as many are kept as there are photos, since the last ones would be single photos' noise.
    """

    name = "whitened"

    def fit(self, features: Rows, *, principal: PrincipalComponents | None = None) -> Whitened:
        """Learn from float [photos, dim]; `principal`, where given, are the components of these photos.

        Raises DataError where the features are empty or not finite.
        """
        principal = principal or PrincipalComponents.fit(features, components=self.components, seed=self.seed)
        kept = max(1, min(self.components, features.shape[0] // 2, len(principal.deviation)))
        deviation = principal.deviation[:kept]
        # A direction in which the photos do not differ would be blown up from rounding alone.
        whole = deviation > _NO_DEVIATION * max(float(deviation[0]), _NO_DEVIATION)
        self.projection = principal.axes[:, :kept] * np.where(whole, 1.0 / np.where(whole, deviation, 1.0), 0.0)
        self.projection = self.projection.astype(np.float32)
        self.offset = principal.mean @ self.projection
        return self


class Lda(_Linear):
    """Standardise, PCA, linear discriminant analysis, L2-normalise: the best that is linear and closed-form.

    components bounds the PCA (randomised: Halko, Martinsson and Tropp, 2011), dim the discriminants; both
    shrink to what the photos and people allow. shrinkage in [0, 1] draws the within-person scatter towards a
    multiple of the identity (Friedman, 1989), so that few photos do not make it singular. People with one
    photo count among the means, not for the scatter within a person.
    """

    name = "PCA→LDA"

    def __init__(self, *, components: int = COMPONENTS, dim: int = 128, shrinkage: float = 0.05, seed: int = 0) -> None:
        super().__init__(components=components, seed=seed)
        self.dim = dim
        self.shrinkage = shrinkage

    def fit(self, features: Rows, labels: npt.ArrayLike, *, principal: PrincipalComponents | None = None) -> Lda:
        """Learn from float [photos, dim] and labels [photos] of training people.

        `principal`, where given, are the components of these photos. Raises DataError for fewer than 2 people,
        nobody with 2 photos, or features that are not finite.
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
        principal = principal or PrincipalComponents.fit(features, components=self.components, seed=self.seed)
        mean, axes = principal.mean, principal.axes
        reduced = projected(features, axes, mean @ axes).astype(np.float64)
        discriminants = self._discriminants(reduced, person, counts)
        self.projection = (axes @ discriminants).astype(np.float32)
        self.offset = mean @ self.projection
        return self

    def _discriminants(
        self, reduced: npt.NDArray[np.float64], person: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Return the directions of the most scatter between people for a unit of scatter within: [components, dim]."""
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


@dataclass(frozen=True)
class Baselines:
    """The baselines that features and labels of training people give, fitted."""

    raw: Raw
    whitened: Whitened
    lda: Lda

    @classmethod
    def fit(cls, features: Rows, labels: npt.ArrayLike, *, seed: int) -> Baselines:
        """Learn from float [photos, dim] and labels [photos]; raises DataError as each baseline does."""
        principal = PrincipalComponents.fit(features, components=COMPONENTS, seed=seed)
        return cls(
            Raw().fit(features),
            Whitened(seed=seed).fit(features, principal=principal),
            Lda(seed=seed).fit(features, labels, principal=principal),
        )


@dataclass(frozen=True)
class ProbeScore:
    """Scores of features under PCA→LDA.

    Attributes:
        auc: of all folds' pairs together; auc_stderr: its standard error, by person.
        accuracy: mean over folds, each at the threshold of the others; accuracy_stderr: its standard error.
        people, photos: that were looked at.
        auc_without: the AUC without each part of the people in turn, from which gains get their standard error.
    """

    auc: float
    auc_stderr: float
    accuracy: float
    accuracy_stderr: float
    people: int
    photos: int
    auc_without: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain types."""
        return {name: value for name, value in asdict(self).items() if name != "auc_without"}


def probe(features: Rows, labels: npt.ArrayLike, *, seed: int) -> ProbeScore:
    """Fit PCA→LDA on the people of the other folds, score each fold's pairs, no person on both sides.

    features: float [photos, dim], cached rows too; labels: [photos]. Pairs, folds and parts follow from labels and
    seed alone: features of the same photos meet the same ones. Half as many principal components are kept as photos
    fitted on, as in `Whitened`: with few photos the last ones are noise. Raises DataError for fewer than 4 people
    with 2 photos, or features that are not finite.
    """
    people, person = np.unique(np.asarray(labels), return_inverse=True)
    able = int(np.count_nonzero(np.bincount(person, minlength=len(people)) >= 2))
    if len(person) != features.shape[0] or able < 4:
        raise DataError(
            "A probe needs a label for each photo, and 4 people with 2 photos each. Received: "
            f"{features.shape[0]} photos, {len(person)} labels, {able} such people."
        )
    folds = min(_FOLDS, able // 2)
    pairs = fold_pairs(person, seed=seed, folds=folds)
    fold_of = identity_folds(person, folds=folds, seed=seed)  # the folds that the pairs lie in
    distances = np.empty(len(pairs.same))
    for fold in range(folds):
        outside, inside = np.flatnonzero(fold_of != fold), pairs.fold == fold
        lda = Lda(components=max(2, min(COMPONENTS, len(outside) // 2)), seed=seed)
        lda.fit(np.asarray(features[outside]), person[outside])
        rows = np.flatnonzero(fold_of == fold)
        held_out = lda.transform(np.asarray(features[rows]))
        embedded = np.zeros((len(person), held_out.shape[1]), np.float32)
        embedded[rows] = held_out
        chosen = type(pairs)(*(column[inside] for column in pairs))
        distances[inside] = pair_distances(embedded, chosen)
    scores = verify_folds(distances, pairs.same, pairs.fold)
    without = _auc_without(distances, pairs.same, person[pairs.first], person[pairs.second], seed)
    return ProbeScore(
        auc=scores.auc,
        auc_stderr=math.sqrt(jackknife_variance(without)),
        accuracy=scores.accuracy,
        accuracy_stderr=scores.accuracy_stderr,
        people=len(people),
        photos=len(person),
        auc_without=without,
    )


def gain_stderr(one: ProbeScore, other: ProbeScore) -> float:
    """Return the standard error of the difference in AUC of two probes of the same photos and seed, by person.

    Both met the same pairs, so that what is hard for both cancels. Raises DataError where the people differ.
    """
    if (len(one.auc_without), one.people, one.photos) != (len(other.auc_without), other.people, other.photos):
        raise DataError(
            "Probes are compared on the same photos. "
            f"Received: {one.photos} photos of {one.people} people, {other.photos} of {other.people}."
        )
    return math.sqrt(jackknife_variance(np.subtract(one.auc_without, other.auc_without)))


def _auc_without(
    distances: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], first: Ints, second: Ints, seed: int
) -> tuple[float, ...]:
    """Return the AUC without the pairs of each part of the people that are in pairs of one person."""
    tested = np.unique(first[same])
    people = max(int(first.max()), int(second.max())) + 1
    parts = min(_PARTS, len(tested))
    part = np.full(people, -1)
    part[np.random.default_rng([seed, 1]).permutation(tested)] = np.arange(len(tested)) % parts
    found = []
    for number in range(parts):
        kept = (part[first] != number) & (part[second] != number)
        if not (kept & same).any() or not (kept & ~same).any():
            raise DataError(f"A probe needs pairs without any one person. Received: {len(tested)} people; add people.")
        found.append(auc(distances[kept], same[kept]))
    return tuple(found)
