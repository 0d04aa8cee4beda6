"""The people page in headless Chromium: answers by mouse and by keys outlive a reload, a restart and a kill."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facetl.people.library import Library

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

CHILD = Path(__file__).resolve().parents[1] / "support" / "serve_made_up.py"
SCRIPT = '<img src=x onerror=alert(1)><script>alert("x")</script>'
# The two faces of the question that is asked, as Python would write a list.
PAIR = """
    `[${['first', 'second'].map(side => +document.querySelector('.question:not([hidden])')?.dataset[side])
        .sort((a, b) => a - b).join(', ')}]`
"""
UNNAMED = """
    [...document.querySelectorAll('button, a, input, summary, [role]')].filter(one => one.checkVisibility())
        .filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.title))
        .map(one => one.outerHTML)
"""

pytestmark = pytest.mark.slow


class Home:
    """A library, and the program that serves it."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.child: subprocess.Popen[str] | None = None
        self.address = ""

    @property
    def base(self) -> str:
        return self.address.split("/?")[0]

    def start(self) -> str:
        command = [sys.executable, str(CHILD), str(self.room), "--photos", "30"]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.child.stdout
        self.address = self.child.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:")
        return self.address

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.child is not None:
            self.child.send_signal(how)
            self.child.wait(60)
            self.child = None

    def library(self) -> Library:
        return Library.open(self.room / "Family")

    def answers(self) -> list[dict[str, Any]]:
        with self.library() as library:
            return [answer.to_json() for answer in library.answers(limit=1000)]

    def stacks(self) -> list[list[int]]:
        with self.library() as library:
            found = [sorted(one.face for one in library.stack(stack.id)[1]) for stack in library.stacks(limit=1000)]
        return sorted(found)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Return a made-up library being served."""
    home = Home(tmp_path)
    home.start()
    yield home
    home.stop(signal.SIGKILL)


@pytest.fixture
def page(chromium: Any, home: Home) -> Iterator[Any]:
    """Return a page that is signed in; the test fails if anything on it does, or asks another server."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: None if request.url.startswith(home.base) else wrong.append(request.url))
    page.goto(home.address)
    yield page
    context.close()
    assert wrong == []


def toast(page: Any, text: str) -> None:
    sync_api.expect(page.locator(".toast span")).to_contain_text(text)


def open_first_stack(page: Any) -> None:
    page.locator(".stack .cover").first.click()
    page.wait_for_url(re.compile(r"/stacks/\d+$"))


def focus_first(page: Any, items: str) -> None:
    page.locator(f"{items} [data-focus], {items}[data-focus]").first.focus()


