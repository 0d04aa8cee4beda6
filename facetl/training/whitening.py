"""Whitening: the fixed front of a head, learnt from the training rows alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras
import numpy as np
import numpy.typing as npt

from facetl.backbones.photo_net import FeatureMap
from facetl.errors import TrainingError
from facetl.io.arrays import Rows, map_rows, take
from facetl.metrics.linalg import moments, principal_axes, projected, signed, signed_root
from facetl.training.layers import SignedRoot
from facetl.training.region_lda import PHOTOS_PER_COMPONENT, region_axes, supervised
from facetl.training.settings import STANDARDISATIONS

# Photos from which the principal axes are learnt; more do not move them, and cost a pass each.
MAX_PHOTOS = 10_000
_BLOCK = 1024


@dataclass(frozen=True)
class Whitening:
    """A fitted front: y = (root(x) − mean) / scale, then y @ axes.

    Attributes:
        root: whether the signed root comes first.
        mean, scale: [dim] float32, or None to leave the features as they are.
        axes: [dim, components] float32 directions of the standardised features, or None.
        whitened: the same, whitened alone.
    """

    root: bool
    mean: np.ndarray | None
    scale: np.ndarray | None
    axes: np.ndarray | None
    whitened: np.ndarray | None = None

    @classmethod
    def fit(
        cls,
        features: Rows,
        labels: npt.ArrayLike | None = None,
        *,
        method: str = "discriminant",
        root: bool = True,
        components: int = 300,
        layout: FeatureMap | None = None,
        regions: bool = True,
        joined: int = 512,
        shrinkage: float = 0.05,
        seed: int = 0,
    ) -> Whitening:
        """Learn from training features, [rows, dim] float, and the class of each, [rows]; read in blocks.

        Args:
            features: an array, also a memory-mapped one, or rows of a cache.
            labels: of any type that NumPy can sort; `none`, `features` and `whiten` need none.
            method: `none`; `features` (zero mean, unit variance); `whiten` (the same, then PCA to `components`);
                `within` (then also whitened by the scatter within a class; Hatch, Kajarekar, Stolcke 2006); or
                `discriminant` (then also turned so that the directions that separate classes best come first, each
                scaled by how far it can be trusted; Ioffe 2006).
            root: whether the signed square root comes first, except of features that are signed themselves.
            components: principal components kept; at most half as many as there are rows.
            layout: of which maps a feature is made; with `discriminant` and `regions`, each of their regions gets a
                discriminant of its own.
            joined: directions kept of the regions' together.
            shrinkage: of the scatter within a class towards a multiple of the identity, in [0, 1].
            seed: of the rows chosen among many, and of random directions.

        Raises TrainingError for another method, or where it needs labels and gets none.
        """
        if method not in STANDARDISATIONS:
            raise TrainingError(f"method: expected one of {', '.join(STANDARDISATIONS)}, got {method!r}.")
        if labels is None and method in ("within", "discriminant"):
            raise TrainingError(f"labels: {method} needs the class of each row, got None. Give labels, or 'whiten'.")
        classes = np.zeros(features.shape[0], np.int64) if labels is None else np.asarray(labels)
        # It tames the long tail of maps behind a ReLU; an embedding has none, and its angles would be bent.
        root = root and not signed(features)
        if method == "none":
            return cls(root, None, None, None)
        rooted = map_rows(features, lambda rows: signed_root(np.asarray(rows, np.float32))) if root else features
        rng = np.random.default_rng([seed, 1])
        if features.shape[0] > MAX_PHOTOS:
            chosen = np.sort(rng.choice(features.shape[0], MAX_PHOTOS, replace=False))
            rooted, classes = take(rooted, chosen), classes[chosen]
        mean, scale = moments(rooted)
        # A feature that hardly ever fires would be blown up to the weight of the others.
        scale = scale + np.float32(1e-3) * np.float32(np.sqrt(np.mean(np.square(scale))))
        if method == "features":
            return cls(root, mean, scale, None)
        if method == "discriminant" and regions and layout and sum(map(len, layout.regions())) > 1:
            axes, whitened = region_axes(
                rooted,
                classes,
                layout,
                components=components,
                joined=joined,
                shrinkage=shrinkage,
                mean=mean,
                scale=scale,
                rng=rng,
            )
            return cls(root, mean, scale, axes, whitened)
        components = min(components, max(rooted.shape[0] // PHOTOS_PER_COMPONENT, 2), rooted.shape[1])
        axes, deviation = principal_axes(rooted, mean, scale, components, rng)
        axes /= np.maximum(deviation, 1e-6)
        whitened = axes
        if method in ("within", "discriminant"):
            scaled = axes / scale[:, None]
            rows = projected(rooted, scaled, mean @ scaled)
            axes = axes @ supervised(rows, classes, shrinkage=shrinkage, discriminant=method == "discriminant")
        return cls(root, mean, scale, axes, whitened)

    @classmethod
    def of(cls, front: keras.Model) -> Whitening | None:
        """Read it from a model that `model` made; None for another one."""
        layers = {layer.name: layer for layer in front.layers[1:]}
        if not layers.keys() <= {"root", "standardise", "whiten"}:
            return None
        mean = scale = axes = None
        if "standardise" in layers:
            mean = np.ravel(layers["standardise"].mean)
            scale = np.sqrt(np.ravel(layers["standardise"].variance))
        if "whiten" in layers:
            (axes,) = layers["whiten"].get_weights()
        return cls("root" in layers, mean, scale, axes)

    def without_labels(self) -> Whitening:
        """Return what was learnt without looking at who is on the photos: at most whitening."""
        return replace(self, axes=self.whitened)

    def reduce(self, features: Rows) -> np.ndarray | None:
        """Return whitened features, [photos, components] float32; None where nothing is projected."""
        if self.axes is None:
            return None
        reduced = np.empty((features.shape[0], self.axes.shape[1]), np.float32)
        front = self.model(features.shape[1])
        for start in range(0, features.shape[0], _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, features.shape[0]))
            reduced[rows] = front(np.asarray(features[rows], np.float32))
        return reduced

    @property
    def dim(self) -> int | None:
        """Length of the features; None where nothing was learnt of them."""
        return None if self.mean is None else len(self.mean)

    def model(self, dim: int) -> keras.Model:
        """Return the same as a Keras model, frozen, [batch, dim] → [batch, components or dim]."""
        inputs = keras.Input((dim,), name="features")
        outputs = inputs
        if self.root:
            outputs = SignedRoot(name="root")(outputs)
        if self.mean is not None and self.scale is not None:
            outputs = keras.layers.Normalization(
                mean=self.mean, variance=np.square(self.scale), name="standardise", dtype="float32"
            )(outputs)
        if self.axes is not None:
            whiten = keras.layers.Dense(self.axes.shape[1], use_bias=False, name="whiten")
            outputs = whiten(outputs)
            whiten.set_weights([self.axes])
        model = keras.Model(inputs, outputs, name="front")
        model.trainable = False
        return model
