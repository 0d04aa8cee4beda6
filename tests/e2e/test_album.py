"""A family's way: import, stacks, names, learning, and who is on new photos; all through the command line."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from album import Album
from machine import Machine
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.people.library import Library

FAMILY = [f"s{number}" for number in range(1, 15)]
STRANGERS = ["s15", "s16"]
LABELLED = [f"s{number}" for number in range(17, 41)]
NEW_PHOTOS = (7, 8)


@dataclass
class Journey:
    """A family's machine, album and library, and what each step told."""

    machine: Machine
    album: Album
    library: Path
    room: Path
    told: dict[str, Any] = field(default_factory=dict)

    def facetl(self, *arguments: object) -> dict[str, Any]:
        """Run a verb in this process, which spares the start of TensorFlow; return what it tells."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.machine.environment().items():
                patch.setenv(name, value)
            result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
        return json.loads(result.stdout)

    def stacks(self) -> list[dict[str, Any]]:
        """Return all stacks with their faces, and who these are."""
        listed = self.facetl("people", "stacks", self.library, "--limit", 1000)["stacks"]
        found = [self.facetl("people", "stacks", self.library, one["id"]) for one in listed]
        for stack in found:
            stack["truth"] = [self.album.truth(face["path"], face["box"]) for face in stack["faces"]]
        return found

    def nameless(self) -> list[tuple[int, str, list[int]]]:
        """Return stacks of family without a name: the stack, who is on most of it, and the faces of others."""
        found = []
        for stack in self.stacks():
            if stack["name"] is None and set(stack["truth"]) & set(FAMILY):
                person = Counter(stack["truth"]).most_common(1)[0][0]
                rows = zip(stack["faces"], stack["truth"], strict=True)
                found.append((stack["id"], person, [face["face"] for face, own in rows if own != person]))
        return found


@pytest.fixture(scope="module")
def journey(sample: Path, tmp_path_factory: pytest.TempPathFactory, small_net_weights: Path) -> Journey:
    room = tmp_path_factory.mktemp("family")
    machine = Machine(room / "home")
    machine.home.mkdir()
    made = Journey(machine, Album(room / "album", sample), room / "library", room)
    # A run of other people, behind a net of random weights, whose first convolutions still tell faces apart.
    for person in LABELLED:
        for number in range(1, 8):
            face = cv2.imread(str(sample / person / f"{number}.pgm"))
            path = room / "labelled" / person / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.copyMakeBorder(face, 25, 25, 25, 25, cv2.BORDER_REPLICATE))
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--tap", "conv", "--grid", 7)
    options = ("--align", "mtcnn", "--models", room / "models", "--epochs", 3)
    made.told["train"] = made.facetl("train", room / "labelled", "--run", "base", "--validation", 0.4, *net, *options)
    _write_album(made.album)
    made.told["photos"] = _digests(made.album.folder)
    made.told["import"] = made.facetl(
        "people", "import", made.album.folder, "--library", made.library, "--models", room / "models"
    )
    made.told["again"] = made.facetl("people", "import", made.album.folder, "--library", made.library)
    made.told["cluster"] = made.facetl("people", "cluster", made.library)
    made.told["stacks"] = made.stacks()
    _name(made)
    made.told["learn"] = made.facetl("people", "learn", made.library)
    made.told["stacks before"] = made.stacks()
    if made.told["learn"]["better"]:
        made.told["apply"] = made.facetl("people", "learn", made.library, "--apply")
    made.told["stacks after"] = made.stacks()
    new = Album(room / "new", sample, seed=9)
    for number in NEW_PHOTOS:
        for first in range(0, len(FAMILY), 2):
            people = [*FAMILY[first : first + 2], STRANGERS[first // 2 % 2]]
            new.scene(f"{number}_{first}.jpg", *[(person, number) for person in people])
    made.told["identify"] = made.facetl("identify", made.library, new.folder)
    made.told["new"] = new
    return made


def _write_album(album: Album) -> None:
    rng = np.random.default_rng(1)
    shots = [(person, number) for person in [*FAMILY, *STRANGERS] for number in range(1, 6)]
    shots = [shots[place] for place in rng.permutation(len(shots))]
    scene = 0
    while shots:
        chosen: list[tuple[str, int]] = []
        for shot in list(shots):
            if len(chosen) < (3, 2, 4, 1)[scene % 4] and shot[0] not in {person for person, _ in chosen}:
                chosen.append(shot)
                shots.remove(shot)
        jpeg = scene % 3 > 0
        path = album.scene(
            f"{2019 + scene % 3}/IMG_{scene:03d}.{'jpg' if jpeg else 'png'}",
            *chosen,
            turn=(0.0, 0.0, 14.0, -11.0)[scene % 4],
            exif=jpeg and scene % 5 == 1,
        )
        if scene % 6 == 2:
            album.again(path, f"copies/{scene}{path.suffix}")
        scene += 1
    for number in range(2):
        album.scene(f"landscapes/{number}.jpg")


def _name(made: Journey) -> None:
    """Say who is who, as a careful user: strange faces are split off, and what is one person's gets a name."""
    for _ in range(6):
        for stack, person, strange in made.nameless():
            if strange:
                made.facetl("people", "split", made.library, stack, *strange)
            if person in FAMILY:
                made.facetl("people", "name", made.library, stack, _name_of(person))


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _name_of(person: str | None) -> str | None:
    return f"Person {int(person[1:]):02d}" if person in FAMILY else None


