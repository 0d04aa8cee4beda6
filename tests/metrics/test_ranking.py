"""Galleries rank people as their definitions say, and learn from their own photos alone."""

from __future__ import annotations

import numpy as np
import pytest

from facetl.errors import DataError
from facetl.metrics import ranking as gallery_module
from facetl.metrics.ranking import Gallery


def on_circle(*degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def chord(degrees: float) -> float:
    """Squared distance of two unit vectors that many degrees apart."""
    return float(4 * np.sin(np.deg2rad(degrees) / 2) ** 2)


def made_up(seed: int, people: int = 7, *, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings of people with 1 to 6 photos, in mixed order, some people more scattered than others."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), 1 + np.arange(people) % 6)
    rows = apart * rng.standard_normal((people, 5))[labels] + (0.2 + 0.15 * labels)[:, None] * rng.standard_normal(
        (len(labels), 5)
    )
    order = rng.permutation(len(labels))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[order].astype(np.float32), np.array([f"p{n}" for n in labels])[order]


ROWS, NAMES = on_circle(0, 40, 100, 44, 130), ["Bo", "Bo", "Al", "Cy", "Al"]


def test_centroids_by_hand() -> None:
    gallery = Gallery(ROWS, NAMES)
    ranked = gallery.rank(on_circle(30, 80), top=6)
    assert gallery.people == ("Al", "Bo", "Cy")  # at 115, 20 and 44 degrees
    assert ranked.people.tolist() == [[1, 2, 0], [0, 2, 1]]
    np.testing.assert_allclose(
        ranked.distances, [[chord(10), chord(14), chord(85)], [chord(35), chord(36), chord(60)]], atol=1e-6
    )
    assert gallery.rank(on_circle(30), top=2).people.tolist() == [[1, 2]]


def test_nearest_photos_vote_by_hand() -> None:
    one = Gallery(ROWS, NAMES, method="nearest", k=1).rank(on_circle(43), top=6)
    assert one.people.tolist() == [[2, 1, 0]]
    np.testing.assert_allclose(one.distances, [[chord(1), chord(3), chord(57)]], atol=1e-6)
    # Of the three nearest (44 Cy, 40 Bo, 0 Bo) two are Bo's; his distance is that of his nearest photo.
    three = Gallery(ROWS, NAMES, method="nearest", k=3).rank(on_circle(41), top=6)
    assert three.people.tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(three.distances, [[chord(1), chord(3), chord(59)]], atol=1e-6)
    # Two nearest, a vote each: the nearer one wins.
    two = Gallery(ROWS, NAMES, method="nearest", k=2).rank(on_circle(43, 41), top=1)
    assert two.people.tolist() == [[2], [1]]


@pytest.mark.parametrize("method", ["centroid", "nearest", "personal"])
def test_order_of_photos_and_blocks_do_not_matter(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, names = made_up(0)
    probes = made_up(1)[0]
    whole = Gallery(rows, names, method=method)
    shuffled = np.random.default_rng(3).permutation(len(rows))
    monkeypatch.setattr(gallery_module, "_BLOCK_BYTES", 8 * len(rows) * 3)
    other = Gallery(rows[shuffled], names[shuffled], method=method)
    for top in (1, 4):
        ours, theirs = whole.rank(probes, top=top), other.rank(probes, top=top)
        np.testing.assert_array_equal(ours.people, theirs.people)
        np.testing.assert_allclose(ours.distances, theirs.distances, atol=1e-6)
    assert whole.threshold() == pytest.approx(other.threshold(), abs=1e-6)


def held_out_centroid(rows: np.ndarray, names: np.ndarray) -> tuple[list[float], list[float]]:
    """Each photo against its person without it (as if none were missing), and against the others' best."""
    own, others = [], []
    for i, name in enumerate(names):
        n = np.sum(names == name)
        if n == 1:
            continue
        means = {m: rows[(names == m) & (np.arange(len(rows)) != i)].mean(axis=0) for m in set(names)}
        distance = {m: float(np.sum((rows[i] - c / np.linalg.norm(c)) ** 2)) for m, c in means.items()}
        own.append(distance[name] * (n * n - 1) / (n * n))
        others.append(min(d for m, d in distance.items() if m != name))
    return own, others


def held_out_nearest(rows: np.ndarray, names: np.ndarray, k: int) -> tuple[list[float], list[float]]:
    own, others = [], []
    for i, name in enumerate(names):
        if np.sum(names == name) == 1:
            continue
        distance = np.sum((rows - rows[i]) ** 2, axis=1)
        distance[i] = np.inf
        own.append(float(distance[names == name].min()))
        distance[names == name] = np.inf
        voters = names[np.argsort(distance)[:k]].tolist()
        best = max(set(voters), key=lambda m: (voters.count(m), -distance[names == m].min()))
        others.append(float(distance[names == best].min()))
    return own, others


@pytest.mark.parametrize("method", ["centroid", "nearest"])
def test_threshold_is_most_often_right_on_photos_held_out(method: str) -> None:
    rows, names = made_up(2, people=12, apart=3.0)
    own, others = (
        held_out_centroid(rows.astype(float), names) if method == "centroid" else held_out_nearest(rows, names, 3)
    )
    gallery = Gallery(rows, names, method=method)
    found = [np.concatenate(part) for part in zip(*gallery._held_out(), strict=True)]
    np.testing.assert_allclose(np.sort(found[0]), np.sort(own), atol=1e-5)
    np.testing.assert_allclose(np.sort(found[1]), np.sort(others), atol=1e-5)

    def right(threshold: float) -> int:
        # A photo to which somebody else is nearer is named wrongly, or not at all.
        return sum(int(a <= min(threshold, b)) + int(b > threshold) for a, b in zip(own, others, strict=True))

    tried = [0.0, *(value + step for value in own + others for step in (-1e-4, 1e-4))]
    assert right(gallery.threshold()) == max(right(threshold) for threshold in tried)
    assert right(gallery.threshold()) > right(0.0)


def test_the_correction_for_the_photo_held_out() -> None:
    # In many dimensions, about a far centre, held-out distances must be as those of fresh photos on average.
    rng = np.random.default_rng(0)
    own, fresh = [], []
    for _ in range(300):
        centre = rng.standard_normal(60) * 6
        photos = centre + rng.standard_normal((4, 60))
        photos = (photos / np.linalg.norm(photos, axis=1, keepdims=True)).astype(np.float32)
        gallery = Gallery(photos[:3], ["Al"] * 3)
        own.append(gallery._own_distances(np.arange(3)).mean())
        fresh.append(gallery.rank(photos[3:], top=1).distances[0, 0])
    assert np.mean(own) == pytest.approx(np.mean(fresh), rel=0.02)


def test_personal_shifts_by_definition() -> None:
    rows, names = made_up(4, people=9)
    middles, photos = {}, {}
    for person in sorted(set(names)):
        mine = names == person
        n = int(mine.sum())
        if n == 1:
            continue
        own = []
        for i in np.flatnonzero(mine):
            rest = rows[mine & (np.arange(len(rows)) != i)].mean(axis=0)
            own.append(np.sum((rows[i] - rest / np.linalg.norm(rest)) ** 2) * (1 - 1 / n**2))
        centre = rows[mine].mean(axis=0)
        others = np.sort(np.sum((rows[~mine] - centre / np.linalg.norm(centre)) ** 2, axis=1))[:n]
        middles[person], photos[person] = (np.mean(own) + np.mean(others)) / 2, n
    gallery = Gallery(rows, names, method="personal", shrinkage=2.0)
    for person, shift in zip(gallery.people, gallery.shifts, strict=True):
        expected = 0.0
        if person in middles:
            n = photos[person]
            expected = (middles[person] - np.mean(list(middles.values()))) * n / (n + 2.0)
        assert shift == pytest.approx(expected, abs=1e-5), person
    probes = made_up(5)[0]
    plain, ranked = Gallery(rows, names).rank(probes, top=99), gallery.rank(probes, top=99)
    back = np.argsort(plain.people, axis=1), np.argsort(ranked.people, axis=1)
    distances = [np.take_along_axis(r.distances, order, axis=1) for r, order in zip((plain, ranked), back, strict=True)]
    np.testing.assert_allclose(distances[0] - distances[1], np.tile(gallery.shifts, (len(probes), 1)), atol=1e-9)


def test_the_common_threshold_takes_over_as_shrinkage_grows() -> None:
    rows, names = made_up(6)
    shifts = [np.abs(Gallery(rows, names, method="personal", shrinkage=s).shifts).sum() for s in (0.0, 5.0, 1e9)]
    assert shifts[0] > shifts[1] > 1e-3
    assert shifts[2] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (on_circle(0, 90), ["Al", "Bo"]),  # nobody has two photos
        (on_circle(0, 10), ["Al", "Al"]),  # nobody else
        (on_circle(0, 90, 1, 91), ["Al", "Al", "Bo", "Bo"]),  # others are always nearer
    ],
)
def test_a_gallery_that_gives_no_threshold(rows: np.ndarray, names: list[str]) -> None:
    for method in gallery_module.METHODS:
        with pytest.raises(DataError, match="give a threshold"):
            Gallery(rows, names, method=method, k=1).threshold()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": ROWS * 3}, "gallery's embeddings must have unit norm. Received: 5 of 5"),
        ({"embeddings": ROWS[:0], "labels": []}, r"shape \(0, 2\)"),
        ({"labels": NAMES[:4]}, "Each of 5 photos needs a person's name"),
        ({"labels": [1, 2, 3, 4, 5]}, "needs a person's name"),
        ({"labels": ["", *NAMES[1:]]}, "needs a person's name"),
        ({"method": "best"}, "'best'"),
        ({"method": "nearest", "k": 0}, "k must be 1 to the 5 photos"),
        ({"method": "nearest", "k": 6}, "Received: 6"),
        ({"method": "personal", "shrinkage": -1.0}, "Shrinkage"),
        ({"method": "personal", "shrinkage": float("nan")}, "Shrinkage"),
    ],
)
def test_what_makes_no_gallery(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Gallery(**{"embeddings": ROWS, "labels": NAMES, **change})  # type: ignore[arg-type]


def test_probes_must_fit() -> None:
    with pytest.raises(DataError, match=r"probe's embeddings must be \[photos, 2\]"):
        Gallery(ROWS, NAMES).rank(np.ones((1, 3)) / np.sqrt(3), top=1)
    with pytest.raises(DataError, match="1 of 2 that do not"):
        Gallery(ROWS, NAMES).rank([[1.0, 0.0], [np.nan, 0.0]], top=1)
