from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest

from facetl.data import splits
from facetl.errors import DataError


def people(n: int, *, photos: int = 3, prefix: str = "p") -> dict[str, int]:
    return {f"{prefix}{i}": photos for i in range(n)}


def test_position_is_pinned() -> None:
    # A change here would silently move people of every user's validation set into training.
    digest = hashlib.blake2b("7\0José".encode(), digest_size=8).digest()
    assert splits.position("José", seed=7) == pytest.approx(int.from_bytes(digest, "big") / 2**64, abs=1e-15)
    assert splits.position("Ann", seed=0) == pytest.approx(0.23648423288516862, abs=1e-15)


def test_position_is_uniform() -> None:
    at = np.array([splits.position(f"person {i}", seed=3) for i in range(4000)])
    assert at.min() >= 0
    assert at.max() < 1
    observed = np.histogram(at, bins=10, range=(0, 1))[0]
    assert ((observed - 400) ** 2 / 400).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_composed_and_decomposed_names_are_one_person() -> None:
    assert splits.position(unicodedata.normalize("NFD", "Zoë"), seed=1) == splits.position("Zoë", seed=1)


def test_side_is_test_then_validation_then_train(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"a": 0.0, "b": 0.1999, "c": 0.2, "d": 0.4999, "e": 0.5, "f": 0.99}
    monkeypatch.setattr(splits, "position", lambda name, *, seed: places[name])
    sides = [splits.side(name, seed=0, validation=0.3, test=0.2) for name in places]
    assert sides == ["test", "test", "validation", "validation", "train", "train"]


def test_a_side_survives_more_photos_more_people_and_another_order() -> None:
    counts = people(200)
    before = splits.assign(counts, seed=5, validation=0.15, test=0.2)
    more = dict(reversed(people(300).items())) | {name: 40 for name in counts if name.endswith("7")}
    after = splits.assign(more, seed=5, validation=0.15, test=0.2)
    assert {name: after[name] for name in counts} == before
    assert before == {name: splits.side(name, seed=5, validation=0.15, test=0.2) for name in counts}


def test_another_seed_gives_another_split() -> None:
    assert splits.assign(people(50), seed=1, validation=0.2, test=0.2) != splits.assign(
        people(50), seed=2, validation=0.2, test=0.2
    )


def test_one_photo_and_many_photos_have_the_same_chances() -> None:
    counts = people(2000, photos=1, prefix="one") | people(2000, photos=12, prefix="many")
    sides = splits.assign(counts, seed=0, validation=0.1, test=0.2)
    for photos in (1, 12):
        side = [sides[name] for name, count in counts.items() if count == photos]
        assert len(side) == 2000
        # Three standard deviations of a binomial share of 2,000 people.
        assert abs(side.count("test") / 2000 - 0.2) < 3 * (0.2 * 0.8 / 2000) ** 0.5
        assert abs(side.count("validation") / 2000 - 0.1) < 3 * (0.1 * 0.9 / 2000) ** 0.5


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    places = {"a": 0.30, "b": 0.45, "c": 0.50, "d": 0.60, "e": 0.70, "f": 0.80, "g": 0.90}
    monkeypatch.setattr(splits, "position", lambda name, *, seed: places[name])
    return places


def test_a_small_set_fills_its_sides_with_the_nearest_people(placed: dict[str, float]) -> None:
    # Nobody stands below 0.2: the two nearest people with several photos test, the next two validate.
    counts = {"a": 2, "b": 1, "c": 4, "d": 2, "e": 2, "f": 2, "g": 2}
    assert splits.assign(counts, seed=0, validation=0.1, test=0.1) == {
        "a": "test",
        "b": "train",
        "c": "test",
        "d": "validation",
        "e": "validation",
        "f": "train",
        "g": "train",
    }


def test_training_keeps_two_people(placed: dict[str, float]) -> None:
    counts = {"a": 2, "c": 2, "d": 2, "e": 2, "f": 2}
    sides = splits.assign(counts, seed=0, validation=0, test=0.85)
    assert sides == {"a": "test", "c": "test", "d": "test", "e": "train", "f": "train"}


def test_a_side_of_fraction_nought_stays_empty(placed: dict[str, float]) -> None:
    counts = dict.fromkeys(placed, 2)
    assert "test" not in splits.assign(counts, seed=0, validation=0.2, test=0).values()
    assert "validation" not in splits.assign(counts, seed=0, validation=0, test=0.2).values()
    assert set(splits.assign({"a": 1}, seed=0, validation=0, test=0).values()) == {"train"}


def test_too_few_people_are_reported(placed: dict[str, float]) -> None:
    counts = {"a": 2, "b": 1, "c": 1, "d": 2, "e": 2, "f": 2, "g": 2}
    with pytest.raises(DataError, match=r"at least 6 people with 2 photos or more, got 5 \(of 7 people\)"):
        splits.assign(counts, seed=0, validation=0.1, test=0.1)
    assert len(splits.assign(counts, seed=0, validation=0.1, test=0)) == 7


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.1, float("nan")), (0.0, 1.0)])
def test_fractions_that_make_no_sense(validation: float, test: float) -> None:
    with pytest.raises(DataError, match="split fractions must be 0 or more"):
        splits.assign(people(9), seed=0, validation=validation, test=test)
    with pytest.raises(DataError, match="split fractions"):
        splits.side("a", seed=0, validation=validation, test=test)


def test_photos_of_the_same_people_are_dealt_by_their_position(monkeypatch: pytest.MonkeyPatch) -> None:
    places = (
        {f"a/{n}": n / 10 for n in range(7)} | {f"b/{n}": (9 - n) / 10 for n in range(6)} | {"c/0": 0.0, "c/1": 0.1}
    )
    monkeypatch.setattr(splits, "position", lambda name, *, seed: places[name])
    photos = {one: [path for path in places if path[0] == one] for one in "abc"}
    sides = splits.assign_photos(photos, seed=0, validation=0.2, test=0.3)
    assert sides is not None
    # 0.3 of 7 is 2.1 photos; every side has two of a person. Whoever has fewer than six is for training alone.
    assert {path for path, side in sides.items() if side == "test"} == {"a/0", "a/1", "b/5", "b/4"}
    assert {path for path, side in sides.items() if side == "validation"} == {"a/2", "a/3", "b/3", "b/2"}
    assert len(sides) == len(places)
    assert splits.assign_photos({"a": photos["a"], "b": photos["b"][:5]}, seed=0, validation=0.2, test=0.2) is None
    assert splits.assign_photos({"a": photos["a"], "b": photos["b"][:4]}, seed=0, validation=0.2, test=0) is not None
