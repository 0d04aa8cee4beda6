"""Baselines against plain NumPy and scikit-learn, in float16, in blocks, and on awkward features."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from facetl.errors import DataError
from facetl.metrics import linalg as linalg_module
from facetl.metrics.baselines import (
    COMPONENTS,
    Baselines,
    Lda,
    PrincipalComponents,
    Raw,
    Whitened,
    gain_stderr,
    probe,
)
from facetl.metrics.pairs import fold_pairs, identity_folds, sample_pairs
from facetl.metrics.roc import auc, squared_distances


class CacheLike:
    """Rows that give themselves up to an int array only, as rows of a cache do."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self.shape = rows.shape

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        assert isinstance(rows, np.ndarray)
        assert rows.dtype.kind == "i"
        return self._rows[rows]


def faces(seed: int, people: int, photos: int, dim: int = 60, nuisance: float = 3.0):
    """Identities in 10 directions under a louder nuisance in 10 others that all people share; off-centre.

    The mixing is fixed, so that what is learnt from some people serves others.
    """
    mixing = np.random.default_rng(99).standard_normal((20, dim))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(people), photos))
    identity = rng.standard_normal((people, 10))[labels] + 0.3 * rng.standard_normal((len(labels), 10))
    hidden = np.concatenate([identity, nuisance * rng.standard_normal((len(labels), 10))], axis=1)
    rows = (hidden @ mixing + 0.1 * rng.standard_normal((len(labels), dim))) * np.linspace(0.2, 5, dim) + 30
    return rows.astype(np.float16), labels


def area(rows: np.ndarray, labels: np.ndarray) -> float:
    pairs = sample_pairs(labels, seed=0)
    return auc(squared_distances(rows[pairs.first], rows[pairs.second]), pairs.same)


def test_raw_by_hand():
    raw = Raw().fit(np.array([[1.0, 10.0], [3.0, 14.0]], np.float16))  # mean (2, 12)
    np.testing.assert_allclose(raw.transform(np.array([[5.0, 16.0], [2.0, 11.0]])), [[0.6, 0.8], [0.0, -1.0]])
    assert raw.transform(np.array([[2.0, 12.0]])).tolist() == [[0.0, 0.0]]
    assert raw.transform(np.zeros((3, 2))).dtype == np.float32


def test_raw_learns_from_training_alone():
    train, _ = faces(0, 8, 4)
    test, _ = faces(1, 5, 4)
    raw = Raw().fit(train)
    whole, one = raw.transform(test), raw.transform(test[3:4])
    np.testing.assert_array_equal(whole[3:4], one)
    centred = test.astype(np.float64) - train.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(whole, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-5)


def test_whitened_is_that_of_scikit_learn():
    """Standardised, PCA(whiten=True), unit norm; the same people before and after, up to an axis' sign."""
    rows, _ = faces(3, 40, 6, dim=25)
    unseen, _ = faces(14, 7, 3, dim=25)
    ours = Whitened(components=8).fit(rows).transform(unseen)
    mean, scale = rows.astype(np.float64).mean(axis=0), rows.astype(np.float64).std(axis=0)
    theirs = PCA(8, whiten=True, svd_solver="full").fit((rows - mean) / scale).transform((unseen - mean) / scale)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert ours.shape == (21, 8)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=5e-3)


def test_whitening_frees_people_from_a_loud_nuisance():
    train, labels = faces(5, 60, 6, nuisance=6.0)
    unseen, unseen_labels = faces(6, 25, 6, nuisance=6.0)
    baselines = Baselines.fit(train, labels, seed=0)
    raw, whitened, lda = (
        area(method.transform(unseen), unseen_labels) for method in (baselines.raw, baselines.whitened, baselines.lda)
    )
    assert raw + 0.05 < whitened < lda


