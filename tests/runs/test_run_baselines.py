"""A run's baselines come back from their files as they were fitted, or are refused."""

from __future__ import annotations

import stat
from pathlib import Path

import keras
import numpy as np
import pytest

from facetl.errors import DataError, RunError
from facetl.metrics.baselines import Baselines, Lda, Raw, Whitened
from facetl.runs.run_baselines import BASELINES, RUN_BASELINES, UNTRAINED, RunBaselines

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
    with pytest.raises(RunError, match=r"baselines cannot be read.*Train again"):
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
