"""A calibration keeps its promise on other people, says when it cannot, and survives its file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import f1_score as sklearn_f1

from facetl.calibration.calibration import KINDS, Calibration, Target, calibrate, calibrate_pairs, f1_score
from facetl.calibration.error_rates import PeoplePairs, interval_elsewhere
from facetl.errors import DataError, RunError
from facetl.metrics.bootstrap import Interval
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.verification import pair_distances, threshold_from


def people(count: int, seed: int, *, noise: float = 0.7, photos: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), rng.integers(1, photos + 1, count))
    rows = rng.normal(size=(count, 12))[labels] + noise * rng.normal(size=(len(labels), 12))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate_pairs(*people(90, 0), target=Target("far", 0.02), seed=0).calibration


@pytest.fixture
def stored(calibration: Calibration) -> dict:
    return json.loads(json.dumps(calibration.to_json(), allow_nan=False))


def test_a_far_is_kept_to_here_and_within_the_interval_elsewhere(calibration):
    elsewhere = PeoplePairs(*people(140, 1), seed=0).errors_at(calibration.threshold)
    assert 0.015 < calibration.far.value <= 0.02
    assert calibration.interval == calibration.far.interval
    assert calibration.interval is not None
    assert calibration.interval.low < elsewhere.far < calibration.interval.high
    assert calibration.frr.interval is not None
    assert calibration.frr.interval.low < elsewhere.frr < calibration.frr.interval.high
    assert calibration.threshold_interval is not None
    assert calibration.threshold_interval.low < calibration.threshold < calibration.threshold_interval.high


def far_elsewhere(found: Calibration, people: float) -> Interval:
    return interval_elsewhere(found.far.value, found.far.variance, people=found.people, elsewhere=people)


def test_the_ends_of_the_threshold_interval_have_the_rates_that_the_true_one_may_be(calibration):
    here = PeoplePairs(*people(90, 0), seed=0)
    rates = far_elsewhere(calibration, math.inf)
    ends = [here.errors_at(threshold).far for threshold in calibration.threshold_interval]
    assert ends == pytest.approx(list(rates), rel=0.02)


def test_an_interval_for_a_given_measurement(calibration):
    of_all, of_many, truth = (far_elsewhere(calibration, n) for n in (90, 900, math.inf))
    assert of_all == calibration.far.interval
    assert of_all.low < of_many.low < truth.low < calibration.far.value < truth.high < of_many.high < of_all.high


def test_what_is_behind_it_is_counted(calibration):
    embeddings, labels = people(90, 0)
    counts = np.bincount(labels)
    assert (calibration.people, calibration.photos) == (90, len(embeddings))
    assert calibration.positives == sum(math.comb(n, 2) for n in counts)
    assert calibration.negatives == math.comb(len(labels), 2) - calibration.positives
    assert 150 <= calibration.effective_negatives <= calibration.negatives


def test_probabilities_are_calibrated_on_people_never_seen(calibration):
    from facetl.calibration.probability import reliability

    embeddings, labels = people(400, 2)
    pairs = sample_pairs(labels, seed=0)
    distances = pair_distances(embeddings, pairs)
    assert reliability(calibration.probability(distances), pairs.same).error < 0.04
    assert calibration.ece is not None
    assert calibration.ece < 0.06


def test_a_prior_moves_probabilities():
    moved = calibrate_pairs(*people(30, 0), target=Target("accuracy"), seed=0, prior=0.1).calibration
    odds = (moved.probability(0.5) / (1 - moved.probability(0.5))) / (
        moved.probability(0.5, prior=0.5) / (1 - moved.probability(0.5, prior=0.5))
    )
    assert odds == pytest.approx(1 / 9)
    with pytest.raises(DataError, match="prior"):
        calibrate_pairs(*people(30, 0), target=Target("accuracy"), seed=0, prior=0.0)


def test_accuracy_takes_the_threshold_of_the_results():
    embeddings, labels = people(30, 3)
    found = calibrate_pairs(embeddings, labels, target=Target("accuracy"), seed=4).calibration
    assert found.threshold == threshold_from(embeddings, labels, seed=4)
    accuracy = 1 - (found.far.value + found.frr.value) / 2
    assert found.interval is not None
    assert found.interval.low < accuracy < found.interval.high


def test_f1_is_the_best_there_is():
    embeddings, labels = people(30, 3)
    found = calibrate_pairs(embeddings, labels, target=Target("f1"), seed=0).calibration
    pairs = PeoplePairs(embeddings, labels, seed=0)

    def score(threshold: float) -> float:
        errors = pairs.errors_at(threshold)
        return float(f1_score(errors.far, errors.frr, 0.5))

    assert score(found.threshold) == pytest.approx(max(score(t) for t in np.linspace(0, 3, 300)), abs=2e-3)
    assert score(found.threshold) >= max(score(t) for t in np.linspace(0, 3, 300)) - 1e-12
    assert found.interval is not None
    assert found.interval.low < score(found.threshold) < found.interval.high


def test_f1_agrees_with_scikit_learn():
    same = np.arange(100) < 30
    said = np.concatenate([np.arange(30) < 24, np.arange(70) < 7])  # FRR 0.2, FAR 0.1
    assert f1_score(0.1, 0.2, 0.3) == pytest.approx(sklearn_f1(same, said))


def test_an_fpir_gives_the_threshold_of_identification():
    found = calibrate_pairs(*people(90, 0), target=Target("fpir", 0.1), seed=0).calibration
    assert found.identification is not None
    assert found.identification.fpir <= 0.1 + 1e-9
    assert found.interval is not None
    assert found.interval.low < 0.1 < found.interval.high
    if found.identification.method == "centroid":
        assert found.threshold == found.identification.threshold


def test_too_few_people_are_refused_with_the_number_missing():
    with pytest.raises(DataError, match=r"FAR of 0.001 needs 3,000 independent pairs.*add \d+ more"):
        calibrate_pairs(*people(40, 0), target=Target("far", 1e-3), seed=0)
    with pytest.raises(DataError, match=r"FPIR of 0.01 needs 300.*add 210 more"):
        calibrate_pairs(*people(90, 0), target=Target("fpir", 0.01), seed=0)


@pytest.mark.parametrize("count", [2, 3])
def test_a_handful_of_people_gets_a_threshold_and_no_claims(count):
    rows = np.eye(4, dtype=np.float32)[: 2 * count // 2].repeat(2, axis=0)
    found = calibrate_pairs(rows, np.repeat(np.arange(count), 2), target=Target("accuracy"), seed=0).calibration
    assert 0 < found.threshold < 2
    assert (found.ece, found.identification) == (None, None)
    assert (found.interval is None) == (count < 3)
    assert found.probability(0.0) > 0.5 > found.probability(2.0)
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("kind", KINDS)
def test_it_survives_its_file(kind):
    target = Target(kind, 0.1 if kind in ("far", "fpir") else None)
    found = calibrate_pairs(*people(60, 5), target=target, seed=2).calibration
    again = Calibration.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    assert again.probability(1.0) == found.probability(1.0)


def test_the_keys_that_readers_rely_on_stay(stored):
    assert {"threshold", "distance", "chosen", "people", "photos"} <= set(stored)
    assert stored["target"] == {"kind": "far", "value": 0.02}
    assert stored["pairs"]["of_people"] == 90 * 89 // 2


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"version": None},
        {"version": True},
        {"threshold": "1.0"},
        {"threshold": float("nan")},
        {"threshold": -0.1},
        {"threshold": 4.1},
        {"threshold": True},
        {"target": {"kind": "eer", "value": None}},
        {"target": {"kind": "far", "value": None}},
        {"target": {"kind": "f1", "value": 0.5}},
        {"target": None},
        {"interval": [0.5]},
        {"interval": [0.5, 0.4]},
        {"interval": {"low": 0.1, "high": 0.2}},
        {"far": {"value": 1.5, "variance": None, "interval": None}},
        {"frr": []},
        {"people": -1},
        {"photos": 1.5},
        {"pairs": {}},
        {"probability": {}},
        {"prior": 1},
        {"ece": "small"},
        {"log_loss": {"platt": -1}},
        {"identification": {}},
        {"seed": None},
        {"people_in_training": "yes"},
    ],
    ids=str,
)
def test_a_damaged_file_is_named_with_its_field(stored, damage):
    with pytest.raises(RunError, match=r"^models/x/calibration.json: .*Run facetl calibrate\.$") as raised:
        Calibration.from_json(stored | damage, name="models/x/calibration.json")
    assert next(iter(damage)) in str(raised.value) or "expected a JSON object" in str(raised.value)


def test_a_missing_field_is_damage_unless_it_may_be_null(stored):
    for field in stored:
        rest = {key: value for key, value in stored.items() if key != field}
        if field in ("distance", "chosen", "level", "interval", "threshold_interval", "ece", "identification"):
            Calibration.from_json(rest)
        elif field == "people_in_training":
            # Runs made before photos of the same people could be held out.
            assert not Calibration.from_json(rest).seen
        else:
            with pytest.raises(RunError):
                Calibration.from_json(rest)


@pytest.mark.parametrize("content", [[], "x", None, 3])
def test_what_is_no_object_is_damage(content):
    with pytest.raises(RunError, match="expected a JSON object"):
        Calibration.from_json(content)


@pytest.mark.parametrize(
    ("kind", "value"), [("far", None), ("far", 0.0), ("far", math.nan), ("fpir", 1.0), ("f1", 0.5), ("eer", None)]
)
def test_a_target_that_makes_no_sense_is_refused(kind, value):
    with pytest.raises(DataError):
        Target(kind, value)


def test_intervals_are_plain_lists_in_json(calibration, stored):
    assert stored["interval"] == list(calibration.interval or Interval(0, 0))


def test_calibrate_is_that_of_a_false_accept_rate_or_of_the_accuracy():
    embeddings, labels = people(90, 0)
    found = calibrate(embeddings, labels, far=0.05, prior=0.2, seed=3)
    assert found == calibrate_pairs(embeddings, labels, target=Target("far", 0.05), seed=3, prior=0.2).calibration
    assert found.far.value <= 0.05
    plain = calibrate(embeddings, labels, far=None)
    assert plain == calibrate_pairs(embeddings, labels, target=Target("accuracy"), seed=0).calibration