def test_split_merge_name_undo_reload_restart(page: Any, home: Home) -> None:
    assert page.url == f"{home.base}/"
    whole = home.stacks()

    # Split by keys: two faces of the biggest stack.
    open_first_stack(page)
    faces = page.locator(".tile.face")
    count = faces.count()
    odd = sorted(int(faces.nth(place).get_attribute("data-face")) for place in (1, 2))
    focus_first(page, ".tile.face")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    sync_api.expect(page.locator("[data-ticked]")).to_have_text("2")
    page.keyboard.press("s")
    toast(page, "2 faces split off.")
    sync_api.expect(faces).to_have_count(count - 2)
    assert odd in home.stacks()

    # Undo, and do again.
    page.keyboard.press("u")
    toast(page, "Undone")
    sync_api.expect(faces).to_have_count(count)
    assert home.stacks() == whole
    page.keyboard.press("Shift+U")
    toast(page, "Done again")
    sync_api.expect(faces).to_have_count(count - 2)

    # Split by dragging one more face out.
    dragged = int(faces.last.get_attribute("data-face"))
    faces.last.hover()
    page.mouse.down()
    page.mouse.move(600, 700)
    page.mouse.move(600, 850, steps=4)
    sync_api.expect(page.locator(".drop")).to_be_visible()
    page.mouse.up()
    toast(page, "1 face split off.")
    sync_api.expect(faces).to_have_count(count - 3)
    assert [dragged] in home.stacks()

    # Merge with what is suggested first: the same person, as it happens.
    page.locator("[data-act=merge]").first.click()
    toast(page, "2 stacks are one person now.")
    sync_api.expect(faces).not_to_have_count(count - 3)

    # Name it; a name that looks like markup stays text.
    page.keyboard.press("n")
    page.keyboard.type(SCRIPT)
    page.keyboard.press("Enter")
    toast(page, "named <img src=x")
    sync_api.expect(page.locator("h1")).to_have_text(SCRIPT)
    page.keyboard.press("Enter")  # on to the next one without a name
    sync_api.expect(page.locator("h1")).to_have_text("Who is this?")
    page.keyboard.press("n")
    page.keyboard.type("Ada Lovelace")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("h1")).to_have_text("Ada Lovelace")

    # Name a stack in the list with completion: two letters, down, enter.
    page.goto(home.base)
    focus_first(page, ".tile.stack")
    page.keyboard.press("n")
    page.keyboard.type("lo")
    sync_api.expect(page.locator("#naming-name-names li")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    toast(page, "named Ada Lovelace.")

    answers, stacks = home.answers(), home.stacks()
    assert [answer["kind"] for answer in answers] == ["name"] * 3 + ["same", "different", "different"]
    page.reload()
    page.goto(f"{home.base}/people")
    people = sorted(page.locator(".person b").all_inner_texts())
    assert people == sorted([SCRIPT, "Ada Lovelace"])

    for how in (signal.SIGINT, signal.SIGKILL):
        home.stop(how)
        page.context.clear_cookies()
        page.goto("about:blank")
        page.goto(home.start())
        assert (home.answers(), home.stacks()) == (answers, stacks)
        page.goto(f"{home.base}/people")
        assert sorted(page.locator(".person b").all_inner_texts()) == people
    page.goto(f"{home.base}/history")
    sync_api.expect(page.locator(".answers li")).to_have_count(6)
    # Answers given before the restarts can still be taken back.
    page.keyboard.press("u")
    sync_api.expect(page.locator(".answers .undone")).to_have_count(1)


def test_questions_by_keys(page: Any, home: Home) -> None:
    page.keyboard.press("2")
    current = page.locator(".question:not([hidden])")
    sync_api.expect(current).to_have_count(1)

    def shown() -> list[int]:
        return sorted(int(current.get_attribute(f"data-{side}")) for side in ("first", "second"))

    asked = []
    for key in "yns":
        asked.append(shown())
        page.keyboard.press(key)
        page.wait_for_function(f"asked => ({PAIR}) !== asked", arg=str(asked[-1]))
    different, same = home.answers()
    assert (same["kind"], sorted(same["left"])) == ("same", asked[0])
    assert (different["kind"], sorted(different["left"] + different["right"])) == ("different", asked[1])
    sync_api.expect(page.locator("[data-answered]")).to_have_text("2")
    for back in reversed(asked):
        page.keyboard.press("u")
        page.wait_for_function(f"asked => ({PAIR}) === asked", arg=str(back))
    assert [answer["undone"] for answer in home.answers()] == [True, True]


def test_a_photo_a_person_and_a_search(page: Any, home: Home, tmp_path: Path) -> None:
    open_first_stack(page)
    page.keyboard.press("n")
    page.keyboard.type("Grace")
    page.keyboard.press("Enter")
    toast(page, "named Grace.")

    # Find the person by the search field, open a photo, name another face on it.
    page.keyboard.press("/")
    page.keyboard.type("gra")
    sync_api.expect(page.locator("#found li")).to_have_count(1)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/people/\d+$"))
    sync_api.expect(page.locator("h1")).to_have_text("Grace")
    shots = page.locator(".shot")
    with home.library() as library:
        grace = library.person("Grace")
        assert grace
        assert shots.count() == grace.photos
    page.wait_for_function(
        "() => [...document.querySelectorAll('.shot img')].slice(0, 3).every(one => one.naturalWidth > 0)"
    )
    shots.first.click()
    sync_api.expect(page.locator(".box text", has_text="Grace")).to_have_count(1)
    page.keyboard.press("b")
    sync_api.expect(page.locator(".boxes")).to_be_hidden()
    page.locator("[data-row] [data-act=name]").last.click()
    page.locator("#naming-name").fill("Hedy")
    page.keyboard.press("Enter")
    toast(page, "1 face named Hedy.")
    sync_api.expect(page.locator("[data-row] b", has_text="Hedy")).to_have_count(1)

    # Search by a photo.
    with home.library() as library:
        [path] = library.photo(1).paths
    page.locator(".menu summary").click()
    page.locator("[data-pick]").set_input_files(str(path))
    page.wait_for_url(re.compile(r"/search/\d+$"))
    sync_api.expect(page.locator("h1")).to_have_text("2 faces found")

    # Rename, onto a name that is there: the two become one.
    page.keyboard.press("3")
    page.locator(".person", has_text="Hedy").click()
    page.locator(".rename summary").click()
    page.locator("#rename-name").fill("Grace")
    page.keyboard.press("Escape")
    page.locator(".rename button.main").click()
    sync_api.expect(page.locator("h1")).to_have_text("Grace")
    with home.library() as library:
        assert [person.name for person in library.people()] == ["Grace"]


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_and_has_labels(chromium: Any, home: Home, width: int, scheme: str) -> None:
    with home.library() as library:
        library.name_stack(library.stacks()[0].id, "Maximiliane von Habsburg-Lothringen " * 3)
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(home.address)
    stack = page.locator(".tile.stack").first.get_attribute("data-stack")
    views = ("/", "/?named=yes", f"/stacks/{stack}", "/questions", "/people", "/people/1", "/people/1/faces", "/photos")
    for view in (*views, "/photos/1", "/unknown", "/tasks", "/learn", "/history", "/nothing"):
        page.goto(home.base + view)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, view
        assert page.evaluate(UNNAMED) == [], view
        assert page.locator("h1").count() == 1, view
        assert page.locator("main").count() == 1, view
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => +a + +b)")
    assert (light > 384) == (scheme == "light")
    context.close()
