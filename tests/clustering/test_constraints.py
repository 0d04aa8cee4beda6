"""Unions under constraints: cases by hand, and random ones against a check of every pair."""

from __future__ import annotations

import numpy as np
import pytest

from facetl.clustering.constraints import ConstrainedUnionFind, Constraints, ConstraintSet
from facetl.errors import DataError


def test_names_and_differences_forbid_unions() -> None:
    links = ConstraintSet(9, Constraints(same=[(0, 1)], different=[((1, 2), (3,))]), {4: "Ann", 5: "Ann", 6: "Bob"})
    assert links.group(4) == links.group(5) != links.group(6)
    assert (links.label_of(5), links.label_of(6), links.label_of(0)) == ("Ann", "Bob", None)
    assert not links.unite(5, 6), "two names"
    assert not links.allow(0, 3), "1, which 0 is one with, differs from 3"
    assert links.unite(0, 2), "both are on the left side"
    assert links.unite(7, 3)
    assert not links.unite(7, 2), "7 is one with 3 now"
    assert links.unite(8, 6)
    assert not links.unite(8, 4), "8 is Bob now"


def test_rows_of_one_photo_stay_apart_unless_they_are_known_to_be_one() -> None:
    links = ConstraintSet(6, Constraints(same=[(0, 1)], apart=[(0, 1, 2), (3, 4)]), {})
    assert links.group(0) == links.group(1)
    assert not links.unite(1, 2)
    assert links.unite(2, 3)
    assert not links.unite(4, 2)
    links.keep_apart([5, 0])
    assert not links.unite(5, 1)
    assert links.unite(5, 4)


@pytest.mark.parametrize(
    ("constraints", "names", "message"),
    [
        (Constraints(same=[(0, 4)]), {}, "rows 0 to 3. Received: 4"),
        (Constraints(apart=[(-1, 2)]), {}, "Received: -1"),
        (Constraints(same=[(0, 1)]), {0: "Ann", 1: "Bob"}, "'Ann' and 'Bob'"),
        (Constraints(same=[(0, 1)], different=[((2, 1), (3, 0))]), {}, "row 1 with both"),
        (Constraints(different=[((2,), (3,))]), {2: "Ann", 3: "Ann"}, "row 2 with both"),
    ],
)
def test_contradictions_are_refused(constraints: Constraints, names: dict[int, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ConstraintSet(4, constraints, names)


@pytest.mark.parametrize("seed", range(20))
def test_unions_are_those_that_no_pair_forbids(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = ConstrainedUnionFind[str]()
    forbidden: set[frozenset[int]] = set()
    group = {one: {one} for one in range(12)}
    labels: dict[int, str] = {}
    for _ in range(60):
        one, other = rng.choice(12, 2, replace=False).tolist()
        match rng.integers(4):
            case 0:
                found.separate([one], [other])
                if group[one] is not group[other]:
                    forbidden.add(frozenset((one, other)))
            case 1:
                name = str(rng.choice(["Ann", "Bob"]))
                known = {labels[member] for member in group[one] if member in labels}
                assert found.label(one, name) == (known <= {name})
                if not known:
                    labels[one] = name
            case _:
                whole = group[one] | group[other]
                names = {labels[member] for member in whole if member in labels}
                free = not any(pair <= whole for pair in forbidden) and len(names) < 2
                allowed = group[one] is group[other] or free
                assert found.allow(one, other) == allowed
                assert found.unite(one, other) == allowed
                if allowed:
                    for member in whole:
                        group[member] = whole
    assert found.groups() == sorted({tuple(sorted(whole)) for whole in group.values() if len(whole) > 1})
