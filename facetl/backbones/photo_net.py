"""The interface of an extractor, and a net made of TensorFlow operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from facetl.backbones.spec import ExtractorSpec, InputForm, Weights


class PhotoNet(Protocol):
    """A frozen net: photos in, features out.

    Attributes:
        spec, weights: its settings, and which weights it holds.
        dim: length of a feature.
        flagged: reason → how many of the photos extracted so far got a feature that is to be doubted.
    """

    @property
    def spec(self) -> ExtractorSpec: ...

    @property
    def weights(self) -> Weights: ...

    @property
    def dim(self) -> int: ...

    @property
    def flagged(self) -> Mapping[str, int]: ...

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of photos of any sizes: [height, width, 3] uint8 RGB each → [n, dim] float32."""
        ...


@dataclass(frozen=True)
class TensorFlowNet:
    """A net as TensorFlow operations.

    Attributes:
        held: what a SavedModel must track.
        trunk: [batch, height, width, 3] float32 RGB in 0–255 → [batch, h, w, channels] or [batch, dim].
        size: side of its square input, pixels; None where it takes whole photos of any size.
    """

    held: object
    trunk: Callable[[Any], Any]
    size: int | None


def formed(pixels: Any, form: InputForm) -> Any:
    """Bring pixels, [..., 3] float32 RGB in 0–255, an array or a tensor, to the scale and order a net takes."""
    scaled = (pixels - np.asarray(form.mean, np.float32)) / np.asarray(form.std, np.float32)
    return scaled[..., ::-1] if form.channels == "bgr" else scaled
