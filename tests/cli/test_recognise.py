"""`facetl verify`, `enroll` and `identify` as a user runs them, on a run that knows people by their colour."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from patches import PEOPLE, PatchSpec, photo, use_colours, write_run
from typer.testing import CliRunner

from facetl.cli import inputs
from facetl.cli.app import app
from facetl.errors import FacetlError
from facetl.metrics.ranking import Gallery
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder

ANN, BOB, EVE, ZOE = PEOPLE.values()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a run named family and photos; `--detector mtcnn` finds patches."""
    use_colours(monkeypatch)
    monkeypatch.setattr("facetl.faces.detectors.MtcnnSpec", PatchSpec)
    write_run(tmp_path / "models" / "family")
    for name, colour in (("ann", ANN), ("bob", BOB)):
        for number in range(3):
            photo(tmp_path / name / f"{number}.png", colour, seed=number)
    photo(tmp_path / "both.png", BOB, ANN, seed=7)
    photo(tmp_path / "stranger.png", EVE, seed=8)
    photo(tmp_path / "nobody.png")
    return tmp_path


def facetl(room: Path, *arguments: object) -> Result:
    given = [*map(str, arguments), "--models", str(room / "models")]
    if arguments[0] != "forget":
        given += ["--detector", "mtcnn"]
    return CliRunner().invoke(app, given)


