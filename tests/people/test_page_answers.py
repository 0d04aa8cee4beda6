"""Every answer given on the page is in the library when the page shows it, and can be taken back."""

from __future__ import annotations

import re
from typing import Any

import pytest
from made_up import Album
from served import Page

from facetl.people.library import Library


def stacks_of(library: Library) -> list[set[int]]:
    return sorted(
        ({member.face for member in library.stack(stack.id)[1]} for stack in library.stacks(limit=1000)), key=min
    )


def test_naming_a_stack_faces_or_both(page: Page, library: Library) -> None:
    first, second, third = library.stacks()[:3]
    faces = [member.face for member in library.stack(third.id)[1]]
    assert page.notify("/answers/name", {"stacks": [first.id], "name": "  Ada  "})["message"] == (
        f"{first.size} faces named Ada."
    )
    page.notify("/answers/name", {"stacks": [second.id], "faces": faces[:1], "name": "Bob"})
    names = library.named()
    assert {names[member.face] for member in library.stack(first.id)[1]} == {"Ada"}
    assert {names[member.face] for member in library.stack(second.id)[1]} == {"Bob"}
    assert names[faces[0]] == "Bob"
    assert faces[1] not in names


def test_splitting_and_taking_it_back(page: Page, library: Library) -> None:
    before = stacks_of(library)
    stack, members = library.stack(library.stacks()[0].id)
    odd = [member.face for member in members[1:3]]
    answer = page.notify("/answers/split", {"stack": stack.id, "faces": odd})
    assert {member.face for member in library.stack(answer["stack"])[1]} == set(odd)
    assert answer["link"] == f"/stacks/{answer['stack']}"
    assert library.stack(stack.id)[0].size == stack.size - 2
    assert page.notify("/answers/undo")["done"]
    assert stacks_of(library) == before
    page.notify("/answers/redo")
    assert set(odd) in stacks_of(library)


def test_merging_two_and_three(page: Page, library: Library, album: Album) -> None:
    mine = [stack.id for stack in library.stacks(limit=1000) if album.who[stack.cover] == 0]
    assert len(mine) == 3
    sizes = [library.stack(stack)[0].size for stack in mine]
    answer = page.notify("/answers/merge", {"stacks": mine[:2]})
    assert library.stack(answer["stack"])[0].size == sum(sizes[:2])
    page.notify("/answers/undo")
    answer = page.notify("/answers/merge", {"stacks": mine})
    assert library.stack(answer["stack"])[0].size == sum(sizes)
    assert library.answers()[0].kind == "same"


def test_telling_stacks_apart(page: Page, library: Library) -> None:
    first, second = library.stacks()[:2]
    page.notify("/answers/apart", {"first": first.id, "second": second.id})
    answer = library.answers()[0]
    assert (answer.kind, len(answer.left), len(answer.right)) == ("different", first.size, second.size)


@pytest.mark.parametrize(("path", "kind"), [("not-a-face", "not_faces"), ("stranger", "strangers")])
def test_putting_faces_aside(page: Page, library: Library, path: str, kind: str) -> None:
    stack, members = library.stack(library.stacks()[0].id)
    page.notify(f"/answers/{path}", {"faces": [members[0].face]})
    assert getattr(library.resolved(), kind) == {members[0].face}
    page.notify(f"/answers/{path}", {"stacks": [stack.id]})
    assert getattr(library.resolved(), kind) == {member.face for member in members}


def test_questions_are_answered_skipped_and_asked_again(page: Page, library: Library) -> None:
    def asked() -> list[tuple[int, int]]:
        html = page.html("/questions")
        return [(int(a), int(b)) for a, b in re.findall(r'data-first="(\d+)" data-second="(\d+)"', html)]

    first, second, third = asked()[:3]
    page.notify("/answers/reply", {"first": first[0], "second": first[1], "reply": "same"})
    page.notify("/answers/reply", {"first": second[0], "second": second[1], "reply": "different"})
    answers = library.answers()
    assert [answer.kind for answer in answers] == ["different", "same"]
    assert set(answers[1].left) == set(first)
    assert (answers[0].left, answers[0].right) == ((second[0],), (second[1],))
    page.notify("/answers/reply", {"first": third[0], "second": third[1], "reply": "skip"})
    assert third not in asked()
    page.notify("/answers/unskip", {"first": third[1], "second": third[0]})
    assert third in asked()
    assert len(library.answers()) == 2


def test_questions_that_wait_on_the_page_are_not_sent_twice(page: Page) -> None:
    pairs = re.findall(r'data-first="(\d+)" data-second="(\d+)"', page.html("/questions"))
    known = "&".join(f"known={a}-{b}" for a, b in pairs[:2])
    rest = re.findall(r'data-first="(\d+)" data-second="(\d+)"', page.html(f"/questions/more?{known}"))
    assert not set(pairs[:2]) & set(rest)
    assert set(pairs[2:]) <= set(rest)
    assert page.get("/questions/more?known=x&known=1-&known=--&known=1-2-3").status_code == 200


