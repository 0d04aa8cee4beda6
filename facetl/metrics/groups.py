"""Error rates of groups of people, and whether they differ by more than chance would make them.

A pair counts for a group when both its people belong to it, so that strangers in a group are as alike as its people
are (NIST IR 8280, Face Recognition Vendor Test, part 3, 2019, section 4). Groups are named by the user, in a file;
nothing is guessed from a photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from facetl.errors import DataError
from facetl.io.json import JsonFields
from facetl.metrics.bootstrap import LEAST_PEOPLE, LEVEL, REPLICATES, Interval, PersonRate, person_rate
from facetl.metrics.roc import checked_pairs

_RATES = {"far": ("FAR", "different people"), "frr": ("FRR", "one person")}


@dataclass(frozen=True)
class GroupRate(JsonFields):
    """A rate of one group, or why it has none.

    value: errors / pairs, None without pairs; interval: by person, None where the group is too small to say;
    people: those in the pairs.
    """

    value: float | None
    interval: Interval | None
    errors: int
    pairs: int
    people: int


@dataclass(frozen=True)
class GroupRates(JsonFields):
    """The two error rates of one group at the threshold."""

    group: str
    far: GroupRate
    frr: GroupRate


@dataclass(frozen=True)
class GroupDifference(JsonFields):
    """The rate ("far" or "frr") of `higher` less that of `lower`.

    interval: of this difference alone; p_value: two-sided, after Holm's correction for all the differences looked at.
    """

    rate: str
    higher: str
    lower: str
    difference: float
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class GroupReport(JsonFields):
    """Rates of every group, sorted by name, and all differences between two groups large enough to compare.

    level: of all intervals; pairs_left_out: pairs across groups or of people without a group.
    """

    groups: tuple[GroupRates, ...]
    differences: tuple[GroupDifference, ...]
    level: float
    pairs_left_out: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each rate that is higher in a group than in others by more than noise."""
        rates = {(each.group, rate): getattr(each, rate) for each in self.groups for rate in _RATES}
        found: dict[tuple[str, str], list[GroupDifference]] = {}
        for difference in self.differences:
            if difference.p_value < 1.0 - self.level:
                found.setdefault((difference.rate, difference.higher), []).append(difference)
        sentences = []
        for (rate, higher), beyond in found.items():
            lower = _listed([f"{one.lower} ({100 * rates[one.lower, rate].value:.2g} %)" for one in beyond])
            p = max(one.p_value for one in beyond)
            sentences.append(
                f"{_RATES[rate][0]} is higher for {higher} ({100 * rates[higher, rate].value:.2g} %) than for {lower}, "
                f"beyond noise (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}, Holm-corrected)."
            )
        return tuple(sentences)

    @property
    def too_small(self) -> tuple[str, ...]:
        """A sentence for each rate of a group that is too small for a conclusion."""
        return tuple(
            f"{label} of {each.group}: too small a group to say, {getattr(each, rate).pairs:,} pairs of {kind} with "
            f"{getattr(each, rate).people:,} people; it takes {LEAST_PEOPLE} or more, in about as many pairs each."
            for each in self.groups
            for rate, (label, kind) in _RATES.items()
            if getattr(each, rate).interval is None
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, `warnings` and `too_small`."""
        return super().to_json() | {"warnings": list(self.warnings), "too_small": list(self.too_small)}


def group_rates(
    distances: npt.ArrayLike,
    same: npt.ArrayLike,
    first_group: npt.ArrayLike,
    second_group: npt.ArrayLike,
    first_person: npt.ArrayLike,
    second_person: npt.ArrayLike,
    *,
    threshold: npt.ArrayLike,
    seed: int,
    replicates: int = REPLICATES,
) -> GroupReport:
    """Return FAR and FRR of each group at a threshold, with intervals by person, and every difference tested.

    distances: float [pairs]; same: bool [pairs]; groups: str [pairs], "" for none; people: [pairs];
    threshold: a number or float [pairs]. Two groups share no person, so their rates are independent: a score test
    with the number of independent draws behind each (Rao and Scott, 1981), Newcombe's interval (1998, method 10).
    Raises DataError for a person of two groups, or where nobody has one.
    """
    distances, same = checked_pairs(distances, same)
    columns = [np.asarray(column) for column in (first_group, second_group, first_person, second_person)]
    if any(column.shape != distances.shape for column in columns):
        raise DataError(
            f"Each of {len(distances)} pairs needs two groups and two people. "
            f"Received: shapes {', '.join(str(column.shape) for column in columns)}."
        )
    groups, people = np.concatenate(columns[:2]).astype(str), np.concatenate(columns[2:])
    _refuse_two_groups(groups, people)
    names = [str(name) for name in np.unique(groups) if name]
    if not names:
        raise DataError("Rates by group need people with a group. Received: none; check the names in the groups file.")
    accepted = distances <= np.asarray(threshold)
    first, second = np.split(groups, 2)
    rows, known = [], {}
    for name in names:
        inside = (first == name) & (second == name)
        rates = {}
        for rate, kind, errors in (("far", ~same, accepted), ("frr", same, ~accepted)):
            of = inside & kind
            pair_people = [column[of] for column in columns[2:]]
            estimate = person_rate(errors[of], *pair_people, seed=seed, replicates=replicates) if of.any() else None
            if estimate is not None and estimate.people >= LEAST_PEOPLE:
                known[rate, name] = estimate
            rates[rate] = GroupRate(
                value=None if estimate is None else estimate.value,
                interval=known[rate, name].interval() if (rate, name) in known else None,
                errors=int(np.count_nonzero(errors[of])),
                pairs=int(np.count_nonzero(of)),
                people=len(np.unique(pair_people)),
            )
        rows.append(GroupRates(name, **rates))
    left_out = int(np.count_nonzero((first != second) | (first == "")))
    return GroupReport(tuple(rows), _differences(known), LEVEL, left_out)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return P-values that hold for all tests together, in the given order (Holm, 1979)."""
    ascending = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, np.float64)[ascending] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[ascending] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(p) for p in corrected]


