"""Triplets, open sets and clusters through a run: the right photos, at the right thresholds, baselines beside."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corners import BASELINE_THRESHOLDS, THRESHOLD, embedded, make_evaluated_run
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from facetl.errors import DataError, RunError
from facetl.runs import evaluation
from facetl.runs.evaluated_run import EvaluatedRun
from facetl.runs.evaluation import average_linkage, evaluate_clusters, evaluate_openset, evaluate_triplets

RUN_BASELINES = ["raw", "whitened", "lda", "untrained"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Path:
    return make_people(tmp_path_factory.mktemp("set"), people=8, photos=5, side=24, noise=90.0, seed=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> EvaluatedRun:
    return make_evaluated_run(tmp_path_factory.mktemp("run"), photos, known=frozenset({"Person_00", "Person_03"}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def triplets_file(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    with (folder / "triplets.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("Anchor", "Positive", "Negative"), *rows])
    return folder / "triplets.csv"


def some_triplets(people: int = 8) -> list[tuple[str, str, str]]:
    name = "Person_{:02d}/{:02d}.png".format
    rng = np.random.default_rng(0)
    rows = []
    for person in range(people):
        for _ in range(4):
            anchor, positive = rng.choice(5, 2, replace=False)
            other = (person + 1 + int(rng.integers(people - 1))) % people
            rows.append((name(person, anchor), name(person, positive), name(other, int(rng.integers(5)))))
    return rows


def test_triplets_are_judged_as_by_hand(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    rows = some_triplets()
    assessed = evaluate_triplets(run, triplets_file(tmp_path, rows), photos, cache=cache)
    told = json.loads(json.dumps(assessed.to_json(), allow_nan=False))
    right, losses, ordered = [], [], []
    for row in rows:
        anchor, positive, negative = embedded(run, [photos / path for path in row])
        near, far = np.sum((anchor - positive) ** 2), np.sum((anchor - negative) ** 2)
        right += [near <= THRESHOLD, far > THRESHOLD]
        losses.append(max(0.0, near - far + 0.2))
        ordered.append(near < far)
    # Cached features are float16: a decision may turn over where a distance is at the threshold.
    assert told["accuracy"] == pytest.approx(np.mean(right), abs=0.02)
    assert 0.6 < told["accuracy"] < 1
    assert told["loss"] == pytest.approx(np.mean(losses), abs=2e-3)
    assert told["order"] == pytest.approx(np.mean(ordered), abs=0.04)
    assert (told["threshold"], told["margin"], told["triplets"], told["run"]) == (THRESHOLD, 0.2, len(rows), "mine")
    assert list(told["baselines"]) == RUN_BASELINES
    assert {name: scores["threshold"] for name, scores in told["baselines"].items()} == BASELINE_THRESHOLDS
    assert len({(scores["loss"], scores["accuracy"]) for scores in [told, *told["baselines"].values()]}) == 5
    assert told["folds_of"] == "people"
    assert (told["people"], told["people_in_training"], told["left_out_triplets"]) == (8, 2, 0)


def test_unseen_triplets_show_nobody_of_the_training(
    run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path
) -> None:
    rows = some_triplets()
    fresh = [row for row in rows if not any(path.startswith(("Person_00", "Person_03")) for path in row)]
    assert 0 < len(fresh) < len(rows)
    ours = evaluate_triplets(run, triplets_file(tmp_path, rows), photos, cache=cache, unseen=True)
    alone = evaluate_triplets(run, triplets_file(tmp_path, fresh), photos, cache=cache)
    assert ours.left_out == len(rows) - len(fresh)
    assert ours.scores["trained"].loss == pytest.approx(alone.scores["trained"].loss, abs=1e-5)
    assert (ours.scores["trained"].triplets, ours.scores["trained"].order) == (
        len(fresh),
        alone.scores["trained"].order,
    )
    assert ours.overlap_with_training.in_training == ()
    known = replace(run, known=frozenset(f"Person_{number:02d}" for number in range(8)))
    with pytest.raises(DataError, match="outside the run's training, found none"):
        evaluate_triplets(known, triplets_file(tmp_path, rows), photos, cache=cache, unseen=True)


def test_triplets_of_photos_that_cannot_be_read_are_counted(
    run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "set")
    rows = some_triplets()
    broken = rows[0][2]
    (tmp_path / "set" / broken).write_bytes(b"\x89PNG no more")
    whole = [row for row in rows if broken not in row]
    assessed = evaluate_triplets(run, triplets_file(tmp_path, rows), tmp_path / "set", cache=cache)
    alone = evaluate_triplets(run, triplets_file(tmp_path, whole), photos, cache=cache)
    assert assessed.to_json()["missing_triplets"] == len(rows) - len(whole) > 0
    for name, scores in assessed.scores.items():
        assert scores.loss == pytest.approx(alone.scores[name].loss, abs=1e-5)
        assert (scores.triplets, scores.order) == (len(whole), alone.scores[name].order)
    with pytest.raises(DataError, match="photos that can be read, found none"):
        evaluate_triplets(run, triplets_file(tmp_path, rows[:1]), tmp_path / "set", cache=cache)


def test_a_run_without_baselines_says_so(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    old = replace(run, baselines=None, known=None)
    told = evaluate_triplets(old, triplets_file(tmp_path, some_triplets()), photos, cache=cache).to_json()
    assert told["baselines"] is None
    assert told["people_in_training"] is None
    with pytest.raises(RunError, match="does not say whom it was trained on"):
        evaluate_clusters(old, photos, cache=cache, unseen=True)


@pytest.fixture
def openset(photos: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Five known people with three photos each, a stranger, and a probe that the gallery holds, too."""
    for person in range(5):
        for number in range(5):
            part = "gallery" if number < 3 else "probe"
            target = tmp_path / part / f"Person_{person:02d}"
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / f"Person_{person:02d}" / f"{number:02d}.png", target)
    shutil.copytree(photos / "Person_06", tmp_path / "probe" / "Person_06")
    shutil.copy(tmp_path / "gallery/Person_01/00.png", tmp_path / "probe/Person_01/again.png")
    return tmp_path / "gallery", tmp_path / "probe"


