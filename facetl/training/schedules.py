"""Learning rates as pure functions of the epoch, so that no loop can reset them."""

from __future__ import annotations

import math

from facetl.training.settings import TrainingSettings


def learning_rate(epoch: int, settings: TrainingSettings) -> float:
    """Return the rate of an epoch counted from 0: rate · decayᵉᵖᵒᶜʰ, or half a cosine from the rate to 0."""
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    return settings.learning_rate * settings.decay**epoch
