"""Triplet scores by hand on points of a circle, and folds that share nobody with what they learn from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facetl.errors import DataError
from facetl.metrics import triplet_scores as triplets_module
from facetl.metrics.roc import best_threshold
from facetl.metrics.triplet_scores import score_triplets


def at(*distances: float) -> np.ndarray:
    """Unit vectors at these squared distances from (1, 0)."""
    angle = 2 * np.arcsin(np.sqrt(np.array(distances)) / 2)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


# Anchor at (1, 0) in every row.            row: 0    1    2    3    4    5
POSITIVE, NEGATIVE = at(0.1, 0.2, 0.9, 0.3, 0.5, 0.5), at(1.0, 1.2, 0.4, 0.6, 0.5, 2.0)
ANCHOR = np.repeat([[1.0, 0.0]], 6, axis=0)


def test_scores_by_hand() -> None:
    scores = score_triplets(ANCHOR, POSITIVE, NEGATIVE, threshold=0.55, margin=0.2)
    # Positives accepted: all but 0.9. Negatives rejected: all but 0.4 and 0.5.
    assert scores.accuracy == pytest.approx(9 / 12)
    assert scores.frr_at_threshold == pytest.approx(1 / 6)
    assert scores.far_at_threshold == pytest.approx(2 / 6)
    # Losses: 0, 0, 0.9 − 0.4 + 0.2, 0, 0.2, 0.
    assert scores.loss == pytest.approx(0.9 / 6)
    assert scores.triplets == 6
    assert (scores.threshold, scores.margin) == (0.55, 0.2)


def test_a_tie_is_not_the_right_order() -> None:
    same_place = np.tile([[0.6, 0.8]], (4, 1))
    assert score_triplets(same_place, same_place, same_place, threshold=1, margin=0.2).order == 0.0
    scores = score_triplets(ANCHOR[:3], POSITIVE[:3], NEGATIVE[:3], threshold=1, margin=0.2)
    assert scores.order == pytest.approx(2 / 3)


def test_folds_of_rows_by_hand() -> None:
    # Two blocks. Rows 0–2: positives 0.1 0.2 0.9, negatives 1.0 1.2 0.4. Rows 3–5: 0.3 0.5 0.5, 0.6 0.5 2.0.
    # Rows 3–5: all right but the negative at 0.5 up to 0.5, the next is 0.6 → 0.55: 2 + 2 of 6 in the first block.
    # Rows 0–2: the best cuts leave one wrong: 0.2|0.4 → 0.3 and 0.9|1.0 → 0.95; the wider one wins.
    # At 0.3 the second block has 1 (just) of its positives and all 3 negatives.
    scores = score_triplets(ANCHOR, POSITIVE, NEGATIVE, threshold=0.55, margin=0.2, folds=2)
    cut = best_threshold([0.1, 0.2, 0.9, 1.0, 1.2, 0.4], [True, True, True, False, False, False])
    assert cut == pytest.approx(0.3)
    second = (int(np.sum((ANCHOR[3:] - POSITIVE[3:]) ** 2 @ [1, 1] <= cut)) + 3) / 6
    assert scores.folds_of == "rows"
    assert scores.folds == 2
    assert scores.accuracy_kfold == pytest.approx((4 / 6 + second) / 2)
    assert scores.accuracy_kfold_stderr == pytest.approx(np.std([4 / 6, second], ddof=1) / np.sqrt(2))


def test_blocks_are_even_and_no_more_than_rows() -> None:
    assert np.bincount(triplets_module._row_blocks(23, 5)[:, 0]).tolist() == [5, 5, 4, 5, 4]
    assert triplets_module._row_blocks(3, 10).tolist() == [[0, 0], [1, 1], [2, 2]]


def people_rows(
    seed: int, *, rows: int = 400, people: int = 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Noisy unit embeddings: anchor, positive and negative, and who they are [rows, 2]."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((people, 8))
    who = np.stack([rng.integers(people, size=rows), rng.integers(1, people, size=rows)], axis=1)
    who[:, 1] = (who[:, 0] + who[:, 1]) % people
    drawn = [centres[who[:, side]] + 0.8 * rng.standard_normal((rows, 8)) for side in (0, 0, 1)]
    return (*(e / np.linalg.norm(e, axis=1, keepdims=True) for e in drawn), who)  # type: ignore[return-value]


def test_a_threshold_never_meets_the_people_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    anchor, positive, negative, who = people_rows(0)
    d = np.stack([np.sum((anchor - other) ** 2, axis=1) for other in (positive, negative)], axis=1)
    row_of = {round(float(value), 12): row for row, values in enumerate(d) for value in values}
    learnt_from: list[set[int]] = []

    def spy(distances: np.ndarray, same: np.ndarray) -> float:
        rows = [row_of[round(float(value), 12)] for value in distances]
        assert len(rows) == 2 * len(set(rows))  # both decisions of a row: as many same as different
        learnt_from.append(set(who[rows].ravel().tolist()))
        return best_threshold(distances, same)

    sides = triplets_module._people_sides(who, len(who), 5, 0)
    fold_of = dict(zip(who.ravel().tolist(), sides.ravel().tolist(), strict=True))
    assert all((sides[who == person] == fold).all() for person, fold in fold_of.items())
    monkeypatch.setattr(triplets_module, "best_threshold", spy)
    scores = score_triplets(anchor, positive, negative, threshold=1, margin=0.2, folds=5, people=who)
    assert scores.folds_of == "people"
    assert scores.folds == 5
    judged = [set(pair) for pair in np.unique(np.sort(sides, axis=1), axis=0).tolist()]
    assert len(learnt_from) == len(judged) == 15
    for people, folds in zip(learnt_from, judged, strict=True):
        assert people
        assert not {fold_of[person] for person in people} & folds


def test_folds_of_people_by_brute_force() -> None:
    anchor, positive, negative, who = people_rows(1, rows=90, people=12)
    names = np.array([f"p{n:02d}" for n in range(12)])[who]
    scores = score_triplets(anchor, positive, negative, threshold=1, margin=0.2, folds=4, people=names, seed=3)
    near, far = np.sum((anchor - positive) ** 2, axis=1), np.sum((anchor - negative) ** 2, axis=1)
    sides = triplets_module._people_sides(names, 90, 4, 3)
    right: dict[int, list[float]] = {fold: [] for fold in range(4)}
    for row in range(90):
        free = [r for r in range(90) if not set(sides[r]) & set(sides[row])]
        cut = best_threshold(np.r_[near[free], far[free]], np.arange(2 * len(free)) < len(free))
        right[sides[row, 0]] += [near[row] <= cut, far[row] > cut]
    folds = [np.mean(right[fold]) for fold in range(4)]
    assert scores.accuracy_kfold == pytest.approx(np.mean(folds))
    assert scores.accuracy_kfold_stderr == pytest.approx(np.std(folds, ddof=1) / 2)


def test_too_few_people_or_rows_for_folds() -> None:
    two = score_triplets(ANCHOR, POSITIVE, NEGATIVE, threshold=1, margin=0, people=[["a", "b"], ["b", "a"]] * 3)
    assert (two.accuracy_kfold, two.accuracy_kfold_stderr, two.folds) == (None, None, 0)
    one = score_triplets(ANCHOR[:1], POSITIVE[:1], NEGATIVE[:1], threshold=1, margin=0)
    assert one.accuracy_kfold is None
    json.dumps(two.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": POSITIVE[:5]}, "three"),
        ({"anchor": ANCHOR * 2}, "unit norm"),
        ({"threshold": float("nan")}, "finite"),
        ({"margin": -0.1}, "margin 0 or more"),
        ({"folds": 1}, "2 folds or more"),
        ({"people": [["a", "b"]] * 5}, r"\[6, 2\]"),
        ({"people": [["a", "b"]] * 5 + [["c", "c"]]}, "Received: c twice in triplet 6"),
    ],
)
def test_what_cannot_be_scored(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "anchor": ANCHOR,
        "positive": POSITIVE,
        "negative": NEGATIVE,
        "threshold": 1,
        "margin": 0,
    }
    with pytest.raises(DataError, match=message):
        score_triplets(**{**given, **change})  # type: ignore[arg-type]