def test_whitened_keeps_half_as_many_directions_as_photos_and_none_that_is_empty():
    rows, _ = faces(15, 5, 4)  # 20 photos
    assert Whitened().fit(rows).transform(rows).shape == (20, 10)
    assert Whitened(components=3).fit(rows).transform(rows).shape == (20, 3)
    flat = np.outer(np.arange(12.0), np.arange(1.0, 9.0)).astype(np.float32) + 5  # all photos on one line
    whitened = Whitened().fit(flat)
    assert whitened.projection is not None
    assert np.count_nonzero(np.abs(whitened.projection).max(axis=0)) == 1
    np.testing.assert_allclose(np.abs(whitened.transform(flat)[:, 0]), 1, atol=1e-6)
    assert not np.any(whitened.transform(np.full((1, 8), flat.mean(axis=0))))


def test_baselines_together_are_those_alone():
    rows, labels = faces(16, 20, 5)
    together = Baselines.fit(rows, labels, seed=2)
    np.testing.assert_array_equal(together.raw.transform(rows), Raw().fit(rows).transform(rows))
    np.testing.assert_array_equal(together.lda.transform(rows), Lda(seed=2).fit(rows, labels).transform(rows))
    np.testing.assert_array_equal(together.whitened.transform(rows), Whitened(seed=2).fit(rows).transform(rows))
    assert len(PrincipalComponents.fit(rows, components=COMPONENTS, seed=2).deviation) == 60


@pytest.mark.parametrize("method", [Raw, Lda])
def test_blocks_and_cache_rows_change_nothing(method, monkeypatch):
    rows, labels = faces(2, 20, 6)
    before = method().fit(rows, *([labels] if method is Lda else [])).transform(rows)
    monkeypatch.setattr(linalg_module, "_BLOCK", 7)
    cached = CacheLike(rows)
    after = method().fit(cached, *([labels] if method is Lda else [])).transform(cached)
    if method is Lda:  # an eigenvector has no sign
        before, after = before @ before.T, after @ after.T
    np.testing.assert_allclose(after, before, atol=2e-3)


def test_lda_spans_the_discriminants_of_scikit_learn():
    """Without shrinkage and on few dimensions the learnt subspace is the textbook one."""
    rows, labels = faces(4, 6, 50, dim=12)
    ours = Lda(components=12, shrinkage=0.0).fit(rows, labels).projection
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(rows.astype(np.float64), labels).scalings_[:, :5]
    assert ours is not None
    assert ours.shape == (12, 5)
    within = np.linalg.svd(np.linalg.qr(ours)[0].T @ np.linalg.qr(theirs)[0], compute_uv=False)
    np.testing.assert_allclose(within, 1.0, atol=1e-3)


def test_lda_beats_raw_on_people_it_never_saw():
    train, labels = faces(5, 60, 6)
    unseen, unseen_labels = faces(6, 25, 6)
    raw = area(Raw().fit(train).transform(unseen), unseen_labels)
    lda = area(Lda().fit(train, labels).transform(unseen), unseen_labels)
    assert raw < 0.75
    assert lda > 0.95


def test_lda_does_not_see_scale_or_shift_of_a_column():
    rows, labels = faces(12, 20, 5)
    rows = rows.astype(np.float32)
    scale, shift = np.geomspace(0.1, 10, 60, dtype=np.float32), np.linspace(-8, 8, 60, dtype=np.float32)
    here, there = (Lda(components=6).fit(r, labels).transform(r) for r in (rows, rows * scale + shift))
    np.testing.assert_allclose(here @ here.T, there @ there.T, atol=2e-3)


def test_lda_centres_on_the_training_photos():
    rows, labels = faces(13, 30, 5)
    lda = Lda(components=20).fit(rows, labels)
    assert lda.projection is not None
    free = (rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0)) @ lda.projection
    free /= np.linalg.norm(free, axis=1, keepdims=True)
    np.testing.assert_allclose(lda.transform(rows), free, atol=5e-3)