def _differences(known: dict[tuple[str, str], PersonRate]) -> tuple[GroupDifference, ...]:
    found = []
    for rate in _RATES:
        names = [name for of, name in known if of == rate]
        for pair in combinations(names, 2):
            lower, higher = sorted(pair, key=lambda name: known[rate, name].value)
            found.append((rate, higher, lower, known[rate, higher], known[rate, lower]))
    corrected = holm([_p_value(high, low) for *_, high, low in found])
    return tuple(
        GroupDifference(rate, higher, lower, high.value - low.value, _difference_interval(high, low), p)
        for (rate, higher, lower, high, low), p in zip(found, corrected, strict=True)
    )


def _p_value(high: PersonRate, low: PersonRate) -> float:
    """Return the two-sided P of the score test that both rates are one, pooled over their independent draws."""
    pooled = (high.value * high.draws + low.value * low.draws) / (high.draws + low.draws)
    variance = pooled * (1.0 - pooled) * (1.0 / high.draws + 1.0 / low.draws)
    if variance <= 0.0:
        return 1.0
    z = (high.value - low.value) / math.sqrt(variance)
    return float(2.0 * scipy.stats.t.sf(z, min(high.people, low.people) - 1.0))


def _difference_interval(high: PersonRate, low: PersonRate) -> Interval:
    difference = high.value - low.value
    above, below = high.interval(), low.interval()
    return Interval(
        difference - math.hypot(high.value - above.low, below.high - low.value),
        difference + math.hypot(above.high - high.value, low.value - below.low),
    )


def _refuse_two_groups(groups: npt.NDArray, people: npt.NDArray) -> None:
    groups_of: dict[Any, set[str]] = {}
    for person, group in zip(people.tolist(), groups.tolist(), strict=True):
        groups_of.setdefault(person, set()).add(group)
    for person, found in sorted(groups_of.items()):
        if len(found) > 1:
            names = _listed([repr(name) for name in sorted(found)])
            raise DataError(f"A person belongs to one group. Received: {person} in {names}.")


def _listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
