"""What each view shows, part by part."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from pathlib import Path

import pytest
from made_up import NAMES, Album
from served import Page

from facetl.people.library import Library
from facetl.people.store.photos import put_paths
from facetl.people.web.context import MOST, PAGE


def numbers(kind: str, html: str) -> list[int]:
    """Return the ids in the order of the tiles: of `stack`, `face`, `photo` and so on."""
    return [int(found) for found in re.findall(rf'data-{kind}="(\d+)"', html)]


def photos(html: str) -> list[int]:
    return [int(found) for found in re.findall(r'class="shot"><a href="/photos/(\d+)"', html)]


def test_stacks_are_ordered_and_filtered(page: Page, library: Library) -> None:
    biggest = library.stacks()[1]
    page.notify("/answers/name", {"stacks": [biggest.id], "name": "Zoe"})
    by_size = [stack.id for stack in library.stacks(order="size", named=False)]
    by_doubt = [stack.id for stack in library.stacks(order="uncertain", named=False)]
    assert by_size != by_doubt
    assert numbers("stack", page.html("/")) == by_size
    assert numbers("stack", page.html("/?order=uncertain")) == by_doubt
    assert numbers("stack", page.html("/?named=yes")) == [biggest.id]
    assert numbers("stack", page.html("/?named=all&order=name"))[0] == biggest.id
    assert "Zoe" in page.html("/?named=yes")


def test_stacks_come_in_parts(still_page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetl.people.web.stack_views.shown", lambda request: 4)
    monkeypatch.setattr("facetl.people.web.stack_views.PAGE", 3)
    everything = [stack.id for stack in still_page.site.library.stacks(named=False)]
    found, more = [], "/"
    parts = []
    while more:
        html = still_page.html(more)
        parts.append(numbers("stack", html))
        found += parts[-1]
        [more] = re.findall(r'data-more="([^"]+)"', html) or [""]
        more = more.replace("&amp;", "&")
    assert found == everything
    assert [len(part) for part in parts[:2]] == [4, 3]


def test_no_more_than_the_first_tiles_are_sent(still_page: Page) -> None:
    def limit_at(shown: str) -> int:
        limits: list[int] = []
        library = still_page.site.library
        plain = library.stacks
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "stacks", lambda **options: limits.append(options["limit"]) or plain(**options))
            assert still_page.get("/", headers={"X-Shown": shown}).status_code == 200
        return limits[0] - 1

    assert limit_at("") == limit_at("7") == limit_at("-1") == limit_at("x") == limit_at("9" * 30) == PAGE
    assert limit_at("200") == 200
    assert limit_at("99999") == MOST


def test_a_stack_shows_its_faces_by_certainty(still_page: Page) -> None:
    stack, members = still_page.site.library.stack(still_page.site.library.stacks()[0].id)
    assert len(members) > 2
    surest_first = [member.face for member in members]
    assert numbers("face", still_page.html(f"/stacks/{stack.id}")) == surest_first
    assert numbers("face", still_page.html(f"/stacks/{stack.id}?sort=unsure")) == surest_first[::-1]
    html = still_page.html(f"/stacks/{stack.id}/more?offset=2")
    assert numbers("face", html) == surest_first[2:]
    assert "<html" not in html


def test_stacks_to_merge_come_likeliest_first(still_page: Page, album: Album) -> None:
    library = still_page.site.library
    stack = library.stacks()[0]
    person = album.who[stack.cover]
    html = still_page.html(f"/stacks/{stack.id}/alike")
    order = [int(found) for found in re.findall(r'data-act="merge" data-stacks="\d+,(\d+)"', html)]
    same = [album.who[library.stack(other)[0].cover] == person for other in order]
    assert same == sorted(same, reverse=True)
    assert same[0]
    assert stack.id not in order
    assert "90%" in html


def test_the_next_stack_is_the_biggest_without_a_name(page: Page, library: Library) -> None:
    first, second = (stack.id for stack in library.stacks(named=False)[:2])
    assert page.get(f"/stacks/next?after={first}").headers["location"] == f"/stacks/{second}"
    page.notify("/answers/name", {"stacks": [first], "name": "Zoe"})
    assert page.get(f"/stacks/next?after={first}").headers["location"] == f"/stacks/{second}"
    for stack in library.stacks(named=False):
        library.name_stack(stack.id, "Zoe")
    assert page.get(f"/stacks/next?after={second}").headers["location"] == "/"


def test_a_persons_photos_are_all_there_by_date(page: Page, library: Library, album: Album) -> None:
    faces = album.faces_of(2)
    page.notify("/answers/name", {"faces": faces, "name": "Clara"})
    [person] = library.people()
    shown = [photo for photo, on_it in album.photos.items() if set(on_it) & set(faces)]
    html = page.html(f"/people/{person.id}")
    assert sorted(photos(html)) == sorted(shown)
    dates = [library.photo(photo).taken_at for photo in photos(html)]
    known = [date for date in dates if date]
    assert dates == sorted(known) + [None] * (len(dates) - len(known))
    years = [date[:4] for date in known]
    assert re.findall(r"\?year=(\d+)", html) == sorted(set(years))
    of_a_year = photos(page.html(f"/people/{person.id}?year={years[0]}"))
    assert [library.photo(photo).taken_at[:4] for photo in of_a_year] == [years[0]] * years.count(years[0])
    assert sorted(numbers("face", page.html(f"/people/{person.id}/faces"))) == sorted(faces)


def fullest_year(page: Page) -> str:
    taken = [photo.taken_at for photo in page.site.library.photos(limit=1000)]
    return Counter(when[:4] for when in taken if when).most_common(1)[0][0]


@pytest.mark.parametrize("of_a_year", [False, True])
def test_a_timeline_comes_in_parts(still_page: Page, monkeypatch: pytest.MonkeyPatch, of_a_year: bool) -> None:
    more = f"/photos?year={fullest_year(still_page)}" if of_a_year else "/photos"
    whole = photos(still_page.html(more))
    first, then = (1, 1) if of_a_year else (7, 8)
    monkeypatch.setattr("facetl.people.web.photo_views.shown", lambda request: first)
    monkeypatch.setattr("facetl.people.web.photo_views.PAGE", then)
    parts = []
    while more:
        html = still_page.html(more)
        parts.append(photos(html))
        more = (re.findall(r'data-more="([^"]+)"', html) or [""])[0].replace("&amp;", "&")
    assert [photo for part in parts for photo in part] == whole
    assert [len(part) for part in parts[:2]] == [first, then]


def test_a_timeline_goes_on_where_a_part_ended(still_page: Page) -> None:
    whole = still_page.html("/photos")
    rest = still_page.html("/photos/more?offset=5")
    assert photos(rest) == photos(whole)[5:]
    year = fullest_year(still_page)
    of_a_year = photos(still_page.html(f"/photos?year={year}"))
    assert len(of_a_year) > 1
    assert photos(still_page.html(f"/photos/more?offset=1&year={year}")) == of_a_year[1:]
    for nothing in (
        f"/photos/more?offset={len(of_a_year)}&year={year}",
        "/photos?year=1900",
        "/photos/more?offset=999",
    ):
        assert photos(still_page.html(nothing)) == []
    # A year is headed once, wherever a part begins.
    assert len(re.findall(r'class="year"', still_page.html("/photos/more?offset=1"))) in (
        len(re.findall(r'class="year"', whole)),
        len(re.findall(r'class="year"', whole)) - 1,
    )
    assert re.findall(r'class="year"><h2>([^<]+)', whole)[-1] == "No date"


def test_a_photo_shows_boxes_and_names(page: Page, library: Library, album: Album) -> None:
    photo, faces = next((photo, faces) for photo, faces in album.photos.items() if len(faces) == 3)
    page.notify("/answers/name", {"faces": faces[:1], "name": "Greta"})
    page.notify("/answers/not-a-face", {"faces": faces[1:2]})
    html = page.html(f"/photos/{photo}?face={faces[2]}")
    boxes = dict(re.findall(r'data-box="(\d+)">\s*<rect x="([\d.]+)"', html))
    assert set(boxes) == {str(faces[0]), str(faces[2])}
    left = library.face(faces[2]).face.box[0]
    assert float(boxes[str(faces[2])]) == pytest.approx(left, abs=0.051)
    assert re.search(rf'box chosen unnamed" data-box="{faces[2]}"', html)
    assert html.count("Greta") == 2
    assert "Not a face" in html
    assert str(library.photo(photo).paths[0]) in html


def test_a_photo_of_any_name_has_a_page(page: Page, library: Library, album: Album) -> None:
    photo = next(iter(album.photos))
    with library.database.write() as sql:
        put_paths(sql, photo, [Path("/a/caf\udce9\n\u202e.jpg")])
    assert r"/a/caf\xe9\n\u202e.jpg" in page.html(f"/photos/{photo}")


def test_what_is_unknown(page: Page, library: Library, album: Album) -> None:
    poor = sorted(set(library.face_ids(None).tolist()) - set(library.face_ids("good").tolist()))
    assert poor
    alone = [stack.cover for stack in library.stacks(named=False) if stack.size == 1]
    assert numbers("face", page.html("/unknown")) == alone
    assert numbers("face", page.html("/unknown?kind=poor")) == poor
    page.notify("/answers/name", {"faces": poor[:1], "name": "Ada"})
    page.notify("/answers/not-a-face", {"faces": poor[1:2]})
    page.notify("/answers/stranger", {"faces": alone[:1]})
    assert numbers("face", page.html("/unknown?kind=poor")) == poor[2:]
    assert numbers("face", page.html("/unknown?kind=nofaces")) == poor[1:2]
    assert numbers("face", page.html("/unknown?kind=strangers")) == alone[:1]
    assert alone[0] not in numbers("face", page.html("/unknown"))


def test_names_are_completed(page: Page, library: Library, album: Album) -> None:
    for person, name in ((0, "Anna Berg"), (1, "Bert Anders"), (2, "Joanna"), (3, "Änne")):
        library.assign_name(album.faces_of(person)[: 4 - person], name)

    def completed(beginning: str) -> list[str]:
        return [one["name"] for one in page.notify("/people/names", {"beginning": beginning})]

    assert completed("an") == ["Anna Berg", "Bert Anders"]
    assert completed(" BERT ") == ["Bert Anders"]
    assert completed("ä") == ["Änne"]
    assert completed("") == ["Anna Berg", "Bert Anders", "Joanna", "Änne"]
    assert completed("%") == []
    best = page.notify("/people/names", {"beginning": "anna"})[0]
    assert best["faces"] == 4
    assert page.get(f"/thumbs/{best['key']}.jpg").status_code == 200


def test_empty_libraries_say_what_to_do(bare_page: Page, library: Library) -> None:
    for path, says in (
        ("/people", "Nobody has a name yet"),
        ("/questions", "trained run"),
        ("/history", "Nothing yet"),
    ):
        assert says in bare_page.html(path)
    assert "trained run" in bare_page.html(f"/stacks/{library.stacks()[0].id}/alike")
    library.write_stacks([])
    assert "Nothing is stacked yet" in bare_page.html("/")
    answer = bare_page.post("/search/photo", content=b"x", headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 409
    assert "trained run" in answer.json()["error"]


def test_the_history_tells_every_answer(page: Page, library: Library, album: Album) -> None:
    one, two, three = (album.faces_of(person) for person in (0, 1, 2))
    library.assign_name(one[:2], "Ada")
    library.assign_name(two[:1], "Bob", origin="region")
    library.rename("Ada", "Ada Lovelace")
    library.mark_same(three[:2])
    library.mark_different(one[:1], two[:3])
    library.mark_not_a_face(three[2:3])
    library.mark_stranger(three[3:4])
    library.undo()
    html = page.html("/history")
    listed = [" ".join(re.sub(r"<[^>]+>", " ", found).split()) for found in re.findall(r"<p>((?:\d|Ada).*?)</p>", html)]
    assert listed == [
        "1 face put aside as nobody to name (taken back)",
        "1 face put aside as no face",
        "1 face and 3 faces are two people",
        "2 faces are one person",
        "Ada is called Ada Lovelace",
        "1 face is Bob, from the photo itself",
        "2 faces are Ada",
    ]


def test_pictures_of_faces_stay_out_of_the_browsers_cache(still_page: Page) -> None:
    face = still_page.site.library.face(1)
    answer = still_page.get(f"/thumbs/{face.key}.jpg")
    assert answer.content == (still_page.site.library.thumbs_folder / face.key[:2] / f"{face.key}.jpg").read_bytes()
    for address in (f"/thumbs/{face.key}.jpg", f"/faces/1.jpg?v={face.key}"):
        assert still_page.get(address).headers["cache-control"] == "no-store"


def test_the_first_faces_of_a_stack_come_with_the_page(still_page: Page) -> None:
    library = still_page.site.library
    stack, members = library.stack(library.stacks()[0].id)
    key = library.face(members[0].face).key
    picture = (library.thumbs_folder / key[:2] / f"{key}.jpg").read_bytes()
    assert f"data:image/jpeg;base64,{b64encode(picture).decode()}" in still_page.html(f"/stacks/{stack.id}")
    # What is loaded while scrolling is not in sight yet.
    more = still_page.get(f"/stacks/{stack.id}/more?offset=0").text
    assert f"/thumbs/{key}.jpg" in more
    assert "data:" not in more.replace("data-", "")


def test_names_stand_in_no_address(page: Page, album: Album) -> None:
    for person, name in enumerate(NAMES[:6]):
        page.notify("/answers/name", {"faces": album.faces_of(person), "name": f"{name}xyz"})
    for path in ("/?named=yes", "/people", "/people/1", "/photos/1", "/unknown", "/tasks"):
        for address in re.findall(r'(?:href|src|data-more|data-load)="(?!data:)([^"]*)"', page.html(path)):
            assert "xyz" not in address


def test_assets_are_asked_for_again_only_when_they_changed(still_page: Page) -> None:
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = still_page.get(f"/static/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["cache-control"] == "no-cache"
        again = still_page.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
