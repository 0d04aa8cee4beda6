"""Running work: one at a time, with progress, a way to stop it, and one line when it ends; learning and export."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import Album, Faked
from served import Page, serving

from facetl.errors import DataError
from facetl.people.holdout import HeadComparison
from facetl.people.learned_head import Proposal, StackChanges
from facetl.people.library import Library
from facetl.people.web.jobs import OnProgress, State, Work

Serve = Callable[..., Page]


@pytest.fixture
def serve(library: Library) -> Iterator[Serve]:
    """Return a function that serves the library with a service of the given methods."""
    running: list[Iterator[Page]] = []

    def start(**methods: Callable[..., Any]) -> Page:
        running.append(serving(library, Faked(library, **methods)))
        return next(running[-1])

    yield start
    for one in running:
        assert next(one, None) is None


def waited(work: Work) -> State:
    """Wait for the end of what runs."""
    assert work._thread is not None
    work._thread.join(30)
    return work.state()


def ended(page: Page) -> dict[str, Any]:
    state: dict[str, Any] = waited(page.site.work).to_json()
    assert not state["running"]
    assert page.get("/tasks/state").json() == state
    return state


def test_progress_is_reported_and_the_end_too(serve: Serve) -> None:
    go, reported = threading.Event(), threading.Event()

    def stack(on_progress: OnProgress) -> str:
        on_progress(3, 8)
        reported.set()
        assert go.wait(30)
        return "Stacked."

    page = serve(stack=stack, look=stack)
    assert page.get("/tasks/state").json()["number"] == 0
    page.notify("/tasks/stack")
    assert reported.wait(30)
    state = page.get("/tasks/state").json()
    assert (state["done"], state["total"], state["running"]) == (3, 8, True)
    assert "Stacking all faces anew" in page.html("/people")
    refused = page.post("/tasks/look")
    assert refused.status_code == 409
    assert "Stacking all faces anew" in refused.json()["error"]
    go.set()
    assert ended(page)["message"] == "Stacked."
    page.notify("/tasks/look")
    assert ended(page)["number"] == 2


def test_work_stops_at_its_next_progress(serve: Serve) -> None:
    steps: list[int] = []
    first = threading.Event()

    def look(on_progress: OnProgress) -> str:
        for step in range(100_000):
            steps.append(step)
            on_progress(step, 100_000)
            first.set()
            time.sleep(0.001)
        return "Never."

    page = serve(look=look)
    page.notify("/tasks/look")
    assert first.wait(30)
    page.notify("/tasks/cancel")
    state = ended(page)
    assert state["message"] == "Stopped. What was finished is kept."
    assert not state["failed"]
    assert len(steps) < 100_000


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("A folder is missing."), "A folder is missing."),
        (
            ZeroDivisionError("division by zero"),
            "It ended with an error of its own: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_work_that_fails_gives_its_reason_in_a_line(serve: Serve, error: Exception, message: str) -> None:
    def stack(_: OnProgress) -> str:
        raise error

    page = serve(stack=stack)
    page.notify("/tasks/stack")
    state = ended(page)
    assert (state["message"], state["failed"]) == (message, True)
    assert message in page.html("/tasks")


def test_the_server_ends_while_work_runs(library: Library) -> None:
    begun = threading.Event()

    def look(on_progress: OnProgress) -> str:
        while True:
            on_progress(1, 2)
            begun.set()
            time.sleep(0.01)

    for page in serving(library, Faked(library, look=look)):
        page.notify("/tasks/look")
        assert begun.wait(30)
        work = page.site.work
    assert work.state().message.startswith("Stopped")


def test_without_a_run_there_is_no_work(bare_page: Page) -> None:
    for path in ("look", "stack", "learn", "apply"):
        assert bare_page.post(f"/tasks/{path}").status_code == 409
    assert bare_page.post("/learn/discard").status_code == 409
    assert bare_page.post("/tasks/nothing").status_code == 422
    assert bare_page.html("/tasks").count("disabled") >= 3


def proposal(people: int, faces: tuple[int, ...] = (), *, better: bool = True) -> Proposal:
    """Return a proposal of a head that was learnt from some people, with faces that would move."""
    measured = HeadComparison(
        auc_before=0.5,
        auc_after=0.25,
        gain=-0.25,
        stderr=0.1,
        found_before=0.812,
        found_after=0.907,
        unseen_gain=0.0,
        unseen_stderr=0.1,
        people=people,
        better=better,
    )
    changes = StackChanges(9, 8, joined=12, split=0, moved=3, named=0, moved_faces=faces, named_faces=())
    run = Path("models/1")
    return Proposal(run if better else None, people, 40, 10, measured, changes if better else None)


def test_learning_is_looked_at_before_it_counts(serve: Serve, album: Album) -> None:
    calls: list[str] = []

    def learn(on_progress: OnProgress) -> Proposal:
        on_progress(1, 1)
        calls.append("learn")
        return proposal(1000 + calls.count("learn"), tuple(album.faces_of(1)[:3]))

    def apply(learnt: Proposal) -> str:
        calls.append(f"apply {learnt.people}")
        return "Applied."

    def discard(learnt: Proposal) -> str:
        calls.append(f"discard {learnt.people}")
        return "Discarded."

    page = serve(learn=learn, apply=apply, discard=discard)
    page.notify("/answers/name", {"faces": [1], "name": "Ada"})
    assert page.post("/tasks/apply").status_code == 409
    assert page.post("/learn/discard").status_code == 409
    page.notify("/tasks/learn")
    ended(page)
    html = page.html("/learn")
    for text in (
        "The new head is better. On held-out faces of 1,001 people",
        "81.2%",
        '<td class="better">90.7%',
        '<td class="worse">25.0%',
        "<b>12</b>",
    ):
        assert text in html
    assert html.count("/thumbs/") == 3
    assert calls == ["learn"]
    page.notify("/tasks/learn")
    ended(page)
    assert calls[1:] == ["learn", "discard 1001"]
    page.notify("/tasks/apply")
    assert ended(page)["message"] == "Applied."
    assert calls[-1] == "apply 1002"
    assert "held-out faces" not in page.html("/learn")
    page.notify("/tasks/learn")
    ended(page)
    assert page.notify("/learn/discard")["message"] == "Discarded."
    assert page.post("/tasks/apply").status_code == 409


def test_what_is_not_better_is_not_applied(serve: Serve) -> None:
    worse = proposal(9, better=False)
    page = serve(learn=lambda _: worse, apply=lambda _: "Applied.", discard=lambda _: "Deleted.")
    page.notify("/tasks/learn")
    assert ended(page)["message"] == worse.headline
    assert 'data-start="apply"' not in page.html("/learn")
    assert page.post("/tasks/apply").status_code == 409
    assert page.notify("/learn/discard")["message"] == "Deleted."


def test_what_could_not_be_applied_can_be_tried_again(serve: Serve) -> None:
    tries: list[int] = []

    def apply(_: Proposal) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise DataError("The disk is full.")
        return "Applied."

    page = serve(learn=lambda _: proposal(9), apply=apply, discard=lambda _: "")
    page.notify("/tasks/learn")
    ended(page)
    page.notify("/tasks/apply")
    assert ended(page)["failed"]
    page.notify("/tasks/apply")
    assert ended(page)["message"] == "Applied."


def test_an_export_is_ordered_as_the_form_asks(serve: Serve, library: Library, album: Album, own_home: Path) -> None:
    orders: list[tuple[Path, dict[str, Any]]] = []

    def export(folder: Path, on_progress: OnProgress, **order: Any) -> str:
        orders.append((folder, order))
        return "Exported."

    library.assign_name(album.faces_of(0), "Ada")
    library.assign_name(album.faces_of(1), "Bob")
    bob = library.person("Bob")
    assert bob
    page = serve(export=export)
    body = {"folder": "~/People", "kinds": ["folders", "csv"], "links": "copy", "people": [bob.id]}
    page.notify("/tasks/export", body)
    assert ended(page)["message"] == "Exported."
    page.notify("/tasks/export", {"folder": "/a", "kinds": ["xmp"], "people": None})
    ended(page)
    assert orders == [
        (own_home / "People", {"kinds": frozenset({"folders", "csv"}), "links": "copy", "names": ("Bob",)}),
        (Path("/a"), {"kinds": frozenset({"xmp"}), "links": "hard", "names": None}),
    ]
    for wrong in ({"folder": "here"}, {"folder": " "}, {"kinds": []}, {"kinds": ["zip"]}, {"links": "move"}):
        assert page.post("/tasks/export", body | wrong).status_code == 422
    assert len(orders) == 2


def test_work_begins_anew_after_it_was_stopped() -> None:
    work = Work()
    assert work.start("one", lambda on_progress: on_progress(1, 1) or "first")
    assert waited(work).message == "first"
    work.cancel()
    assert not work.state().stopping
    assert work.start("two", lambda on_progress: on_progress(1, 1) or "second")
    assert waited(work).message == "second"
