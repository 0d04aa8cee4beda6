"""Rates by group counted by hand; differences against published figures, scikit-free, and in simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from facetl.errors import DataError
from facetl.metrics import groups
from facetl.metrics.bootstrap import PersonRate
from facetl.metrics.groups import group_rates, holm


def people(seed: int, *, shift: dict[str, float], count: int = 40, pairs: int = 400) -> dict[str, np.ndarray]:
    """Pairs within each group of `shift`, whose negatives are nearer by its value, with effects by person."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[np.ndarray]] = {}
    for name, nearer in shift.items():
        effect = 0.15 * rng.standard_normal(count)
        own = rng.integers(count, size=pairs)
        first = rng.integers(count, size=pairs)
        second = (first + rng.integers(1, count, size=pairs)) % count
        near = 0.8 + effect[own] + 0.2 * rng.standard_normal(pairs)
        far = 1.5 - nearer + effect[first] + effect[second] + 0.2 * rng.standard_normal(pairs)
        names = np.array([f"{name} {k}" for k in range(count)])
        for key, values in (
            ("distances", np.append(near, far)),
            ("same", np.arange(2 * pairs) < pairs),
            ("first_group", np.full(2 * pairs, name)),
            ("second_group", np.full(2 * pairs, name)),
            ("first_person", names[np.append(own, first)]),
            ("second_person", names[np.append(own, second)]),
        ):
            columns.setdefault(key, []).append(values)
    return {key: np.concatenate(values) for key, values in columns.items()}


def test_rates_by_hand():
    # Accepted at 1.0: the first, the third and the last. "x" and "y" have no group.
    rows = [
        (0.5, True, "A", "A", "a", "a"),
        (1.2, True, "A", "A", "a", "a"),
        (0.9, False, "A", "A", "a", "b"),
        (1.1, False, "A", "A", "b", "c"),
        (1.3, False, "A", "A", "a", "c"),
        (1.4, False, "B", "B", "d", "e"),
        (0.3, False, "A", "B", "a", "d"),
        (0.4, True, "", "", "x", "x"),
        (0.8, False, "", "B", "y", "e"),
    ]
    distances, same, *names = (np.array(column) for column in zip(*rows, strict=True))
    report = group_rates(distances, same, *names, threshold=1.0, seed=0)
    a, b = report.groups
    assert (a.group, a.far.value, a.far.errors, a.far.pairs, a.far.people) == ("A", pytest.approx(1 / 3), 1, 3, 3)
    assert (a.frr.value, a.frr.errors, a.frr.pairs, a.frr.people) == (0.5, 1, 2, 1)
    assert (b.group, b.far.value, b.frr.value, b.frr.pairs) == ("B", 0.0, None, 0)
    assert report.pairs_left_out == 3
    assert report.differences == report.warnings == ()
    assert len(report.too_small) == 4
    assert report.too_small[0].startswith("FAR of A: too small a group to say, 3 pairs of different people with 3 peo")
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["groups"][1]["frr"]["value"] is None


def test_a_group_that_is_worse_is_named():
    report = group_rates(**people(0, shift={"North": 0.0, "South": 0.45, "West": 0.0}), threshold=1.1, seed=0)
    assert len(report.warnings) == 1, report.warnings
    assert report.warnings[0].startswith("FAR is higher for South (")
    assert ") than for North (" in report.warnings[0]
    assert ") and West (" in report.warnings[0]
    assert report.too_small == ()
    beyond = [(one.rate, one.higher, one.lower) for one in report.differences if one.p_value < 0.05]
    assert beyond == [("far", "South", "North"), ("far", "South", "West")]
    for one in report.differences:
        rates = {each.group: getattr(each, one.rate).value for each in report.groups}
        assert one.difference == pytest.approx(rates[one.higher] - rates[one.lower])
        assert one.interval.low <= one.difference <= one.interval.high
        assert one.p_value > 0.05 or one.interval.low > 0.0
    south = report.groups[1].far
    assert south.interval.low < south.value < south.interval.high
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["warnings"] == list(report.warnings)


def test_groups_alike_raise_no_alarm():
    """Family-wise 5 % at most: of 40 reports on three equal groups 2 are expected to warn, 6 are 1 in 70."""
    alike = {"North": 0.0, "South": 0.0, "West": 0.0}
    alarms = sum(
        bool(group_rates(**people(seed, shift=alike, pairs=150), threshold=1.1, seed=0, replicates=100).warnings)
        for seed in range(40)
    )
    assert alarms <= 5


def test_a_small_group_is_named_and_not_compared():
    large, small = people(1, shift={"L": 0.0}), people(2, shift={"S": 0.6}, count=8, pairs=60)
    report = group_rates(**{k: np.append(large[k], small[k]) for k in large}, threshold=1.1, seed=0)
    assert report.differences == ()
    assert [sentence[:8] for sentence in report.too_small] == ["FAR of S", "FRR of S"]
    assert report.groups[1].far.value > 0.2
    assert report.groups[1].far.interval is None


def test_a_threshold_for_each_pair():
    pairs = people(3, shift={"A": 0.0})
    per_pair = np.where(pairs["same"], -1.0, 5.0)
    report = group_rates(**pairs, threshold=per_pair, seed=0)
    assert (report.groups[0].far.value, report.groups[0].frr.value) == (1.0, 1.0)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04: ×4 0.02, ×3 0.03, ×2 0.06, ×1 0.04 raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_difference_of_independent_draws_as_published():
    # Newcombe, Statistics in Medicine 1998, p. 883, method 10: 56 of 70 and 48 of 80 give 0.0524 to 0.3339.
    high = PersonRate(0.8, np.sqrt(0.8 * 0.2 / 70), 1e9)
    low = PersonRate(0.6, np.sqrt(0.6 * 0.4 / 80), 1e9)
    assert groups._difference_interval(high, low) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    chi2 = chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert groups._p_value(high, low) == pytest.approx(chi2.pvalue, rel=1e-6)
    assert groups._p_value(PersonRate(0.0, 0.0, 20), PersonRate(0.0, 0.0, 30)) == 1.0


def test_a_person_of_two_groups_is_refused():
    pairs = people(4, shift={"A": 0.0, "B": 0.0})
    pairs["first_person"][0] = pairs["second_person"][0] = "B 1"
    with pytest.raises(DataError, match=r"one group. Received: B 1 in 'A' and 'B'"):
        group_rates(**pairs, threshold=1.0, seed=0)


def test_nobody_with_a_group_is_refused():
    pairs = people(5, shift={"": 0.0})
    with pytest.raises(DataError, match="need people with a group"):
        group_rates(**pairs, threshold=1.0, seed=0)
    pairs["first_group"] = pairs["first_group"][1:]
    with pytest.raises(DataError, match=r"\(799,\), \(800,\)"):
        group_rates(**pairs, threshold=1.0, seed=0)
