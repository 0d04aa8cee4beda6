"""A list of pairs through a run: by folds, at the run's threshold, by group, and whom the run knows already."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from corners import BASELINE_THRESHOLDS, THRESHOLD, embedded, make_evaluated_run
from sklearn.metrics import roc_auc_score

from facetl.data.pair_lists import PathPairs, read_pairs
from facetl.errors import DataError
from facetl.metrics.roc import accuracy_at, best_threshold
from facetl.runs.evaluated_run import EvaluatedRun
from facetl.runs.pair_evaluation import evaluate_pairs

PEOPLE = 24
FOLDS = 3
Row = tuple[str, str, int, int]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Path:
    root = make_people(tmp_path_factory.mktemp("set"), people=PEOPLE, photos=3, side=8, noise=90.0, seed=4)
    for path in root.rglob("*.png"):
        # Coarse, so that no method tells all people apart, but not too small for a face.
        large = cv2.resize(cv2.imread(str(path)), (24, 24), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(path), large)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> EvaluatedRun:
    return make_evaluated_run(tmp_path_factory.mktemp("run"), photos, known=frozenset({"Person_00", "Person_03"}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def rows() -> list[Row]:
    """Pairs of one person and of neighbours, folds of people."""
    found: list[Row] = []
    for person in range(PEOPLE):
        fold = person * FOLDS // PEOPLE
        found += [(_photo(person, a), _photo(person, b), 1, fold) for a, b in combinations(range(3), 2)]
        first = fold * PEOPLE // FOLDS
        for step in (1, 2, 3):
            other = first + (person - first + step) % (PEOPLE // FOLDS)
            found.append((_photo(person, step % 3), _photo(other, 0), 0, fold))
    return found


def _photo(person: int, number: int) -> str:
    return f"Person_{person:02d}/{number:02d}.png"


def protocol_of(folder: Path, listed: list[Row], *, folds: bool = True) -> PathPairs:
    with (folder / "pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["first", "second", "same", *(["fold"] if folds else [])])
        writer.writerows(row if folds else row[:3] for row in listed)
    protocol = read_pairs(folder / "pairs.csv")
    assert isinstance(protocol, PathPairs)
    return protocol


def distances_of(run: EvaluatedRun, photos: Path, listed: list[Row]) -> np.ndarray:
    first = embedded(run, [photos / row[0] for row in listed])
    second = embedded(run, [photos / row[1] for row in listed])
    return np.sum((first - second) ** 2, axis=1)


def test_pairs_are_scored_by_folds_and_at_the_runs_threshold(
    run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path
) -> None:
    listed = rows()
    assessed = evaluate_pairs(run, protocol_of(tmp_path, listed), photos, cache=cache, seed=2)
    told = json.loads(json.dumps(assessed.to_json(), allow_nan=False))
    distances = distances_of(run, photos, listed)
    same = np.array([bool(row[2]) for row in listed])
    fold = np.array([row[3] for row in listed])
    thresholds = [best_threshold(distances[fold != k], same[fold != k]) for k in range(FOLDS)]
    accuracies = [accuracy_at(distances[fold == k], same[fold == k], thresholds[k]) for k in range(FOLDS)]
    # Cached features are float16.
    np.testing.assert_allclose(told["thresholds"], thresholds, atol=2e-3)
    assert told["accuracy"] == pytest.approx(np.mean(accuracies), abs=0.02)
    assert told["auc"] == pytest.approx(roc_auc_score(same, -distances), abs=2e-3)
    assert 0.6 < told["auc"] < 0.995
    assert (told["accuracy_by"], told["threshold"]) == ("folds", THRESHOLD)
    assert told["far_at_threshold"] == pytest.approx(np.mean(distances[~same] <= THRESHOLD), abs=0.02)
    assert told["frr_at_threshold"] == pytest.approx(np.mean(distances[same] > THRESHOLD), abs=0.02)
    assert told["accuracy_at_threshold"] == pytest.approx(accuracy_at(distances, same, THRESHOLD), abs=0.02)
    assert told["far_at_threshold"] != assessed.trained.far_at_threshold, "that of the folds' thresholds is another"
    assert list(told["baselines"]) == ["raw", "whitened", "lda", "untrained"]
    assert len({scores["auc"] for scores in [told, *told["baselines"].values()]}) == 5
    assert (told["people"], told["people_in_training"], told["missing_pairs"]) == (PEOPLE, 2, 0)
    intervals = told["intervals"]
    for name in ("accuracy", "auc", "eer", "far_at_threshold", "frr_at_threshold", "accuracy_at_threshold"):
        low, high = intervals[name]
        assert low < told[name] < high, name
    assert (intervals["people"], intervals["tar_at_far"]["1e-4"]) == (PEOPLE, None)


def test_people_in_several_folds_are_reported(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    listed = rows()
    apart = evaluate_pairs(run, protocol_of(tmp_path, listed), photos, cache=cache)
    assert (apart.shared, apart.to_json()["people_in_several_folds"]) == ((), 0)
    listed.append((_photo(0, 0), _photo(PEOPLE - 1, 1), 0, 1))
    across = evaluate_pairs(run, protocol_of(tmp_path, listed), photos, cache=cache)
    assert len(across.shared) in (1, 2)
    assert across.to_json()["people_in_several_folds"] == len(across.shared)
    assert set(across.shared) <= {"Person_00", f"Person_{PEOPLE - 1:02d}"}


def test_without_folds_the_threshold_is_each_methods_own(
    run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path
) -> None:
    listed = rows()
    assessed = evaluate_pairs(run, protocol_of(tmp_path, listed, folds=False), photos, cache=cache)
    told = assessed.to_json()
    assert (told["accuracy_by"], told["folds"]) == ("threshold", 1)
    assert told["accuracy"] == told["accuracy_at_threshold"]
    assert {name: scores.threshold for name, scores in assessed.verifications.items()} == {
        **BASELINE_THRESHOLDS,
        "trained": THRESHOLD,
    }


def test_unseen_pairs_show_nobody_of_the_training(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    listed = rows()
    fresh = [row for row in listed if not any(path.startswith(("Person_00", "Person_03")) for path in row[:2])]
    ours = evaluate_pairs(run, protocol_of(tmp_path, listed), photos, cache=cache, unseen=True)
    alone = evaluate_pairs(run, protocol_of(tmp_path, fresh), photos, cache=cache)
    # Blocks of another size round otherwise.
    assert ours.trained.auc == pytest.approx(alone.trained.auc, abs=1e-3)
    assert ours.trained.pairs == alone.trained.pairs == len(fresh)
    assert ours.left_out == len(listed) - len(fresh) > 0
    assert ours.overlap_with_training.in_training == ()
    everyone = replace(run, known=frozenset(f"Person_{number:02d}" for number in range(PEOPLE)))
    with pytest.raises(DataError, match="outside the run's training, found none"):
        evaluate_pairs(everyone, protocol_of(tmp_path, listed), photos, cache=cache, unseen=True)


def test_groups_are_judged_at_the_runs_threshold(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    listed = rows()
    groups = {f"Person_{number:02d}": "early" if number < PEOPLE // 2 else "late" for number in range(1, PEOPLE)}
    assessed = evaluate_pairs(run, protocol_of(tmp_path, listed), photos, cache=cache, groups=groups)
    told = json.loads(json.dumps(assessed.to_json(), allow_nan=False))["groups"]
    distances = distances_of(run, photos, listed)
    early = np.array([row[2] == 1 and 1 <= int(row[0][7:9]) < PEOPLE // 2 for row in listed])
    rates = {each["group"]: each for each in told["groups"]}
    assert set(rates) == {"early", "late"}
    assert rates["early"]["frr"]["value"] == pytest.approx(np.mean(distances[early] > THRESHOLD), abs=0.04)
    assert rates["early"]["frr"]["pairs"] == 3 * (PEOPLE // 2 - 1)
    assert told["pairs_left_out"] > 0, "Person_00 has no group"


def test_photos_that_cannot_be_read_are_counted(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "Person_90").mkdir()
    (tmp_path / "Person_90/a.png").write_bytes(b"\x89PNG no more")
    for name in ("Person_00", "Person_01", "Person_02", "Person_08", "Person_09"):
        (tmp_path / name).symlink_to(photos / name)
    listed: list[Row] = [
        ("Person_00/00.png", "Person_00/01.png", 1, 0),
        ("Person_01/00.png", "Person_02/01.png", 0, 0),
        ("Person_08/00.png", "Person_08/01.png", 1, 1),
        ("Person_08/00.png", "Person_09/01.png", 0, 1),
        ("Person_90/a.png", "Person_09/01.png", 0, 1),
        ("Person_91/absent.png", "Person_09/01.png", 0, 1),
    ]
    assessed = evaluate_pairs(run, protocol_of(tmp_path, listed), tmp_path, cache=cache)
    assert (assessed.missing, assessed.trained.pairs) == (2, 4)
    assert assessed.overlap_with_training.people == 5
    assert assessed.to_json()["intervals"]["accuracy"] is None, "too few people to tell"
    with pytest.raises(DataError, match="can be read"):
        evaluate_pairs(run, protocol_of(tmp_path, listed[4:5]), tmp_path, cache=cache)


def test_a_run_without_baselines_says_so(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    old = replace(run, baselines=None, known=None)
    told = evaluate_pairs(old, protocol_of(tmp_path, rows()), photos, cache=cache).to_json()
    assert (told["baselines"], told["people_in_training"]) == (None, None)