def test_renaming_and_joining_two_people(page: Page, library: Library, album: Album) -> None:
    library.assign_name(album.faces_of(0), "Ada")
    library.assign_name(album.faces_of(1), "Bob")
    ada = library.person("Ada")
    bob = library.person("Bob")
    assert ada
    assert bob
    page.notify("/answers/rename", {"person": ada.id, "name": "Ada Lovelace"})
    assert [person.name for person in library.people()] == ["Ada Lovelace", "Bob"]
    answer = page.notify("/answers/rename", {"person": bob.id, "name": "Ada Lovelace"})
    assert [person.name for person in library.people()] == ["Ada Lovelace"]
    assert page.get(answer["go"]).status_code == 200
    page.notify("/answers/undo")
    assert [person.name for person in library.people()] == ["Ada Lovelace", "Bob"]


def test_undo_and_redo_go_through_everything(page: Page, library: Library, album: Album) -> None:
    assert page.notify("/answers/undo") == {"message": "Nothing to undo.", "done": False}
    stack = library.stacks()[0]
    faces = [member.face for member in library.stack(stack.id)[1]]
    steps: list[tuple[str, dict[str, Any]]] = [
        ("name", {"stacks": [stack.id], "name": "Ada"}),
        ("split", {"stack": stack.id, "faces": faces[:1]}),
        ("not-a-face", {"faces": faces[1:2]}),
        ("stranger", {"faces": faces[2:3]}),
    ]
    states = [(stacks_of(library), library.named())]
    for path, body in steps:
        page.notify(f"/answers/{path}", body)
        states.append((stacks_of(library), library.named()))
    for state in states[-2::-1]:
        assert page.notify("/answers/undo")["message"].startswith("Undone: ")
        assert (stacks_of(library), library.named()) == state
    for state in states[1:]:
        assert page.notify("/answers/redo")["message"].startswith("Done again: ")
        assert (stacks_of(library), library.named()) == state
    assert page.notify("/answers/redo") == {"message": "Nothing to redo.", "done": False}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("name", {"faces": [1], "name": ""}, 422),
        ("name", {"faces": [1], "name": "   "}, 422),
        ("name", {"faces": [1], "name": "x" * 121}, 422),
        ("name", {"faces": [1], "name": "a\u0000b"}, 409),
        ("name", {"faces": [], "name": "Ada"}, 422),
        ("name", {"faces": [999_999], "name": "Ada"}, 409),
        ("name", {"faces": [10**30], "name": "Ada"}, 422),
        ("name", {"faces": ["1; DROP TABLE faces"], "name": "Ada"}, 422),
        ("name", {"stacks": [999_999], "name": "Ada"}, 409),
        ("name", [1, 2], 422),
        ("split", {"stack": 1, "faces": []}, 422),
        ("split", {"stack": 999_999, "faces": [1]}, 409),
        ("merge", {"stacks": [1]}, 422),
        ("merge", {"stacks": [1, 1]}, 409),
        ("apart", {"first": 1, "second": 1}, 409),
        ("reply", {"first": 1, "second": 1, "reply": "same"}, 409),
        ("reply", {"first": 1, "second": 2, "reply": "perhaps"}, 422),
        ("rename", {"person": 77, "name": "Ada"}, 404),
        ("nothing", {}, 404),
    ],
)
def test_odd_answers_are_refused_in_a_line(still_page: Page, path: str, body: Any, status: int) -> None:
    before = len(still_page.site.library.answers())
    answer = still_page.post(f"/answers/{path}", body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert len(still_page.site.library.answers()) == before


def test_bodies_that_are_no_json_are_refused(still_page: Page) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"null", b"[" * 50_000, b'{"faces": [1e999], "name": "A"}'):
        answer = still_page.post("/answers/name", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
    form = still_page.post("/answers/not-a-face", content=b"faces=1", headers={"Content-Type": "text/plain"})
    assert form.status_code == 422


@pytest.mark.parametrize(
    "path", ["/stacks/{}", "/people/{}", "/photos/{}", "/search/{}", "/stacks/next?after={}", "/unknown?offset={}"]
)
@pytest.mark.parametrize("number", ["-1", str(2**63), str(10**30), "1e3", "0x1", "one", "%00"])
def test_odd_numbers_in_addresses_are_refused(still_page: Page, path: str, number: str) -> None:
    answer = still_page.get(path.format(number))
    assert answer.status_code in ((404, 422) if "offset" not in path else (200,))
