"""MTCNN on drawn faces, whose eyes and mouths are known; against the package's own cascade where that is sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from drawings import landmarks, picture

from facetl.errors import DataError
from facetl.faces import mtcnn as mtcnn_module
from facetl.faces.detectors import Face, MtcnnSpec
from facetl.faces.mtcnn import MtcnnDetector, _Boxes, _distinct, _not_inside

NOBODY = picture(260, 320)
ONE = picture(260, 320, ((150, 120), 100))
TWO = picture(300, 420, ((90, 140), 120), ((290, 120), 160))


def boxes(*rows: tuple[float, float, float, float, float, int]) -> _Boxes:
    table = np.array(rows, np.float32)
    return _Boxes(table[:, :4], table[:, 4], table[:, 5].astype(np.intp))


@pytest.fixture(scope="module")
def detector() -> MtcnnDetector:
    return MtcnnDetector(MtcnnSpec())


def assert_same(found: list[Face], expected: list[Face], atol: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.box, other.box, atol=atol)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=atol)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


def test_faces_are_found_where_they_were_drawn(detector: MtcnnDetector) -> None:
    (faces,) = detector.detect([TWO])
    assert len(faces) == 2
    assert faces[0].confidence > faces[1].confidence > 0.8
    left, right = sorted(faces, key=lambda face: face.box[0])
    for face, centre, side in ((left, (90, 140), 120), (right, (290, 120), 160)):
        assert face.landmarks.dtype == np.float32
        np.testing.assert_allclose(face.landmarks, landmarks(centre, side), atol=0.05 * side)
        assert face.box[0] < face.landmarks[:, 0].min() < face.landmarks[:, 0].max() < face.box[2]
        assert face.box[1] < face.landmarks[:, 1].min() < face.landmarks[:, 1].max() < face.box[3]
        assert 0.4 * side < face.width < 0.8 * side


def test_the_package_finds_the_same_faces(detector: MtcnnDetector) -> None:
    from mtcnn import MTCNN

    rows = MTCNN().detect_faces([TWO], output_type="numpy", box_format="xyxy")
    (faces,) = detector.detect([TWO])
    assert len(rows) == len(faces) == 2
    for face, row in zip(faces, rows, strict=True):
        np.testing.assert_allclose(face.box, row[1:5], atol=6)
        np.testing.assert_allclose(face.landmarks, np.stack([row[6:11], row[11:16]], axis=1), atol=4)
        assert face.confidence == pytest.approx(row[5], abs=0.05)


def test_photos_beside_it_do_not_matter(detector: MtcnnDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [NOBODY, TWO, ONE, ONE[:250], ONE]
    alone = [detector.detect([photo])[0] for photo in photos]
    assert [len(faces) for faces in alone] == [0, 2, 1, 1, 1]
    for faces, expected in zip(detector.detect(photos), alone, strict=True):
        assert_same(faces, expected, 1e-2)
    monkeypatch.setattr(mtcnn_module, "_PIXELS", 1)  # a photo at a time
    monkeypatch.setattr(mtcnn_module, "_PATCHES", 3)
    for faces, expected in zip(detector.detect(photos), alone, strict=True):
        assert_same(faces, expected, 1e-2)


def test_a_moved_face_moves_with_its_landmarks(detector: MtcnnDetector) -> None:
    # By 20 pixels, 10 steps of the proposal net on the first level only: other levels see it anew.
    ((here,), (there,)) = detector.detect([ONE, picture(260, 320, ((170, 110), 100))])
    np.testing.assert_allclose(there.landmarks - here.landmarks, np.tile([20, -10], (5, 1)), atol=1)


def test_a_mirrored_face_has_mirrored_landmarks(detector: MtcnnDetector) -> None:
    photos = np.stack([ONE, ONE[:, ::-1]])
    left, top, right, bottom = 119.0, 82.0, 178.0, 159.0
    found = detector._landmarks(
        tf.constant((photos - 127.5) / 128, tf.float32),
        boxes((left, top, right, bottom, 0.9, 0), (319 - right, top, 319 - left, bottom, 0.9, 1)),
    )
    # One look alone is off by a few tenths of a pixel.
    mirrored = found[1][[1, 0, 2, 4, 3]] * [-1, 1] + [319, 0]
    np.testing.assert_allclose(mirrored, found[0], atol=0.01)
    np.testing.assert_allclose(found[0], landmarks((150, 120), 100), atol=5)


def test_a_large_photo_is_searched_small_and_reported_large() -> None:
    photo = picture(900, 1300, ((800, 400), 500))
    spec = MtcnnSpec(max_side=260)
    ((face,),) = MtcnnDetector(spec).detect([photo])
    np.testing.assert_allclose(face.landmarks, landmarks((800, 400), 500), atol=25)
    assert 600 < face.box[0] < face.box[2] < 1000
    # A fifth of the size: the face of 100 pixels beside it would have 20, too small with such hair.
    both = picture(900, 1300, ((800, 400), 500), ((200, 200), 60))
    assert len(MtcnnDetector(spec).detect([both])[0]) == 1


def test_odd_photos_have_no_faces(detector: MtcnnDetector) -> None:
    rng = np.random.default_rng(0)
    sizes = [(0, 5), (1, 1), (3, 700), (12, 12), (19, 19), (20, 20), (21, 900), (400, 20), (20, 20_000), (50, 50)]
    for size in sizes:
        photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        assert detector.detect([photo, np.zeros_like(photo)]) == [[], []]
    assert detector.detect([]) == []


def test_a_face_that_the_border_cuts_is_found_and_its_box_lies_inside(detector: MtcnnDetector) -> None:
    # Of the face, 55 pixels wide, 17 are gone, and the left eye.
    photo = np.ascontiguousarray(ONE[:, 140:])
    [[face]] = detector.detect([photo])
    left, top, right, bottom = face.box
    assert 0 == left < right <= photo.shape[1] - 1
    assert 0 <= top < bottom <= photo.shape[0] - 1
    np.testing.assert_allclose(face.landmarks, landmarks((10, 120), 100), atol=5)
    assert face.landmarks[0, 0] < 0
    assert detector.detect([np.ascontiguousarray(ONE[:, 150:])]) == [[]]


def test_grey_photos_have_faces_too(detector: MtcnnDetector) -> None:
    grey = np.repeat(ONE.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert len(detector.detect([grey])[0]) == 1


@pytest.mark.parametrize("photo", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_what_is_no_photo_is_refused(detector: MtcnnDetector, photo: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"uint8 \[height, width, 3\]"):
        detector.detect([photo])


def test_a_crowd_is_found_and_bounded(detector: MtcnnDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = np.tile(picture(90, 76, ((38, 44), 70)), (8, 9, 1))
    assert len(detector.detect([crowd])[0]) == 72
    monkeypatch.setattr(mtcnn_module, "_PROPOSALS", 5)
    assert 0 < len(detector.detect([crowd])[0]) <= 5


def test_weights_in_the_working_directory_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for net in ("pnet", "rnet", "onet"):
        (tmp_path / f"{net}.lz4").write_bytes(b"a pickle by anyone")
    monkeypatch.chdir(tmp_path)
    assert len(MtcnnDetector(MtcnnSpec()).detect([ONE])[0]) == 1


def test_it_is_built_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    MtcnnSpec().make().detect([ONE])
    assert capfd.readouterr() == ("", "")


def test_of_overlapping_boxes_the_best_stays_photo_by_photo() -> None:
    # The first two share 80 of 120; the third is the first, in another photo.
    found = boxes((0, 0, 10, 10, 0.8, 0), (2, 0, 12, 10, 0.9, 0), (0, 0, 10, 10, 0.7, 1), (30, 0, 40, 10, 0.6, 0))
    assert _distinct(found, 2, 0.6).tolist() == [1, 3, 2]
    assert _distinct(found, 2, 0.7).tolist() == [1, 0, 3, 2]


def test_a_box_within_a_better_one_goes() -> None:
    inside, outside = (2.0, 2.0, 6.0, 6.0), (0.0, 0.0, 20.0, 20.0)
    assert _not_inside(boxes((*inside, 0.8, 0), (*outside, 0.9, 0), (*inside, 0.7, 1))).tolist() == [1, 2]
    assert _not_inside(boxes((*inside, 0.9, 0), (*outside, 0.8, 0))).tolist() == [0]
    # Half of the small box lies outside: shared 8 of its 16.
    assert _not_inside(boxes((18, 2, 22, 6, 0.8, 0), (*outside, 0.9, 0))).tolist() == [1, 0]
