"""Albums made into aligned faces: every face once, poor ones apart, photos untouched, kills survived."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.errors import CacheLockedError, DataError
from facetl.faces import aligned_album
from facetl.faces.aligned_album import AlignReport, AlignSettings, align_album
from facetl.faces.alignment import CroppedSpec, align, template
from facetl.faces.detectors import DetectorSpec, Face
from facetl.faces.quality import QualityRule, face_quality
from facetl.io.files import WriterLock

# What is made up here is sharp where it is good, and 100 pixels large.
RULE = QualityRule(min_size=40, min_sharpness=5)


class Marks(DetectorSpec):
    """A detector, and its settings: a face, 100 pixels large or 30, at each red or green corner pixel of a photo."""

    def __init__(self, name: str = "marks") -> None:
        self.name = name
        self.made = 0
        self.batches: list[int] = []

    def fingerprint(self) -> str:
        return self.name

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    def make(self) -> Marks:
        self.made += 1
        return self

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        self.batches.append(len(images))
        return [self.faces(image) for image in images]

    def faces(self, image: np.ndarray) -> list[Face]:
        found = []
        for row, column in np.argwhere(
            (image == (255, 0, 0)).all(axis=2) | (image == (0, 255, 0)).all(axis=2)
        ).tolist():
            side = 100.0 if image[row, column, 0] else 30.0
            landmarks = (template(112) / 112 * side + np.array([column, row])).astype(np.float32)
            found.append(Face((float(column), float(row), column + side, row + side), landmarks, 0.9))
        return found


def photo(path: Path, *marks: tuple[int, int, bool], seed: int = 0) -> Path:
    """Write a photo, 240 × 360 pixels, with faces whose corner is at (x, y), large or not."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 200, (40, 60, 3), dtype=np.uint8), (360, 240), interpolation=cv2.INTER_CUBIC)
    image = np.minimum(image, 240)
    for x, y, large in marks:
        image[y, x] = (0, 0, 255) if large else (0, 255, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


LARGE, SMALL, OTHER = (30, 40, True), (200, 20, False), (180, 100, True)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    root = tmp_path / "album"
    photo(root / "one.png", LARGE, seed=1)
    photo(root / "trip" / "two.png", LARGE, SMALL, OTHER, seed=2)
    photo(root / "trip" / "nobody.png", seed=3)
    photo(root / "trip" / "far.png", SMALL, seed=4)
    (root / "trip" / "copy of one.png").write_bytes((root / "one.png").read_bytes())
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (root / "notes.txt").write_text("no photo")
    return root


def run(album: Path, out: Path, **options: Any) -> AlignReport:
    options = {"detector": Marks(), "settings": AlignSettings(rule=RULE), **options}
    return align_album(album, out, **options)


def pictures(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))


