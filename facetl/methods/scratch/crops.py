"""The photos as a net trained from scratch sees them: decoded, aligned, cropped and resized once, then kept on disk.

They lie in the embedding cache as a feature of their own, the pixels: durable, each photo once, whatever its name. A
whole number up to 255 is a float16 without loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from facetl.backbones.spec import AVERAGE, ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings.dataset import Collection
from facetl.embeddings.fill import photo_features
from facetl.images.resize import prepare
from facetl.io.arrays import RowView
from facetl.runs.training_run import Sight

# How far the augmenter goes.
_SHIFT = 0.08
_ZOOM = 0.12
_TURN = 0.03
_BRIGHTNESS = 0.2
_CONTRAST = 0.25

# Pixels that are held in memory as bytes; more are read from the cache batch by batch.
IN_MEMORY = 2 << 30
_NO_WEIGHTS = Weights("file", hashlib.sha256(b"pixels").hexdigest(), Path("pixels"))


class Pixels:
    """The extractor whose feature is the crop itself, flattened."""

    flagged: ClassVar[Mapping[str, int]] = {}

    def __init__(self, spec: ExtractorSpec, side: int) -> None:
        self.spec = spec
        self.weights = _NO_WEIGHTS
        self.side = side
        self.dim = side * side * 3
        self._prepare = tf.function(self._rounded, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the crops of photos of any sizes: [height, width, 3] uint8 RGB each → [n, dim] whole numbers."""
        if not images:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([np.asarray(self._prepare(image)).ravel() for image in images])

    def _rounded(self, image: Any) -> Any:
        return tf.round(prepare(image, size=self.side, crop=self.spec.crops[0]))


class CropRows:
    """Crops [n, side, side, 3] uint8, in memory or on disk, read when indexed by integers, a slice or a mask."""

    def __init__(self, rows: RowView, side: int) -> None:
        self._rows = rows
        self.shape = (rows.shape[0], side, side, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return the crops of some rows, [k, side, side, 3]."""
        if self.held is not None:
            return self.held[key]
        return self._read(key)

    def subset(self, rows: ArrayLike) -> CropRows:
        """Return some of these crops, by integers [k]; nothing is read."""
        return CropRows(self._rows.subset(rows), self.shape[1])

    @cached_property
    def held(self) -> NDArray[np.uint8] | None:
        """All of them, where they fit IN_MEMORY; read the first time that one is wanted."""
        if np.prod(self.shape) > IN_MEMORY:
            return None
        held = np.empty(self.shape, np.uint8)
        for start in range(0, len(self), 256):
            part = slice(start, start + 256)
            held[part] = self._read(part)
        return held

    def _read(self, key: Any) -> NDArray[np.uint8]:
        return self._rows[key].astype(np.uint8).reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class Crops:
    """Photos with their crops, in the manifest's order.

    Attributes:
        manifest: the photos that could be read, each content once.
        rows: all crops.
        skipped: reason → photos that were left out.
    """

    manifest: Manifest
    rows: CropRows
    skipped: Mapping[str, int]

    @classmethod
    def open(cls, manifest: Manifest, sight: Sight, *, side: int) -> Crops:
        """Crop the photos that are not in the cache yet, and open all of them.

        side: of a crop, pixels. Raises DataError when no photo can be read, CacheError.
        """
        spec = ExtractorSpec(
            name=f"pixels{side}", tap=AVERAGE, grid=1, crops=(sight.crop,), align=sight.align, mirror=False
        )
        every = photo_features(
            manifest,
            spec,
            _NO_WEIGHTS,
            make_net=lambda view: Pixels(view, side),
            cache=sight.cache,
            on_progress=sight.on_progress,
            on_faces=sight.on_faces,
        )
        collection = Collection.of(every, spec, _NO_WEIGHTS)
        return cls(collection.manifest, CropRows(collection.features, side), collection.report.skipped)

    def side(self, split: str) -> tuple[CropRows, NDArray[np.int32]]:
        """Return the crops of one side of the split and who is on them."""
        rows = np.flatnonzero([photo.split == split for photo in self.manifest.photos])
        return self.rows.subset(rows), self.manifest.labels[rows]

    def of(self, manifest: Manifest) -> CropRows:
        """Return the crops of some of the photos, by their paths."""
        return self.rows.subset(self.manifest.rows_of(manifest.paths))


def make_augmenter(seed: int) -> keras.Sequential:
    """Return layers that change photos [n, side, side, 3] float32 in 0–255 while training, and leave them otherwise.

    Each photo by itself: mirrored or not; another cut-out (shifted by up to 8 %, scaled by up to 12 %, turned by up to
    11 degrees; what lies outside is its mirror image); brightness and contrast.
    """
    layers = keras.layers
    return keras.Sequential(
        [
            layers.RandomFlip("horizontal", seed=seed),
            layers.RandomRotation(_TURN, fill_mode="reflect", seed=seed + 1),
            layers.RandomTranslation(_SHIFT, _SHIFT, fill_mode="reflect", seed=seed + 2),
            layers.RandomZoom(_ZOOM, fill_mode="reflect", seed=seed + 3),
            layers.RandomContrast(_CONTRAST, value_range=(0, 255), seed=seed + 4),
            layers.RandomBrightness(_BRIGHTNESS, value_range=(0, 255), seed=seed + 5),
        ],
        name="augmenter",
    )
