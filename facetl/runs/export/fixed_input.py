"""What a handed-over net is fed with: the face's square, cropped and resized as the run itself sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.backbones.photo_net import PhotoNet
from facetl.data.manifest import Manifest
from facetl.embeddings.fill import with_faces
from facetl.errors import DataError, PhotoError, RunError
from facetl.images.decode import read_photo
from facetl.images.resize import prepare

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Faces:
    """Photos as images: decoded, the face aligned where the run asks for it.

    Attributes:
        images: [height, width, 3] uint8 RGB each.
        labels: [photos] int, who is on them.
        paths: where they lie.
    """

    images: tuple[np.ndarray, ...]
    labels: np.ndarray
    paths: tuple[Path, ...]

    @classmethod
    def of(cls, manifest: Manifest, align: str, *, cache: Path, on_progress: Progress = None) -> Faces:
        """Decode photos, leaving out what cannot be read or shows no face; faces once found lie in the cache.

        Raises DataError where none is left, CacheError.
        """
        paths, decode = list(manifest.paths), read_photo
        if align != "none":
            paths, of_bytes, _ = with_faces(manifest, cache, on_progress)
            readable = set(paths)
        else:
            of_bytes, readable = decode, set(paths)
        images, rows = [], []
        for row, path in enumerate(manifest.paths):
            if path not in readable:
                continue
            try:
                images.append(of_bytes(path.read_bytes()))
            except (PhotoError, OSError):
                continue
            rows.append(row)
        if not rows:
            raise DataError(f"{manifest.root}: expected photos that can be read, found none.")
        return cls(tuple(images), manifest.labels[rows], tuple(manifest.paths[row] for row in rows))

    def pixels(self, side: int, crop: float) -> np.ndarray:
        """Return the photos as a net of a fixed input sees them, [photos, side, side, 3] float32 RGB in 0–255."""
        return np.stack([np.asarray(prepare(image, size=side, crop=crop)) for image in self.images])


def fixed_input(extractor: PhotoNet) -> tuple[int, float]:
    """Return the side of a run's input and its crop; RunError where it has none of its own, or several crops."""
    spec, side = extractor.spec, getattr(extractor, "size", None)
    if not spec.family.in_tensorflow:
        raise RunError(f"export: {spec.name} is not made of TensorFlow operations, so that its own file is its form.")
    if side is None:
        raise RunError(f"export: {spec.name} takes photos of any size. Hand it over as saved_model.")
    if len(spec.crops) > 1:
        raise RunError(
            f"export: a file of one input holds one crop, got a run of {spec.crop_text}. Hand it over as saved_model, "
            "or distil it."
        )
    return int(side), spec.crops[0]
