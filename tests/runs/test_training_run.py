"""A run of a net that was trained here: it loads in a fresh process, can be moved, and every verb reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from facetl.backbones.backbone import Backbone
from facetl.calibration.calibration import Target
from facetl.data.manifest import Manifest
from facetl.embeddings import dataset
from facetl.errors import RunError, WeightsError
from facetl.images.decode import read_photo
from facetl.methods.continual.new_people import Known
from facetl.methods.distillation.teacher import Teacher
from facetl.people.run_erasure import forget_in_run
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs.evaluated_run import EvaluatedRun
from facetl.runs.recalibration import recalibrate
from facetl.runs.training_run import RunReport, Sight, TrainedNet, write_net_run

SIDE, WIDTH = 24, 6
SETTINGS = {"seed": 3, "objective": "none", "learning_rate": 0.1}


def tiny_net(*, side: int = SIDE) -> keras.Model:
    keras.utils.set_random_seed(11)
    photos = keras.Input((side, side, 3))
    maps = keras.layers.Rescaling(1 / 127.5, -1)(photos)
    maps = keras.layers.Conv2D(4, 5, strides=3, activation="relu")(maps)
    embeddings = keras.layers.Dense(WIDTH)(keras.layers.Flatten()(maps))
    return keras.Model(photos, keras.layers.UnitNormalization()(embeddings))


def trained(net: keras.Model, **changes: object) -> TrainedNet:
    given = {
        "net": net,
        "settings": SETTINGS,
        "history": pd.DataFrame([{"epoch": 1.0, "loss": 2.0}, {"epoch": 2.0, "loss": 1.0}]),
        "best_epoch": 2,
        "seconds": 1.5,
        "origin": "a tiny net, trained from scratch",
    }
    return TrainedNet(**(given | changes))  # type: ignore[arg-type]


def brightness(manifest: Manifest) -> np.ndarray:
    rows = np.array([read_photo(path).mean(axis=(0, 1)) for path in manifest.paths], np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass(frozen=True)
class Made:
    net: keras.Model
    manifest: Manifest
    cache: Path
    report: RunReport

    @property
    def folder(self) -> Path:
        return self.report.folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Made:
    room = tmp_path_factory.mktemp("net_run")
    photos = make_people(room / "photos", people=12, photos=3, side=40, noise=90.0)
    manifest = Manifest.from_folder(photos).with_splits(seed=1, validation=0.4, test=0.3)
    net = tiny_net()
    report = write_net_run(
        room / "models" / "mine",
        trained(net),
        manifest,
        Sight(cache=room / "cache", crop=0.8),
        baselines={"brightness": brightness},
    )
    return Made(net, manifest, room / "cache", report)


def by_hand(net: keras.Model, path: Path) -> np.ndarray:
    """The embedding of a photo of 40 × 40 pixels, whose middle 32 are seen."""
    import tensorflow as tf

    pixels = read_photo(path)[4:36, 4:36].astype(np.float32)
    seen = tf.image.resize(pixels[None], (SIDE, SIDE), antialias=True)
    mean = np.asarray(net(seen) + net(seen[:, :, ::-1]))[0]
    return mean / np.linalg.norm(mean)


def test_the_embedding_is_that_of_the_net(made: Made) -> None:
    recognizer = Recognizer.load(made.folder)
    paths = made.manifest.paths[:5]
    embeddings = recognizer.embed(paths).embeddings
    np.testing.assert_allclose(embeddings, [by_hand(made.net, path) for path in paths], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert np.abs(embeddings[0] - embeddings[-1]).max() > 1e-2
    assert recognizer.threshold == pytest.approx(made.report.verifications["trained"].threshold)


LOAD = """
import sys
import numpy as np
from pathlib import Path
from facetl.recognition.recognizer import Recognizer
np.save(sys.argv[3], Recognizer.load(Path(sys.argv[1])).embed([Path(sys.argv[2])]).embeddings)
"""


def test_a_fresh_process_and_a_moved_folder_give_the_same(made: Made, tmp_path: Path) -> None:
    path = made.manifest.paths[7]
    expected = Recognizer.load(made.folder).embed([path]).embeddings
    moved = shutil.copytree(made.folder, tmp_path / "elsewhere" / "renamed")
    kept = made.folder.rename(made.folder.with_name("away"))
    try:
        command = [sys.executable, "-c", LOAD, "renamed", str(path), str(tmp_path / "out.npy")]
        done = subprocess.run(command, cwd=moved.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    finally:
        kept.rename(made.folder)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    config = json.loads((moved / "config.json").read_text())
    assert config["extractor"]["weights"]["path"] == config["extractor"]["spec"]["name"] == "net.keras"
    assert str(made.folder.parent) not in json.dumps(config)


def test_metrics_hold_the_baselines_beside_the_net(made: Made) -> None:
    metrics = json.loads((made.folder / "metrics.json").read_text())
    assert list(metrics["verification"]) == ["brightness", "trained"]
    assert (metrics["epochs"], metrics["best_epoch"], metrics["signatures"][0]) == (2, 2, "serve")
    assert metrics["verification"]["brightness"] != metrics["verification"]["trained"]
    split = {side: made.manifest.subset(side) for side in ("train", "validation", "test")}
    for side, manifest in split.items():
        told = metrics["split"][side]
        assert (told["people"], told["photos"]) == (len(manifest.identities), len(manifest))
    people = RunFolder(made.folder).people()
    assert people == {side: frozenset(manifest.identities) for side, manifest in split.items()}


def test_the_net_is_measured_on_the_test_people_alone(made: Made) -> None:
    from facetl.metrics.verification import evaluate_embeddings

    chosen, tested = made.manifest.subset("validation"), made.manifest.subset("test")
    rows = [np.array([by_hand(made.net, path) for path in side.paths]) for side in (chosen, tested)]
    expected = evaluate_embeddings(rows[1], tested.labels, thresholds_from=(rows[0], chosen.labels), seed=3)
    assert made.report.verifications["trained"].auc == pytest.approx(expected.auc, abs=2e-3)
    assert made.report.verifications["trained"].pairs == expected.pairs


def test_documents_say_what_it_is(made: Made) -> None:
    card = (made.folder / "MODEL_CARD.md").read_text()
    for words in (
        "a tiny net, trained from scratch",
        f"{made.net.count_params():,} parameters",
        "24×24 pixels of the central square, 0.8 of the shorter side, averaged with its mirror image",
        "epoch 2 of 2, by AUC",
        "no others",
        "seed 3",
    ):
        assert words in card
    assert (made.folder / "report.html").stat().st_size > 500
    assert not list(made.folder.parent.glob(".*"))


def test_it_is_calibrated_and_evaluated_as_any_run_without_computing_again(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "copy")
    done = recalibrate(folder, Target("f1"), cache=made.cache)
    assert done.calibration.people == len(made.manifest.subset("validation").identities)
    assert Recognizer.load(folder).threshold == done.calibration.threshold
    run = EvaluatedRun.load(folder)
    embedded = run.embed(made.manifest, cache=made.cache)
    assert embedded.report.computed == 0
    assert [name for name, _, _ in run.methods(embedded)] == ["trained"]
    own = run.recognizer.backbone
    assert dataset.embed(made.manifest, Backbone.from_spec(own.spec), cache=made.cache).report.computed == 0


def test_a_changed_net_is_refused(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "copy")
    tiny_net().save(folder / "net.keras")
    with pytest.raises(RunError, match="trained with weights"):
        EvaluatedRun.load(folder).embed(made.manifest, cache=made.cache)
    (folder / "net.keras").unlink()
    with pytest.raises(RunError, match="weights are gone"):
        Recognizer.load(folder)


def test_what_is_no_net_for_a_run_is_refused(made: Made, tmp_path: Path) -> None:
    maps = keras.Input((SIDE, SIDE, 3))
    flat = keras.Model(maps, keras.layers.Conv2D(2, 3)(maps))
    sight = Sight(cache=made.cache)
    with pytest.raises(RunError, match="gives embeddings"):
        write_net_run(tmp_path / "run", trained(flat), made.manifest, sight)
    with pytest.raises(RunError, match="seed"):
        write_net_run(tmp_path / "run", trained(made.net, settings={"width": 1}), made.manifest, sight)
    oblong = keras.Input((SIDE, SIDE + 2, 3))
    net = keras.Model(oblong, keras.layers.Dense(3)(keras.layers.Flatten()(oblong)))
    with pytest.raises(WeightsError, match="square"):
        write_net_run(tmp_path / "run", trained(net), made.manifest, sight)
    assert not (tmp_path / "run").exists()


def run_of_few(room: Path, make_people: Callable[..., Path], *, people: int, photos: int) -> RunReport:
    folder = make_people(room / "photos", people=people, photos=photos, side=40, noise=90.0)
    manifest = Manifest.from_folder(folder).split_for_training(seed=1, validation=0.2, test=0.2)
    return write_net_run(room / "models" / "few", trained(tiny_net()), manifest, Sight(cache=room / "cache", crop=0.8))


def test_of_few_people_photos_are_held_out_and_that_is_written_everywhere(
    tmp_path: Path, make_people: Callable[..., Path]
) -> None:
    report = run_of_few(tmp_path, make_people, people=3, photos=7)
    folder = report.folder
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["held_out"] == {"validation": "photos", "test": "photos"}
    assert metrics["split"]["test"] == {"people": 3, "photos": 6}
    # By hand: the six test photos against the means of the six validation photos.
    run = RunFolder(folder)
    split = run.on_sides(Manifest.from_folder(tmp_path / "photos"))
    embeddings = Recognizer.load(folder).embed(split.paths).embeddings
    sides, names = np.array([p.split for p in split.photos]), np.array([p.identity for p in split.photos])
    assert np.bincount(np.unique(sides, return_inverse=True)[1]).tolist() == [6, 9, 6]
    means = {n: embeddings[(sides == "validation") & (names == n)].sum(0) for n in sorted(set(names))}
    right = [
        max(means, key=lambda one: float(e @ means[one]) / float(np.linalg.norm(means[one]))) == name
        for e, name in zip(embeddings[sides == "test"], names[sides == "test"], strict=True)
    ]
    assert metrics["rank_1"]["trained"] == pytest.approx(np.mean(right))
    card, page = (folder / "MODEL_CARD.md").read_text(), (folder / "report.html").read_text()
    assert "held-out photos of the training's own people" in card
    assert "neither training nor any choice" not in card
    assert "people that training saw on other photos" in page
    assert "never saw" not in page.split("Training")[0]

    done = recalibrate(folder, Target("f1"), cache=tmp_path / "cache")
    assert done.calibration.photos == 6
    assert done.calibration.seen
    assert done.to_json()["people_in_training"] is True
    assert "the training's own people" in EvaluatedRun.load(folder).threshold_chosen

    forget_in_run(folder, "Person_01", photos=None, cache=None)
    assert "Person_01" not in (folder / "people.json").read_text()
    assert run.held_out_photos() is not None


def test_where_nothing_can_be_held_out_to_measure_by_the_run_says_so(
    tmp_path: Path, make_people: Callable[..., Path]
) -> None:
    report = run_of_few(tmp_path, make_people, people=4, photos=2)
    assert report.held_out == {"validation": "people", "test": None}
    assert report.to_json()["verification"] == {}
    assert report.rank_1 == {}
    assert "Not measured" in (report.folder / "MODEL_CARD.md").read_text()
    assert "Not measured" in (report.folder / "report.html").read_text()
    assert 0 < Recognizer.load(report.folder).threshold < 4


@pytest.mark.parametrize(("people", "photos"), [(2, 6), (4, 2)])
def test_what_needs_people_who_were_held_out_is_refused(
    tmp_path: Path, make_people: Callable[..., Path], people: int, photos: int
) -> None:
    folder = run_of_few(tmp_path, make_people, people=people, photos=photos).folder
    with pytest.raises(RunError, match=r"facetl enroll, or train again on 6 people or more"):
        Known.of(folder, cache=tmp_path / "cache")
    if photos == 2:
        with pytest.raises(RunError, match="compared with its teacher on test people, and this run has none"):
            Teacher.of_run(folder, cache=tmp_path / "cache")
    else:
        teacher = Teacher.of_run(folder, cache=tmp_path / "cache")
        assert teacher.manifest.held_out == {"validation": "photos", "test": "photos"}
