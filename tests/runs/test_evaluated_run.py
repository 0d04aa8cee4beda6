"""A run under evaluation: its methods, its margin, whom it knows, and its baselines as they come back from files."""

from __future__ import annotations

import stat
import unicodedata
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from corners import BASELINE_THRESHOLDS, THRESHOLD, make_evaluated_run

from facetl.data.manifest import Manifest
from facetl.errors import DataError, RunError
from facetl.metrics.baselines import Baselines, Lda, Raw, Whitened
from facetl.runs import evaluated_run
from facetl.runs.evaluated_run import BASELINES, RUN_BASELINES, UNTRAINED, RunBaselines, TrainingOverlap


def test_the_methods_are_the_baselines_and_the_trained_head(tmp_path: Path, make_people: Callable[..., Path]) -> None:
    photos = make_people(tmp_path / "photos", people=3, photos=3)
    run = make_evaluated_run(tmp_path, photos)
    embedded = run.embed(Manifest.from_folder(photos), cache=tmp_path / "cache")
    methods = list(run.methods(embedded))
    expected = [*BASELINE_THRESHOLDS.items(), ("trained", THRESHOLD)]
    assert [(name, threshold) for name, _, threshold in methods] == expected
    for _, embeddings, _ in methods:
        assert len(embeddings) == 9
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(methods[-1][1], embedded.embeddings)


def test_people_are_known_by_their_composed_name(tmp_path: Path, make_people: Callable[..., Path]) -> None:
    jose = unicodedata.normalize("NFC", "José")
    photos = make_people(tmp_path / "photos", people=2, photos=2)
    run = make_evaluated_run(tmp_path, photos, known=frozenset({jose, "Zoe"}))
    overlap = run.overlap_with_training([unicodedata.normalize("NFD", jose), "Ann", jose, "Bob"])
    assert overlap == TrainingOverlap(3, (jose,))
    assert overlap.to_json() == {"people": 3, "people_in_training": 1}
    assert overlap.warning is not None
    assert "1 of the 3 people" in overlap.warning
    assert run.strangers(["Ann", unicodedata.normalize("NFD", jose)]) == {"Ann"}
    assert run.overlap_with_training(["Ann"]).warning is None
    assert "does not say" in (TrainingOverlap(3, None).warning or "")


@pytest.mark.parametrize(
    ("settings", "margin"),
    [
        ({"loss": "triplet", "margin": 0.35}, 0.35),
        ({"margin": 0.5}, 0.5),
        ({"loss": "arcface", "margin": 0.5}, 0.2),
        ({"loss": "triplet", "margin": None}, 0.2),
    ],
)
def test_the_margin_is_that_of_a_triplet_loss(settings: dict[str, object], margin: float) -> None:
    assert evaluated_run._margin({"settings": settings}) == margin


DIM = 24
THRESHOLDS = {"raw": 1.5, "whitened": 1.75, "lda": 0.5, "untrained": 1.25, "trained": 0.75}


def people(seed: int, count: int = 15) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), 4)
    # Columns of very different sizes, as those of a tapped layer are.
    rows = (rng.normal(size=(count, DIM))[labels] + 0.4 * rng.normal(size=(len(labels), DIM))) * np.geomspace(
        1e-3, 50, DIM
    )
    return (rows + 3).astype(np.float16), labels


@pytest.fixture(scope="module")
def untrained() -> keras.Model:
    keras.utils.set_random_seed(5)
    inputs = keras.Input((DIM,), name="features")
    outputs = keras.layers.UnitNormalization()(keras.layers.Dense(7)(inputs))
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def baselines(untrained: keras.Model) -> RunBaselines:
    return RunBaselines.of(Baselines.fit(*people(0), seed=3), untrained, THRESHOLDS)


def test_they_come_back_as_they_were_fitted(baselines: RunBaselines, untrained: keras.Model, tmp_path: Path) -> None:
    rows, labels = people(0)
    unseen, _ = people(1)
    fitted = {
        "raw": Raw().fit(rows).transform(unseen),
        "whitened": Whitened(seed=3).fit(rows).transform(unseen),
        "lda": Lda(seed=3).fit(rows, labels).transform(unseen),
        "untrained": np.asarray(untrained(unseen.astype(np.float32))),
    }
    baselines.save(tmp_path)
    loaded = RunBaselines.load(tmp_path)
    assert loaded is not None
    assert tuple(loaded.embedders()) == RUN_BASELINES == tuple(fitted)
    for name, embedder in loaded.embedders().items():
        embeddings = embedder(unseen)
        assert embeddings.dtype == np.float32
        # The maps are kept in float16.
        np.testing.assert_allclose(embeddings, fitted[name], atol=3e-3, err_msg=name)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert loaded.thresholds == {name: THRESHOLDS[name] for name in RUN_BASELINES}


def test_they_are_for_their_owner_alone(baselines: RunBaselines, tmp_path: Path) -> None:
    baselines.save(tmp_path)
    for name in (BASELINES, UNTRAINED):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    with np.load(tmp_path / BASELINES, allow_pickle=False) as stored:
        assert stored["lda_axes"].dtype == np.float16


def test_a_run_without_them_has_none(tmp_path: Path) -> None:
    assert RunBaselines.load(tmp_path) is None


@pytest.mark.parametrize("gone", [BASELINES, UNTRAINED])
def test_half_of_them_is_refused(baselines: RunBaselines, tmp_path: Path, gone: str) -> None:
    baselines.save(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(
        RunError, match=r"baselines cannot be read.*Train again|complete run folder.*untrained\.keras.*Run facetl train"
    ):
        RunBaselines.load(tmp_path)


def test_damage_is_refused(baselines: RunBaselines, tmp_path: Path) -> None:
    baselines.save(tmp_path)
    whole = (tmp_path / BASELINES).read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        (tmp_path / BASELINES).write_bytes(damaged)
        with pytest.raises(RunError, match="cannot be read"):
            RunBaselines.load(tmp_path)
    np.savez(tmp_path / BASELINES, mean=np.array([object()], dtype=object))  # would need pickle
    with pytest.raises(RunError, match="cannot be read"):
        RunBaselines.load(tmp_path)
    with np.load(_rewritten(tmp_path, whole)) as stored:
        arrays = dict(stored)
    np.savez(tmp_path / BASELINES, **(arrays | {"mean": arrays["mean"][:-1]}))
    with pytest.raises(RunError, match="different lengths"):
        RunBaselines.load(tmp_path)


def test_features_of_another_length_are_refused(baselines: RunBaselines) -> None:
    for embedder in baselines.embedders().values():
        with pytest.raises(DataError, match=r"\[photos, 24\]"):
            embedder(np.zeros((2, DIM + 1), np.float32))


def test_baselines_must_be_fitted(untrained: keras.Model) -> None:
    with pytest.raises(RunError, match="before fit"):
        RunBaselines.of(Baselines(Raw(), Whitened(), Lda()), untrained, THRESHOLDS)


def _rewritten(folder: Path, content: bytes) -> Path:
    (folder / "whole.npz").write_bytes(content)
    return folder / "whole.npz"
