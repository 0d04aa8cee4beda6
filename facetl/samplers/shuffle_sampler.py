"""Every row once an epoch, as a classifier is trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from facetl.errors import TrainingError
from facetl.samplers.sampler import BATCH_SIZE, Sampler, register_sampler


@register_sampler("shuffle")
class ShuffleSampler(Sampler):
    """All rows of classes with at least `smallest_class` rows once an epoch, in batches as equal as can be.

    For losses with a proxy per class. A batch of a rest of one or two rows would upset batch normalisation.
    """

    def __init__(self, labels: npt.ArrayLike, *, smallest_class: int = 2, seed: int = 0) -> None:
        super().__init__(labels, seed=seed)
        _, inverse, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        self.rows = np.flatnonzero(counts[inverse] >= smallest_class).astype(np.int32)
        if np.sum(counts >= smallest_class) < 2:
            raise TrainingError(
                f"training: expected at least 2 people with {smallest_class} photos each, got "
                f"{np.sum(counts >= smallest_class)} of {len(counts)} people. Add photos."
            )

    def steps(self, batch_size: int) -> int:
        """Return the number of batches an epoch."""
        return -(-len(self.rows) // batch_size)

    def batches(
        self, epoch: int, *, batch_size: int = BATCH_SIZE, embeddings: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yield an epoch's batches, each [m] int32 rows."""
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        yield from np.array_split(shuffled, self.steps(batch_size))
