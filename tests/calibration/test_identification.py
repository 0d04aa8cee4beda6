"""How faces are named: thresholds and margins against loops over the simulations, on people of a known law."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit

from facetl.calibration import identification
from facetl.calibration.identification import Identification, _Answers, simulate_enrolment
from facetl.errors import DataError, RunError
from facetl.io.json import StoredFields
from facetl.metrics.ranking import Gallery

CENTROID = Identification("centroid", 5.0, 0.5, 0.1, 0.05, 0.75, 10, 30)


def people(count: int, seed: int, *, noise: float = 0.8, photos: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), photos)
    rows = rng.normal(size=(count, 16))[labels] + noise * rng.normal(size=(len(labels), 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def at(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def answers(**columns: list[float]) -> _Answers:
    return _Answers(**{name: np.array(values) for name, values in columns.items()})


def test_rates_by_hand():
    simulated = answers(
        distance=[0.1, 0.3, 0.9, 0.2, 0.4],
        gap=[0.5, 0.01, 0.5, 0.2, 0.3],
        right=[True, True, True, False, False],
        known=[True, True, True, False, False],
        shares=[0.25, 0.25, 0.5, 0.4, 0.6],
    )
    assert simulated.rates(0.3, 0.0) == (0.4, 0.5)
    assert simulated.rates(0.4, 0.1) == (1.0, 0.25)
    assert simulated.rates(1.0, 0.25) == (0.6, 0.75)


def test_a_simulation_enrols_half_and_asks_for_the_rest():
    embeddings, labels = people(9, 0, noise=0.01)
    keep = np.flatnonzero((labels > 1) | (np.arange(len(labels)) % 6 == 0))  # 0 and 1 have one photo
    rows, person = embeddings[keep], labels[keep]
    simulated = identification._simulation(rows, person, "centroid", 5.0, np.random.default_rng(0))
    # Of 7 people with 6 photos 3 are enrolled with 5, one photo each is asked for; 4 · 6 + 2 are strangers' photos.
    assert (np.count_nonzero(simulated.known), np.count_nonzero(~simulated.known)) == (3, 26)
    assert simulated.right.tolist() == simulated.known.tolist()
    assert simulated.shares[simulated.known] == pytest.approx(1 / 3)
    assert sorted(set(simulated.shares[~simulated.known].round(6))) == pytest.approx([1 / 36, 1 / 6], abs=1e-5)
    assert simulated.distance[simulated.known].max() < simulated.distance[~simulated.known].min()


def test_a_photo_is_left_of_each_person_however_few_there_are():
    embeddings, labels = people(5, 0, noise=0.01, photos=2)
    simulated = identification._simulation(embeddings, labels, "centroid", 5.0, np.random.default_rng(0))
    assert (np.count_nonzero(simulated.known), np.count_nonzero(~simulated.known)) == (2, 6)


def test_the_threshold_keeps_to_the_rate_on_other_people():
    simulated = simulate_enrolment(*people(120, 1), seed=0, fpir=0.1)
    assert simulated is not None
    assert 0.09 < simulated.fpir <= 0.1 + 1e-9
    splits = identification._simulations(*people(120, 1), "centroid", 5.0, 0)
    error = np.std([split.rates(simulated.threshold, 0.0)[0] for split in splits], ddof=1)
    # The estimate's own variance, and twice that for one measurement on half as many people.
    reach = stats.t.ppf(0.975, 119) * np.sqrt(3) * error / (simulated.fpir * (1 - simulated.fpir))
    assert logit(simulated.interval.high) - logit(simulated.fpir) == pytest.approx(reach)
    elsewhere = [
        identification._simulation(*people(120, 2), "centroid", 5.0, np.random.default_rng(k)).rates(
            simulated.threshold, 0.0
        )[0]
        for k in range(10)
    ]
    assert simulated.interval.low < np.mean(elsewhere) < simulated.interval.high
    assert simulated.identification.fpir <= 0.1 + 1e-9
    assert simulated.identification.enrolled == 60


def test_without_a_rate_known_people_and_strangers_weigh_the_same():
    embeddings, labels = people(40, 3)
    simulated = simulate_enrolment(embeddings, labels, seed=0)
    assert simulated is not None
    splits = identification._simulations(embeddings, labels, "centroid", 5.0, 0)

    def right(threshold: float) -> float:
        return float(np.mean([detected - named for named, detected in (s.rates(threshold, 0.0) for s in splits)]))

    assert right(simulated.threshold) == pytest.approx(max(right(t) for t in np.linspace(0, 2, 400)), abs=0.003)


def test_a_margin_is_taken_where_it_helps_beyond_chance():
    rng = np.random.default_rng(0)

    def simulation(near: float) -> _Answers:
        """Strangers lie between two people, known ones near one; distances tell nothing."""
        n = 200
        known = np.arange(n) < n // 2
        gap = np.where(known, rng.uniform(0.1, 1.0, n), rng.uniform(0.0, near, n))
        return _Answers(rng.uniform(0, 1, n), gap, known, known, np.full(n, 2 / n))

    assert 0.1 < identification._margin([simulation(0.2) for _ in range(20)], 2.0) < 0.3
    same = [simulation(1.0) for _ in range(20)]
    alike = [a._replace(gap=rng.uniform(0, 1, len(a.gap))) for a in same]
    assert identification._margin(alike, 2.0) == 0.0


def test_personal_shifts_are_those_of_the_gallery():
    embeddings, labels = people(6, 5)
    names = labels.astype(str)
    personal = Identification("personal", 2.5, 0.5, 0.0, 0.0, 0.0, 0, 0)
    gallery = Gallery(embeddings, names, method="personal", shrinkage=2.5)
    assert np.ptp(gallery.shifts) > 0
    assert personal.gallery(embeddings, names).shifts == pytest.approx(gallery.shifts)
    assert set(CENTROID.gallery(embeddings, names).shifts.tolist()) == {0.0}


def test_personal_thresholds_are_chosen_where_people_differ(monkeypatch):
    tried = []

    def detections(simulations, fpir):
        tried.append(simulations)
        return np.array([0.5, 0.6, 0.7]) + (0.1 if simulations[0].gap[0] < 0 else 0.0)

    plain = identification._simulations

    def simulations(rows, person, method, shrinkage, seed):
        found = plain(rows, person, method, shrinkage, seed)
        if shrinkage == 10.0 and method == "personal":
            found[0] = found[0]._replace(gap=np.full_like(found[0].gap, -1.0))
        return found

    monkeypatch.setattr(identification, "_simulations", simulations)
    monkeypatch.setattr(identification, "_detections", detections)
    chosen = simulate_enrolment(*people(12, 1), seed=0)
    assert chosen is not None
    assert (chosen.identification.method, chosen.identification.shrinkage) == ("personal", 10.0)


def test_faces_are_named_by_threshold_and_margin():
    # Ada at 0°, Bo at 40°; 0.5 is 41.4°.
    gallery = CENTROID.gallery(at(-5, 5, 40), ["Ada", "Ada", "Bo"])
    # 10°: near Ada. 20°: between both. 70°: Bo at 30°. 90°: nobody.
    assert CENTROID.names(gallery, at(10, 20, 70, 90)) == ["Ada", None, "Bo", None]
    alone = CENTROID.gallery(at(0), ["Ada"])
    assert CENTROID.names(alone, at(10, 90)) == ["Ada", None]


def test_few_people_are_reported_and_how_many_more_it_takes():
    with pytest.raises(DataError, match=r"FPIR of 0.1 needs 30 validation people.*Received: 12.*add 18 more"):
        simulate_enrolment(*people(12, 0), seed=0, fpir=0.1)
    with pytest.raises(DataError, match="4 of them with 2 photos"):
        simulate_enrolment(*people(40, 0, photos=1), seed=0, fpir=0.1)
    assert simulate_enrolment(*people(3, 0), seed=0) is None
    with pytest.raises(DataError, match=r"must be in \(0, 1\)"):
        simulate_enrolment(*people(12, 0), seed=0, fpir=1.5)


def test_simulations_that_differ_too_much_are_refused():
    with pytest.raises(DataError, match=r"about 60 validation people. Received: 40, worth 20; add 20 more"):
        identification._refuse_uncertain(0.1, 0.1, np.sqrt(0.09 / 20), 40)
    identification._refuse_uncertain(0.1, 0.1, np.sqrt(0.09 / 31), 40)


def test_settings_survive_json_and_damage_is_named():
    stored = json.loads(json.dumps(CENTROID.to_json()))
    assert Identification.from_json(StoredFields(stored, "file")) == CENTROID
    for field, value in (("method", "nearest"), ("margin", -1), ("fpir", 2), ("enrolled", 1.5), ("threshold", None)):
        with pytest.raises(RunError, match=f"file: {field} must be"):
            Identification.from_json(StoredFields(stored | {field: value}, "file"))
