"""A frozen net as the public interface has it: photos in, features out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.photo_net import PhotoNet
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.backbones.weights import resolve
from facetl.faces.alignment import aligned, check_cropped
from facetl.faces.detectors import Detector, MtcnnSpec
from facetl.images.decode import read_photo

Source = Path | str | bytes | NDArray[np.uint8]


class Backbone:
    """A frozen net with its tap, its preparation of photos and its weights.

    Nothing is loaded before it is needed: weights are found for `weights` and `fingerprint`, TensorFlow starts for
    `net` and `embed`.

    Args:
        name, tap, grid, align, mirror, grey: see ExtractorSpec.
        crop: central square as a fraction of the shorter side, or several; by default 0.5, ArcFace's crop, of aligned
            faces and 1, the whole photo, else.
        weights: weights file of a net of keras.applications; by default Keras' own.
        on_notice: called with a line when other weights than Keras' own are used, or when faces are not as a search
            would find them now.

    Attributes:
        spec: the settings.
        notify: `on_notice`, or what passes lines over.

    Raises FacetlError for settings that do not fit together.
    """

    def __init__(
        self,
        name: str = "inception_v3",
        *,
        tap: str | None = None,
        grid: int | None = None,
        crop: float | Sequence[float] | None = None,
        align: str = "none",
        mirror: bool = True,
        grey: bool = False,
        weights: Path | str | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.spec = ExtractorSpec.of(name, tap=tap, grid=grid, crop=crop, align=align, mirror=mirror, grey=grey)
        self._given = weights
        self.notify: Callable[[str], None] = on_notice or (lambda line: None)
        self._views: dict[ExtractorSpec, PhotoNet] = {}

    @classmethod
    def from_spec(
        cls,
        spec: ExtractorSpec,
        weights: Path | Weights | None = None,
        *,
        on_notice: Callable[[str], None] | None = None,
    ) -> Backbone:
        """Make the backbone of settings, with a weights file or with weights that are found already."""
        backbone = cls(on_notice=on_notice)
        backbone.spec = spec
        if isinstance(weights, Weights):
            backbone.__dict__["weights"] = weights
        else:
            backbone._given = weights
        return backbone

    def __repr__(self) -> str:
        spec = self.spec
        return f"Backbone({spec.name!r}, tap={spec.tap!r}, grid={spec.grid}, crop={spec.crops}, align={spec.align!r})"

    @cached_property
    def weights(self) -> Weights:
        """The weights, downloaded when they are needed for the first time; WeightsError when there are none."""
        given = None if self._given is None else Path(self._given).expanduser()
        return resolve(self.spec, given=given, notify=self.notify)

    @cached_property
    def _detector(self) -> Detector:
        return MtcnnSpec().make()

    @property
    def fingerprint(self) -> str:
        """The hex digest under which the cache keeps features of this net, these settings and these weights."""
        return self.spec.fingerprint(self.weights.sha256)

    @property
    def net(self) -> PhotoNet:
        """The net with its weights; WeightsError when net, tap or weights do not fit."""
        return self.view(self.spec)

    def view(self, spec: ExtractorSpec) -> PhotoNet:
        """Return the net of one of the views of `spec`, with the same weights, built when it is first asked for."""
        if spec not in self._views:
            from facetl._tensorflow import start_tensorflow

            start_tensorflow()
            from facetl.backbones.extractor import make_extractor

            self._views[spec] = make_extractor(spec, self.weights)
        return self._views[spec]

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return self.net.dim

    @property
    def flagged(self) -> Mapping[str, int]:
        """Reason → how many of the photos embedded so far got a feature that is to be doubted."""
        return self.net.flagged

    def extract(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the features of photos that are aligned already: [height, width, 3] uint8 RGB → [n, dim] float32."""
        return self.net.extract(images)

    def embed(self, photos: Sequence[Source], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Return the features [photos, dim] float32 of photos, each a path, a file's bytes or [h, w, 3] uint8 RGB.

        Faces are found and aligned where `align` asks for it, else each photo is one cropped face. Only `batch_size`
        photos are held in memory.

        Raises PhotoError for a photo that cannot be read, that shows no face where faces are aligned, or that is blank
        or tiny where they are not; see `facetl.faces.alignment.check_cropped`.
        """
        found = [self.extract(images) for images in self._batches(photos, batch_size)]
        return np.concatenate(found) if found else np.zeros((0, self.dim), np.float32)

    def _batches(self, photos: Sequence[Source], batch_size: int) -> Iterator[list[NDArray[np.uint8]]]:
        for start in range(0, len(photos), batch_size):
            part = photos[start : start + batch_size]
            images = [_image(photo) for photo in part]
            if self.spec.align == "none":
                for place, (photo, image) in enumerate(zip(part, images, strict=True), start=start):
                    check_cropped(image, str(photo) if isinstance(photo, Path | str) else f"photo {place}")
            else:
                found = self._detector.detect(images)
                images = [aligned(image, faces) for image, faces in zip(images, found, strict=True)]
            yield images


def _image(photo: Source) -> NDArray[np.uint8]:
    if isinstance(photo, np.ndarray):
        return photo
    return read_photo(Path(photo).expanduser() if isinstance(photo, str) else photo)
