"""Whether two photos show one person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.evaluation.metrics import squared_distances
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.seen_faces import see_photo


@dataclass(frozen=True)
class Verdict:
    """What a run says of two photos.

    Attributes:
        verified: whether they show one person, the distance being at most the threshold.
        distance: squared, of the embeddings.
        probability: of one person, None without a calibration.
        faces: how many were found in each photo; of several, the large one near the centre counts.
    """

    verified: bool
    distance: float
    threshold: float
    probability: float | None
    faces: tuple[int, int]

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain types."""
        return {**vars(self), "faces": list(self.faces)}


def verdict(recognizer: Recognizer, first: Path, second: Path) -> Verdict:
    """Compare the faces of two photos; PhotoError where one cannot be read or shows none."""
    one, other = see_photo(recognizer, first), see_photo(recognizer, second)
    rows = np.stack([one.main.embedding]), np.stack([other.main.embedding])
    distance = float(squared_distances(*rows)[0])
    return Verdict(
        verified=distance <= recognizer.threshold,
        distance=distance,
        threshold=recognizer.threshold,
        probability=None if recognizer.calibration is None else recognizer.probability(distance),
        faces=(len(one.faces), len(other.faces)),
    )
