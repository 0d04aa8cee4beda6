"""A trained run takes up people, keeps its gallery, refuses what is worse, and goes back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
from light_runs import make_runs_light, write_no_saved_model

from facetl.backbones.backbone import Backbone
from facetl.backbones.spec import ExtractorSpec
from facetl.data.manifest import Manifest
from facetl.data.splits import position
from facetl.embeddings import dataset
from facetl.errors import DataError, RunError, TrainingError
from facetl.methods.continual import run_update
from facetl.methods.continual.exemplars import Exemplars
from facetl.methods.continual.run_update import update_run
from facetl.methods.continual.update_report import Gain
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.people.run_erasure import forget_in_run
from facetl.recognition import recognizer
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import PEOPLE, RunFolder
from facetl.runs.training_run import train_run
from facetl.runs.versions import history, roll_back
from facetl.training.settings import TrainingSettings

OLD, NEW, PHOTOS = 36, 10, 5
SETTINGS = TrainingSettings(
    widths=(48, 24), activations=("linear",) * 2, normalised=(False, True), components=48, epochs=2, fallback=False
)


class Room:
    """A trained run, its photos, the photos of new people, and a cache that holds the features of all."""

    def __init__(self, folder: Path, old: Path, new: Path, cache: Path) -> None:
        self.folder, self.old, self.new, self.cache = folder, old, new, cache

    def update(self, method: str = "replay+distillation", **options: object):
        settings = {key: options.pop(key) for key in ("memory", "seed") if key in options}
        known = method in ("none", "joint")
        update = UpdateSettings(method="replay+distillation" if known else method, **settings)
        photos = options.pop("photos", self.new)
        return update_run(self.folder, photos, method=method, update=update, cache=self.cache, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Room:
    room = tmp_path_factory.mktemp("update")
    colours = [keras.Input((24, 24, 3)), keras.layers.Rescaling(1 / 255), keras.layers.AveragePooling2D(4)]
    keras.Sequential([*colours, keras.layers.Flatten()]).save(room / "net.keras")
    old = make_people(room / "old", people=OLD, photos=PHOTOS, side=24, noise=60.0, seed=1)
    new = make_people(room / "new", people=NEW, photos=PHOTOS, side=24, noise=60.0, seed=2)
    for person in new.iterdir():
        person.rename(new / f"New_{person.name}")
    spec = ExtractorSpec.of(f"{room / 'net.keras'}", mirror=False)
    for photos in (new, old):
        collection = dataset.embed(Manifest.from_folder(photos), Backbone.from_spec(spec), cache=room / "cache")
    folder = room / "models" / "family"
    with pytest.MonkeyPatch.context() as patch:
        make_runs_light(patch)
        train_run(collection.with_splits(seed=0, validation=0.25, test=0.2), SETTINGS, folder)
    return Room(folder, old, new, room / "cache")


@pytest.fixture
def room(trained: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    # `updated` writes a whole one.
    monkeypatch.setattr(recognizer, "save_model", write_no_saved_model)
    folder = shutil.copytree(trained.folder, tmp_path / "models" / "family")
    return Room(folder, trained.old, trained.new, trained.cache)


@pytest.fixture(scope="module")
def updated(trained: Room, tmp_path_factory: pytest.TempPathFactory):
    room = Room(
        shutil.copytree(trained.folder, tmp_path_factory.mktemp("updated") / "family"),
        trained.old,
        trained.new,
        trained.cache,
    )
    before = Recognizer.load(room.folder)
    return room, before, room.update(force=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_enrolling_needs_no_training(room: Room) -> None:
    before = files(room.folder)
    report = room.update("none")
    assert (report.enrolment.people, report.enrolment.faces, report.version) == (NEW, NEW * PHOTOS, 1)
    assert (report.in_place, report.way) == (False, None)
    gallery = RunFolder(room.folder).gallery()
    assert gallery.counts() == {f"New_Person_{person:02d}": PHOTOS for person in range(NEW)}
    photos = sorted((room.new / "New_Person_03").iterdir())
    own = gallery.embeddings[np.array(gallery.names) == "New_Person_03"]
    # float16 lies between: the gallery's come from the cache.
    np.testing.assert_allclose(Recognizer.load(room.folder).embed(photos).embeddings, own, atol=5e-3)
    after = {name: content for name, content in files(room.folder).items() if not name.startswith("gallery")}
    assert after == before
    assert room.update("none").enrolment.known == NEW * PHOTOS


def test_an_update_makes_a_second_version_and_keeps_the_first(updated, trained: Room) -> None:
    room, before, report = updated
    assert (report.version, report.in_place, report.way) == (2, True, "closed form")
    first, second = history(room.folder)
    assert (first.number, first.in_use, second.number, second.in_use) == (1, False, 2, True)
    kept = files(first.folder)
    assert kept == files(trained.folder)
    assert RunFolder(room.folder).head_digest() != RunFolder(first.folder).head_digest()
    photo = next((room.old / "Person_00").iterdir())
    assert not np.allclose(
        Recognizer.load(room.folder).embed([photo]).embeddings, before.embed([photo]).embeddings, atol=1e-3
    )


def test_the_gallery_of_the_old_version_keeps_answering(updated) -> None:
    room, _before, report = updated
    if not report.gallery_kept:
        pytest.fail("the new head does not answer for the old gallery")
    gallery = RunFolder(room.folder).gallery()
    assert gallery.head == RunFolder(room.folder / "versions" / "1").head_digest()
    assert json.loads((room.folder / "config.json").read_text())["compatible_heads"] == [gallery.head]
    probe = Recognizer.load(room.folder).embed(sorted((room.new / "New_Person_05").iterdir())[:1]).embeddings
    nearest = gallery.names[int(np.argmax(gallery.embeddings @ probe[0]))]
    assert nearest == "New_Person_05"


def test_nobody_who_is_measured_by_is_learnt_from(updated, trained: Room) -> None:
    room, _, report = updated
    old, now = RunFolder(trained.folder).people(), RunFolder(room.folder).people()
    assert old is not None
    assert now is not None
    assert all(old[side] <= now[side] for side in old)
    assert not now["train"] & (now["validation"] | now["test"])
    exemplars = Exemplars.read(room.folder)
    assert exemplars is not None
    assert set(exemplars.people) == set(now["train"])
    arrived = {name for side in now.values() for name in side if name.startswith("New_")}
    assert len(arrived) == NEW
    # Where a name falls in [0, 1) is all that decides, in the shares that the run's people have.
    share = {side: len(old[side]) / OLD for side in old}
    for name in arrived:
        at = position(name, seed=0)
        side = "test" if at < share["test"] else "validation" if at < share["test"] + share["validation"] else "train"
        assert name in now[side]
    assert report.people == len(now["train"]) - len(old["train"])
    assert report.held_out == NEW - report.people


def test_what_is_reported_is_what_the_two_heads_do(updated) -> None:
    from facetl.metrics.pairs import sample_pairs
    from facetl.metrics.roc import auc

    room, before, report = updated
    people = sorted(RunFolder(room.folder / "versions" / "1").people()["test"])
    photos = [(name, path) for name in people for path in sorted((room.old / name).iterdir())]
    names = np.array([name for name, _ in photos])
    pairs = sample_pairs(np.unique(names, return_inverse=True)[1], seed=0)
    rows = [head.embed([path for _, path in photos]).embeddings for head in (before, Recognizer.load(room.folder))]
    for own, shown in zip(rows, (report.old.auc_before, report.old.auc_after), strict=True):
        distances = np.sum((own[pairs.first] - own[pairs.second]) ** 2, axis=1)
        assert shown == pytest.approx(auc(distances, pairs.same), abs=5e-3)
    across = np.sum((rows[1][pairs.first] - rows[0][pairs.second]) ** 2, axis=1)
    assert report.old.compatibility.cross == pytest.approx(auc(across, pairs.same), abs=5e-3)
    assert report.old.forgetting == report.old.accuracy_before - report.old.accuracy_after
    assert (room.folder / "saved_model" / "saved_model.pb").is_file()
    assert report.found.photos == report.people  # a quarter of five photos is one
    assert report.photos == report.people * (PHOTOS - 1)
    stored = json.loads((room.folder / "config.json").read_text())["update"]
    assert stored["old"] == report.to_json()["old"]
    assert stored["from"] == 1
    card = (room.folder / "MODEL_CARD.md").read_text()
    assert card.count("## How good it is") == card.count("## Calibration") == 1
    assert "old figures" not in card
    assert "Version 2, updated from version 1" in card
    assert f"{report.old.auc_after:.4f}" in card


def test_a_second_update_learns_only_what_is_new(updated, make_people: Callable[..., Path], tmp_path: Path) -> None:
    room, _, _ = updated
    own = Room(shutil.copytree(room.folder, tmp_path / "family"), room.old, room.new, room.cache)
    with pytest.raises(DataError, match=r"photos that are new to the run, got 50 that it has seen"):
        own.update()
    made = make_people(tmp_path / "made", people=3, photos=4, side=24, noise=60.0, seed=5)
    # By their names, all fall on the training side. The run has held out one of them, who is never learnt from.
    names = [name for name in map("Later_{}".format, range(99)) if position(name, seed=0) > 0.8]
    tested = names[0]
    people = RunFolder(own.folder).people()
    RunFolder(own.folder).write_people({**people, "test": people["test"] | {tested}})
    photos = tmp_path / "more"
    photos.mkdir()
    for name, person in zip(names, sorted(made.iterdir()), strict=False):
        person.rename(photos / name)
    report = own.update(photos=photos, force=True)
    assert report.version == 3
    assert tested in RunFolder(own.folder).people()["test"]
    assert tested not in Exemplars.read(own.folder).people
    assert set(names[1:3]) <= set(Exemplars.read(own.folder).people)
    assert [version.number for version in history(own.folder)] == [1, 2, 3]
    assert RunFolder(own.folder).gallery().counts()[tested] == 4


def test_a_photo_that_the_run_was_measured_by_is_not_learnt_under_another_name(room: Room, tmp_path: Path) -> None:
    tested = sorted(RunFolder(room.folder).people()["test"])[0]
    photos = shutil.copytree(room.new, tmp_path / "photos")
    shutil.copy(next((room.old / tested).iterdir()), photos / "New_Person_00" / "alias.png")
    assert room.update("none", photos=photos).seen == 1


def test_a_worse_head_is_refused_unless_forced(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_update, "gains", lambda photos, seed: (Gain(-0.1, 0.02), Gain(0.0, 0.02)))
    head = RunFolder(room.folder).head_digest()
    report = room.update()
    assert (report.in_place, report.version) == (False, 1)
    assert "AUC -0.1000 ± 0.0200" in report.why_not
    assert RunFolder(room.folder).head_digest() == head
    assert report.enrolment.people == NEW
    forced = room.update(force=True)
    assert (forced.in_place, forced.version, forced.why_not) == (True, 2, None)


def test_a_head_that_leaves_the_gallery_behind_is_refused_unless_forced(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_update, "gains", lambda photos, seed: (Gain(0.1, 0.02), Gain(-0.2, 0.02)))
    refused = room.update()
    assert "10 people of the run's gallery" in refused.why_not
    before = RunFolder(room.folder).gallery()
    report = room.update(force=True)
    assert (report.in_place, report.gallery_kept) == (True, False)
    now = RunFolder(room.folder).gallery()
    assert now.head == RunFolder(room.folder).head_digest() != before.head
    assert now.counts() == before.counts()
    # Back with the version that made it, the old gallery answers again, and the new one waits.
    roll_back(room.folder)
    again = RunFolder(room.folder).gallery()
    assert again.head == before.head
    np.testing.assert_array_equal(again.embeddings, before.embeddings)
    assert (room.folder / "versions" / "2" / "gallery.npz").is_file()
    roll_back(room.folder, 2)
    assert RunFolder(room.folder).gallery().head == now.head


def test_rolling_back_restores_every_file_and_keeps_what_came_after(updated, trained: Room, tmp_path: Path) -> None:
    room, _, _ = updated
    folder = shutil.copytree(room.folder, tmp_path / "family")
    second = files(folder)
    version = roll_back(folder)
    assert (version.number, version.in_use, version.update) == (1, True, None)
    now = files(folder)
    for name, content in files(trained.folder).items():
        if name != "config.json":  # it says now whose gallery it answers for
            assert now[name] == content, name
    assert {"versions/2/" + name for name in second if not name.startswith(("versions", "gallery"))} <= set(now)
    # Enrolled by either head, people stay enrolled.
    assert RunFolder(folder).gallery().counts() == RunFolder(room.folder).gallery().counts()
    assert roll_back(folder, 2).number == 2
    assert files(folder)["head.keras"] == second["head.keras"]
    with pytest.raises(RunError, match=r"version 2 is in use.*got 7\. Name one by --to: 1"):
        roll_back(folder, 7)


def test_a_gallery_of_the_new_version_answers_for_the_old_one_too(updated, tmp_path: Path) -> None:
    room, _, _ = updated
    folder = shutil.copytree(room.folder, tmp_path / "family")
    gallery = replace(RunFolder(folder).gallery(), head=RunFolder(folder).head_digest())
    RunFolder(folder).write_gallery(gallery)
    roll_back(folder)
    assert RunFolder(folder).gallery().counts() == gallery.counts()


def test_a_run_that_was_never_updated_has_one_version(room: Room) -> None:
    assert [version.number for version in history(room.folder)] == [1]
    with pytest.raises(RunError, match=r"version 1 is in use.*got none before it.*facetl update makes one"):
        roll_back(room.folder)


def test_an_update_that_is_killed_leaves_the_run_as_it_was(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.update("none")
    before = files(room.folder)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("facetl.recognition.run_folder.remove_partial", killed)
    with pytest.raises(KeyboardInterrupt):
        room.update(force=True)
    assert files(room.folder) == before


def test_no_file_of_a_run_is_open_while_it_is_renamed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to rename a folder that a file is open in."""
    # What an earlier facetl left in the folder locks nothing, and is of no version.
    (room.folder / "gallery.lock").touch()
    (room.folder / "gallery.pid").write_text("1")
    renamed, replace_ = [], os.replace

    def refusing(source: Path | str, target: Path | str) -> None:
        if Path(source).is_dir():
            opened = [Path(one.path) for one in psutil.Process().open_files()]
            assert not [path for path in opened if path.is_relative_to(source)]
            with pytest.raises(RunError, match="one process at a time"), RunFolder(room.folder).changing_gallery():
                pass
            renamed.append(Path(source).name)
        replace_(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    assert room.update(force=True).version == 2
    roll_back(room.folder)
    assert renamed == ["family", ".family.partial"] * 2
    assert not list(room.folder.rglob("gallery.lock"))
    assert not list(room.folder.rglob("gallery.pid"))


def test_a_run_whose_replacement_was_cut_short_comes_back(room: Room) -> None:
    os.replace(room.folder, room.folder.with_name(".family.old"))
    assert [version.number for version in history(room.folder)] == [1]


def test_who_is_forgotten_meanwhile_does_not_come_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate_pairs = run_update.calibrate_pairs
    forgotten = sorted(RunFolder(room.folder).people_of("")["train"])[0]

    def meanwhile(*arguments, **options):
        forget_in_run(room.folder, forgotten, photos=None, cache=None)
        return calibrate_pairs(*arguments, **options)

    monkeypatch.setattr(run_update, "calibrate_pairs", meanwhile)
    with pytest.raises(RunError, match="forgotten by another process"):
        room.update(force=True)
    assert not (room.folder / "versions").exists()
    assert Exemplars.read(room.folder) is None


def test_a_run_that_changes_meanwhile_is_not_replaced(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    gains = run_update.gains

    def meanwhile(*arguments, **options):
        head = room.folder / "head.keras"
        head.write_bytes(head.read_bytes() + b" ")
        return gains(*arguments, **options)

    monkeypatch.setattr(run_update, "gains", meanwhile)
    with pytest.raises(RunError, match="changed by another process meanwhile"):
        room.update(force=True)
    assert not (room.folder / "versions").exists()


def test_joint_retraining_learns_a_front_anew_and_stays_comparable(room: Room) -> None:
    report = room.update("joint", force=True)
    assert (report.way, report.in_place) == ("training", True)
    assert report.old.compatibility.cross > 0.5
    # What is remembered belongs to the front that was: the next update makes it anew, of everybody.
    assert Exemplars.read(room.folder) is None
    assert report.memory_bytes_per_person is None


def test_methods_by_gradient_leave_a_head_that_can_be_loaded(room: Room) -> None:
    report = room.update("replay+ewc", force=True)
    assert report.way == "gradient"
    assert Recognizer.load(room.folder).head.output_shape[-1] == 24


def test_what_cannot_be_updated_is_reported(room: Room, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="method: expected naive"):
        room.update("replay+magic")
    inputs = keras.Input((108,), name="features")
    keras.Model(inputs, keras.layers.UnitNormalization()(inputs)).save(room.folder / "head.keras")
    with pytest.raises(RunError, match="Only a trained head can be updated"):
        room.update()
    (room.folder / PEOPLE).unlink()
    with pytest.raises(RunError, match="does not say whom it was trained on"):
        room.update()


def test_damaged_exemplars_are_reported(room: Room) -> None:
    (room.folder / "exemplars.npz").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"exemplars.npz: the memory cannot be read.*Delete the file"):
        room.update()


def test_the_verbs_print_what_was_done(updated, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from facetl.cli.app import app

    room, _, report = updated
    models = tmp_path / "models"
    shutil.copytree(room.folder, models / "family")

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments), "--models", str(models)])
        assert done.exit_code == 0, done.output
        return done.stdout

    stored = json.loads(call("runs", "history", "family", "--json"))
    assert [(one["version"], one["in_use"]) for one in stored["versions"]] == [(1, False), (2, True)]
    assert stored["versions"][1]["update"]["photos"] == report.photos
    assert f"{report.old.accuracy_after:.4f}" in call("runs", "history", "family")
    assert json.loads(call("runs", "rollback", "family", "--json"))["version"] == 1
    assert "version      2 in use" in call("runs", "rollback", "family", "--to", 2)
    photos = shutil.copytree(room.new / "New_Person_00", tmp_path / "photos" / "Newest").parent
    for path in (photos / "Newest").iterdir():
        path.write_bytes(path.read_bytes() + b" ")  # the same picture in other bytes
    done = json.loads(call("update", "family", photos, "--method", "none", "--cache", room.cache, "--json"))
    assert (done["enrolment"]["people"], done["version"], done["in_place"]) == (1, 2, False)


def test_somebody_who_is_forgotten_is_in_no_version(updated, tmp_path: Path) -> None:
    from facetl.people.run_erasure import forget_in_run

    room, _, _ = updated
    folder = shutil.copytree(room.folder, tmp_path / "family")
    names = [sorted(RunFolder(folder).people()["train"] & set(people))[0] for people in _old_and_new(room)]
    for name in names:
        assert name in Exemplars.read(folder).people
        done = forget_in_run(folder, name, photos=None, cache=None)
        assert done.side == "train"
        assert done.remains == ()
        assert name not in Exemplars.read(folder).people
        for place in (folder, folder / "versions" / "1"):
            assert not any(name in people for people in RunFolder(place).people().values())


def _old_and_new(room: Room) -> list[list[str]]:
    return [[path.name for path in photos.iterdir()] for photos in (room.old, room.new)]
