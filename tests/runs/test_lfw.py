"""LFW View 2 on made-up people in LFW's layout: who trains, who chooses, and who is only ever looked at once."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gaussians import DIM, small_settings

from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.data.pair_lists import PairsProtocol, read_lfw_pairs
from facetl.embeddings.dataset import Collection
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.fill import FillReport
from facetl.errors import DataError
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.roc import smooth_threshold, squared_distances
from facetl.runs import lfw as benchmark_module
from facetl.runs.lfw import BenchmarkReport, benchmark_lfw
from facetl.training.fit import FittedHead, fit_head

# Nine people in each fold's pairs, and more who are in none.
JOSE = "José_Ñandú"
FOLDS = (["Ann", "Ben", "Cas", JOSE], ["Eve", "Fay", "Gus", "Hal", "Ike"])
OTHERS = [f"Zoe_{number}" for number in range(14)]
SETTINGS = small_settings(epochs=3, standardise="whiten", components=10, validation=0.3, seed=1)


def pairs_text(folds: Iterable[list[str]] = FOLDS) -> str:
    """Three pairs of one person and three of two in each fold."""
    lines = ["2\t3"]
    for people in folds:
        lines += [f"{name}\t1\t{2 + place % 2}" for place, name in enumerate(people[:3])]
        lines += [f"{one}\t2\t{other}\t{1 + len(other) % 2}" for one, other in pairwise(people[:4])]
    return "\n".join(lines) + "\n"


def protocol_of(folder: Path, text: str) -> PairsProtocol:
    (folder / "pairs.txt").write_text(text)
    return read_lfw_pairs(folder / "pairs.txt")


def collection_of(folder: Path, *, shifted: Iterable[str] = (), absent: Iterable[str] = ()) -> Collection:
    """Write empty files in LFW's layout and a cache of Gaussian features; those of `shifted` people are elsewhere."""
    shifted, absent = set(shifted), set(absent)
    root = folder / "images"
    for name in [*FOLDS[0], *FOLDS[1], *OTHERS]:
        (root / name).mkdir(parents=True)
        for number in range(1, 5):
            photo = f"{name}_{number:04d}.jpg"
            if photo not in absent:
                (root / name / photo).write_bytes(photo.encode())
    manifest = Manifest.from_folder(root)
    features = np.stack([_feature(photo.identity, photo.path.name) for photo in manifest.photos])
    mask = np.array([photo.identity in shifted for photo in manifest.photos])
    features[mask] = -3 * features[mask] + 5
    shas = [hashlib.sha256(path.read_bytes()).hexdigest() for path in manifest.paths]
    with EmbeddingCache.open(folder / "cache", fingerprint="ab" * 32, dim=DIM, write=True) as cache:
        cache.append(shas, features)
        rows = cache.gather(shas)
    report = FillReport(len(shas), len(shas), 0, {}, 0.1, 1.0)
    return Collection(
        manifest, rows, FeatureMap.flat(DIM), ExtractorSpec(), Weights("file", "ab" * 32, folder / "weights"), report
    )


def _feature(identity: str, photo: str) -> np.ndarray:
    def drawn(text: str) -> np.ndarray:
        return np.random.default_rng(list(text.encode())).normal(size=DIM)

    return (drawn(identity) + 0.5 * drawn(photo)).astype(np.float32)


class Spy:
    """Stands where the benchmark calls fit_head, and notes who was given to it."""

    def __init__(self, collection: Collection) -> None:
        self.identities = np.array(collection.manifest.identities)
        self.train: list[set[str]] = []
        self.validation: list[set[str]] = []
        self.given: list[tuple[Any, np.ndarray]] = []
        self.fitted: list[FittedHead] = []

    def __call__(self, features: Any, labels: np.ndarray, settings: Any, *, validation: Any, **rest: Any) -> FittedHead:
        self.train.append(set(self.identities[labels].tolist()))
        self.validation.append(set(self.identities[validation[1]].tolist()))
        self.given.append(validation)
        self.fitted.append(fit_head(features, labels, settings, validation=validation, **rest))
        return self.fitted[-1]


def spied(
    collection: Collection, protocol: PairsProtocol, monkeypatch: pytest.MonkeyPatch
) -> tuple[BenchmarkReport, Spy]:
    spy = Spy(collection)
    monkeypatch.setattr(benchmark_module, "fit_head", spy)
    return benchmark_lfw(collection, protocol, SETTINGS), spy


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkReport, Spy]:
    folder = tmp_path_factory.mktemp("lfw")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return spied(collection_of(folder), protocol_of(folder, pairs_text()), monkeypatch)


def test_nobody_of_a_fold_trains_or_chooses_its_head(measured: tuple[BenchmarkReport, Spy]) -> None:
    report, spy = measured
    named = [set(FOLDS[0]), set(FOLDS[1][:4])]  # the fifth of fold 2 is in no pair
    for fold in (0, 1):
        train, validation = spy.train[fold], spy.validation[fold]
        assert not train & validation
        assert not (train | validation) & named[fold]
        # All others do, the people of the other fold among them.
        assert train | validation == {*FOLDS[0], *FOLDS[1], *OTHERS} - named[fold]
        assert report.folds[fold].train_people == len(train)
        assert report.folds[fold].validation_people == len(validation) >= 2
        assert report.folds[fold].train_photos == 4 * len(train)


