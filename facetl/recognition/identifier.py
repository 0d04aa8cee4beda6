"""Names for faces: the nearest of the people one knows, or nobody of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from facetl.calibration.calibration import Calibration
from facetl.data.manifest import UNKNOWN
from facetl.errors import DataError, RunError
from facetl.io.json import plain
from facetl.metrics.ranking import Gallery, checked_embeddings
from facetl.recognition.embedded_face import EmbeddedFace, EmbeddedPhoto


@dataclass(frozen=True)
class IdentifiedName:
    """The name of a face.

    Attributes:
        name: of the person, None for nobody of those known.
        nearest: the nearest person, whether accepted or not.
        distance: squared, to that person; see `Identifier`.
        threshold: up to which that person's name is given, unless the margin forbids.
        probability: that the face and a photo of that person show one person, by the calibration of pairs, at their
            mean distance; None without a calibration.
    """

    name: str | None
    nearest: str
    distance: float
    threshold: float
    probability: float | None


@dataclass(frozen=True, eq=False)
class IdentifiedFace:
    """A face of a photo and its name."""

    path: Path
    embedded: EmbeddedFace
    answer: IdentifiedName

    @property
    def line(self) -> str:
        """Path, box, name, distance and probability."""
        box = ",".join(f"{edge:.0f}" for edge in self.embedded.box)
        answer = self.answer
        sure = "" if answer.probability is None else f"  probability {answer.probability:.1%}"
        return f"{self.path}  {box}  {answer.name or UNKNOWN}  distance {answer.distance:.4f}{sure}"

    def to_json(self) -> dict[str, object]:
        """Return `path`, `box`, the fields of the name, the detector's `confidence` and the face's `quality`."""
        return {
            "path": str(self.path),
            "box": self.embedded.box,
            **vars(self.answer),
            "confidence": self.embedded.face.confidence,
            "quality": plain(self.embedded.quality),
        }


class Identifier:
    """Names faces by the known faces of people.

    With settings for identification in the run's calibration, the distance is that to a person's centroid, the
    threshold perhaps the person's own, and the second nearest person must be farther by the margin. Without, the
    distance is that to the person's nearest face, and the threshold the one that tells the known people from each other
    best, each of their faces held out in turn, or that of two photos where it is lower or there are too few faces.

    embeddings: float [faces, width] of unit norm; names: whose each is. Raises RunError without any.
    """

    def __init__(
        self,
        embeddings: npt.NDArray[np.float32],
        names: Sequence[str],
        *,
        threshold: float,
        calibration: Calibration | None,
    ) -> None:
        if not len(names):
            raise RunError(
                "Naming faces needs people to name, got none. Run facetl enroll, or name people in a library."
            )
        self._rows = checked_embeddings(embeddings, "gallery")
        self._names = np.array(names, np.str_)
        self._calibration = calibration
        self._settings = None if calibration is None else calibration.identification
        if self._settings is None:
            self._gallery = Gallery(self._rows, self._names, method="nearest", k=1)
            self._threshold = threshold
            with suppress(DataError):  # of too few faces
                self._threshold = min(threshold, self._gallery.threshold())
        else:
            self._gallery = self._settings.gallery(self._rows, self._names)
            self._threshold = self._settings.threshold

    @property
    def people(self) -> tuple[str, ...]:
        """The people who can be named, sorted."""
        return self._gallery.people

    def answers(self, probes: npt.ArrayLike) -> list[IdentifiedName]:
        """Return who each face shows; probes: float [faces, width] of unit norm. DataError where shapes do not fit."""
        rows = checked_embeddings(probes, "face", dim=self._rows.shape[1])
        ranked = self._gallery.rank(rows, top=1)
        nearest, distances = ranked.people[:, 0], ranked.distances[:, 0]
        # A person's own threshold is the common one and the person's shift, which ranking takes off the distance.
        shifts = self._gallery.shifts[nearest]
        if self._settings is None:
            named = [
                self.people[who] if near <= self._threshold else None
                for who, near in zip(nearest, distances, strict=True)
            ]
        else:
            named = self._settings.names(self._gallery, rows)
        return [
            IdentifiedName(
                name=name,
                nearest=self.people[who],
                distance=float(distance + shift),
                threshold=float(self._threshold + shift),
                probability=self._probability(row, self.people[who]),
            )
            for name, who, distance, shift, row in zip(named, nearest, distances, shifts, rows, strict=True)
        ]

    def identify(self, photo: EmbeddedPhoto) -> list[IdentifiedFace]:
        """Name the faces of a photo, from left to right."""
        if not photo.faces:
            return []
        answers = self.answers(np.stack([embedded.embedding for embedded in photo.faces]))
        return [IdentifiedFace(photo.path, *both) for both in zip(photo.faces, answers, strict=True)]

    def _probability(self, row: npt.NDArray[np.float32], name: str) -> float | None:
        if self._calibration is None:
            return None
        own = self._rows[self._names == name]
        return float(self._calibration.probability(cdist(own, row[None], "sqeuclidean").mean()))