def test_the_import_finds_the_faces_of_the_album(journey: Journey) -> None:
    told, pasted = journey.told["import"], 5 * len([*FAMILY, *STRANGERS])
    assert told["faces"] >= 0.95 * pasted
    assert told["without_face"] == 2
    assert told["duplicates"] == sum(1 for path in journey.album.scenes if "/copies/" in path)
    assert told["run"] == str(journey.room / "models" / "base"), "the only run there is"
    found = [who for stack in journey.told["stacks"] for who in stack["truth"]]
    assert sum(who is not None for who in found) >= 0.95 * pasted


def test_a_second_import_adds_nothing_and_photos_stay_as_they_were(journey: Journey) -> None:
    again = journey.told["again"]
    assert (again["added"], again["faces"]) == (0, 0)
    assert again["counts"]["faces"] == journey.told["import"]["counts"]["faces"]
    assert _digests(journey.album.folder) == journey.told["photos"]


def test_stacks_are_mostly_of_one_person(journey: Journey) -> None:
    stacks = [Counter(stack["truth"]) for stack in journey.told["stacks"]]
    right = sum(counts.most_common(1)[0][1] for counts in stacks)
    assert right >= 0.8 * sum(map(sum, (counts.values() for counts in stacks)))
    assert len(stacks) < 0.8 * sum(counts.total() for counts in stacks), "faces stand together at all"


def test_learning_says_what_it_would_change_before_it_does(journey: Journey) -> None:
    learn = journey.told["learn"]
    assert learn["people"] >= 8
    assert learn["held_out"] >= learn["people"]
    assert {"auc_before", "auc_after", "found_before", "found_after", "gain", "stderr"} <= set(learn)
    named = [(stack["id"], stack["name"], stack["size"]) for stack in journey.told["stacks before"]]
    assert len(named) >= learn["people"]
    if not learn["better"]:
        assert (learn["run"], learn["changes"]) == (None, None)
        return
    assert Path(learn["run"]).is_relative_to(journey.library / "models")
    assert learn["changes"]["stacks_before"] == len(journey.told["stacks before"])
    assert learn["changes"]["stacks_after"] == len(journey.told["stacks after"])
    assert journey.told["apply"]["run"] == learn["run"]
    with Library.open(journey.library) as library:
        assert (library.folder / (library.setting("run") or "")) == Path(learn["run"])


def test_names_that_were_given_stay_after_learning(journey: Journey) -> None:
    def said(stacks: list[dict[str, Any]]) -> dict[int, str]:
        return {face["face"]: stack["name"] for stack in stacks for face in stack["faces"] if stack["name"]}

    before, after = said(journey.told["stacks before"]), said(journey.told["stacks after"])
    assert before
    assert {face: after.get(face) for face in before} == before


def test_new_photos_are_named_and_strangers_are_not(journey: Journey) -> None:
    new, faces = journey.told["new"], journey.told["identify"]["faces"]
    truth = [_name_of(new.truth(face["path"], face["box"])) for face in faces]
    known = [(face["name"], who) for face, who in zip(faces, truth, strict=True) if who is not None]
    strangers = [face["name"] for face, who in zip(faces, truth, strict=True) if who is None]
    assert len(known) >= 0.9 * len(FAMILY) * len(NEW_PHOTOS)
    assert np.mean([name == who for name, who in known]) >= 0.6
    assert np.mean([name is not None and name != who for name, who in known]) <= 0.15
    assert np.mean([name is None for name in strangers]) >= 0.5
    for face in faces:
        assert set(face) >= {"path", "box", "name", "distance", "probability"}