def table(out: Path) -> list[dict[str, str]]:
    with (out / "faces.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def everything(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestResult:
    def test_every_face_once_and_the_poor_apart(self, album: Path, tmp_path: Path) -> None:
        report = run(album, tmp_path / "out")
        assert pictures(tmp_path / "out") == [
            "_poor/trip/far.png",
            "_poor/trip/two_2.png",
            "one.png",
            "trip/two.png",
            "trip/two_3.png",
        ] or pictures(tmp_path / "out") == [
            "_poor/trip/far.png",
            "_poor/trip/two.png",
            "one.png",
            "trip/two_2.png",
            "trip/two_3.png",
        ]
        told = report.to_json()
        assert {key: told[key] for key in list(told)[1:10]} == {
            "photos": 6,
            "aligned": 4,
            "known": 0,
            "copies": 1,
            "faces": 3,
            "poor": 2,
            "without_face": 1,
            "unusable": 0,
            "skipped": {"truncated": 1, "not-an-image": 1},
        }
        assert json.loads(json.dumps(told)) == told

    def test_pictures_and_table_are_those_of_alignment_and_quality(self, album: Path, tmp_path: Path) -> None:
        run(album, tmp_path / "out", settings=AlignSettings(size=160, zoom=0.8, rule=RULE))
        image = cv2.cvtColor(cv2.imread(str(album / "one.png")), cv2.COLOR_BGR2RGB)
        [face] = Marks().faces(image)
        made = cv2.cvtColor(cv2.imread(str(tmp_path / "out" / "one.png")), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(made, align(image, face.landmarks, size=160, zoom=0.8))
        [row] = [row for row in table(tmp_path / "out") if row["file"] == "one.png"]
        quality = face_quality(image, face)
        assert (row["path"], row["face"], row["kind"], row["reasons"]) == ("one.png", "1", "good", "")
        assert [float(row[side]) for side in ("left", "top", "right", "bottom")] == [30, 40, 130, 140]
        assert float(row["nose_y"]) == pytest.approx(float(face.landmarks[2, 1]), abs=0.01)
        assert float(row["right_mouth_x"]) == pytest.approx(float(face.landmarks[4, 0]), abs=0.01)
        assert float(row["sharpness"]) == pytest.approx(quality.sharpness, abs=0.05)
        assert float(row["size"]) == 100

    def test_the_table_has_all_faces_and_says_why_they_are_poor(self, album: Path, tmp_path: Path) -> None:
        run(album, tmp_path / "out")
        rows = table(tmp_path / "out")
        assert sorted(row["file"] for row in rows) == pictures(tmp_path / "out")
        assert {row["reasons"].split()[0] for row in rows if row["kind"] == "poor"} == {"tiny"}
        assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)

    def test_one_face(self, album: Path, tmp_path: Path) -> None:
        report = run(album, tmp_path / "out", settings=AlignSettings(one_face=True, rule=RULE))
        assert pictures(tmp_path / "out") == ["_poor/trip/far.png", "one.png", "trip/two.png"]
        assert (report.faces, report.poor) == (2, 1)

    def test_photos_are_not_touched(self, album: Path, tmp_path: Path) -> None:
        before = everything(album)
        run(album, tmp_path / "out")
        assert everything(album) == before

    def test_faces_that_span_nothing_are_left_out(
        self, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line = Face((0.0, 0.0, 50.0, 50.0), np.outer(np.arange(5), [1, 2]).astype(np.float32), 0.9)
        monkeypatch.setattr(Marks, "faces", lambda self, image: [line])
        report = run(album, tmp_path / "out")
        assert (report.unusable, report.faces, report.poor, report.without_face) == (4, 0, 0, 4)

    def test_hostile_names(self, tmp_path: Path) -> None:
        album, out = tmp_path / "album", tmp_path / "out"
        names = ["a\nb.png", '=cmd(),"x.png', "🙂.png", "n" * 250 + ".png", "a.png/inner.png", "a.jpeg"]
        for seed, name in enumerate(names):
            photo(album / name.replace(".jpeg", ".tmp.png"), LARGE, seed=seed)
        (album / "a.tmp.png").rename(album / "a.jpeg")
        odd = Path(os.fsdecode(os.fsencode(album) + b"/caf\xe9.png"))
        photo(odd.with_name("cafe.png"), LARGE, seed=99).rename(odd)
        assert run(album, out).faces == len(names) + 1
        rows = table(out)
        assert len(rows) == len(names) + 1
        assert {row["path"] for row in rows} == {
            str(path.relative_to(album)) for path in album.rglob("*.*") if path.is_file()
        }
        assert all((out / row["file"]).is_file() for row in rows)


class TestAgain:
    def test_the_second_time_nothing_is_searched(self, album: Path, tmp_path: Path) -> None:
        run(album, tmp_path / "out")
        before, detector = everything(tmp_path / "out"), Marks()
        report = run(album, tmp_path / "out", detector=detector)
        assert detector.made == 1  # for the broken one, which may have been restored
        assert detector.batches == [0]
        assert (report.aligned, report.known, report.faces, report.poor, report.copies) == (0, 4, 3, 2, 1)
        assert everything(tmp_path / "out") == before

    def test_new_photos_join_and_names_stay(self, album: Path, tmp_path: Path) -> None:
        run(album, tmp_path / "out")
        before = everything(tmp_path / "out")
        photo(album / "a new one.png", LARGE, seed=8)
        photo(album / "one.bmp", OTHER, seed=9)
        (album / "trip" / "two.png").rename(album / "trip" / "renamed.png")
        report = run(album, tmp_path / "out")
        assert (report.aligned, report.known, report.faces) == (2, 4, 5)
        after = everything(tmp_path / "out")
        assert {name: sha for name, sha in after.items() if name in before and name.endswith(".png")} == {
            name: sha for name, sha in before.items() if name.endswith(".png")
        }
        sha = hashlib.sha256((album / "one.bmp").read_bytes()).hexdigest()
        assert {"a new one.png", f"one-{sha[:8]}.png"} == set(pictures(tmp_path / "out")) - set(before)

    def test_a_picture_that_was_deleted_stays_deleted(self, album: Path, tmp_path: Path) -> None:
        run(album, tmp_path / "out")
        (tmp_path / "out" / "one.png").unlink()
        run(album, tmp_path / "out")
        assert not (tmp_path / "out" / "one.png").exists()
        assert "one.png" not in {row["file"] for row in table(tmp_path / "out")}

    @pytest.mark.parametrize(
        "other",
        [
            {"detector": Marks("others")},
            {"settings": AlignSettings(size=96, rule=RULE)},
            {"settings": AlignSettings(zoom=0.7, rule=RULE)},
            {"settings": AlignSettings(one_face=True, rule=RULE)},
            {"settings": AlignSettings()},
        ],
    )
    def test_other_settings_need_another_folder(self, album: Path, tmp_path: Path, other: dict[str, Any]) -> None:
        run(album, tmp_path / "out")
        with pytest.raises(DataError, match="Choose another folder"):
            run(album, tmp_path / "out", **other)

    def test_results_inside_the_album_are_no_photos(self, album: Path) -> None:
        run(album, album / "aligned")
        report = run(album, album / "aligned")
        assert (report.photos, report.aligned, report.skipped["left-out"]) == (6, 0, 1)

    def test_batches_are_bounded(self, album: Path, tmp_path: Path) -> None:
        detector = Marks()
        done: list[tuple[int, int]] = []
        run(album, tmp_path / "out", detector=detector, batch_size=2, on_progress=lambda *told: done.append(told))
        assert max(detector.batches) == 2
        assert done[-1] == (6, 6)
        assert done == sorted(done)


class TestRefused:
    def test_folders_where_photos_could_be_written_over(self, album: Path, tmp_path: Path) -> None:
        before = everything(tmp_path)
        (tmp_path / "link").symlink_to(album)
        for out in (album, tmp_path, tmp_path / "link"):
            with pytest.raises(DataError, match="folder of their own"):
                run(album, out)
        (tmp_path / "link").unlink()
        assert everything(tmp_path) == before

    def test_a_folder_with_something_else(self, album: Path, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "one.png").write_bytes(b"mine")
        with pytest.raises(DataError, match="holds something else"):
            run(album, tmp_path / "other")
        assert (tmp_path / "other" / "one.png").read_bytes() == b"mine"
        with pytest.raises(DataError, match="got the file"):
            run(album, tmp_path / "other" / "one.png")

    def test_another_process_is_at_it(self, album: Path, tmp_path: Path) -> None:
        run(album, tmp_path / "out")
        lock = WriterLock(tmp_path / "out" / ".facetl-align.lock")
        lock.acquire()
        try:
            with pytest.raises(CacheLockedError):
                run(album, tmp_path / "out")
        finally:
            lock.release()
        run(album, tmp_path / "out")

    @pytest.mark.parametrize("settings", [{"size": 0}, {"zoom": 0.0}, {"zoom": float("nan")}])
    def test_settings_that_cannot_be(self, settings: dict[str, Any]) -> None:
        with pytest.raises(DataError, match="size from 1 and a zoom above 0"):
            AlignSettings(**settings)


KILLS = """
import os, signal, sys, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import cv2
sys.path.insert(0, str(Path(sys.argv[3]).parent / "support"))
from test_aligned_album import RULE, Marks
from facetl.faces.aligned_album import AlignSettings, align_album

cv2.setNumThreads(1)
album, out = Path(sys.argv[1]), Path(sys.argv[2])

def child(die_at):
    left = [die_at]
    def counted(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    def torn(descriptor, data):
        half = honest(descriptor, bytes(data)[:max(1, len(data) // 2)])
        counted(lambda: None)()
        return half
    honest = os.write
    os.write = torn
    for name in ("fsync", "replace", "ftruncate"):
        setattr(os, name, counted(getattr(os, name)))
    align_album(album, out, detector=Marks(), settings=AlignSettings(rule=RULE), batch_size=2)

kills = 0
for die_at in range(1, 200):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(die_at)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    kills += code == -signal.SIGKILL
    if code >= 0:
        sys.exit(code or print(kills))
sys.exit("it never ended")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_any_step_it_ends_as_if_it_had_not_been(album: Path, tmp_path: Path) -> None:
    for seed in range(10, 16):
        photo(album / "more" / f"{seed}.png", LARGE, SMALL, seed=seed)
    run(album, tmp_path / "whole", batch_size=2)
    arguments = [sys.executable, "-c", KILLS, album, tmp_path / "killed", Path(__file__).parent]
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8
    whole, killed = everything(tmp_path / "whole"), everything(tmp_path / "killed")
    own = (aligned_album.FILE_NAME, ".facetl-align.lock")
    assert {name: sha for name, sha in killed.items() if name not in own} == {
        name: sha for name, sha in whole.items() if name not in own
    }


class TestCommand:
    def test_one_json_object(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name in ("Ada/1.png", "Grace/1.png"):
            (tmp_path / "people" / name).parent.mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "people" / name), rng.integers(0, 256, (64, 48, 3), dtype=np.uint8))
        arguments = ["align", str(tmp_path / "people"), str(tmp_path / "out"), "--detector", "none", "--size", "64"]
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert (told["photos"], told["aligned"], told["faces"] + told["poor"]) == (2, 2, 2)
        assert len(table(tmp_path / "out")) == 2
        spoken = CliRunner().invoke(app, arguments)
        assert "known     2" in spoken.output
        assert str(tmp_path / "out" / "faces.csv") in spoken.output.replace("\n", "")

    def test_a_face_that_is_aligned_already_stays_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "faces").mkdir()
        image = np.random.default_rng(1).integers(0, 256, (112, 112, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "faces" / "a.png"), image)
        align_album(tmp_path / "faces", tmp_path / "out", detector=CroppedSpec())
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / "a.png")), image)