def test_an_open_set_names_the_nearest_centroid(run: EvaluatedRun, openset: tuple[Path, Path], cache: Path) -> None:
    gallery, probe = openset
    assessed = evaluate_openset(run, gallery, probe, cache=cache)
    told = json.loads(json.dumps(assessed.to_json(), allow_nan=False))
    names = [f"Person_{person:02d}" for person in range(5)]
    centroids = []
    for name in names:
        mean = embedded(run, sorted((gallery / name).iterdir())).mean(axis=0)
        centroids.append(mean / np.linalg.norm(mean))
    hits = []
    for name in names:
        for path in sorted((probe / name).glob("0*.png")):
            distances = np.sum((embedded(run, [path]) - centroids) ** 2, axis=1)
            hits.append(names[int(np.argmin(distances))] == name)
    assert told["top1"] == pytest.approx(np.mean(hits))
    assert told["top6"] == 1.0
    assert (told["known_probes"], told["stranger_probes"], told["strangers"]) == (10, 5, 1)
    assert told["probe_copies_of_gallery"] == 1
    assert told["threshold_from"] == "gallery"
    assert "again.png" not in json.dumps(told["guesses"])
    assert {guess["photo"] for guess in told["guesses"]} >= {"Person_06/00.png", "Person_01/04.png"}
    assert list(told["baselines"]) == RUN_BASELINES
    assert all("guesses" not in scores and "top1" in scores for scores in told["baselines"].values())
    assert {"accuracy_with_unknown", "dir_at_fpir", "sweep"} <= set(told)
    assert (told["people"], told["people_in_training"]) == (5, 2)


def test_a_gallery_of_single_photos_takes_the_threshold_of_pairs(
    run: EvaluatedRun, openset: tuple[Path, Path], cache: Path
) -> None:
    gallery, probe = openset
    for folder in gallery.iterdir():
        for number in (1, 2):
            (folder / f"{number:02d}.png").unlink()
    told = evaluate_openset(run, gallery, probe, cache=cache, method="nearest", k=1).to_json()
    assert (told["threshold"], told["threshold_from"]) == (THRESHOLD, "given")
    assert told["baselines"]["lda"]["threshold"] == BASELINE_THRESHOLDS["lda"]


def test_a_gallery_of_one_person_takes_the_threshold_of_pairs(
    run: EvaluatedRun, openset: tuple[Path, Path], cache: Path
) -> None:
    gallery, probe = openset
    for folder in sorted(gallery.iterdir())[1:]:
        shutil.rmtree(folder)
    told = evaluate_openset(run, gallery, probe, cache=cache).to_json()
    assert (told["people"], told["threshold"], told["threshold_from"]) == (1, THRESHOLD, "given")


