"""The faces of a photo with the names they are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.data.names import UNKNOWN
from facetl.recognition.identifier import Answer, Identifier
from facetl.recognition.seen_faces import SeenFace, SeenPhoto


@dataclass(frozen=True, eq=False)
class NamedFace:
    """A face of a photo, and who it shows."""

    path: Path
    seen: SeenFace
    answer: Answer

    @property
    def line(self) -> str:
        """Path, box, name, distance and probability."""
        box = ",".join(f"{edge:.0f}" for edge in self.seen.box)
        answer = self.answer
        sure = "" if answer.probability is None else f"  probability {answer.probability:.1%}"
        return f"{self.path}  {box}  {answer.name or UNKNOWN}  distance {answer.distance:.4f}{sure}"

    def to_json(self) -> dict[str, object]:
        """Return `path`, `box`, `name` (None for unknown), `distance`, `probability`; and what is behind them."""
        return {
            "path": str(self.path),
            "box": self.seen.box,
            "name": self.answer.name,
            "distance": self.answer.distance,
            "probability": self.answer.probability,
            "threshold": self.answer.threshold,
            "nearest": self.answer.nearest,
            "confidence": self.seen.face.confidence,
            "quality": None if self.seen.quality is None else self.seen.quality.to_json(),
        }


def name_faces(identifier: Identifier, photo: SeenPhoto) -> list[NamedFace]:
    """Name the faces of a photo, from left to right."""
    if not photo.faces:
        return []
    answers = identifier.answers(np.stack([seen.embedding for seen in photo.faces]))
    return [NamedFace(photo.path, seen, answer) for seen, answer in zip(photo.faces, answers, strict=True)]