def answer_of(room: Path, *arguments: object) -> dict[str, Any]:
    result = facetl(room, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(room: Path, *arguments: object) -> str:
    result = facetl(room, *arguments)
    assert isinstance(result.exception, FacetlError), result.output
    return str(result.exception)


def test_verify_tells_distance_threshold_and_probability(room: Path) -> None:
    recognizer = Recognizer.load(room / "models" / "family")
    same = answer_of(room, "verify", "family", room / "ann/0.png", room / "ann/1.png")
    other = answer_of(room, "verify", "family", room / "ann/0.png", room / "bob/1.png")
    assert (same["verified"], other["verified"]) == (True, False)
    assert same["distance"] <= same["threshold"] == recognizer.threshold < other["distance"]
    assert same["probability"] == pytest.approx(recognizer.probability(same["distance"]))
    assert same["probability"] > 0.9 > 0.1 > other["probability"]
    shown = facetl(room, "verify", "family", room / "ann/0.png", room / "bob/1.png")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("two people\n")
    assert f"{other['distance']:.4f}, threshold {other['threshold']:.4f}" in shown.stdout


def test_verify_takes_the_face_a_photo_is_about_and_says_so(room: Path) -> None:
    several = answer_of(room, "verify", "family", room / "both.png", room / "ann/1.png")
    assert several["faces"] == [2, 1]
    result = facetl(room, "verify", "family", room / "both.png", room / "ann/1.png")
    assert "2 faces" in result.stderr
    assert "no face" not in result.output
    assert "none was found" in refused(room, "verify", "family", room / "nobody.png", room / "ann/1.png")
    assert "cannot be read" in refused(room, "verify", "family", room / "gone.png", room / "ann/1.png")


def test_whole_photos_that_are_taken_for_cropped_faces_get_a_line(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetl.recognition.embedded_face.MtcnnSpec", PatchSpec)
    answer_of(room, "enroll", "family", "Ann", room / "ann")

    def notes(*photos: str) -> str:
        given = ["identify", "family", *(str(room / name) for name in photos), "--models", str(room / "models")]
        result = CliRunner().invoke(app, given)
        assert result.exit_code == 0, result.output
        return result.stderr

    assert "taken for one cropped face" not in notes("both.png")  # small, as cropped faces are
    monkeypatch.setattr(inputs, "_LARGE", 80)
    line = "both.png is taken for one cropped face and shows more: to have faces looked for, pass --detector mtcnn"
    assert notes("stranger.png", "both.png", "both.png").replace("\n", " ").count(line) == 1
    assert "taken for one cropped face" not in notes("ann/0.png")
    monkeypatch.setattr(inputs, "_LOOKED_AT", 1)
    assert "taken for one cropped face" not in notes("ann/0.png", "both.png")


def test_cropped_faces_in_which_none_is_found_get_a_line(room: Path) -> None:
    answer_of(room, "enroll", "family", "Ann", room / "ann")
    line = "no photo shows a face; if each is cropped to one, pass --detector none"
    assert line in facetl(room, "identify", "family", room / "nobody.png").stderr
    assert line not in facetl(room, "identify", "family", room / "nobody.png", room / "both.png").stderr


def test_enroll_then_identify_names_known_people_and_nobody_else(room: Path) -> None:
    first = answer_of(room, "enroll", "family", "Ann", room / "ann", room / "nobody.png")
    assert (first["name"], first["faces"], first["total"], first["people"]) == ("Ann", 3, 3, 1)
    assert first["skipped"] == {"no-face": 1}
    answer_of(room, "enroll", "family", "Bob", room / "bob")
    again = answer_of(room, "enroll", "family", "Ann", room / "ann/1.png")
    assert (again["faces"], again["known"], again["total"]) == (0, 1, 3)
    found = answer_of(room, "identify", "family", room / "both.png", room / "stranger.png", room / "nobody.png")
    assert [(Path(face["path"]).name, face["name"]) for face in found["faces"]] == [
        ("both.png", "Bob"),
        ("both.png", "Ann"),
        ("stranger.png", None),
    ]
    assert (found["photos"], found["people"], found["skipped"]) == (3, 2, {})
    lefts = [face["box"][0] for face in found["faces"][:2]]
    assert lefts == [20.0, 100.0]
    recognizer, gallery = Recognizer.load(room / "models/family"), RunFolder(room / "models/family").gallery()
    assert recognizer.calibration is not None
    settings = recognizer.calibration.identification
    assert settings is not None
    ranked = Gallery(gallery.embeddings, gallery.names).rank(
        Recognizer.load(room / "models/family").embed([room / "ann/0.png"]).embeddings, top=1
    )
    assert ranked.distances.shape == (1, 1)
    for face in found["faces"][:2]:
        assert face["distance"] <= face["threshold"] == pytest.approx(settings.threshold)
        assert face["probability"] > 0.9


def test_a_line_has_path_box_name_distance_and_probability(room: Path) -> None:
    answer_of(room, "enroll", "family", "Ann", room / "ann")
    answer_of(room, "enroll", "family", "Bob", room / "bob")
    shown = facetl(room, "identify", "family", room / "both.png", room / "stranger.png", room / "nobody.png")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{room / 'both.png'}  20,20,59,59  Bob  distance 0.0")
    assert "  Ann  " in lines[1]
    assert "  unknown  distance " in lines[2]
    assert all("  probability " in line and line.endswith("%") for line in lines)
    assert f"{room / 'nobody.png'}: no face" in shown.stderr


def test_a_photo_with_several_faces_is_refused_unless_one_is_chosen(room: Path) -> None:
    message = refused(room, "enroll", "family", "Ann", room / "ann", room / "both.png")
    assert "both.png: a photo to enrol shows one face" in message
    assert "found 2 (1: 20 20 59 59; 2: 100 20 139 59). Nothing was enrolled." in message
    assert not (room / "models/family/gallery.npz").exists()
    assert "shows 2, counted from the left" in refused(room, "enroll", "family", "Ann", room / "both.png", "--face", 3)
    answer_of(room, "enroll", "family", "Ann", room / "both.png", "--face", 2)
    answer_of(room, "enroll", "family", "Bob", room / "bob")
    assert answer_of(room, "identify", "family", room / "ann/1.png")["faces"][0]["name"] == "Ann"
    moved = answer_of(room, "enroll", "family", "Eve", room / "both.png", "--face", 2)
    assert moved["moved"] == {"Ann": 1}
    assert facetl(room, "enroll", "family", "A", room / "both.png", "--face", 1, "--largest").exit_code == 2
    assert answer_of(room, "enroll", "family", "Bob", room / "both.png", "--largest")["known"] == 0
    assert stat.S_IMODE((room / "models/family/gallery.npz").stat().st_mode) == 0o600


def test_what_cannot_be_is_one_line(room: Path) -> None:
    assert "Run facetl enroll" in refused(room, "identify", "family", room / "both.png")
    assert "got 1 no-face" in refused(room, "enroll", "family", "Ann", room / "nobody.png")
    assert "nobody can be called" in refused(room, "enroll", "family", "unknown", room / "ann")
    assert "does not exist" in refused(room, "enroll", "family", "Ann", room / "gone")
    assert "Run facetl train first" in refused(room, "verify", "other", room / "both.png", room / "both.png")


def test_without_a_detector_the_run_sees_photos_as_it_was_trained(room: Path) -> None:
    """This run was trained on cropped faces: each photo is one face."""
    arguments = ["verify", "family", room / "both.png", room / "ann/0.png", "--models", room / "models", "--json"]
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert json.loads(result.stdout)["faces"] == [1, 1]
    with pytest.raises(Exception, match="detector-weights belongs to"):
        inputs.chosen_detector(None, room / "net.onnx")


def test_a_gallery_of_one_person_can_say_unknown(room: Path) -> None:
    answer_of(room, "enroll", "family", "Ann", room / "ann")
    found = answer_of(room, "identify", "family", room / "ann/0.png", room / "stranger.png")["faces"]
    assert [face["name"] for face in found] == ["Ann", None]
    assert found[1]["nearest"] == "Ann"
    assert np.isfinite(found[1]["distance"])
