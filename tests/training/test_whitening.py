"""The fixed front against independent NumPy in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from gaussians import gaussian_people, small_settings

from facetl.errors import TrainingError
from facetl.training import whitening as standardisation_module
from facetl.training.whitening import Whitening


def skewed_people(people: int = 14, photos: int = 5, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian people whose features differ in mean and scale by orders of magnitude; most are positive."""
    features, labels = gaussian_people(people, photos, seed=seed)
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-1, 2, features.shape[1])
    return ((features + np.abs(rng.normal(4, 3, features.shape[1]))) * scale).astype(np.float32), labels


def rooted(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return np.where(x < 0, -1, 1) * np.sqrt(np.where(x < 0, -x, x))


def within_scatter(rows: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Pooled covariance about each person's mean; a person's photos count as `most` at most."""
    total, freedom = np.zeros((rows.shape[1], rows.shape[1])), 0.0
    for person in set(labels.tolist()):
        photos = rows[labels == person].astype(np.float64)
        weight = min(1.0, most / len(photos))
        for photo in photos:
            deviation = photo - photos.mean(axis=0)
            total += weight * np.outer(deviation, deviation)
        freedom += weight * (len(photos) - 1)
    return total / freedom


def test_the_model_is_root_then_scale_then_axes() -> None:
    rng = np.random.default_rng(0)
    mean, scale = rng.normal(size=4).astype(np.float32), rng.uniform(0.5, 4, 4).astype(np.float32)
    axes = rng.normal(size=(4, 3)).astype(np.float32)
    rows = rng.normal(size=(6, 4)).astype(np.float32) * 5
    front = Whitening(True, mean, scale, axes)
    expected = (rooted(rows) - mean) / scale @ axes.astype(np.float64)
    np.testing.assert_allclose(front.model(4)(rows), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(front.reduce(rows), expected, rtol=1e-4, atol=1e-5)
    assert not front.model(4).trainable_variables


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("given", [0, 1, 2])
def test_it_is_read_back_from_its_model(root: bool, given: int) -> None:
    rng = np.random.default_rng(0)
    mean, scale, axes = rng.normal(size=4), rng.uniform(0.5, 4, 4), rng.normal(size=(4, 3))
    parts = [None if place >= (0, 2, 3)[given] else part for place, part in enumerate((mean, scale, axes))]
    read = Whitening.of(Whitening(root, *parts).model(4))
    assert read is not None
    assert read.root == root
    for part, wanted in zip((read.mean, read.scale, read.axes), parts, strict=True):
        assert (part is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_allclose(part, wanted, rtol=1e-5)
    inputs = keras.Input((4,))
    assert Whitening.of(keras.Model(inputs, keras.layers.Dense(3, name="other")(inputs))) is None


@pytest.mark.parametrize("root", [False, True])
def test_nothing_is_learnt_where_nothing_is_asked(root: bool) -> None:
    features, labels = skewed_people()
    front = Whitening.fit(features, labels, **small_settings(standardise="none", root=root).whitening_options)
    assert front.reduce(features) is None
    expected = rooted(features) if root else features
    np.testing.assert_allclose(front.model(32)(features), expected, rtol=1e-6)


@pytest.mark.parametrize("root", [False, True])
def test_features_are_centred_and_scaled(root: bool) -> None:
    features, labels = skewed_people()
    front = Whitening.fit(features, labels, **small_settings(standardise="features", root=root).whitening_options)
    assert front.reduce(features) is None
    rows = rooted(features) if root else features.astype(np.float64)
    deviation = rows.std(axis=0)
    floor = 1e-3 * np.sqrt(np.mean(deviation**2))
    expected = (rows - rows.mean(axis=0)) / (deviation + floor)
    np.testing.assert_allclose(front.model(32)(features), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("root", [False, True])
def test_whitening_gives_the_training_rows_identity_covariance(root: bool) -> None:
    features, labels = skewed_people()
    front = Whitening.fit(
        features, labels, **small_settings(standardise="whiten", components=12, root=root).whitening_options
    )
    rows = front.reduce(features)
    assert rows is not None
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(rows.T.astype(np.float64) @ rows / len(rows), np.eye(12), atol=2e-3)
    # The kept directions are those along which the standardised features vary most.
    scaled = (rooted(features) if root else features.astype(np.float64)) - np.asarray(front.mean, np.float64)
    scaled /= np.asarray(front.scale, np.float64)
    leading = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)[2][:12]
    axes = np.linalg.qr(np.asarray(front.axes, np.float64))[0]
    shared = np.linalg.svd(leading @ axes)[1]
    assert np.mean(shared**2) > 0.99


@pytest.mark.parametrize("standardise", ["none", "features", "whiten"])
def test_signed_features_keep_their_angles(standardise: str) -> None:
    features, labels = gaussian_people(9, 4, seed=2)
    asked, other = (
        Whitening.fit(features, labels, **small_settings(standardise=standardise, root=root).whitening_options)
        for root in (True, False)
    )
    assert not asked.root
    np.testing.assert_array_equal(asked.model(32)(features), other.model(32)(features))


def test_reduce_is_the_front_model_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standardisation_module, "_BLOCK", 9)
    features, labels = skewed_people()
    for standardise in ("whiten", "within"):
        front = Whitening.fit(
            features, labels, **small_settings(standardise=standardise, components=5, root=True).whitening_options
        )
        reduced = front.reduce(features.astype(np.float16))
        assert reduced is not None
        assert reduced.dtype == np.float32
        expected = front.model(32)(features.astype(np.float16).astype(np.float32))
        np.testing.assert_allclose(reduced, expected, rtol=1e-4, atol=1e-4)


def test_within_makes_the_scatter_within_people_spherical() -> None:
    features, labels = skewed_people()
    # One person with many photos counts as ten, one with a single photo not at all.
    many, _ = gaussian_people(1, 30, seed=9)
    features = np.concatenate([features, many * 40, features[:1] + 50])
    labels = np.concatenate([labels, np.full(30, 100), [101]])
    front = Whitening.fit(
        features,
        labels,
        **small_settings(standardise="within", components=8, shrinkage=0.0, root=False).whitening_options,
    )
    rows = front.reduce(features)
    assert rows is not None
    scatter = within_scatter(rows, labels, most=10)
    level = np.trace(scatter) / 8
    np.testing.assert_allclose(scatter / level, np.eye(8), atol=5e-3)
    assert np.mean(rows.astype(np.float64) ** 2) == pytest.approx(1, rel=1e-3)
    # Weighed otherwise it would not be.
    assert not np.allclose(within_scatter(rows, labels, most=1000) / level, np.eye(8), atol=0.05)


def test_discriminant_weighs_each_direction_by_how_far_it_can_be_trusted() -> None:
    features, labels = skewed_people(people=30, photos=5)
    settings = small_settings(standardise="discriminant", components=10, shrinkage=0.0)
    rows = Whitening.fit(features, labels, **settings.whitening_options).reduce(features)
    assert rows is not None
    assert np.mean(rows.astype(np.float64) ** 2) == pytest.approx(1, rel=1e-3)
    within, total = within_scatter(rows, labels, most=10), np.cov(rows.T.astype(np.float64))
    for scatter in (within, total):
        across = scatter - np.diag(np.diag(scatter))
        np.testing.assert_allclose(across, 0, atol=5e-3 * np.diag(scatter).max())
    # In units of the scatter within: total 1 + b, and the direction's weight b / (b + 1).
    ratio = np.diag(total) / np.diag(within)
    assert np.all(np.diff(ratio) < 0)
    between = np.maximum(ratio - 1, 1e-3)
    weight = between / (between + 1)
    trusted = weight > 0.05
    assert trusted.sum() >= 3
    measured = np.diag(within) / within[0, 0]
    np.testing.assert_allclose(measured[trusted], (weight / weight[0])[trusted], rtol=0.03)


@pytest.mark.parametrize("standardise", ["whiten", "within", "discriminant"])
def test_without_labels_is_whitening_alone(standardise: str) -> None:
    features, labels = skewed_people()
    settings = small_settings(standardise=standardise, components=8)
    plain = Whitening.fit(features, labels, **settings.whitening_options).without_labels().reduce(features)
    shuffled = np.random.default_rng(2).permutation(labels)
    again = Whitening.fit(features, shuffled, **settings.whitening_options).without_labels().reduce(features)
    assert plain is not None
    np.testing.assert_array_equal(plain, again)
    np.testing.assert_allclose(plain.T.astype(np.float64) @ plain / len(plain), np.eye(8), atol=2e-3)


def test_shrinkage_moves_within_whitening_towards_none() -> None:
    features, labels = skewed_people()

    def uneven(shrinkage: float) -> float:
        settings = small_settings(standardise="within", components=8, shrinkage=shrinkage)
        rows = Whitening.fit(features, labels, **settings.whitening_options).reduce(features)
        assert rows is not None
        values = np.linalg.eigvalsh(within_scatter(rows, labels, most=10))
        return float(values[-1] / values[0])

    steps = [uneven(shrinkage) for shrinkage in (0.0, 0.2, 1.0)]
    assert steps[0] == pytest.approx(1, abs=0.02)
    assert steps[0] < steps[1] < steps[2]
    whitened = Whitening.fit(
        features, labels, **small_settings(standardise="whiten", components=8).whitening_options
    ).reduce(features)
    assert whitened is not None
    values = np.linalg.eigvalsh(within_scatter(whitened, labels, most=10))
    assert steps[2] == pytest.approx(values[-1] / values[0], rel=0.02)


def test_people_with_one_photo_each_say_nothing_about_the_scatter_within() -> None:
    features, _ = skewed_people()
    settings = small_settings(standardise="within", components=8)
    within = Whitening.fit(features, np.arange(len(features)), **settings.whitening_options).reduce(features)
    whitened = Whitening.fit(
        features, np.arange(len(features)), **small_settings(standardise="whiten", components=8).whitening_options
    ).reduce(features)
    assert within is not None
    np.testing.assert_allclose(within, whitened, atol=1e-4)


@pytest.mark.parametrize("root", [False, True])
def test_large_float16_values_do_not_overflow(root: bool) -> None:
    features, labels = gaussian_people(12, 5, seed=3)
    large = (features * 8000 + 10_000).clip(-60_000, 60_000).astype(np.float16)
    assert np.abs(large).max() > 256  # whose square float16 cannot hold
    for standardise in ("features", "within"):
        settings = small_settings(standardise=standardise, components=6, root=root)
        small = Whitening.fit((large.astype(np.float32) / 16), labels, **settings.whitening_options)
        front = Whitening.fit(large, labels, **settings.whitening_options)
        rows = np.asarray(front.model(32)(large.astype(np.float32)))
        assert np.isfinite(rows).all()
        # Both forget the unit of the features; axes may differ in sign.
        expected = np.asarray(small.model(32)(large.astype(np.float32) / 16))
        np.testing.assert_allclose(np.abs(rows), np.abs(expected), atol=0.02)


def test_components_are_at_most_half_the_photos_and_the_features() -> None:
    features, labels = skewed_people(people=3, photos=4)

    def width(rows: int, components: int) -> int:
        settings = small_settings(standardise="whiten", components=components)
        reduced = Whitening.fit(features[:rows], labels[:rows], **settings.whitening_options).reduce(features)
        assert reduced is not None
        assert np.isfinite(reduced).all()
        return reduced.shape[1]

    assert [width(12, 300), width(12, 4), width(9, 300), width(3, 300)] == [6, 4, 4, 2]
    features, labels = skewed_people(people=20, photos=5)
    assert width(100, 300) == 32


def test_more_photos_than_are_needed_are_sampled_with_their_people(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = skewed_people(people=20, photos=6)
    settings = small_settings(standardise="within", components=5, shrinkage=0.0)
    monkeypatch.setattr(standardisation_module, "MAX_PHOTOS", 60)
    chosen: list[np.ndarray] = []
    moments = standardisation_module.moments

    def spy(rows: object) -> object:
        chosen.append(np.asarray(rows[np.arange(60)]))  # type: ignore[index]
        assert rows.shape == (60, 32)  # type: ignore[attr-defined]
        return moments(rows)  # type: ignore[arg-type]

    monkeypatch.setattr(standardisation_module, "moments", spy)
    front = Whitening.fit(features, labels, **settings.whitening_options)
    used = np.array([int(np.flatnonzero((features == row).all(axis=1))[0]) for row in chosen[0]])
    assert len(set(used.tolist())) == 60
    rows = front.reduce(features[used])
    assert rows is not None
    scatter = within_scatter(rows, labels[used], most=10)
    np.testing.assert_allclose(scatter / (np.trace(scatter) / 5), np.eye(5), atol=5e-3)


def test_methods_that_need_classes_ask_for_them() -> None:
    features, labels = gaussian_people(8, 4, seed=5)
    whitened = Whitening.fit(features, method="whiten", components=6)
    np.testing.assert_array_equal(whitened.axes, Whitening.fit(features, labels, method="whiten", components=6).axes)
    assert whitened.dim == 32
    with pytest.raises(TrainingError, match="labels: discriminant needs the class of each row"):
        Whitening.fit(features)
    with pytest.raises(TrainingError, match=r"method: expected one of none, .* got 'pca'"):
        Whitening.fit(features, method="pca")
