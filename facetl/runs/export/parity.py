"""Does a handed-over net give what the run gives? Embeddings side by side on the same photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from facetl.io.json import JsonFields
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.roc import accuracy_at
from facetl.metrics.verification import pair_distances


@dataclass(frozen=True)
class Parity(JsonFields):
    """How far a copy's embeddings are from the original's.

    Attributes:
        photos: compared.
        max_difference: the largest of any number of any embedding.
        mean_cosine: between a photo's two embeddings.
        pairs: of labelled photos that accuracy was measured on; 0 where there are too few people.
        accuracy, accuracy_original: of verifying them at the run's threshold, by the copy and by the original.
    """

    photos: int
    max_difference: float
    mean_cosine: float
    pairs: int
    accuracy: float | None
    accuracy_original: float | None

    @property
    def accuracy_change(self) -> float | None:
        """Accuracy of the copy less that of the original; None where nobody is labelled."""
        if self.accuracy is None or self.accuracy_original is None:
            return None
        return self.accuracy - self.accuracy_original

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and `accuracy_change`."""
        return super().to_json() | {"accuracy_change": self.accuracy_change}


def compare(original: np.ndarray, copy: np.ndarray, labels: np.ndarray, *, threshold: float, seed: int = 0) -> Parity:
    """Compare unit embeddings of the same photos, [photos, width] float twice, and who is on them, [photos] int.

    threshold: the run's squared distance, the same for both, as whoever uses the copy will use it.
    """
    counts = np.unique(labels, return_counts=True)[1]
    accuracies: list[float | None] = [None, None]
    pairs = 0
    if len(counts) >= 2 and counts.max() >= 2:
        drawn = sample_pairs(labels, seed=seed)
        pairs = len(drawn.same)
        accuracies = [
            accuracy_at(pair_distances(embeddings, drawn), drawn.same, threshold) for embeddings in (copy, original)
        ]
    lengths = np.linalg.norm(original, axis=1) * np.linalg.norm(copy, axis=1)
    cosines = np.sum(original * copy, axis=1) / np.maximum(lengths, 1e-12)
    return Parity(
        photos=len(labels),
        max_difference=float(np.max(np.abs(original - copy))),
        mean_cosine=float(np.mean(cosines)),
        pairs=pairs,
        accuracy=accuracies[0],
        accuracy_original=accuracies[1],
    )