def test_lda_is_unit_norm_float32_and_repeats():
    rows, labels = faces(7, 15, 4)
    one, two = (Lda(dim=8, seed=3).fit(rows, labels).transform(rows) for _ in range(2))
    assert one.shape == (60, 8)
    assert one.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("people", "photos", "dim"), [(2, 2, 60), (3, 2, 2), (30, 3, 400), (2, 30, 5)])
def test_lda_shrinks_to_what_there_is(people, photos, dim):
    rows, labels = faces(8, people, photos, dim=dim)
    out = Lda().fit(rows, labels).transform(rows)
    assert out.shape[1] <= people - 1
    assert np.all(np.isfinite(out))


def test_lda_takes_people_with_one_photo_and_copies():
    rows, labels = faces(9, 10, 4)
    labels = np.where(labels == 3, 100 + np.arange(len(labels)), labels)
    assert np.all(np.isfinite(Lda().fit(rows, labels).transform(rows)))
    copies = np.repeat(faces(10, 5, 1)[0], 3, axis=0)
    assert np.all(np.isfinite(Lda().fit(copies, np.repeat(np.arange(5), 3)).transform(copies)))
    constant = np.ones((6, 4), np.float16)
    assert np.all(np.isfinite(Lda().fit(constant, [0, 0, 0, 1, 1, 1]).transform(constant)))


def test_what_cannot_be_learnt_is_reported():
    rows, labels = faces(11, 5, 3)
    with pytest.raises(DataError, match="1 people"):
        Lda().fit(rows, np.zeros(15, int))
    with pytest.raises(DataError, match="at most 1 photos"):
        Lda().fit(rows, np.arange(15))
    with pytest.raises(DataError, match="Each photo needs a label"):
        Lda().fit(rows, labels[:3])
    with pytest.raises(DataError, match="fitted before use"):
        Lda().transform(rows)
    with pytest.raises(DataError, match="fitted before use"):
        Raw().transform(rows)
    with pytest.raises(DataError, match="fitted before use"):
        Whitened().transform(rows)
    with pytest.raises(DataError, match=r"\[photos, 60\]"):
        Whitened().fit(rows).transform(rows[:, :9])
    with pytest.raises(DataError, match=r"\[photos, 60\]"):
        Raw().fit(rows).transform(rows[:, :9])
    with pytest.raises(DataError, match="at least one of each"):
        Raw().fit(rows[:0])
    rows[4, 4] = np.inf
    with pytest.raises(DataError, match="finite"):
        Lda().fit(rows, labels)


def test_signed_features_are_normalised_as_they_are():
    rng = np.random.default_rng(4)
    embeddings = (rng.standard_normal((50, 6)) + 0.3).astype(np.float16)
    raw = Raw().fit(embeddings)
    expected = embeddings.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(raw.transform(embeddings), expected, atol=1e-5)
    np.testing.assert_allclose(raw.mean, embeddings.astype(np.float64).mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("share", "told"), [(0.0, False), (0.2, False), (0.3, True), (0.5, True)])
def test_signed_by_the_share_of_negative_magnitude(share, told):
    rows = np.full((400, 10), 1.0, np.float16)
    rows[:, :1] = -share / (1 - share) * 9
    assert linalg_module.signed(CacheLike(rows)) is told


PEOPLE, DIM = 24, 12


