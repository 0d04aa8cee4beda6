"""Pictures: bounded, cut where the face is, free of what a camera writes; and the search by a dropped photo."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from albums import enter_photo
from made_up import NAMES, jpeg, scene
from PIL import Image
from served import Page

from facetl.errors import PhotoError
from facetl.people.library import Library
from facetl.people.web.pictures import FACE, LARGE, ROOM, SMALL, Pictures, around, as_jpeg, shrunk


def decoded(data: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_pictures_are_shrunk_and_never_enlarged() -> None:
    image = np.zeros((300, 200, 3), np.uint8)
    assert shrunk(image, 300) is image
    assert shrunk(image, 100).shape == (100, 67, 3)
    assert shrunk(np.zeros((1, 5000, 3), np.uint8), 50).shape == (1, 50, 3)


def test_red_stays_red() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 0] = 200
    back = decoded(as_jpeg(image))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).max() < 8


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((40, 30, 60, 50), (33, 23, 67, 57)),  # 20 wide: 34 around (50, 40)
        ((0, 0, 10, 20), (0, 0, 34, 34)),  # moved in from the left and the top
        ((90, 70, 100, 80), (83, 63, 100, 80)),  # and from the right and the bottom
        ((0, 0, 100, 80), (10, 0, 90, 80)),  # as large as the photo allows
        ((-50, -50, -40, -40), (0, 0, 17, 17)),
    ],
)
def test_a_face_is_cut_out_with_room(box: tuple[float, ...], expected: tuple[int, int, int, int]) -> None:
    assert ROOM == 1.7
    rows, columns = np.mgrid[:80, :100]
    image = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    left, top, right, bottom = box
    cut = around(image, (left, top, right, bottom))
    assert (cut[0, 0, 1], cut[0, 0, 0], cut[-1, -1, 1] + 1, cut[-1, -1, 0] + 1) == expected


def test_photos_are_upright_bounded_and_free_of_exif(page: Page, library: Library, tmp_path: Path) -> None:
    picture = Image.fromarray(scene([1], 3, (2400, 1600))[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    exif[0x010F] = "SecretCam"
    held = io.BytesIO()
    picture.save(held, "JPEG", exif=exif)
    path = tmp_path / "turned.jpg"
    path.write_bytes(held.getvalue())
    sha = hashlib.sha256(held.getvalue()).hexdigest()
    photo = enter_photo(library, sha, width=1600, height=2400, paths=[path])
    for size, side in (("small", SMALL), ("large", LARGE)):
        answer = page.get(f"/photos/{photo}/{size}.jpg?v={sha[:16]}")
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as sent:
            assert sent.size == (round(side * 2 / 3), side)
            assert not dict(sent.getexif())
        assert b"SecretCam" not in answer.content
    assert page.get(f"/photos/{photo}/small.jpg?v={'0' * 16}").status_code == 404
    assert page.get(f"/photos/{photo}/huge.jpg?v={sha[:16]}").status_code == 422
    assert page.get(f"/photos/99999/small.jpg?v={sha[:16]}").status_code in (404, 409)


def test_a_face_is_shown_large_from_its_photo(still_page: Page) -> None:
    library = still_page.site.library
    face = library.face(1)
    answer = still_page.get(f"/faces/1.jpg?v={face.key[:16]}")
    [path] = library.photo(face.photo).paths
    whole = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    expected = shrunk(around(whole, face.face.box), FACE)
    got = decoded(answer.content)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).mean() < 3


def test_a_photo_that_is_gone_is_not_found(page: Page, library: Library, tmp_path: Path) -> None:
    photo = enter_photo(library, "ab" * 32, width=10, height=10, paths=[tmp_path / "gone.jpg"])
    answer = page.get(f"/photos/{photo}/small.jpg?v={'ab' * 8}")
    assert answer.status_code == 404
    with pytest.raises(PhotoError, match="moved or changed"):
        Pictures(library).photo(photo, SMALL)
    assert page.get("/photos").text.count('class="missing"') == 1
    assert "facetl people prune" in page.get(f"/photos/{photo}").text


def test_of_a_face_whose_photo_is_gone_the_thumbnail_is_shown(page: Page, library: Library) -> None:
    face = library.face(1)
    with library.database.write() as sql:
        sql("DELETE FROM paths WHERE photo = ?", (face.photo,))
    assert page.get(f"/faces/1.jpg?v={face.key[:16]}").content == library.thumb(face.key).read_bytes()
    assert "saved over this one" in page.get(f"/photos/{face.photo}").text
    assert page.get(f"/stacks/{library.stack_of(1)}").status_code == 200


def test_only_so_many_pictures_are_kept(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures(library)
    sizes = {photo: len(pictures.photo(photo, SMALL)) for photo in (3, 1, 2)}
    monkeypatch.setattr("facetl.people.web.pictures._KEPT_BYTES", sizes[1] + sizes[3])
    pictures._kept.pop(("photo", 3, SMALL))
    pictures.photo(1, SMALL)
    pictures.photo(3, SMALL)
    # The second one was used longest ago.
    assert [key[1] for key in pictures._kept] == [1, 3]


def test_a_dropped_photo_is_searched_by_and_not_kept(page: Page, library: Library) -> None:
    library.assign_name([1], NAMES[0])
    before = sorted(path for path in library.folder.rglob("*") if path.is_file() and "sqlite" not in path.name)
    counts = library.counts()
    image = scene([0, 4], 9)[0]
    answer = page.post("/search/photo", content=jpeg(image), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    html = page.html(answer.json()["go"])
    assert "2 faces found" in html
    person = library.person(NAMES[0])
    assert person
    assert f'href="/people/{person.id}"' in html
    assert "Unknown" in html
    for name in ("photo", "0", "1"):
        got = decoded(page.get(f"{answer.json()['go']}/{name}.jpg").content)
        assert max(got.shape) <= LARGE
    assert page.get(f"{answer.json()['go']}/2.jpg").status_code == 404
    assert page.get("/search/99").status_code == 404
    assert library.counts() == counts
    assert sorted(p for p in library.folder.rglob("*") if p.is_file() and "sqlite" not in p.name) == before
    for _ in range(6):
        page.post("/search/photo", content=jpeg(image), headers={"Content-Type": "image/jpeg"})
    assert page.get(answer.json()["go"]).status_code == 404
