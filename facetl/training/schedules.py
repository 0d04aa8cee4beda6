"""Learning rates and other courses as pure functions of the epoch, so that no loop can reset them."""

from __future__ import annotations

import math

from facetl.training.settings import Course, TrainingSettings


def learning_rate(epoch: int, settings: TrainingSettings) -> float:
    """Return the rate of an epoch counted from 0: rate · decayᵉᵖᵒᶜʰ, or half a cosine from the rate to 0."""
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    return settings.learning_rate * settings.decay**epoch


def linear(course: Course, epoch: int, epochs: int) -> float:
    """Return a course's value in an epoch counted from 0: the first value in the first, the last in the last.

    A number stays as it is.
    """
    if not isinstance(course, tuple):
        return course
    share = min(epoch / max(epochs - 1, 1), 1.0)
    return (1 - share) * course[0] + share * course[1]