def test_an_open_set_is_written_privately_and_without_what_it_knows(
    run: EvaluatedRun, openset: tuple[Path, Path], cache: Path, tmp_path: Path
) -> None:
    gallery, probe = openset
    assessed = evaluate_openset(run, gallery, probe, cache=cache, unseen=True)
    assert assessed.trained.people == 3, "two of the five took part in the training"
    written = assessed.write(tmp_path / "out")
    assert {path.name for path in written} == {"sweep.csv", "confusion.csv", "guesses.csv", "sweep.png"}
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size > 50
    shutil.rmtree(probe)
    shutil.copytree(gallery, probe)
    with pytest.raises(DataError, match="photos that are not in"):
        evaluate_openset(run, gallery, probe, cache=cache)


def test_clusters_are_those_of_scikit_learn(run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path) -> None:
    assessed = evaluate_clusters(run, photos, cache=cache, with_elbow=True)
    told = json.loads(json.dumps(assessed.to_json(), allow_nan=False))
    paths = sorted(photos.rglob("*.png"))
    rows = embedded(run, paths)
    distances = np.sum((rows[:, None] - rows[None]) ** 2, axis=2)
    theirs = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=THRESHOLD
    ).fit_predict(distances)
    assert 1 < len(set(theirs)) < len(paths)
    assert told["ari"] == pytest.approx(adjusted_rand_score([path.parent.name for path in paths], theirs), abs=1e-9)
    assert told["clusters"] == len(set(theirs))
    assert (told["photos"], told["people"], told["true"]) == (40, 8, "folder names")
    assert list(told["baselines"]) == RUN_BASELINES
    assert told["baselines"]["raw"]["threshold"] == BASELINE_THRESHOLDS["raw"]
    assert set(told["bcubed"]) == {"precision", "recall", "f"}
    assert told["elbow"]["ks"][0] == 1
    assert (tmp_path / "out").exists() is False
    written = assessed.write(tmp_path / "out")
    assert [path.name for path in written] == ["clusters.csv", "elbow.png"]
    with written[0].open(newline="") as stream:
        table = list(csv.reader(stream))
    assert table[0] == ["Photo", "Person", "Cluster"]
    assert [row[0] for row in table[1:]] == [path.relative_to(photos).as_posix() for path in paths]
    assert adjusted_rand_score([row[2] for row in table[1:]], theirs) == 1.0


def test_average_linkage_joins_at_the_threshold_itself_and_not_beyond() -> None:
    angles = np.deg2rad([0.0, 60.0, 180.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # Squared distances: 1 between the first two; 4 and 3 to the third, 3.5 on average.
    assert average_linkage(rows, threshold=0.999).tolist() != average_linkage(rows, threshold=1.001).tolist()
    assert len(set(average_linkage(rows, threshold=1.001).tolist())) == 2
    assert len(set(average_linkage(rows, threshold=3.499).tolist())) == 2
    assert len(set(average_linkage(rows, threshold=3.501).tolist())) == 1
    assert average_linkage(np.zeros((3, 2), np.float32), threshold=2.0).tolist() == [0, 0, 0]
    assert average_linkage(rows[:1], threshold=1.0).tolist() == [0]


def test_clusters_of_strangers_alone_and_of_too_many_photos(
    run: EvaluatedRun, photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = evaluate_clusters(run, photos, cache=cache, unseen=True).to_json()
    assert (told["people"], told["photos"], told["people_in_training"], told["elbow"]) == (6, 30, 0, None)
    monkeypatch.setattr(evaluation, "MOST_CLUSTERED", 39)
    with pytest.raises(DataError, match=r"at most 39 photos .* found 40"):
        evaluate_clusters(run, photos, cache=cache)


def test_a_photo_that_stands_under_two_people_is_nobodys(
    run: EvaluatedRun, photos: Path, cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "set")
    shutil.copy(photos / "Person_02/00.png", tmp_path / "set/Person_05/wrong.png")
    assessed = evaluate_clusters(run, tmp_path / "set", cache=cache)
    assert len(assessed.photos) == 39
    assert assessed.skipped == {"mislabelled": 2}