def test_people_go_out_as_folders_and_a_table(journey: Journey) -> None:
    told = journey.facetl("people", "export", journey.library, journey.room / "out", "--as", "folders", "--as", "csv")
    assert told["people"] >= 8
    with (journey.room / "out" / "faces.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == told["rows"]
    right = [
        row["name"] == _name_of(journey.album.truth(row["path"], _box(row))) for row in rows if row["said"] == "yes"
    ]
    assert np.mean(right) == 1.0
    folders = {path.name for path in (journey.room / "out").iterdir() if path.is_dir()}
    assert folders == {row["name"] for row in rows if row["name"]}


def _box(row: dict[str, str]) -> list[float]:
    return [float(row[side]) for side in ("left", "top", "right", "bottom")]


def test_cluster_writes_a_table_of_stacks(journey: Journey) -> None:
    out = journey.room / "stacks.csv"
    told = journey.facetl("cluster", "base", journey.album.folder, "--out", out, "--models", journey.room / "models")
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == ("path", "face", "stack", "confidence")
    assert told["faces"] == len(rows)
    assert told["stacks"] == len({row["stack"] for row in rows})
    copies = {row["path"] for row in rows if "/copies/" in row["path"]}
    assert copies
    for path in copies:
        together = [row["stack"] for row in rows if row["path"] == path]
        assert len(set(together)) == len(together), "two faces of a photo are two people's"


def test_who_is_forgotten_is_gone_from_every_file_of_the_library(journey: Journey) -> None:
    """The last test of this library: it changes it."""
    names = {stack["name"] for stack in journey.stacks() if stack["name"]}
    # Whose name is no part of another one, or finding it would say nothing.
    name = next(one for one in sorted(names) if not any(one in other for other in names - {one}))
    told = journey.facetl("forget", journey.library, name)
    assert told["faces"] >= 3
    assert told["remains"] == []
    texts = [name.encode(), name.encode("utf-32-le")]
    for path in journey.library.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(text in content for text in texts), path
    assert name not in {stack["name"] for stack in journey.stacks()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_way_through_the_page(journey: Journey, sample: Path, chromium: Any) -> None:
    room = journey.room / "by page"
    made = Journey(journey.machine, Album(room / "photos", sample), room / "library", room)
    _write_album(made.album)
    (room / "photos" / "2021").rename(room / "later")
    made.facetl(
        "people", "import", room / "photos", "--library", made.library, "--run", journey.room / "models" / "base"
    )
    (room / "later").rename(room / "photos" / "2021")
    command = [sys.executable, "-m", "facetl", "people", "serve", str(made.library), "--no-browser"]
    with subprocess.Popen(
        command, env=journey.machine.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout
        context = chromium.new_context(viewport={"width": 1300, "height": 900})
        context.set_default_timeout(60_000)
        try:
            _through_the_page(made, journey.told["new"], context.new_page(), server.stdout.readline().strip())
        finally:
            context.close()
            server.send_signal(signal.SIGINT)
    with Library.open(made.library) as library:
        assert {person.name for person in library.people()} == {_name_of(person) for person in FAMILY}
        assert set(library.named().values()) == {_name_of(person) for person in FAMILY}


def _through_the_page(made: Journey, new: Album, page: Any, address: str) -> None:
    from playwright.sync_api import expect

    page.goto(address)
    base = address.split("/?")[0]
    # New photos, and all faces stacked anew.
    page.goto(f"{base}/tasks")
    page.locator("[data-start=look]").click()
    expect(page.locator("[data-message]")).to_contain_text("new photos", timeout=200_000)
    page.locator("[data-start=stack]").click()
    expect(page.locator("[data-message]")).to_contain_text("stacks of", timeout=200_000)
    # Names; who does not belong is ticked and split off first.
    for _ in range(6):
        for stack, person, strange in made.nameless():
            page.goto(f"{base}/stacks/{stack}")
            for face in strange:
                page.locator(f".tile.face[data-face='{face}']").focus()
                page.keyboard.press("Space")
            if strange:
                page.keyboard.press("s")
                expect(page.locator(".toast span")).to_contain_text("split off")
            if person in FAMILY:
                page.keyboard.press("n")
                page.keyboard.type(_name_of(person))
                page.keyboard.press("Enter")
                expect(page.locator("h1")).to_have_text(_name_of(person))
    # Learning, and what it proposes.
    page.goto(f"{base}/learn")
    page.locator("[data-start=learn]").click()
    proposal = page.locator(".proposal")
    expect(proposal.locator("h2")).not_to_be_empty(timeout=300_000)
    apply = proposal.locator("[data-start=apply]")
    if apply.count():
        apply.click()
        expect(page.locator("[data-message]")).to_contain_text("stacks", timeout=200_000)
    # New photos are dropped: who is on them?
    right, asked = 0, 0
    for path, pasted in list(new.scenes.items())[:4]:
        page.locator(".menu summary").click()
        page.locator("[data-pick]").set_input_files(path)
        page.wait_for_url(re.compile(r"/search/\d+$"))
        expect(page.locator("h1")).to_contain_text(f"{len(pasted)} faces found")
        names = page.locator(".match b").all_inner_texts()
        wanted = [_name_of(one.person) for one in pasted if one.person in FAMILY]
        asked += len(wanted)
        right += sum(name in names for name in wanted)
        page.goto(base)
    assert right >= 0.5 * asked
