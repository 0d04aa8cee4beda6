"""Learning rates and other schedules as pure functions of the epoch, so that no loop can reset them."""

from __future__ import annotations

import math

from facetl.training.settings import FitSettings, Schedule


def learning_rate(epoch: int, settings: FitSettings) -> float:
    """Return the rate of an epoch counted from 0: rate · decayᵉᵖᵒᶜʰ, or half a cosine from the rate to 0."""
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    return settings.learning_rate * settings.decay**epoch


def linear(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return a schedule's value in an epoch counted from 0: the first value in the first, the last in the last.

    A number stays as it is.
    """
    if not isinstance(schedule, tuple):
        return schedule
    share = min(epoch / max(epochs - 1, 1), 1.0)
    return (1 - share) * schedule[0] + share * schedule[1]
