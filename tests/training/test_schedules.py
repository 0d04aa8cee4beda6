"""Learning rates: exactly the stated function of the epoch, also in the optimiser during a fit."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from gaussians import gaussian_people, small_settings

from facetl.training.fit import fit_head
from facetl.training.schedules import learning_rate, linear


def test_decay_multiplies_once_an_epoch_and_never_resets() -> None:
    settings = small_settings(schedule="decay", learning_rate=1e-4, decay=0.999, epochs=25)
    rates = [learning_rate(epoch, settings) for epoch in range(25)]
    expected, rate = [], 1e-4
    for _ in range(25):
        expected.append(rate)
        rate *= 0.999
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_cosine_begins_at_the_rate_halves_in_the_middle_and_ends_near_nothing() -> None:
    settings = small_settings(schedule="cosine", learning_rate=8e-3, epochs=10)
    assert learning_rate(0, settings) == 8e-3
    assert learning_rate(5, settings) == pytest.approx(4e-3)
    assert learning_rate(9, settings) == pytest.approx(8e-3 * math.sin(math.pi / 20) ** 2)
    assert learning_rate(10, settings) == pytest.approx(0.0, abs=1e-18)


def test_a_course_runs_from_its_first_value_to_its_last() -> None:
    assert [linear((1.0, 0.2), epoch, 5) for epoch in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert [linear((3, 9), epoch, 3) for epoch in range(3)] == [3, 6, 9]
    assert linear((1.0, 0.2), 0, 1) == 1.0
    assert linear((1.0, 0.2), 8, 5) == 0.2
    assert linear(0.7, 3, 5) == 0.7


@pytest.mark.parametrize("schedule", ["decay", "cosine"])
def test_the_optimiser_holds_the_rate_of_the_epoch(schedule: str) -> None:
    settings = small_settings(schedule=schedule, learning_rate=4e-3, decay=0.5, epochs=4, rounds=1)
    fitted = fit_head(*gaussian_people(8, 3, seed=0), settings, validation=gaussian_people(4, 3, seed=0, first=8))
    stated = {
        "decay": [4e-3, 2e-3, 1e-3, 5e-4],
        "cosine": [4e-3, 2e-3 * (1 + math.sqrt(0.5)), 2e-3, 2e-3 * (1 - math.sqrt(0.5))],
    }
    np.testing.assert_allclose(fitted.history["learning_rate"], stated[schedule], rtol=1e-6)
