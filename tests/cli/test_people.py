"""`facetl people` from photos to names on a run that knows people by their colour; and what the page can do with it."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from invoked import answer, facetl, refused
from patches import PEOPLE, PatchSpec, photo, use_colours, write_run

from facetl.cli.inputs import open_run
from facetl.errors import DataError, LibraryError, RunError
from facetl.io.text import given_path
from facetl.people.library import Library
from facetl.people.web.service import PeopleService

ANN, BOB, EVE, ZOE = PEOPLE.values()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a run and an album: Ann and Bob twice together, Ann and Eve alone twice, one empty photo."""
    use_colours(monkeypatch)
    monkeypatch.setattr("facetl.faces.detectors.MtcnnSpec", PatchSpec)
    monkeypatch.setenv("FACETL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "models" / "family")
    for number in range(2):
        photo(tmp_path / "album" / f"together_{number}.png", ANN, BOB, seed=number, shift=number)
        photo(tmp_path / "album" / f"ann_{number}.png", ANN, seed=10 + number, shift=2 + number)
        photo(tmp_path / "album" / f"eve_{number}.png", EVE, seed=20 + number, shift=4 + number)
    photo(tmp_path / "album" / "nobody.png")
    return tmp_path


@pytest.fixture
def library(room: Path) -> Path:
    answer("people", "import", "album", "--library", "lib")
    return room / "lib"


def stacks(library: Path) -> dict[str, dict[str, Any]]:
    """Return the stacks, each under the photos it shows."""
    listed = answer("people", "stacks", library)["stacks"]
    found = [answer("people", "stacks", library, one["id"]) for one in listed]
    return {" ".join(sorted(Path(face["path"]).stem for face in one["faces"])): one for one in found}


ANNS, BOBS, EVES = "ann_0 ann_1 together_0 together_1", "together_0 together_1", "eve_0 eve_1"


def test_names_of_any_bytes_are_printed_on_a_line_each_and_found_again(room: Path) -> None:
    odd = (b"caf\xe9.png", b"line\nbreak.png", b"esc\x1b[31m.png", "rtl\u202e.png".encode())
    for number, name in enumerate(odd):
        made = photo(room / "album" / f"{number}.png", EVE, seed=30 + number)
        made.rename(Path(os.fsdecode(os.fsencode(made.parent) + b"/" + name)))
    answer("people", "import", "album", "--library", "lib")
    eves = stacks(room / "lib")
    (number,) = (one["id"] for names, one in eves.items() if "eve_0" in names)
    exact = {Path(face["path"]) for face in answer("people", "stacks", "lib", number)["faces"]}
    assert {os.fsencode(path.name) for path in exact} == {b"eve_0.png", b"eve_1.png", *odd}
    lines = facetl("people", "stacks", "lib", number).stdout.split("\n")[:-1]
    assert len(lines) == 6
    assert {Path(given_path(line.split("  ")[1])) for line in lines} == exact
    assert all(line.isprintable() for line in lines)


def test_the_only_run_is_taken_and_faces_are_stacked(room: Path) -> None:
    result = facetl("people", "import", "album", "--library", "lib")
    assert result.exit_code == 0, result.output
    assert "the only one below models" in result.stderr
    assert "8 faces in 7 photos, 3 stacks" in result.stdout
    assert set(stacks(room / "lib")) == {ANNS, BOBS, EVES}
    again = answer("people", "import", "album", "--library", "lib")
    assert (again["added"], again["known"], again["counts"]["stacks"]) == (0, 7, 3)


def test_damaged_metadata_is_printed_with_the_first_file(room: Path) -> None:
    (room / "album" / "ann_0.png.xmp").write_bytes(b"")
    (room / "album" / "eve_1.xmp").write_text("<x")
    result = facetl("people", "import", "album", "--library", "lib", "--faces-only")
    [line] = [line for line in result.stdout.splitlines() if line.startswith("damaged ")]
    assert "the metadata of 2 photos" in line
    assert "ann_0.png.xmp: expected XMP" in line


def test_without_a_run_both_ways_are_reported_before_a_photo_is_read(room: Path) -> None:
    shutil.rmtree(room / "models")
    message = refused("people", "import", "album", "--library", "lib")
    assert "--extractor dlib (after pip install facetl[dlib])" in message
    assert "facetl train" in message
    with Library.open(room / "lib") as library:
        assert library.counts()["photos"] == 0
    write_run(room / "models" / "one")
    write_run(room / "models" / "two")
    assert "2 runs lie below models (one, two). Name one of them." in refused(
        "people", "import", "album", "--library", "lib"
    )
    assert answer("people", "import", "album", "--library", "lib", "--run", "two")["run"].endswith("two")
    # From now on the library knows its run.
    assert answer("people", "import", "album", "--library", "lib")["run"].endswith("two")
    both = ("people", "import", "album", "--library", "lib", "--run", "two", "--extractor", "dlib")
    assert "a library uses one net, got two and dlib. Leave one out." in refused(*both)
    assert "only a net that was trained on faces" in refused(
        "people", "import", "album", "--library", "lib", "--extractor", "inception_v3"
    )


def test_new_photos_join_and_faces_only_waits(room: Path, library: Path) -> None:
    before = {key: stack["id"] for key, stack in stacks(library).items()}
    photo(room / "album" / "new" / "bob.png", BOB, seed=50, shift=6)
    photo(room / "album" / "new" / "zoe.png", ZOE, seed=51, shift=7)
    waiting = answer("people", "import", "album", "--library", library, "--faces-only")
    assert (waiting["stacking"], waiting["added"], waiting["counts"]["stacks"]) == (None, 2, 3)
    answer("people", "import", "album", "--library", library)
    after = stacks(library)
    assert set(after) == {ANNS, f"bob {BOBS}", EVES, "zoe"}
    assert after[f"bob {BOBS}"]["id"] == before[BOBS]


def test_faces_only_needs_no_run_and_chooses_none(room: Path) -> None:
    found = answer("people", "import", "album", "--library", "lib", "--faces-only", "--models", "none-there")
    assert (found["run"], found["stacking"], found["faces"], found["counts"]["faces"]) == (None, None, 8, 8)
    again = facetl("people", "import", "album", "--library", "lib", "--faces-only")
    assert "without --faces-only" in again.stdout
    assert "people import with --run" in refused("people", "cluster", "lib")
    done = answer("people", "import", "album", "--library", "lib", "--run", "family")
    assert (done["known"], done["counts"]["stacks"]) == (7, 3)
    # The run in use is kept, one that is named is chosen.
    assert answer("people", "import", "album", "--library", "lib", "--faces-only")["run"].endswith("family")
    assert "expected a run's folder" in refused(
        "people", "import", "album", "--library", "lib", "--faces-only", "--run", "no"
    )


def test_naming_splitting_merging_and_undoing(room: Path, library: Path) -> None:
    found = stacks(library)
    named = answer("people", "name", library, found[ANNS]["id"], " Ann  Lee ")
    assert (named["kind"], named["name"], len(named["left"])) == ("name", "Ann Lee", 4)
    strange = [face["face"] for face in found[ANNS]["faces"] if Path(face["path"]).stem.startswith("ann")]
    split = answer("people", "split", library, found[ANNS]["id"], *strange)
    assert answer("people", "stacks", library)["total"] == 4
    assert {face["face"] for face in answer("people", "stacks", library, split["new"])["faces"]} == set(strange)
    assert "undone: different" in facetl("people", "undo", library).stdout
    assert set(stacks(library)) == {ANNS, BOBS, EVES}
    assert split["stack"] == found[ANNS]["id"]
    answer("people", "merge", library, found[BOBS]["id"], found[EVES]["id"])
    assert set(stacks(library)) == {ANNS, f"{EVES} {BOBS}"}
    answer("people", "cluster", library)
    assert set(stacks(library)) == {ANNS, f"{EVES} {BOBS}"}, "what was said survives"
    for _ in range(2):
        answer("people", "undo", library)
    assert answer("people", "undo", library) == {"undone": None}
    assert facetl("people", "undo", library).stdout == "nothing to undo\n"
    answer("people", "cluster", library)
    assert set(stacks(library)) == {ANNS, BOBS, EVES}


def test_answers_are_taken_and_wrong_ones_refused(library: Path) -> None:
    found = stacks(library)
    eves = [face["face"] for face in found[EVES]["faces"]]
    answer("people", "answer", library, "different", *eves)
    assert {"eve_0", "eve_1"} <= set(stacks(library))
    answer("people", "answer", library, "same", *eves)
    assert EVES in stacks(library)
    answer("people", "answer", library, "not-a-face", eves[0])
    assert "eve_1" in stacks(library)
    assert facetl("people", "answer", library, "maybe", *eves).exit_code == 2
    assert facetl("people", "answer", library, "different", eves[0]).exit_code == 2
    assert "nobody can be called" in refused("people", "name", library, found[EVES]["id"], "unknown")
    assert facetl("people", "stacks", library, "--order", "colour").exit_code == 2
    asked = answer("people", "questions", library, "--count", 3)["questions"]
    assert len(asked) <= 3
    for one in asked:
        assert {"face", "path", "box"} <= set(one["first"])
        assert 0 <= one["probability"] <= 1


def test_identify_and_forget_take_a_library(room: Path, library: Path) -> None:
    assert "nobody is named yet" in refused("identify", library, room / "album")
    found = stacks(library)
    answer("people", "name", library, found[ANNS]["id"], "Ann Lee")
    answer("people", "name", library, found[BOBS]["id"], "Bob Ray")
    photo(room / "party.png", BOB, EVE, ANN, seed=70)
    named = answer("identify", library, room / "party.png")
    assert [face["name"] for face in named["faces"]] == ["Bob Ray", None, "Ann Lee"]
    gone = answer("forget", library, "Ann Lee")
    assert (gone["faces"], gone["photos"], gone["remains"]) == (4, 2, [])
    assert [face["name"] for face in answer("identify", library, room / "party.png")["faces"]] == [
        "Bob Ray",
        None,
        None,
    ]
    assert "nobody has the name 'Ann Lee'" in refused("forget", library, "Ann Lee")
    assert b"Ann Lee" not in b"".join(path.read_bytes() for path in library.rglob("*") if path.is_file())


def test_learning_of_few_people_is_one_clear_line(library: Path) -> None:
    assert "Learning needs 8 named people" in refused("people", "learn", library)
    assert facetl("people", "learn", library, "--apply", "--back").exit_code == 2
    assert "used one run only" in refused("people", "learn", library, "--back")
    assert answer("people", "learn", library, "--discard") == {"discarded": True}


def test_collecting_the_cache_of_a_library_keeps_its_faces(room: Path, library: Path) -> None:
    before = answer("cache", "info", "--cache", library / "cache")["extractors"]
    assert sum(extractor["rows"] for extractor in before) >= 8
    collected = answer("cache", "gc", "--cache", library / "cache")
    assert collected["dropped"] == 0
    assert answer("cache", "info", "--cache", library / "cache")["extractors"] == before
    shutil.rmtree(room / "album")
    answer("cache", "gc", "--cache", library / "cache")
    # The photos may lie on a disk that is not connected: the library knows them still.
    assert answer("cache", "info", "--cache", library / "cache")["extractors"] == before


def test_the_export_takes_names_and_kinds(room: Path, library: Path) -> None:
    answer("people", "name", library, stacks(library)[ANNS]["id"], "Ann Lee")
    done = answer("people", "export", library, room / "out", "--as", "folders", "--as", "csv", "--copy")
    assert (done["people"], done["files"], done["rows"]) == (1, 4, 8)
    assert sorted(path.name for path in (room / "out/Ann Lee").iterdir()) == [f"{name}.png" for name in ANNS.split()]
    assert facetl("people", "export", library, room / "x", "--as", "csv", "--copy", "--link").exit_code == 2


def test_prune_counts_first_and_drops_with_apply(room: Path, library: Path) -> None:
    gone = next((room / "album").rglob("*.png"))
    gone.unlink()
    found = facetl("people", "import", room / "album", "--library", library, "--faces-only").stdout
    assert f"missing   1 photos: facetl people prune {library}" in found
    before = answer("people", "prune", library)
    assert (before["photos"], before["places"], before["applied"]) == (1, 1, False)
    text = facetl("people", "prune", library, "--apply").stdout
    assert "photos    1 dropped, 1 paths" in text
    assert answer("people", "prune", library)["photos"] == 0
    assert facetl("cache", "gc", "--cache", library / "cache").exit_code == 0
    assert str(gone) not in facetl("people", "stacks", library).stdout
    (room / "album").rename(room / "away")
    text = facetl("people", "prune", library, "--apply").stdout
    assert "photos    0 dropped" in text
    assert f"below {room / 'album'}, which is not there: facetl people prune {library} {room / 'album'}" in text
    moved = library.rename(room / "Ann's photos")
    printed = next(line for line in facetl("people", "prune", moved).stdout.splitlines() if line.startswith("kept"))
    assert shlex.split(printed.partition("facetl ")[2]) == ["people", "prune", str(moved), str(room / "album")]


# The page's service


def test_the_page_can_look_stack_and_find_likenesses(room: Path, library: Path) -> None:
    with Library.open(library) as opened:
        service = PeopleService(opened, load_run=lambda: open_run(opened))
        assert service.has_run
        seen: list[tuple[int, int]] = []
        photo(room / "album" / "later.png", (205, 65, 55), seed=80)
        assert service.look(lambda *at: seen.append(at)) == "1 new photos with 1 faces."
        assert seen
        (room / "album" / "later.png").rename(room / "album" / "later.txt")
        assert service.look(lambda *at: None).startswith("0 new photos with 0 faces. 1 photos are missing")
        (room / "album" / "later.txt").rename(room / "album" / "later.png")
        assert service.stack(lambda *at: None) == "3 stacks of 9 faces."
        anns = next(stack.id for stack in opened.stacks() if stack.size == 5)
        opened.name_stack(anns, "Ann Lee")
        others = {stack.id: stack.size for stack in opened.stacks() if stack.id != anns}
        # Bob is on a photo with Ann: he is not asked about.
        alike = service.alike(anns, 5)
        assert len(others) == 2
        [other] = alike
        assert {
            Path(opened.photo(opened.face(member.face).photo).paths[0]).stem for member in opened.stack(other.stack)[1]
        } == {
            "eve_0",
            "eve_1",
        }
        party = cv2.imread(str(photo(room / "party.png", EVE, ANN, seed=81)))[:, :, ::-1]
        stranger, ann = service.recognise(np.ascontiguousarray(party))
        assert (stranger.name, ann.name) == (None, "Ann Lee")
        assert ann.probability is not None
        assert opened.named()[ann.nearest[0][0]] == "Ann Lee"
        chances = [probability for _, probability in ann.nearest]
        assert chances == sorted(chances, reverse=True)
        done = service.export(room / "o", lambda *at: None, kinds=frozenset({"csv"}))
        assert done.startswith("1 people on 5 photos")
        with pytest.raises(DataError, match="Learning needs"):
            service.learn(lambda *at: None)


def test_without_a_run_the_page_still_exports(tmp_path: Path) -> None:
    with Library.open(tmp_path / "lib", create=True) as library:
        service = PeopleService(library, load_run=lambda: open_run(library))
        assert not service.has_run
        assert service.export(tmp_path / "o", lambda *at: None, kinds=frozenset({"csv"})).startswith("0 people")
        with pytest.raises(LibraryError, match="No run is chosen"):
            service.recognizer()


def test_a_run_that_is_gone_is_one_clear_line(room: Path, library: Path) -> None:
    shutil.rmtree(room / "models")
    assert "the run that this library uses is gone" in refused("people", "cluster", library)
    with pytest.raises((RunError, LibraryError)):
        PeopleService(Library.open(library), load_run=lambda: open_run(Library.open(library)))
