"""`facetl evaluate` as a user runs it, on a run that was trained through the command line."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
from machine import Trained

from facetl.data.manifest import Manifest
from facetl.metrics.pairs import fold_pairs

RUN_BASELINES = ["raw", "whitened", "lda", "untrained"]


def evaluate(trained: Trained, verb: str, *arguments: object) -> list[object]:
    return ["evaluate", verb, "family", *arguments, "--models", trained.models]


def write_csv(path: Path, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def people_of(trained: Trained, side: str) -> list[str]:
    return json.loads((trained.folder / "people.json").read_text())[side]


def test_the_pairs_of_training_score_as_in_training(trained: Trained, tmp_path: Path) -> None:
    """The baselines come back from their files, and photos through the cache, as they were."""
    manifest = Manifest.from_folder(trained.photos)
    tested = [photo.identity in people_of(trained, "test") and photo.path.suffix == ".png" for photo in manifest.photos]
    manifest = manifest.select([row for row, wanted in enumerate(tested) if wanted])
    assert len(manifest) == trained.report["split"]["test"]["photos"]
    pairs = fold_pairs(manifest.labels, seed=0)
    names = [path.relative_to(manifest.root).as_posix() for path in manifest.paths]
    columns = zip(pairs.first, pairs.second, pairs.same, pairs.fold, strict=True)
    rows = [(names[first], names[second], int(same), fold) for first, second, same, fold in columns]
    listed = write_csv(tmp_path / "pairs.csv", [("first", "second", "same", "fold"), *rows])
    told = trained.machine.json(*evaluate(trained, "pairs", listed, "--images", trained.photos), here=True)
    before = trained.report["verification"]
    assert list(told["baselines"]) == RUN_BASELINES
    for name in [*RUN_BASELINES, "trained"]:
        scores = told if name == "trained" else told["baselines"][name]
        assert scores["auc"] == pytest.approx(before[name]["auc"], abs=5e-3), name
        assert scores["eer"] == pytest.approx(before[name]["eer"], abs=2e-2), name
    assert (told["pairs"], told["people_in_training"]) == (len(rows), 0)
    calibration = json.loads((trained.folder / "calibration.json").read_text())
    assert told["threshold"] == calibration["threshold"]
    assert "highest smoothed accuracy" in told["threshold_chosen"]
    assert told["far_at_threshold"] == pytest.approx(before["trained"]["far_at_threshold"], abs=2e-2)
    assert {"accuracy", "accuracy_stderr", "tar_at_far", "frr_at_threshold"} <= set(told)


def test_lfws_own_list_and_people_of_the_training(trained: Trained, tmp_path: Path) -> None:
    images = tmp_path / "images"
    people = [*people_of(trained, "train")[:3], *people_of(trained, "test")[:3]]
    for name in people:
        (images / name).mkdir(parents=True)
        for number in range(3):
            shutil.copy(trained.photos / name / f"{number:02d}.png", images / name / f"{name}_{number + 1:04d}.png")
    lines = ["2\t3"]
    for fold in (people[0::2], people[1::2]):
        lines += [f"{name}\t1\t2" for name in fold]
        lines += [f"{one}\t2\t{other}\t3" for one, other in combinations(fold, 2)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    arguments = evaluate(trained, "pairs", tmp_path / "pairs.txt", "--images", images)
    done = trained.machine.run_here(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["folds"], told["pairs"], told["people"], told["people_in_training"]) == (2, 12, 6, 3)
    assert "3 of the 6 people took part in the run's training" in done.stderr
    shown = trained.machine.run_here(*arguments)
    for words in ("12 pairs in 2 folds", "Raw features", "PCA-whitened", "Trained head", "the run's own", "FRR"):
        assert words in shown.stdout, words


def test_triplets_open_set_and_clusters(trained: Trained, tmp_path: Path) -> None:
    machine, photos = trained.machine, trained.photos
    machine.json("data", "triplets", photos, "--count", 60, "--out", tmp_path / "triplets.csv", here=True)
    machine.json(
        "data", "openset", photos, "--out", tmp_path / "set", "--strangers", 6, "--gallery-photos", 3, here=True
    )
    triplets = machine.json(*evaluate(trained, "triplets", tmp_path / "triplets.csv", "--images", photos), here=True)
    assert {"accuracy", "loss", "order"} <= set(triplets)
    # One of the photos is broken, which the list does not show.
    assert triplets["triplets"] + triplets["missing_triplets"] == 60
    assert triplets["missing_triplets"] > 0
    folders = ("--gallery", tmp_path / "set/gallery", "--probe", tmp_path / "set/probe")
    openset = machine.json(
        *evaluate(trained, "openset", *folders, "--method", "nearest", "--out", tmp_path / "out"), here=True
    )
    assert {"top1", "top6", "accuracy_with_unknown", "dir_at_fpir", "sweep"} <= set(openset)
    assert openset["strangers"] == 6
    assert (tmp_path / "out/sweep.png").stat().st_size > 1000
    clusters = machine.json(*evaluate(trained, "clusters", photos, "--unseen"), here=True)
    assert set(clusters["bcubed"]) == {"precision", "recall", "f"}
    assert {"pairwise", "ari", "clusters"} <= set(clusters)
    assert clusters["people"] == len(people_of(trained, "test"))
    for told in (triplets, openset, clusters):
        assert list(told["baselines"]) == RUN_BASELINES
        assert told["people_in_training"] == (0 if told is clusters else 20 - len(people_of(trained, "test")))
    for arguments in (
        evaluate(trained, "triplets", tmp_path / "triplets.csv", "--images", photos),
        evaluate(trained, "openset", *folders),
        evaluate(trained, "clusters", photos),
    ):
        shown = machine.run_here(*arguments)
        assert shown.returncode == 0, shown.stderr
        for words in ("Raw features", "PCA-whitened", "PCA → LDA", "Untrained head", "Trained head"):
            assert words in shown.stdout, words


def test_an_older_run_says_what_it_lacks(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "old")
    for name in ("baselines.npz", "untrained.keras", "people.json"):
        (tmp_path / "old" / name).unlink()
    done = trained.machine.run_here("evaluate", "clusters", tmp_path / "old", trained.photos)
    assert done.returncode == 0, done.stderr
    assert "the run keeps none" in done.stdout
    assert "does not say whom it was trained on" in done.stderr
    told = trained.machine.json("evaluate", "clusters", tmp_path / "old", trained.photos, here=True)
    assert (told["baselines"], told["people_in_training"]) == (None, None)


def test_what_goes_wrong_is_one_line(trained: Trained, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = write_csv(tmp_path / "p.csv", [("first", "second", "same"), ("A/1.png", "A/2.png", 1)])
    damaged = tmp_path / "damaged"
    shutil.copytree(trained.folder, damaged)
    (damaged / "baselines.npz").write_bytes(b"")
    for arguments in (
        evaluate(trained, "pairs", missing, "--images", trained.photos),
        evaluate(trained, "pairs", missing, "--images", trained.photos, "--ceiling", "facenet"),
        evaluate(trained, "clusters", empty),
        evaluate(trained, "openset", "--gallery", trained.photos, "--probe", trained.photos),
        ["evaluate", "clusters", damaged, trained.photos],
    ):
        done = trained.machine.run_here(*arguments)
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("facetl: ")
