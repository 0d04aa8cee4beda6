"""Every method of a run on the test people of a split, on the same pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from facetl.embeddings.dataset import Collection
from facetl.metrics.pairs import FoldedPairs, fold_pairs
from facetl.metrics.verification import Verification, evaluate_embeddings, pair_distances, threshold_from

# A method's name, and its unit embeddings of the validation and of the test photos, [photos, width] each.
Method = tuple[str, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SplitEvaluation:
    """Scores of every method on the held-out people, and the distances of the same pairs for each.

    `embeddings` of the test photos and `threshold` are those of the last method, which is the run's own.
    """

    verifications: Mapping[str, Verification]
    distances: Mapping[str, np.ndarray]
    pairs: FoldedPairs
    embeddings: np.ndarray
    threshold: float


def evaluate_split(collection: Collection, methods: Iterable[Method], *, seed: int) -> SplitEvaluation:
    """Verify pairs of test people by every method, each at a threshold from the validation people.

    methods: taken one at a time, since the raw features of thousands of photos fill hundreds of megabytes; the last
    is the run's own.
    """
    held_out_labels, tested_labels = collection.side("validation")[1], collection.side("test")[1]
    pairs = fold_pairs(tested_labels, seed=seed)
    verifications, distances = {}, {}
    embeddings, threshold = np.zeros((0, 0), np.float32), 0.0
    for name, chosen, embeddings in methods:
        verifications[name] = evaluate_embeddings(
            embeddings, tested_labels, thresholds_from=(chosen, held_out_labels), seed=seed
        )
        distances[name] = pair_distances(embeddings, pairs)
        threshold = threshold_from(chosen, held_out_labels, seed=seed)
    return SplitEvaluation(verifications, distances, pairs, embeddings, threshold)
