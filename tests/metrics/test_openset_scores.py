"""Open-set rates by hand, by brute force, and where there is nothing to count."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from facetl.errors import DataError
from facetl.metrics.openset import FPIRS, UNKNOWN, OpenSetReport, identify_openset, write_openset_tables
from facetl.metrics.ranking import METHODS, Gallery


def on_circle(*degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def chord(degrees: float) -> float:
    """Squared distance of two unit vectors that many degrees apart."""
    return float(4 * np.sin(np.deg2rad(degrees) / 2) ** 2)


# Al is at 0°, Bo at 90°, Cy at 180°.
GALLERY, GALLERY_NAMES = on_circle(-5, 5, 85, 95, 180), ["Al", "Al", "Bo", "Bo", "Cy"]
# Degrees from the nearest: Al 10 right, Al 40 wrong (Bo), Bo 20 right, Cy 30 right; strangers 15 (Al), 44 (Cy).
PROBES, PROBE_NAMES = on_circle(10, 50, 70, 210, -15, 136), ["Al", "Al", "Bo", "Cy", "Xi", "Yu"]


def by_hand(degrees: float, **options: object) -> OpenSetReport:
    return identify_openset(GALLERY, GALLERY_NAMES, PROBES, PROBE_NAMES, threshold=chord(degrees), **options)  # type: ignore[arg-type]


def test_sizes_and_ranks_by_hand() -> None:
    report = by_hand(25)
    assert (report.people, report.gallery_photos) == (3, 5)
    assert (report.known_probes, report.stranger_probes, report.strangers) == (4, 2, 2)
    assert report.top1 == 3 / 4
    assert report.top6 == 1.0
    assert report.threshold_from == "given"


def test_rates_at_a_threshold_by_hand() -> None:
    report = by_hand(25)
    point = report.at_threshold
    # Believed: Al at 10, Bo at 20, and Xi at 15 for Al. Yu is rightly unknown.
    assert point.dir == 2 / 4
    assert point.misidentified == 0.0
    assert point.fpir == 1 / 2
    assert report.accuracy_with_unknown == point.accuracy == 3 / 6
    looser = by_hand(42).at_threshold
    assert (looser.dir, looser.misidentified, looser.fpir, looser.accuracy) == (3 / 4, 1 / 4, 1 / 2, 4 / 6)


def test_guesses_and_confusion_by_hand() -> None:
    report = by_hand(42, photos=list("fedcba"))
    assert [(g.photo, g.person, g.known, g.answer, g.right) for g in report.guesses] == [
        ("f", "Al", True, "Al", True),
        ("e", "Al", True, "Bo", False),
        ("d", "Bo", True, "Bo", True),
        ("c", "Cy", True, "Cy", True),
        ("b", "Xi", False, "Al", False),
        ("a", "Yu", False, UNKNOWN, True),
    ]
    names, distances = zip(*report.guesses[1].candidates, strict=True)
    assert names == ("Bo", "Al", "Cy")
    np.testing.assert_allclose(distances, [chord(40), chord(50), chord(130)], atol=1e-6)
    assert report.confusion == {
        "Al": {"Al": 1, "Bo": 1},
        "Bo": {"Bo": 1},
        "Cy": {"Cy": 1},
        UNKNOWN: {UNKNOWN: 1, "Al": 1},
    }
    assert list(report.confusion) == ["Al", "Bo", "Cy", UNKNOWN]


def test_sweep_by_hand() -> None:
    report = by_hand(25, thresholds=[chord(42), chord(12), chord(25), chord(12)])
    assert [point.threshold for point in report.sweep] == [chord(12), chord(25), chord(42)]
    assert [point.accuracy for point in report.sweep] == [3 / 6, 3 / 6, 4 / 6]
    assert [point.dir for point in report.sweep] == [1 / 4, 2 / 4, 3 / 4]
    assert [point.fpir for point in report.sweep] == [0.0, 1 / 2, 1 / 2]
    assert report.best == report.sweep[2]
    default = by_hand(25).sweep
    assert len(default) == 101
    assert default[0].accuracy == 2 / 6  # at 0 everyone is unknown
    assert default[-1].fpir == 1.0


def crowd(seed: int, *, strangers: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gallery and probe embeddings with names: 15 known people who overlap, and strangers with 2 photos each."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((15 + strangers, 6))

    def photos(who: np.ndarray) -> np.ndarray:
        rows = centres[who] + 0.5 * rng.standard_normal((len(who), 6))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    gallery = np.repeat(np.arange(15), 1 + np.arange(15) % 5)
    probe = rng.permutation(np.concatenate([np.repeat(np.arange(15), 4), np.repeat(np.arange(15, 15 + strangers), 2)]))
    names = np.array([f"n{person:02d}" for person in range(len(centres))])
    return photos(gallery), names[gallery], photos(probe), names[probe]


@pytest.mark.parametrize("method", METHODS)
def test_against_brute_force(method: str) -> None:
    gallery, gallery_names, probes, probe_names = crowd(1)
    report = identify_openset(gallery, gallery_names, probes, probe_names, method=method)
    assert report.threshold == Gallery(gallery, gallery_names, method=method).threshold()
    assert report.threshold_from == "gallery"
    known = np.isin(probe_names, gallery_names)
    first = np.array([guess.candidates[0][0] for guess in report.guesses])
    distance = np.array([guess.candidates[0][1] for guess in report.guesses])
    assert report.top1 == np.mean(first[known] == probe_names[known])
    assert report.top6 == np.mean(
        [p in dict(g.candidates) for g, p in zip(report.guesses, probe_names, strict=True) if p in gallery_names]
    )
    assert report.top1 < report.top6 < 1.0
    for name, fpir in FPIRS.items():
        within = [t for t in [-9.0, *distance] if np.mean(distance[~known] <= t) <= fpir]
        expected = max(np.mean((first == probe_names)[known] & (distance[known] <= t)) for t in within)
        assert report.dir_at_fpir[name] == pytest.approx(expected)
    for point in report.sweep[::17]:
        answer = np.where(distance <= point.threshold, first, UNKNOWN)
        truth = np.where(known, probe_names, UNKNOWN)
        assert point.accuracy == pytest.approx(np.mean(answer == truth))
        assert point.dir == pytest.approx(np.mean((answer == truth)[known]))
        assert point.fpir == pytest.approx(np.mean(answer[~known] != UNKNOWN))
        assert point.misidentified == pytest.approx(np.mean((answer != truth)[known] & (answer != UNKNOWN)[known]))
    truth = [guess.person if guess.known else UNKNOWN for guess in report.guesses]
    names = [*sorted(set(gallery_names)), UNKNOWN]
    table = confusion_matrix(truth, [guess.answer for guess in report.guesses], labels=names)
    ours = [[report.confusion.get(row, {}).get(column, 0) for column in names] for row in names]
    np.testing.assert_array_equal(ours, table)
    json.dumps(report.to_json(), allow_nan=False)


def test_a_rate_that_cannot_be_seen_says_what_it_takes() -> None:
    report = identify_openset(*crowd(2, strangers=20))
    assert report.stranger_probes == 40
    assert report.dir_at_fpir["0.01"] is None
    assert report.dir_at_fpir["0.1"] is not None
    assert report.strangers_needed == {"0.01": 100}
    assert report.dir_cells() == {
        "0.01": "needs 100 strangers' photos, got 40",
        "0.1": f"{report.dir_at_fpir['0.1']:.3f}",
    }
    assert identify_openset(*crowd(2, strangers=50)).strangers_needed == {}


def test_no_strangers_or_nobody_known() -> None:
    known = identify_openset(GALLERY, GALLERY_NAMES, PROBES[:4], PROBE_NAMES[:4], threshold=chord(25))
    assert known.dir_at_fpir == {"0.01": None, "0.1": None}
    assert known.strangers_needed == {"0.01": 100, "0.1": 10}
    assert known.at_threshold.fpir is None
    assert known.accuracy_with_unknown == 2 / 4
    strangers = identify_openset(
        GALLERY, GALLERY_NAMES, np.repeat(PROBES[4:], 50, axis=0), ["Xi", "Yu"] * 50, threshold=1
    )
    assert (strangers.top1, strangers.top6, strangers.at_threshold.dir) == (None, None, None)
    assert strangers.dir_cells()["0.01"] == "needs photos of known people"
    json.dumps(strangers.to_json(), allow_nan=False)


def test_personal_thresholds_are_the_common_one_shifted() -> None:
    gallery, gallery_names, probes, probe_names = crowd(3)
    report = identify_openset(gallery, gallery_names, probes, probe_names, method="personal", threshold=0.5)
    shifts = Gallery(gallery, gallery_names, method="personal").shifts
    assert list(report.personal_thresholds.values()) == pytest.approx((0.5 + shifts).tolist())
    centroids = identify_openset(gallery, gallery_names, probes, probe_names, threshold=0.5)
    assert centroids.personal_thresholds == {}
    for guess, plain in zip(report.guesses, centroids.guesses, strict=True):
        for name, distance in set(guess.candidates) & set(plain.candidates):
            assert distance == pytest.approx(dict(plain.candidates)[name] + 0.5 - report.personal_thresholds[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery_labels": ["Al", "Al", "Bo", "Bo", UNKNOWN]}, "'unknown', the answer for strangers"),
        ({"probe_labels": PROBE_NAMES[:5]}, "Each of 6 photos needs a person's name"),
        ({"probes": PROBES[:0], "probe_labels": []}, "probe's embeddings"),
        ({"probes": PROBES * 2}, "probe's embeddings must have unit norm"),
        ({"photos": ["a"]}, "Each of 6 probes needs a photo's name"),
        ({"threshold": float("inf")}, "must be a distance"),
        ({"thresholds": []}, "A sweep needs"),
        ({"thresholds": [float("nan")]}, "A sweep needs"),
        ({"method": "worst"}, "'worst'"),
    ],
)
def test_what_cannot_be_identified(change: dict[str, object], message: str) -> None:
    given = {"gallery": GALLERY, "gallery_labels": GALLERY_NAMES, "probes": PROBES, "probe_labels": PROBE_NAMES}
    with pytest.raises(DataError, match=message):
        identify_openset(**{**given, **change})  # type: ignore[arg-type]


def test_a_stranger_may_be_called_unknown() -> None:
    report = identify_openset(GALLERY, GALLERY_NAMES, PROBES, [*PROBE_NAMES[:4], UNKNOWN, UNKNOWN], threshold=chord(25))
    assert report.strangers == 1
    assert report.confusion[UNKNOWN] == {UNKNOWN: 1, "Al": 1}


def test_tables_say_what_the_report_says(tmp_path: Path) -> None:
    report = by_hand(42, photos=["a,1.jpg", "b", "c", "d", "Jos\udce9", "f"], thresholds=[chord(12), chord(42)])
    for _ in range(2):  # a second run replaces the first
        written = write_openset_tables(report, tmp_path / "new")
    assert [path.name for path in written] == ["sweep.csv", "confusion.csv", "guesses.csv"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in written)
    tables = []
    for path in written:
        assert path.stat().st_mode & 0o777 == 0o600
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            tables.append(list(csv.DictReader(file)))
    sweep, confusion, guesses = tables
    assert [float(row["accuracy"]) for row in sweep] == [3 / 6, 4 / 6]
    assert {(row["Person"], row["Answer"]): int(row["Photos"]) for row in confusion}[UNKNOWN, "Al"] == 1
    assert [row["Photo"] for row in guesses] == ["a,1.jpg", "b", "c", "d", "Jos\udce9", "f"]
    assert (guesses[1]["Person"], guesses[1]["Guess1"], guesses[1]["Guess2"]) == ("Al", "Bo", "Al")
    assert float(guesses[1]["Distance2"]) == pytest.approx(chord(50), abs=1e-6)
    assert (guesses[4]["Known"], guesses[4]["Answer"], guesses[4]["Right"]) == ("0", "Al", "0")


def test_tables_leave_empty_what_cannot_be_counted(tmp_path: Path) -> None:
    report = identify_openset(GALLERY, GALLERY_NAMES, PROBES[:4], PROBE_NAMES[:4], threshold=1, thresholds=[1])
    sweep = write_openset_tables(report, tmp_path)[0]
    assert sweep.read_text().splitlines() == ["threshold,accuracy,dir,misidentified,fpir", "1.0,0.75,0.75,0.25,"]
