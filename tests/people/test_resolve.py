"""What follows from answers: worked out by hand, in the order in which they were given."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from facetl.people.store.models import LibraryAnswer, ResolvedAnswers
from facetl.people.store.resolve import resolve_answers


def notify(*spoken: tuple[Any, ...]) -> ResolvedAnswers:
    """Replay answers: (kind, left), (kind, left, right or name), ("rename", old, new), ("region", left, name)."""
    answers = []
    for number, (kind, left, *rest) in enumerate(spoken, start=1):
        right, name, old, origin = (), None, None, "user"
        if kind == "different":
            right = tuple(rest[0])
        elif kind == "rename":
            old, name, left = left, rest[0], ()
        elif rest:
            name = rest[0]
        if kind == "region":
            kind, origin = "name", "region"
        answers.append(LibraryAnswer(number, "", kind, tuple(left), right, name, False, old, origin))
    return resolve_answers(answers)


def test_no_answers() -> None:
    resolved = notify()
    assert (resolved.names, resolved.same, resolved.different) == ({}, [], [])


def test_a_later_name_wins_for_the_faces_it_lists_alone() -> None:
    resolved = notify(("name", [1, 2, 3], "Ann"), ("name", [2], "Bob"))
    assert resolved.names == {1: "Ann", 2: "Bob", 3: "Ann"}


def test_a_name_follows_those_marked_the_same() -> None:
    resolved = notify(("same", [1, 2]), ("same", [2, 3]), ("name", [3], "Ann"), ("same", [8, 9]))
    assert resolved.names == {1: "Ann", 2: "Ann", 3: "Ann"}
    assert resolved.same == [(1, 2, 3), (8, 9)]


def test_naming_one_of_many_takes_it_from_among_them() -> None:
    """The others were named: the one is not, whatever was merged before."""
    resolved = notify(("name", [1, 2, 3], "Bob"), ("same", [1, 2, 3, 4]), ("name", [3], "Ann"))
    assert resolved.names == {1: "Bob", 2: "Bob", 3: "Ann", 4: "Bob"}
    assert resolved.same == [(1, 2, 4)]


def test_different_parts_what_was_the_same() -> None:
    resolved = notify(("same", [1, 2, 3, 4, 5]), ("different", [1, 2], [3, 4]))
    assert resolved.same == [(1, 2), (3, 4)]  # of 5 nobody knows any more
    assert resolved.different == [((1, 2), (3, 4))]


def test_same_takes_back_different_for_those_it_lists() -> None:
    resolved = notify(("different", [1, 2], [3, 4]), ("same", [1, 3]))
    # 1 = 3; 2 still differs from both, and 4 from 2; that 1 differs from 4 was not taken back.
    assert resolved.same == [(1, 3)]
    assert {(frozenset(left), frozenset(right)) for left, right in resolved.different} == {
        (frozenset({2}), frozenset({3, 4})),
        (frozenset({1}), frozenset({4})),
    }


def test_a_chain_that_ends_in_a_contradiction_loses_its_oldest_link() -> None:
    resolved = notify(("same", [1, 2]), ("same", [2, 3]), ("different", [1], [3]))
    assert resolved.same == [(2, 3)]


def test_a_same_across_an_older_difference_keeps_the_newer_of_what_conflicts() -> None:
    resolved = notify(("same", [1, 2]), ("different", [2], [3]), ("same", [1, 3]))
    assert resolved.same == [(1, 3)]
    assert resolved.different == [((2,), (3,))]


def test_of_two_names_made_one_the_newer_stays() -> None:
    resolved = notify(("name", [1], "Ann"), ("name", [2], "Bob"), ("same", [1, 2]))
    assert resolved.names == {1: "Bob", 2: "Bob"}
    resolved = notify(("name", [2], "Bob"), ("name", [1], "Ann"), ("same", [1, 2]))
    assert resolved.names == {1: "Ann", 2: "Ann"}


def test_one_face_of_another_name_leaves_the_rest_of_it() -> None:
    resolved = notify(("name", [1, 2, 3], "Ann"), ("name", [7, 8], "Bob"), ("same", [1, 7]))
    assert resolved.names == {1: "Bob", 2: "Ann", 3: "Ann", 7: "Bob", 8: "Bob"}


def test_who_is_parted_from_a_name_loses_it() -> None:
    resolved = notify(("name", [1, 2, 3], "Ann"), ("different", [1], [2, 3]))
    assert resolved.names == {2: "Ann", 3: "Ann"}
    resolved = notify(("name", [1, 2, 3], "Ann"), ("different", [1], [2, 3]), ("name", [1], "Ann"))
    assert resolved.names == {1: "Ann", 2: "Ann", 3: "Ann"}
    assert resolved.different == []

    resolved = notify(("name", [1, 2, 3], "Ann"), ("different", [3], [1, 2]))
    assert resolved.names == {1: "Ann", 2: "Ann"}


def test_what_was_joined_later_contradicts_no_more_than_itself() -> None:
    """2 and 3 are one by way of 5: that they differ is void; that 1 differs from 3, and 2 from 4, is not."""
    resolved = notify(
        ("same", [1, 2]), ("same", [3, 4]), ("different", [1, 2], [3, 4]), ("same", [2, 5]), ("same", [5, 3])
    )
    assert resolved.same == [(2, 3, 5)]
    pairs = {(one, other) for left, right in resolved.different for one in left for other in right}
    assert pairs == {(1, 3), (1, 4), (2, 4)}


def test_who_is_joined_differs_from_all_either_differed_from() -> None:
    spoken = [("same", [1, 8]), ("same", [3, 9]), ("same", [1, 3]), ("different", [3], [8]), ("different", [1], [9])]
    assert notify(*spoken).same == [(1, 3)]


def test_no_face_differs_from_nobody() -> None:
    assert notify(("different", [1, 2], [3]), ("not-a-face", [1])).different == [((2,), (3,))]
    assert notify(("different", [1], [3]), ("not-a-face", [1])).different == []


def test_different_keeps_same_names_apart_only_where_it_is_newer() -> None:
    resolved = notify(("different", [1], [2]), ("name", [1, 2], "Ann"))
    assert resolved.names == {1: "Ann", 2: "Ann"}
    assert resolved.different == []


def test_not_a_face_leaves_everything() -> None:
    resolved = notify(("same", [1, 2, 3]), ("name", [1, 2], "Ann"), ("not-a-face", [2]))
    assert resolved.names == {1: "Ann", 3: "Ann"}
    assert resolved.not_faces == {2}
    assert resolved.same == [(1, 3)]
    resolved = notify(("not-a-face", [2]), ("name", [2], "Ann"))
    assert (resolved.names, resolved.not_faces) == ({2: "Ann"}, frozenset())
    resolved = notify(("not-a-face", [2]), ("same", [2, 3]))
    assert (resolved.same, resolved.not_faces) == ([(2, 3)], frozenset())


def test_strangers() -> None:
    resolved = notify(("stranger", [1, 2]), ("same", [2, 3]), ("name", [4], "Ann"), ("same", [1, 4]))
    assert resolved.strangers == {2, 3}
    assert resolved.names == {1: "Ann", 4: "Ann"}
    resolved = notify(("name", [1], "Ann"), ("stranger", [1]))
    assert (resolved.names, resolved.strangers) == ({}, {1})


def test_renames_and_merges() -> None:
    resolved = notify(("name", [1], "Ann"), ("name", [2], "Bob"), ("rename", "Ann", "Anna"), ("name", [3], "Ann"))
    assert resolved.names == {1: "Anna", 2: "Bob", 3: "Ann"}
    resolved = notify(("name", [1], "Ann"), ("name", [2], "Bob"), ("different", [1], [2]), ("rename", "Ann", "Bob"))
    assert resolved.names == {1: "Bob", 2: "Bob"}
    assert resolved.different == []
    resolved = notify(("region", [1], "ann"), ("name", [2], "ann"), ("rename", "ann", "Ann"))
    assert resolved.names == {1: "Ann", 2: "Ann"}


def test_an_answer_of_the_user_wins_over_metadata_that_comes_later() -> None:
    resolved = notify(("name", [1], "Ann"), ("region", [1, 2], "Bob"))
    assert resolved.names == {1: "Ann", 2: "Bob"}


def test_undone_answers_are_passed_over() -> None:
    ann, bob = (LibraryAnswer(i, "", "name", (1,), (), name, i == 2) for i, name in ((1, "Ann"), (2, "Bob")))
    assert resolve_answers([ann, bob]).names == {1: "Ann"}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_answered_the_result_holds_together(seed: int) -> None:
    """Of a hundred random answers: nothing in the result contradicts anything else in it, and the last one holds."""
    rng = np.random.default_rng(seed)
    spoken: list[tuple[Any, ...]] = []
    for _ in range(100):
        faces = rng.permutation(12)[: rng.integers(2, 6)].tolist()
        cut = int(rng.integers(1, len(faces)))
        name = "ABC"[rng.integers(3)]
        kinds = [
            ("name", faces, name),
            ("same", faces),
            ("different", faces[:cut], faces[cut:]),
            ("not-a-face", faces[:1]),
            ("stranger", faces[:1]),
            ("rename", name, "ABCD"[rng.integers(4)]),
            ("region", faces, name),
        ]
        spoken.append(kinds[rng.integers(len(kinds))])
    resolved = notify(*spoken)
    group = {face: place for place, faces in enumerate(resolved.same) for face in faces}
    assert len(group) == sum(map(len, resolved.same)), "a face is in one group"
    for faces in resolved.same:
        assert len({resolved.names.get(face) for face in faces}) == 1, "a group has one name, all of it"
        assert not resolved.not_faces & set(faces)
        assert resolved.strangers & set(faces) in (set(), set(faces))
    for left, right in resolved.different:
        for one, other in itertools.product(left, right):
            assert one not in group or group[one] != group.get(other)
            assert one not in resolved.names or resolved.names[one] != resolved.names.get(other)
    assert not resolved.names.keys() & resolved.not_faces
    assert not resolved.names.keys() & resolved.strangers
    assert not resolved.not_faces & resolved.strangers
    kind, faces, *rest = next(one for one in reversed(spoken) if one[0] not in ("rename", "region"))
    if kind == "name":
        assert len({resolved.names[face] for face in faces}) == 1
    elif kind == "same":
        assert any(set(faces) <= set(group) for group in resolved.same)
    elif kind == "different":
        pairs = {(one, other) for left, right in resolved.different for one in left for other in right}
        sides = ([face for face in side if face not in resolved.not_faces] for side in (faces, rest[0]))
        assert pairs >= set(itertools.product(*sides)) or spoken[-1][0] == "rename"
    else:
        assert set(faces) <= (resolved.not_faces if kind == "not-a-face" else resolved.strangers)
