"""Stacks: as a clustering drew them, as answers change them at once, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scenes import draft, lying, made_up, stack_with

from facetl.errors import LibraryError
from facetl.people.library import Library
from facetl.people.store.models import Member, Stack


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """Twelve faces on twelve photos, numbered from 1, in stacks of 5, 4 and 2; the last lies in none."""
    with Library.open(tmp_path / "lib", create=True) as opened:
        assert made_up(opened, 12) == list(range(1, 13))
        opened.write_stacks(
            [
                draft(1, 2, 3, 4, 5, confidence=0.9),
                draft(6, 7, 8, 9, confidence=0.3, suggestion="Zoe"),
                draft(10, 11, confidence=0.6),
            ]
        )
        yield opened


def sets(*stacks: tuple[int, ...]) -> set[frozenset[int]]:
    return {frozenset(stack) for stack in stacks}


def test_they_are_listed_in_every_order(library: Library) -> None:
    one, two, three = library.stacks()
    assert one == Stack(one.id, cover=1, size=5, confidence=0.9, name=None, suggestion=None)
    assert two == Stack(two.id, cover=6, size=4, confidence=0.3, name=None, suggestion="Zoe")
    assert library.stack(three.id) == (three, [Member(10, 0.9), Member(11, 0.89)])
    assert library.stacks(order="uncertain") == [two, three, one]
    library.name_stack(three.id, "bo")
    library.name_stack(one.id, "Al")
    assert [stack.name for stack in library.stacks(order="name")] == ["Al", "bo", None]
    assert [stack.id for stack in library.stacks(named=True)] == [one.id, three.id]
    assert [stack.id for stack in library.stacks(named=False)] == [two.id]
    assert [stack.id for stack in library.stacks(offset=1, limit=1)] == [two.id]
    assert (library.stack_count(), library.stack_count(named=True), library.stack_count(named=False)) == (3, 2, 1)
    assert (library.stack_of(7), library.stack_of(12)) == (two.id, None)


def test_a_named_stack_shows_all_its_faces_under_the_name(library: Library) -> None:
    library.assign_name([1], "Ann")
    library.write_stacks([draft(1, 2, 3), draft(4, 5)])
    assert library.named() == {1: "Ann"}
    assert library.shown() == {1: "Ann", 2: "Ann", 3: "Ann"}
    [ann] = library.people()
    assert (ann.faces, ann.photos, ann.confirmed, ann.cover) == (3, 3, 1, 1)
    assert [photo.id for photo in library.photos(name="Ann")] == [1, 2, 3]
    assert library.photos(name="Bob") == []


def test_naming_some_faces_takes_them_out(library: Library) -> None:
    library.assign_name([4, 2, 12], "Ann")
    assert lying(library) == sets((1, 3, 5), (2, 4), (6, 7, 8, 9), (10, 11))
    stack, members = library.stack(stack_with(library, 2))
    assert (stack.name, stack.size, stack.cover, stack.confidence) == ("Ann", 2, 2, pytest.approx((0.89 + 0.87) / 2))
    assert [member.confidence for member in members] == [0.89, 0.87]
    rest, _ = library.stack(stack_with(library, 1))
    assert (rest.name, rest.suggestion, rest.cover) == (None, "Ann", 1)
    library.undo()
    assert lying(library) == sets((1, 2, 3, 4, 5), (6, 7, 8, 9), (10, 11))
    assert library.stack(stack_with(library, 2))[0].suggestion is None


def test_naming_more_of_a_named_stack_leaves_it_whole(library: Library) -> None:
    library.assign_name([1], "Ann")
    library.write_stacks([draft(1, 2, 3), draft(4, 5)])
    library.assign_name([2], "Ann")
    assert lying(library) == sets((1, 2, 3), (4, 5))
    library.assign_name([2], "Bob")
    assert lying(library) == sets((1, 3), (2,), (4, 5))
    # Faces taken out of a stack go to the one of their name.
    library.assign_name([5], "Bob")
    assert lying(library) == sets((1, 3), (2, 5), (4,))


def test_naming_more_of_the_smaller_of_two_stacks_leaves_both(library: Library) -> None:
    library.assign_name([1, 6], "Ann")
    library.write_stacks([draft(1, 2, 3), draft(6, 7), draft(4, 5)])
    library.assign_name([7], "Ann")
    assert lying(library) == sets((1, 2, 3), (6, 7), (4, 5))


def test_two_stacks_of_a_name_stay_two(library: Library) -> None:
    one, two, _ = library.stacks()
    library.name_stack(one.id, "Ann")
    library.name_stack(two.id, "Ann")
    assert [(stack.id, stack.name) for stack in library.stacks(named=True)] == [(one.id, "Ann"), (two.id, "Ann")]


def test_splitting(library: Library) -> None:
    whole = stack_with(library, 1)
    part = library.split_stack(whole, [4, 5])
    assert part != whole
    assert [member.face for member in library.stack(part)[1]] == [4, 5]
    assert library.resolved().different == [((4, 5), (1, 2, 3))]
    library.undo()
    assert lying(library) == sets((1, 2, 3, 4, 5), (6, 7, 8, 9), (10, 11))
    library.redo()
    assert lying(library) == sets((1, 2, 3), (4, 5), (6, 7, 8, 9), (10, 11))
    for faces in ([], [1, 2, 3], [1, 6]):
        with pytest.raises(LibraryError, match="some of its faces"):
            library.split_stack(whole, faces)


def test_splitting_a_named_stack_leaves_the_name_with_the_rest(library: Library) -> None:
    whole = stack_with(library, 1)
    library.name_stack(whole, "Ann")
    part = library.split_stack(whole, [1])
    assert (library.stack(part)[0].name, library.stack(whole)[0].name) == (None, "Ann")
    assert library.stack(whole)[0].cover == 2


def test_merging(library: Library) -> None:
    one, two, three = (stack.id for stack in library.stacks())
    answer = library.merge_stacks(three, two)
    assert (answer.kind, answer.left) == ("same", (6, 7, 8, 9, 10, 11))
    assert lying(library) == sets((1, 2, 3, 4, 5), (6, 7, 8, 9, 10, 11))
    assert library.stack(three)[0].cover == 10
    with pytest.raises(LibraryError, match="no stack with the number"):
        library.stack(two)
    with pytest.raises(LibraryError, match="twice"):
        library.merge_stacks(one, one)
    library.undo()
    assert library.stack(two)[0] == Stack(two, cover=6, size=4, confidence=0.3, name=None, suggestion="Zoe")
    assert library.stack(three)[0].size == 2


def test_merging_names_takes_the_later_one(library: Library) -> None:
    one, two, _ = (stack.id for stack in library.stacks())
    library.name_stack(one, "Ann")
    library.name_stack(two, "Bob")
    library.merge_stacks(one, two)
    assert library.stack(one)[0].name == "Bob"
    assert library.stack(one)[0].size == 9
    assert [(person.name, person.confirmed) for person in library.people()] == [("Bob", 9)]


def test_one_answered_pair_joins_their_stacks(library: Library) -> None:
    library.mark_same([5, 10])
    assert lying(library) == sets((1, 2, 3, 4, 5, 10, 11), (6, 7, 8, 9))
    library.mark_same([9, 12])
    assert stack_with(library, 12) == stack_with(library, 6)


def test_a_pair_whose_stacks_may_not_be_joined_moves_alone(library: Library) -> None:
    library.mark_different([1], [6])
    library.mark_same([2, 9])
    # 1 and 6 are two people's: only 9 goes to the larger stack.
    assert lying(library) == sets((1, 2, 3, 4, 5, 9), (6, 7, 8), (10, 11))
    library.undo()
    library.assign_name([3], "Ann")
    library.assign_name([7], "Bob")
    assert lying(library) == sets((1, 2, 4, 5), (3,), (6, 8, 9), (7,), (10, 11))


def test_what_is_no_face_or_a_strangers_lies_nowhere(library: Library) -> None:
    library.mark_not_a_face([1, 12])
    library.mark_stranger([10, 11])
    assert lying(library) == sets((2, 3, 4, 5), (6, 7, 8, 9))
    assert library.stack(stack_with(library, 2))[0].cover == 2
    library.undo()
    library.undo()
    assert lying(library) == sets((1, 2, 3, 4, 5), (6, 7, 8, 9), (10, 11))
    assert library.stacks()[0].cover == 2 or library.stacks()[0].cover == 1


def test_a_clustering_never_overrules_answers(library: Library) -> None:
    """The user spoke while it was computed."""
    library.assign_name([1, 6], "Ann")
    library.assign_name([2], "Bob")
    library.mark_same([8, 10])
    library.mark_different([3], [4])
    library.mark_not_a_face([5])
    library.mark_stranger([9])
    library.write_stacks([draft(1, 2, 3, 4, 5, 9, 12), draft(6, 7, 8), draft(10, 11)])
    stacks = lying(library)
    place = {face: faces for faces in stacks for face in faces}
    assert place.keys() == {1, 2, 3, 4, 6, 7, 8, 10, 11, 12}
    assert place[1] != place[2]
    assert place[3] != place[4]
    assert place[8] == place[10] == frozenset({6, 7, 8, 10, 11})
    assert {library.stack(stack_with(library, face))[0].name for face in (1, 6)} == {"Ann"}


def test_a_stack_that_goes_on_keeps_its_number(library: Library) -> None:
    one, two, three = (stack.id for stack in library.stacks())
    library.write_stacks([draft(6, 7, 8, 12), draft(9), draft(2, 3, 4, 5, 10), draft(11)])
    assert (stack_with(library, 6), stack_with(library, 2)) == (two, one)
    assert stack_with(library, 11) == three
    assert stack_with(library, 9) not in (one, two, three)


def test_new_photos_touch_only_their_stacks(library: Library) -> None:
    one, two, three = library.stacks()
    library.write_stacks([draft(1, 2, 3, 4, 5, 12)], touched=[12])
    assert lying(library) == sets((1, 2, 3, 4, 5, 12), (6, 7, 8, 9), (10, 11))
    assert stack_with(library, 12) == one.id
    assert library.stacks()[1:] == [two, three]
    library.write_stacks([draft(10)], touched=[10, 11])
    assert lying(library) == sets((1, 2, 3, 4, 5, 12), (6, 7, 8, 9), (10,))
    library.write_stacks([draft(6, 11)], touched=[11])
    # 7, 8 and 9 were not touched: they stay, under their number.
    assert lying(library) == sets((1, 2, 3, 4, 5, 12), (6, 11), (7, 8, 9), (10,))
    assert (stack_with(library, 7), library.stack(two.id)[0].cover) == (two.id, 7)


def test_undo_after_a_clustering_moves_only_what_still_lies_there(library: Library) -> None:
    library.split_stack(stack_with(library, 1), [4, 5])
    library.write_stacks([draft(4, 6, 7, 8, 9), draft(1, 2, 3), draft(5, 10, 11)])
    library.undo()
    assert library.resolved().different == []
    assert lying(library) == sets((4, 6, 7, 8, 9), (1, 2, 3), (5, 10, 11))


def test_undoing_everything_leaves_what_was_there(tmp_path: Path) -> None:
    """Sixty random answers, undone one by one: after each, the library is as it was before the answer."""
    rng = np.random.default_rng(4)
    with Library.open(tmp_path / "lib", create=True) as library:
        made_up(library, 14)
        library.write_stacks([draft(1, 2, 3, 4, 5), draft(6, 7, 8, 9), draft(10, 11, 12), draft(13)])
        states = []
        for _ in range(60):
            states.append((lying(library), library.resolved(), library.shown(), covers(library)))
            _say_something(library, rng)
        final = (lying(library), library.resolved().names, library.shown())
        for before in reversed(states):
            assert library.undo() is not None
            assert (lying(library), library.resolved(), library.shown()) == before[:3]
        assert library.undo() is None
        while library.redo() is not None:
            pass
        assert (lying(library), library.resolved().names, library.shown()) == final


def covers(library: Library) -> set[int]:
    return {stack.cover for stack in library.stacks()}


def _say_something(library: Library, rng: np.random.Generator) -> None:
    faces = rng.permutation(np.arange(1, 15))[: rng.integers(2, 5)].tolist()
    stacks = [stack.id for stack in library.stacks()]
    kind = rng.integers(8)
    if kind == 0:
        library.assign_name(faces, f"P{rng.integers(3)}")
    elif kind == 1 and stacks:
        library.name_stack(int(rng.choice(stacks)), f"P{rng.integers(3)}")
    elif kind == 2 and len(stacks) > 1:
        first, second = rng.choice(stacks, 2, replace=False).tolist()
        library.merge_stacks(first, second)
    elif kind == 3:
        library.mark_same(faces)
    elif kind == 4:
        library.mark_different(faces[:1], faces[1:])
    elif kind == 5:
        library.mark_not_a_face(faces[:1])
    elif kind == 6 and library.people():
        library.rename(library.people()[0].name, f"Q{rng.integers(3)}" if rng.random() < 0.5 else "P7")
    else:
        library.mark_stranger(faces[:1])