def test_a_folds_threshold_is_that_of_its_validation_people(measured: tuple[BenchmarkReport, Spy]) -> None:
    report, spy = measured
    for fold in (0, 1):
        features, labels = spy.given[fold]
        embeddings = np.asarray(spy.fitted[fold].head(features.array().astype(np.float32)))
        pairs = sample_pairs(labels, seed=SETTINGS.seed)
        distances = squared_distances(embeddings[pairs.first], embeddings[pairs.second])
        expected = smooth_threshold(distances, pairs.same)
        assert report.folds[fold].threshold == pytest.approx(expected, abs=1e-4)
        assert report.verifications["trained"].thresholds[fold] == report.folds[fold].threshold


def test_a_folds_accuracy_is_that_of_its_pairs(measured: tuple[BenchmarkReport, Spy]) -> None:
    report, spy = measured
    right = []
    for fold, people in enumerate(FOLDS):

        def embedded(name: str, number: int, head: Any = spy.fitted[fold].head) -> np.ndarray:
            row = _feature(name, f"{name}_{number:04d}.jpg").astype(np.float16).astype(np.float32)
            return np.asarray(head(row[None]))[0].astype(np.float64)

        pairs = [((name, 1), (name, 2 + place % 2), True) for place, name in enumerate(people[:3])]
        pairs += [((one, 2), (two, 1 + len(two) % 2), False) for one, two in pairwise(people[:4])]
        far = [float(np.sum((embedded(*one) - embedded(*two)) ** 2)) for one, two, _ in pairs]
        threshold = report.folds[fold].threshold
        right.append(np.mean([(d <= threshold) == same for d, (_, _, same) in zip(far, pairs, strict=True)]))
    trained = report.verifications["trained"]
    np.testing.assert_allclose([fold.accuracy for fold in report.folds], right)
    assert trained.accuracy == pytest.approx(np.mean(right))
    assert trained.accuracy_stderr == pytest.approx(abs(right[0] - right[1]) / 2)  # s / √2 of two numbers
    assert trained.accuracy > 0.6
    assert report.missing == 0


def test_the_json_has_what_is_promised(measured: tuple[BenchmarkReport, Spy]) -> None:
    report, _ = measured
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {"accuracy", "accuracy_stderr", "auc", "folds", "baselines", "seconds", "missing_pairs"} <= set(told)
    assert [fold["fold"] for fold in told["folds"]] == [1, 2]
    assert {"accuracy", "threshold", "train_people", "best_epoch", "seconds"} <= set(told["folds"][0])
    assert set(told["baselines"]) == {"raw", "whitened", "lda", "untrained"}
    for scores in told["baselines"].values():
        assert {"accuracy", "accuracy_stderr", "auc"} <= set(scores)
        assert (scores["pairs"], scores["folds"]) == (12, 2)
    assert told["seconds"] >= sum(fold["seconds"] for fold in told["folds"])


def test_the_photos_of_a_folds_pairs_move_nothing_but_its_score(
    measured: tuple[BenchmarkReport, Spy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, spy = measured
    collection = collection_of(tmp_path, shifted=FOLDS[0])
    other, other_spy = spied(collection, protocol_of(tmp_path, pairs_text()), monkeypatch)
    for name, scores in report.verifications.items():
        assert other.verifications[name].thresholds[0] == scores.thresholds[0], name
    for ours, theirs in zip(spy.fitted[0].head.get_weights(), other_spy.fitted[0].head.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # In fold 2 the same people train, and do move it.
    assert other.verifications["trained"].thresholds[1] != report.verifications["trained"].thresholds[1]


def test_a_name_spelt_decomposed_in_the_list_is_kept_out_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = unicodedata.normalize("NFD", pairs_text())
    assert JOSE not in text
    report, spy = spied(collection_of(tmp_path), protocol_of(tmp_path, text), monkeypatch)
    assert report.missing == 0
    assert JOSE not in spy.train[0] | spy.validation[0]
    assert JOSE in spy.train[1] | spy.validation[1]


def test_pairs_with_a_missing_photo_are_counted_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Gone: "Ben 1 3", "Cas 1 2", "Ben 2 Cas 2" and "Cas 2 José 1" of fold 1; no pair names the fourth photo of Hal.
    collection = collection_of(tmp_path, absent={"Ben_0003.jpg", "Cas_0002.jpg", "Hal_0004.jpg"})
    report, _ = spied(collection, protocol_of(tmp_path, pairs_text()), monkeypatch)
    assert report.missing == report.to_json()["missing_pairs"] == 4
    assert report.verifications["trained"].pairs == 12 - 4


def test_a_folder_that_does_not_hold_the_people_is_reported(tmp_path: Path) -> None:
    text = pairs_text((["Nan", "Oda", "Pia", "Quy"], FOLDS[1]))
    with pytest.raises(DataError, match=r"fold 1: .*found 0 of 6 pairs"):
        benchmark_lfw(collection_of(tmp_path), protocol_of(tmp_path, text), SETTINGS)


def test_a_person_in_two_folds_is_refused(tmp_path: Path) -> None:
    text = pairs_text((FOLDS[0], ["Eve", "Fay", "Cas", "Hal"]))
    with pytest.raises(DataError, match="Cas is in folds 1 and 2"):
        benchmark_lfw(collection_of(tmp_path), protocol_of(tmp_path, text), SETTINGS)
