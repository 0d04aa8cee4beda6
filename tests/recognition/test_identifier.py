"""Who a face shows, by hand on the circle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from patches import calibration

from facetl.calibration.identification import Identification
from facetl.errors import DataError, RunError
from facetl.metrics.ranking import Gallery
from facetl.recognition.identifier import Identifier


def at(*degrees: float) -> np.ndarray:
    turns = np.radians(degrees)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


def apart(degrees: float) -> float:
    """Squared distance of two unit vectors with this angle between them."""
    return float(4 * np.sin(np.radians(degrees) / 2) ** 2)


KNOWN, NAMES = at(0, 20, 90, 180), ["Ann", "Ann", "Bob", "Zoe"]


def identifier(**settings: object) -> Identifier:
    """Return one by centroids: Ann's is at 10 degrees, the threshold at 30, the margin 0.05."""
    how = {"method": "centroid", "shrinkage": 5.0, "threshold": apart(30), "margin": 0.05}
    rest = {"fpir": 0.1, "dir": 0.9, "enrolled": 3, "strangers": 3}
    found = replace(calibration(), identification=Identification(**how | settings | rest))  # type: ignore[arg-type]
    return Identifier(KNOWN, NAMES, threshold=0.01, calibration=found)


def test_the_nearest_centroid_within_the_threshold_names_a_face() -> None:
    near, far, other = identifier().answers(at(35, 45, 175))
    assert (near.name, near.nearest, near.distance) == ("Ann", "Ann", pytest.approx(apart(25), abs=1e-6))
    assert near.threshold == pytest.approx(apart(30))
    assert (far.name, far.nearest, far.distance) == (None, "Ann", pytest.approx(apart(35), abs=1e-6))
    assert (other.name, other.distance) == ("Zoe", pytest.approx(apart(5), abs=1e-6))


def test_who_is_hardly_nearer_than_the_next_is_unknown() -> None:
    # At 49 degrees Ann's centroid is 39 away and Bob 41: closer than the margin of 0.05 tells apart.
    between = apart(41) - apart(39)
    assert between < 0.05
    wide = {"threshold": apart(60)}
    assert identifier(**wide).answers(at(49))[0].name is None
    assert identifier(**wide, margin=between - 1e-3).answers(at(49))[0].name == "Ann"


def test_a_persons_own_threshold_is_reported() -> None:
    rng = np.random.default_rng(0)
    degrees = np.concatenate([rng.normal(0, 2, 6), rng.normal(60, 14, 6), rng.normal(200, 14, 6)])
    names = [name for name in ("Ann", "Bob", "Zoe") for _ in range(6)]
    rows = at(*degrees)
    how = Identification("personal", 5.0, apart(30), 0.0, 0.1, 0.9, 3, 3)
    found = Identifier(rows, names, threshold=0.01, calibration=replace(calibration(), identification=how))
    shifts = Gallery(rows, names, method="personal", shrinkage=5.0).shifts
    assert shifts.min() < -1e-3
    answers = found.answers(at(5, 75, 205))
    for answer, shift in zip(answers, shifts, strict=True):
        assert answer.threshold == pytest.approx(apart(30) + shift, abs=1e-6)
        centre = rows[np.array(names) == answer.nearest].mean(axis=0)
        probe = at({"Ann": 5.0, "Bob": 75.0, "Zoe": 205.0}[answer.nearest])[0]
        expected = np.sum((probe - centre / np.linalg.norm(centre)) ** 2)
        assert answer.distance == pytest.approx(expected, abs=1e-5)
        assert (answer.name is not None) == (answer.distance <= answer.threshold)


def test_without_settings_the_nearest_face_and_the_lower_threshold_count() -> None:
    # Held out, Ann's faces are 20 degrees from each other, and 70 and 90 from everybody else.
    within = Gallery(KNOWN, NAMES, method="nearest", k=1).threshold()
    assert apart(20) <= within < apart(70)
    assert Identifier(KNOWN, NAMES, threshold=4.0, calibration=None).answers(at(5))[0].threshold == within
    one_each = Identifier(KNOWN[1:], NAMES[1:], threshold=apart(50), calibration=None)
    assert one_each.answers(at(5))[0].threshold == apart(50)
    plain = Identifier(KNOWN, NAMES, threshold=apart(12), calibration=None)
    near, far = plain.answers(at(31, 35))
    assert (near.name, near.distance, near.threshold) == ("Ann", pytest.approx(apart(11), abs=1e-6), apart(12))
    assert (far.name, far.nearest) == (None, "Ann")
    assert near.probability is None


def test_the_probability_is_that_of_a_pair_at_the_mean_distance() -> None:
    found = calibration()
    answer = Identifier(KNOWN, NAMES, threshold=1.0, calibration=found).answers(at(5))[0]
    assert answer.nearest == "Ann"
    assert answer.probability == pytest.approx(float(found.probability((apart(5) + apart(15)) / 2)), abs=1e-6)


def test_nobody_to_name_and_other_lengths_are_refused() -> None:
    with pytest.raises(RunError, match="facetl enroll"):
        Identifier(np.zeros((0, 2), np.float32), [], threshold=1.0, calibration=None)
    with pytest.raises(DataError, match=r"\[photos, 2\]"):
        identifier().answers(np.ones((1, 1)))
