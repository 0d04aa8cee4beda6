"""Features of single faces: each under a key of its own, computed once, from the photo's pixels about that face."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.embeddings import shards
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.face_features import (
    UNUSABLE,
    FacePlace,
    face_features,
    face_image,
    face_key,
    face_layout,
    fill_faces,
    missing_faces,
)
from facetl.embeddings.fill import FillReport
from facetl.embeddings.maintenance import keep, verify
from facetl.errors import CacheError, CacheLockedError, DataError
from facetl.faces.alignment import SIZE, CroppedSpec, align, template
from facetl.faces.detectors import Face
from facetl.faces.landmark_store import packed

SPEC = ExtractorSpec(name="mobilenet_v2", tap="avg", grid=1, align="mtcnn")
WHOLE = ExtractorSpec(name="mobilenet_v2", tap="avg", grid=1)
WEIGHTS = Weights("made up", "ab" * 32, Path("nowhere"))
EYES, HATS = "ee" * 32, "ff" * 32


def a_face(left: float, top: float, side: float) -> Face:
    landmarks = (template(round(side)) + np.array([left, top])).astype(np.float32)
    return Face((left, top, left + side - 1, top + side - 1), landmarks, 0.5)


class Colour:
    """A net that takes the mean colour of the picture's middle, and its crop's number; [n, 4]."""

    spec, weights, dim = SPEC, WEIGHTS, 4
    layout = FeatureMap(((1, 4),))

    def __init__(self, view: ExtractorSpec, log: list[int], flagged: int = 0) -> None:
        self.crop, self.log = view.crops[0], log
        self.flagged: Mapping[str, int] = {"doubted": flagged} if flagged else {}

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.log.append(len(images))
        return np.stack([colour(image, self.crop) for image in images])


def colour(image: np.ndarray, crop: float) -> np.ndarray:
    height, width = (side // 3 for side in image.shape[:2])
    return np.array([*image[height:-height, width:-width].mean(axis=(0, 1)), crop], np.float32)


def photo(path: Path, colours: Sequence[tuple[int, int, int]]) -> str:
    """A grey photo with a square of each colour, 80 pixels wide, every 100 pixels; returns its sha256."""
    image = np.full((120, 100 * len(colours), 3), 128, np.uint8)
    for place, shade in enumerate(colours):
        image[20:100, 100 * place + 10 : 100 * place + 90] = shade
    assert cv2.imwrite(str(path), image[..., ::-1])
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, FacePlace]:
    """Red and green on one photo, blue on another."""
    found = {}
    for name, colours in (("a.png", [(250, 0, 0), (0, 250, 0)]), ("b.png", [(0, 0, 250)])):
        sha = photo(tmp_path / name, colours)
        for place in range(len(colours)):
            face = a_face(100 * place + 10, 20, 80)
            found[face_key(sha, EYES, face)] = FacePlace(tmp_path / name, sha, face)
    return found


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_net_sees_a_face_upright_however_its_photo_lies(turns: int) -> None:
    image = np.random.default_rng(3).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    upright, face = face_image(image, a_face(60, 60, 80), WHOLE), a_face(60, 60, 80)
    for _ in range(turns):
        image = np.ascontiguousarray(np.rot90(image))
        x, y = face.landmarks.T
        face = Face(face.box, np.stack([y, 199 - x], axis=1).astype(np.float32), 0.5)
    np.testing.assert_array_equal(face_image(image, face, WHOLE), upright)


def fill(
    places: Mapping[str, FacePlace], cache: Path, log: list[int], spec: ExtractorSpec = SPEC, **more: object
) -> FillReport:
    return fill_faces(places, spec, WEIGHTS, make_net=lambda view: Colour(view, log), cache=cache, **more)  # type: ignore[arg-type]


class TestKey:
    def test_it_is_of_the_photo_the_detector_and_every_number(self) -> None:
        face = a_face(3, 4, 50)
        numbers = np.array([*face.box, *face.landmarks.ravel(), 0.5], "<f4").tobytes()
        assert packed(face) == numbers
        right = hashlib.sha256(b"\xaa" * 32 + EYES.encode() + numbers).hexdigest()
        assert face_key("aa" * 32, EYES, face) == right
        moved = face.landmarks.copy()
        moved[4, 1] += 0.01
        others = [
            face_key("ab" * 32, EYES, face),
            face_key("aa" * 32, HATS, face),
            face_key("aa" * 32, EYES, Face(face.box, moved, 0.5)),
            face_key("aa" * 32, EYES, Face(face.box, face.landmarks, 0.51)),
        ]
        assert len({right, *others}) == 5

    def test_single_precision_counts(self) -> None:
        face = a_face(3, 4, 50)
        same = Face(tuple(edge + 1e-9 for edge in face.box), face.landmarks, 0.5)  # type: ignore[arg-type]
        assert face_key("aa" * 32, EYES, face) == face_key("aa" * 32, EYES, same)


class TestPicture:
    def test_an_aligning_extractor_sees_the_canvas(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
        face = a_face(60, 20, 80)
        np.testing.assert_array_equal(face_image(image, face, SPEC), align(image, face.landmarks, size=SIZE, zoom=0.5))

    def test_another_sees_the_box_with_a_margin(self) -> None:
        image = np.arange(200 * 300 * 3, dtype=np.uint32).astype(np.uint8).reshape(200, 300, 3)
        # The box spans columns 100 to 139 and rows 50 to 109: 60 × 182 / 138 = 79.1 about (119.5, 79.5).
        face = Face((100.0, 50.0, 139.0, 109.0), np.zeros((5, 2), np.float32), 1.0)
        np.testing.assert_array_equal(face_image(image, face, WHOLE), image[40:120, 80:160])
        # At the border it ends.
        edge = Face((0.0, 0.0, 39.0, 59.0), np.zeros((5, 2), np.float32), 1.0)
        np.testing.assert_array_equal(face_image(image, edge, WHOLE), image[0:70, 0:60])

    def test_a_net_that_finds_the_face_itself_gets_more_room(self) -> None:
        image = np.zeros((200, 300, 3), np.uint8)
        face = Face((100.0, 50.0, 139.0, 109.0), np.zeros((5, 2), np.float32), 1.0)
        assert face_image(image, face, ExtractorSpec.of("dlib")).shape == (100, 100, 3)

    def test_a_photo_that_is_a_face_is_seen_whole(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (112, 92, 3), np.uint8)
        [[face]] = CroppedSpec().make().detect([image])
        np.testing.assert_array_equal(face_image(image, face, WHOLE), image)

    def test_a_box_outside_is_reported(self) -> None:
        face = Face((500.0, 500.0, 510.0, 510.0), np.zeros((5, 2), np.float32), 1.0)
        with pytest.raises(DataError, match="outside"):
            face_image(np.zeros((20, 20, 3), np.uint8), face, WHOLE)


class TestFill:
    def test_each_face_has_its_own_row(self, places: dict[str, FacePlace], tmp_path: Path) -> None:
        log: list[int] = []
        calls: list[tuple[int, int]] = []
        report = fill(places, tmp_path / "c", log, on_progress=lambda *call: calls.append(call))
        assert (report.photos, report.computed, report.reused, report.skipped) == (3, 3, 0, {})
        assert (calls[0], calls[-1]) == ((0, 3), (3, 3))
        rows = face_features(list(places), SPEC, WEIGHTS, cache=tmp_path / "c")
        right = [[250, 0, 0, 1], [0, 250, 0, 1], [0, 0, 250, 1]]
        np.testing.assert_allclose(rows.array(), right, atol=1)
        backwards = face_features(list(places)[::-1], SPEC, WEIGHTS, cache=tmp_path / "c")
        np.testing.assert_allclose(backwards[:], right[::-1], atol=1)
        assert face_layout(SPEC, WEIGHTS, cache=tmp_path / "c") == FeatureMap(((1, 4),))

    def test_only_what_is_missing_is_computed(self, places: dict[str, FacePlace], tmp_path: Path) -> None:
        log: list[int] = []
        some = dict(list(places.items())[1:2])
        fill(some, tmp_path / "c", log)
        assert missing_faces(list(places), SPEC, WEIGHTS, cache=tmp_path / "c") == [
            key for key in places if key not in some
        ]
        report = fill(places, tmp_path / "c", log)
        assert (report.computed, report.reused, log) == (2, 1, [1, 2])

        def never(view: ExtractorSpec) -> Colour:
            raise AssertionError

        report = fill_faces(places, SPEC, WEIGHTS, make_net=never, cache=tmp_path / "c")
        assert (report.computed, report.reused) == (0, 3)

    def test_every_view_is_cached_and_joined(self, places: dict[str, FacePlace], tmp_path: Path) -> None:
        spec = ExtractorSpec(name="mobilenet_v2", tap="avg", grid=1, align="mtcnn", crops=(0.5, 0.8))
        half = ExtractorSpec(name="mobilenet_v2", tap="avg", grid=1, align="mtcnn", crops=(0.8,))
        log: list[int] = []
        fill(dict(list(places.items())[:1]), tmp_path / "c", log, half)
        assert missing_faces(list(places), spec, WEIGHTS, cache=tmp_path / "c") == list(places)
        report = fill(places, tmp_path / "c", log, spec, batch_size=2)
        # Of the first face one view was there: it is not computed again.
        assert (log, report.computed) == ([1, 2, 1, 1, 1], 3)
        rows = face_features(list(places), spec, WEIGHTS, cache=tmp_path / "c").array()
        assert rows.shape == (3, 8)
        np.testing.assert_allclose(rows[:, [3, 7]], [[0.5, 0.8]] * 3, atol=1e-3)
        assert face_layout(spec, WEIGHTS, cache=tmp_path / "c") == FeatureMap(((1, 4), (1, 4)))

    def test_batches_are_of_faces_and_durable(self, tmp_path: Path) -> None:
        sha = photo(tmp_path / "many.png", [(place, 0, 0) for place in range(7)])
        faces = [a_face(100 * place + 10, 20, 80) for place in range(7)]
        many = {face_key(sha, EYES, face): FacePlace(tmp_path / "many.png", sha, face) for face in faces}
        log: list[int] = []

        def stop(done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fill(many, tmp_path / "c", log, batch_size=3, on_progress=stop)
        assert missing_faces(list(many), SPEC, WEIGHTS, cache=tmp_path / "c") == list(many)[3:]
        fill(many, tmp_path / "c", log, batch_size=3)
        assert log == [3, 3, 1]
        rows = face_features(list(many), SPEC, WEIGHTS, cache=tmp_path / "c")
        np.testing.assert_allclose(rows.array()[:, 0], range(7), atol=1)

    def test_what_cannot_be_seen_is_counted(self, places: dict[str, FacePlace], tmp_path: Path) -> None:
        one, other, third = places
        flat = Face(places[one].face.box, np.zeros((5, 2), np.float32), 0.5)
        (tmp_path / "b.png").write_bytes(b"another photo")
        mixed = {one: FacePlace(places[one].path, places[one].sha, flat), other: places[other], third: places[third]}
        calls: list[tuple[int, int]] = []
        report = fill(mixed, tmp_path / "c", [], on_progress=lambda *call: calls.append(call))
        assert (report.computed, report.reused) == (1, 0)
        assert report.skipped == {UNUSABLE: 1, "changed-meanwhile": 1}
        assert calls[-1] == (3, 3)
        with pytest.raises(CacheError):
            face_features(list(mixed), SPEC, WEIGHTS, cache=tmp_path / "c")

    def test_doubts_are_passed_on(self, places: dict[str, FacePlace], tmp_path: Path) -> None:
        report = fill_faces(
            places, SPEC, WEIGHTS, make_net=lambda view: Colour(view, [], flagged=2), cache=tmp_path / "c"
        )
        assert report.flagged == {"doubted": 2}

    def test_another_writer_is_reported(self, places: dict[str, FacePlace], tmp_path: Path) -> None:
        with (
            EmbeddingCache.open(tmp_path / "c", fingerprint=EYES, write=True),
            pytest.raises(CacheLockedError),
        ):
            fill(places, tmp_path / "c", [])


class TestKeep:
    def test_dropped_rows_leave_no_byte(
        self, places: dict[str, FacePlace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shards, "SHARD_BYTES", 100 * 8)
        red, green, blue = places
        fill(places, tmp_path / "c", [])
        rows = {key: face_features([key], SPEC, WEIGHTS, cache=tmp_path / "c").array().tobytes() for key in places}
        # What a killed writer left behind the last row.
        [shard] = (tmp_path / "c").glob("*/shard-*.npy")
        with shard.open("r+b") as file:
            file.seek(128 + 3 * 8)
            file.write(b"left behind")
        assert keep(tmp_path / "c", [red, blue]) == 1
        files = b"".join(path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file())
        assert rows[green] not in files
        assert bytes.fromhex(green) not in files
        assert rows[red] in files
        assert rows[blue] in files
        kept = face_features([red, blue], SPEC, WEIGHTS, cache=tmp_path / "c").array()
        assert kept.tobytes() == rows[red] + rows[blue]
        assert missing_faces(list(places), SPEC, WEIGHTS, cache=tmp_path / "c") == [green]
        assert verify(tmp_path / "c").sound
        [shard] = (tmp_path / "c").glob("*/shard-*.npy")
        with shard.open("r+b") as file:
            file.seek(128 + 2 * 8)
            file.write(b"left behind")
        assert keep(tmp_path / "c", [red, blue]) == 0
        assert b"left behind" not in shard.read_bytes()
        fill(places, tmp_path / "c", [])
        assert verify(tmp_path / "c").sound
