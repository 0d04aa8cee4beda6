"""Many photos through a run that knows people by their colour: whose rows come back, and what is left out."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from patches import PEOPLE, SIDE, PatchSpec, photo, use_colours, write_run

from facetl.backbones.backbone import Backbone
from facetl.errors import DataError, PhotoError, RunError
from facetl.images.decode import read_photo
from facetl.recognition import face_embeddings
from facetl.recognition.gallery_file import GalleryFile
from facetl.recognition.recognizer import Recognizer

ANN, BOB, EVE, _ = PEOPLE.values()


@pytest.fixture
def recognizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recognizer:
    use_colours(monkeypatch)
    return replace(Recognizer.load(str(write_run(tmp_path / "run"))), detector=PatchSpec())


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Return a folder: Ann; Ann again, byte for byte; Ann and Bob; nobody; a broken photo; a text; Eve."""
    folder = tmp_path / "album"
    photo(folder / "a.png", ANN, seed=1)
    photo(folder / "b" / "both.png", ANN, BOB, seed=2)
    photo(folder / "c.png")
    (folder / "d.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    photo(folder / "e.png", EVE, seed=3)
    shutil.copy(folder / "a.png", folder / "f.png")
    (folder / "notes.txt").write_text("not a photo")
    return folder


SKIPPED = {"no-face": 1, "truncated": 1, "not-an-image": 1}


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_folder_gives_a_row_for_each_photos_main_face(recognizer: Recognizer, album: Path, batch_size: int) -> None:
    seen: list[tuple[int, int]] = []
    found = recognizer.embed(album, batch_size=batch_size, on_progress=lambda *done: seen.append(done))
    assert [path.name for path in found.paths if path] == ["a.png", "both.png", "e.png", "f.png"]
    assert found.photos.tolist() == [0, 1, 4, 5]
    assert found.skipped == SKIPPED
    assert seen[-1] == (6, 6)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.embeddings[0], found.embeddings[3])
    box = [SIDE // 2, SIDE // 2, SIDE // 2 + SIDE - 1, SIDE // 2 + SIDE - 1]
    assert found.boxes[[0, 2]].tolist() == [box, box]
    alone = [recognizer.faces(path)[0].embedding for path in (album / "a.png", album / "e.png")]
    np.testing.assert_allclose(found.embeddings[[0, 2]], alone, atol=1e-6)
    assert np.sum((found.embeddings[0] - found.embeddings[2]) ** 2) > 0.1


def test_all_faces_of_a_photo_follow_each_other_from_left_to_right(recognizer: Recognizer, album: Path) -> None:
    found = recognizer.embed(album, all_faces=True, batch_size=2)
    assert [path.name for path in found.paths if path] == ["a.png", "both.png", "both.png", "e.png", "f.png"]
    assert found.skipped == SKIPPED
    assert found.boxes[1, 0] < found.boxes[2, 0]
    both = recognizer.faces(album / "b/both.png")
    np.testing.assert_allclose(found.embeddings[1:3], [face.embedding for face in both], atol=1e-6)
    assert [face.box for face in both] == found.boxes[1:3].tolist()


def test_bytes_arrays_and_paths_keep_the_order_in_which_they_are_given(recognizer: Recognizer, album: Path) -> None:
    eve = album / "e.png"
    given = [str(eve), read_photo(album / "a.png"), eve.read_bytes(), b"nothing", album / "gone.png", eve]
    found = recognizer.embed(given, batch_size=2)
    assert found.photos.tolist() == [0, 1, 2, 5]
    assert found.paths == (eve, None, None, eve)
    assert found.skipped == {"not-an-image": 1, "unreadable": 1}
    np.testing.assert_allclose(found.embeddings[[2, 3]], found.embeddings[[0, 0]], atol=1e-6)
    assert np.abs(found.embeddings[1] - found.embeddings[0]).max() > 0.1


def test_cropped_faces_are_whole_photos(recognizer: Recognizer, album: Path) -> None:
    cropped = replace(recognizer, detector=None)
    found = cropped.embed([album / "b/both.png", album / "c.png", album / "a.png"])
    assert found.boxes.tolist() == [[0, 0, 4 * SIDE - 1, 2 * SIDE - 1], [0, 0, 2 * SIDE - 1, 2 * SIDE - 1]]
    assert found.photos.tolist() == [0, 2]
    assert found.skipped == {"blank": 1}
    # Nor is it anybody: no distance, no name, no verdict.
    assert cropped.faces(album / "c.png") == ()
    with pytest.raises(PhotoError, match="it is blank"):
        cropped.distance(album / "a.png", album / "c.png")
    with pytest.raises(PhotoError, match="none was found"):
        cropped.verify(album / "a.png", album / "c.png")


def test_nothing_to_embed_is_no_row(recognizer: Recognizer) -> None:
    found = recognizer.embed([b"", b"no photo"])
    assert found.embeddings.shape == (0, 4)
    assert found.boxes.shape == (0, 4)
    assert found.skipped == {"empty-file": 1, "not-an-image": 1}


def test_batches_are_bounded_by_faces_and_by_pixels(
    recognizer: Recognizer, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [len(part) for part in recognizer.embed_batches(album, skipped=Counter(), all_faces=True, batch_size=2)]
    # The photo that is there twice is one face with two rows.
    assert sizes == [3, 2]
    monkeypatch.setattr(face_embeddings, "_BATCH_BYTES", 1)
    assert len(list(recognizer.embed_batches(album, skipped=Counter(), batch_size=32))) == 3


def test_a_distance_needs_a_face_in_both_photos(recognizer: Recognizer, album: Path) -> None:
    one, other = recognizer.embed([album / "a.png", album / "e.png"]).embeddings
    assert recognizer.distance(album / "a.png", album / "e.png") == pytest.approx(float(np.sum((one - other) ** 2)))
    with pytest.raises(PhotoError, match="must show a face"):
        recognizer.distance(album / "a.png", album / "c.png")


def test_two_photos_are_compared_by_their_main_faces(recognizer: Recognizer, album: Path) -> None:
    pair = recognizer.verify(str(album / "a.png"), str(album / "f.png"))
    assert recognizer.embed_photo(str(album / "a.png")).path == album / "a.png"
    assert (pair.verified, pair.distance, pair.threshold, pair.faces) == (True, 0.0, recognizer.threshold, (1, 1))
    assert pair.probability == recognizer.probability(0.0)
    apart = recognizer.verify(album / "a.png", album / "e.png")
    assert not apart.verified
    assert apart.distance == pytest.approx(recognizer.distance(album / "a.png", album / "e.png"), rel=1e-5)
    assert recognizer.verify(album / "a.png", album / "b" / "both.png").faces == (1, 2)
    with pytest.raises(PhotoError, match="a face is needed"):
        recognizer.verify(album / "a.png", album / "c.png")


def test_people_are_enrolled_and_named(recognizer: Recognizer, album: Path) -> None:
    empty = GalleryFile.empty()
    with pytest.raises(RunError, match="needs people to name"):
        recognizer.identify(album / "a.png", empty)
    gallery = recognizer.enroll(empty, "Ann", [album / "a.png", album / "f.png"])
    gallery = recognizer.enroll(gallery, "Eve", [album / "e.png"])
    assert gallery.counts() == {"Ann": 1, "Eve": 1}, "the same bytes twice are one face"
    named = recognizer.identify(album / "b" / "both.png", gallery)
    assert [face.answer.name for face in named] == ["Ann", None]
    assert recognizer.identify(album / "c.png", gallery) == []
    with pytest.raises(PhotoError, match="a face is needed"):
        recognizer.enroll(gallery, "Bob", [album / "c.png"])


def test_photos_that_cannot_be_read_are_counted(recognizer: Recognizer, album: Path) -> None:
    skipped, done = Counter[str](), []
    paths = [album / "a.png", album / "d.jpg", album / "gone.png"]
    photos = list(recognizer.embed_photos(paths, skipped=skipped, on_progress=lambda *now: done.append(now)))
    assert [photo.path.name for photo in photos] == ["a.png"]
    assert sum(skipped.values()) == 2
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_it_is_made_of_a_backbone_a_head_and_a_calibration(recognizer: Recognizer) -> None:
    backbone = Backbone.from_spec(recognizer.backbone.spec, recognizer.backbone.weights)
    backbone._views[backbone.spec] = recognizer.backbone  # a net of colours, for which there are no weights
    made = Recognizer(backbone, recognizer.head, recognizer.calibration)
    assert made.threshold == recognizer.threshold
    assert made.backbone is recognizer.backbone
    assert Recognizer(backbone, recognizer.head, recognizer.calibration, threshold=0.5).threshold == 0.5
    with pytest.raises(RunError, match="needs a calibration or a threshold"):
        Recognizer(backbone, recognizer.head)


def test_a_folder_that_is_not_there_is_refused(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        recognizer.embed(tmp_path / "gone")
