import numpy as np
import pytest

from facetl.backbones.photo_net import FeatureMap
from facetl.metrics.linalg import normalised
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.roc import auc
from facetl.metrics.verification import pair_distances
from facetl.training import region_lda
from facetl.training.settings import preset
from facetl.training.whitening import Whitening

LAYOUT = FeatureMap(((3, 8),))


def faces(people: int, photos: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """People whose mouths tell them apart, under light that varies much more over the upper two thirds."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), photos)
    maps = rng.normal(0, 0.3, (len(labels), 3, 3, 8))
    maps[:, 2] += rng.normal(0, 0.5, (people, 3, 8))[labels]
    directions = np.random.default_rng(99).normal(0, 1, (14, 2, 3, 8))
    maps[:, :2] += np.tensordot(rng.normal(0, 1, (len(labels), 14)), directions, axes=1)
    return maps.reshape(len(labels), -1).astype(np.float32), labels


def settings_of(**changes: object):
    return preset("balanced", components=12, root=False, **changes)


def score(front: Whitening, features: np.ndarray, labels: np.ndarray) -> float:
    reduced = front.reduce(features)
    assert reduced is not None
    pairs = sample_pairs(labels, seed=0)
    return auc(pair_distances(normalised(reduced), pairs), pairs.same)


def test_regions_see_what_the_whole_is_blind_to() -> None:
    features, labels = faces(60, 4, seed=1)
    strangers = faces(40, 4, seed=2)
    regions = Whitening.fit(features, labels, **settings_of().whitening_options, layout=LAYOUT)
    whole = Whitening.fit(features, labels, **settings_of(regions=False).whitening_options, layout=LAYOUT)
    assert score(regions, *strangers) > score(whole, *strangers) + 0.05


def test_without_a_layout_or_with_one_region_nothing_changes() -> None:
    features, labels = faces(20, 3, seed=3)
    plain = Whitening.fit(features, labels, **settings_of(regions=False).whitening_options)
    for layout in (None, FeatureMap.flat(72)):
        found = Whitening.fit(features, labels, **settings_of().whitening_options, layout=layout)
        np.testing.assert_array_equal(found.axes, plain.axes)


@pytest.mark.parametrize("joined", [5, 40])
def test_the_front_keeps_so_many_directions_of_mean_square_one(joined: int) -> None:
    features, labels = faces(60, 3, seed=4)
    front = Whitening.fit(features, labels, **settings_of(joined=joined).whitening_options, layout=LAYOUT)
    reduced = front.reduce(features)
    assert reduced is not None
    assert reduced.shape == (180, joined)
    assert np.mean(np.square(reduced)) == pytest.approx(1, rel=0.02)


def test_the_map_is_that_of_the_regions_laid_side_by_side() -> None:
    """With all directions kept, distances are those of the regions' own discriminants together."""
    features, labels = faces(50, 4, seed=5)
    settings = preset("balanced", components=72, root=False, joined=10_000)
    front = Whitening.fit(features, labels, **settings.whitening_options, layout=LAYOUT)
    reduced = front.reduce(features)
    assert reduced is not None
    total = np.zeros((len(labels), len(labels)))
    for columns in LAYOUT.regions()[0]:
        part = Whitening.fit(features[:, columns], labels, **settings.whitening_options)
        rows = part.reduce(features[:, columns])
        assert rows is not None
        rows = rows / np.sqrt(np.mean(np.sum(np.square(rows), axis=1)))
        total += np.sum(np.square(rows[:, None] - rows[None]), axis=2)
    found = np.sum(np.square(reduced[:, None] - reduced[None]), axis=2)
    np.testing.assert_allclose(found / found.mean(), total / total.mean(), atol=0.02)


def test_photos_too_many_for_their_inner_products_give_the_same_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = FeatureMap(((3, 8), (1, 5), (4, 3)))
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(40), 6)
    features = rng.normal(0, 1, (40, layout.dim))[labels] + rng.normal(0, 1, (240, layout.dim)) * rng.uniform(
        0.2, 3, layout.dim
    )
    settings = preset("balanced", components=layout.dim, root=False, joined=30)
    found = []
    for most in (240, 239):
        monkeypatch.setattr(region_lda, "_MOST_PHOTOS", most)
        found.append(Whitening.fit(features, labels, **settings.whitening_options, layout=layout))
    for first, second in zip(*((one.axes, one.whitened) for one in found), strict=True):
        assert first.shape == second.shape
        # Up to signs: distances are the same.
        np.testing.assert_allclose(first @ first.T, second @ second.T, atol=0.02 * np.abs(second @ second.T).max())


@pytest.mark.parametrize("most", [240, 239])
def test_the_directions_of_each_region_whiten_it(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_lda, "_MOST_PHOTOS", most)
    layout = FeatureMap(((3, 8), (1, 5)))
    rng = np.random.default_rng(8)
    features = rng.normal(0, 1, (240, layout.dim)) * rng.uniform(0.2, 3, layout.dim) + 1
    standardised = ((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float16)
    found, made = region_lda.region_whitening(standardised, layout, 10, rng=np.random.default_rng(0))
    places = [columns for regions_ in layout.regions() for columns in regions_]
    assert len(found) == len(places) == 10
    along = np.split(made, np.cumsum([axes.shape[1] for axes in found])[:-1], axis=1)
    for axes, columns, part in zip(found, places, along, strict=True):
        rows = standardised[:, columns].astype(np.float64)
        white = rows @ axes
        np.testing.assert_allclose(part, white, atol=5e-3)
        np.testing.assert_allclose(white.T @ white / 240, np.eye(min(10, len(columns))), atol=0.02)
        # Of all orthonormal directions the leading ones hold most of the scatter.
        spanned = np.linalg.qr(axes)[0]
        held = np.sort(np.linalg.eigvalsh(np.cov(rows.T, bias=True)))[::-1][: axes.shape[1]].sum()
        assert np.sum(np.square(rows @ spanned)) / 240 == pytest.approx(held, rel=0.05)


def test_the_same_seed_gives_the_same_regions() -> None:
    features, labels = faces(20, 3, seed=6)
    first, second = (
        Whitening.fit(features, labels, **settings_of().whitening_options, layout=LAYOUT) for _ in range(2)
    )
    np.testing.assert_array_equal(first.axes, second.axes)


def test_the_whitened_front_knows_no_labels() -> None:
    features, labels = faces(20, 3, seed=7)
    shuffled = np.random.default_rng(0).permutation(labels)
    one = Whitening.fit(features, labels, **settings_of().whitening_options, layout=LAYOUT).without_labels()
    other = Whitening.fit(features, shuffled, **settings_of().whitening_options, layout=LAYOUT).without_labels()
    np.testing.assert_array_equal(one.axes, other.axes)