def probed_faces(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """People in 5 directions; the other 7 are louder and say nothing."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(PEOPLE), rng.integers(2, 6, PEOPLE))
    centres = np.concatenate([rng.normal(size=(PEOPLE, 5)), np.zeros((PEOPLE, DIM - 5))], axis=1)
    scale = np.concatenate([np.full(5, noise), np.full(DIM - 5, 6.0)])
    return (centres[labels] + rng.normal(size=(len(labels), DIM)) * scale).astype(np.float32), labels


def test_against_independent_folds() -> None:
    features, labels = probed_faces(0.4)
    score = probe(features, labels, seed=3)
    pairs, fold_of = fold_pairs(labels, seed=3, folds=3), identity_folds(labels, folds=3, seed=3)
    assert np.array_equal(fold_of[pairs.first], pairs.fold)
    assert np.array_equal(fold_of[pairs.second], pairs.fold)
    distances = np.empty(len(pairs.same))
    for fold in range(3):
        others = fold_of != fold
        lda = Lda(components=min(400, others.sum() // 2), seed=3).fit(features[others], labels[others])
        embedded = lda.transform(features)
        squared = ((embedded[pairs.first] - embedded[pairs.second]) ** 2).sum(axis=1)
        distances[pairs.fold == fold] = squared[pairs.fold == fold]
    assert score.auc == pytest.approx(roc_auc_score(pairs.same, -distances), abs=1e-6)
    accuracies = []
    for fold in range(3):
        here, elsewhere = pairs.fold == fold, pairs.fold != fold
        # Any threshold between the two distances around the best cut gives the other folds the same accuracy.
        cuts = np.sort(distances[elsewhere])
        cuts = np.concatenate([[cuts[0] - 1], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1]])
        right = [np.mean((distances[elsewhere] <= cut) == pairs.same[elsewhere]) for cut in cuts]
        best = cuts[np.flatnonzero(np.isclose(right, max(right)))]
        accuracies.append([np.mean((distances[here] <= cut) == pairs.same[here]) for cut in (best[0], best[-1], *best)])
    assert np.mean([min(each) for each in accuracies]) <= score.accuracy + 1e-9
    assert score.accuracy <= np.mean([max(each) for each in accuracies]) + 1e-9
    assert (score.people, score.photos) == (PEOPLE, len(labels))


def test_finds_what_raw_distances_miss_and_knows_nothing_of_those_it_tests() -> None:
    features, labels = probed_faces(0.2)
    assert probe(features, labels, seed=0).auc > 0.9
    noise = np.random.default_rng(5).normal(size=(len(labels), 200)).astype(np.float32)
    score = probe(noise, labels, seed=0)
    # An LDA that had seen the people tested would tell them apart in so many dimensions, whatever the features.
    assert abs(score.auc - 0.5) < 4 * score.auc_stderr + 0.05


def test_the_error_of_a_gain_cancels_what_both_share() -> None:
    (clear, labels), (blurred, _) = probed_faces(0.3), probed_faces(1.2)
    one, other = probe(clear, labels, seed=1), probe(blurred, labels, seed=1)
    assert gain_stderr(one, one) == 0.0
    difference = np.array(one.auc_without) - np.array(other.auc_without)
    parts = len(difference)
    assert parts == 20
    assert gain_stderr(one, other) == pytest.approx(math.sqrt((parts - 1) ** 2 / parts * difference.var(ddof=1)))
    assert one.auc - other.auc > gain_stderr(one, other) > 0


def test_the_stderr_is_about_the_spread_over_draws_of_people() -> None:
    scores = [probe(*probed_faces(1.0, seed), seed=seed) for seed in range(6)]
    spread = np.std([score.auc for score in scores], ddof=1)
    assert 0.4 < np.mean([score.auc_stderr for score in scores]) / spread < 2.5


def test_labels_may_be_names() -> None:
    features, labels = probed_faces(0.4)
    assert probe(features, [f"p{label:02d}" for label in labels], seed=2) == probe(features, labels, seed=2)


@pytest.mark.parametrize(("photos", "people"), [(6, 3), (8, 8)])
def test_too_few_people(photos: int, people: int) -> None:
    with pytest.raises(DataError, match="4 people with 2 photos"):
        probe(np.random.default_rng(0).normal(size=(photos, 3)), np.arange(photos) % people, seed=0)


def test_probes_of_other_photos_are_not_compared() -> None:
    features, labels = probed_faces(0.4)
    with pytest.raises(DataError, match="same photos"):
        gain_stderr(probe(features, labels, seed=0), probe(features[1:], labels[1:], seed=0))
