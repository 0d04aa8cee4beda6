"""The main job as a user runs it: cache, train, look, take away."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from machine import Trained

METHODS = ("raw", "whitened", "lda", "untrained", "trained")


def test_the_first_fill_computes_and_counts_what_it_skips(trained: Trained) -> None:
    assert trained.first_fill["computed"] == 100
    assert trained.first_fill["reused"] == 0
    assert trained.first_fill["skipped"] == {"truncated": 1, "not-an-image": 1}


def test_a_second_fill_computes_nothing(trained: Trained) -> None:
    assert (trained.second_fill["computed"], trained.second_fill["reused"]) == (0, 101 - 1)


def test_a_run_folder_is_complete(trained: Trained) -> None:
    for name in ("config.json", "head.keras", "saved_model/saved_model.pb", "metrics.json", "calibration.json"):
        assert (trained.folder / name).stat().st_size > 0, name
    for name in ("report.html", "MODEL_CARD.md", "baselines.npz", "untrained.keras"):
        assert (trained.folder / name).stat().st_size > 500, name
    left = [path.name for path in trained.models.iterdir() if path.name != "family"]
    assert not left, "nothing of the work in progress may stay"


def test_metrics_hold_every_method_with_its_error(trained: Trained) -> None:
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert tuple(metrics["verification"]) == METHODS
    for scores in metrics["verification"].values():
        assert 0 <= scores["accuracy"] <= 1
        assert scores["accuracy_stderr"] >= 0
        assert set(scores["tar_at_far"]) == {"1e-1", "1e-2", "1e-3", "1e-4"}
    assert metrics["verification"] == trained.report["verification"]


def test_no_person_is_on_two_sides(trained: Trained) -> None:
    split = trained.report["split"]
    assert sum(side["people"] for side in split.values()) == 20
    assert sum(side["photos"] for side in split.values()) == 100


def test_the_config_names_every_choice(trained: Trained) -> None:
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["settings"]["seed"] == 0
    assert config["settings"]["components"] == 16
    assert config["extractor"]["spec"]["crops"] == [0.9]
    assert config["extractor"]["weights"]["source"] == "file"
    assert len(config["extractor"]["weights"]["sha256"]) == 64
    assert set(config["versions"]) >= {"python", "tensorflow", "keras", "numpy"}


def test_the_report_is_one_page_that_asks_for_nothing(trained: Trained) -> None:
    page = (trained.folder / "report.html").read_text()
    assert "Trained head" in page
    outside = re.findall(r"""(?:src|href|url\()\s*=?\s*["'(]?(https?:|//)""", page)
    assert not outside
    assert "<script" not in page


def test_what_holds_faces_is_for_its_owner_alone(trained: Trained) -> None:
    logs = trained.folder / "logs"
    private = [trained.folder / "report.html", logs / "sprite.png", logs / "embeddings.tsv"]
    private += [trained.folder / name for name in ("people.json", "baselines.npz", "untrained.keras")]
    private += [path for path in (trained.machine.home / "cache").rglob("*") if path.is_file()]
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


SERVE = """
import sys
import keras
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
serve = model.signatures["serve"]
as_float = serve(images=tf.constant(images, tf.float32))["embeddings"].numpy()
as_bytes = model.signatures["serve_uint8"](images=tf.constant(images))["embeddings"].numpy()
assert np.array_equal(as_float, as_bytes)
width = model.signatures["head"].structured_input_signature[1]["features"].shape[1]
features = np.random.default_rng(0).normal(size=(2, width))
head = model.signatures["head"](features=tf.constant(features, tf.float32))["embeddings"].numpy()
assert np.allclose(np.linalg.norm(head, axis=1), 1, atol=1e-5)
assert "facetl" not in sys.modules
np.save(sys.argv[3], as_float)
"""


def test_cache_saved_model_and_single_photo_give_the_same_embedding(trained: Trained, tmp_path: Path) -> None:
    from facetl.backbones.backbone import Backbone
    from facetl.backbones.spec import ExtractorSpec
    from facetl.data.manifest import Manifest
    from facetl.embeddings import dataset
    from facetl.images.decode import read_photo
    from facetl.recognition.recognizer import Recognizer
    from facetl.training.head import embed

    recognizer = Recognizer.load(trained.folder)
    spec = ExtractorSpec.of("mobilenet_v3_small", crop=0.9, tap="conv", grid=5)
    collection = dataset.embed(
        Manifest.from_folder(trained.photos),
        Backbone.from_spec(spec, Path(trained.net[3])),
        cache=trained.machine.home / "cache",
    )
    assert collection.report.computed == 0
    paths = collection.manifest.paths[:7]
    from_cache = embed(recognizer.head, collection.features.subset(range(7)))
    single = np.concatenate([recognizer.embed([path]).embeddings for path in paths])
    np.save(tmp_path / "images.npy", np.stack([read_photo(path) for path in paths]))
    command = [sys.executable, "-c", SERVE, str(trained.folder / "saved_model"), str(tmp_path / "images.npy")]
    done = subprocess.run([*command, str(tmp_path / "out.npy")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    served = np.load(tmp_path / "out.npy")
    np.testing.assert_allclose(np.linalg.norm(served, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(served, single, atol=1e-4)
    # The cache holds float16.
    np.testing.assert_allclose(from_cache, single, atol=5e-3)
    assert np.abs(single[0] - single[-1]).max() > 1e-2, "different people, same embedding"


def test_two_photos_are_compared_at_the_stored_threshold(trained: Trained) -> None:
    from facetl.recognition.recognizer import Recognizer

    recognizer = Recognizer.load(trained.folder)
    people = sorted(trained.photos.iterdir())
    own = recognizer.distance(people[2] / "00.png", people[2] / "01.png")
    other = recognizer.distance(people[2] / "00.png", people[9] / "00.png")
    assert 0 <= own < other <= 4
    assert recognizer.threshold == json.loads((trained.folder / "calibration.json").read_text())["threshold"]


def test_tensorboard_has_scalars_histograms_graph_and_projector(trained: Trained) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = trained.folder / "logs"
    events = EventAccumulator(str(logs), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"training/loss", "training/active_triplets", "training/learning_rate", "validation/accuracy"} <= tags
    assert {"distance/same_person", "distance/different_people"} <= tags
    assert events.Tags()["graph"]
    names = (logs / "names.tsv").read_text().splitlines()
    rows = (logs / "embeddings.tsv").read_text().splitlines()
    assert len(names) == len(rows) == trained.report["split"]["test"]["photos"]


@dataclass(frozen=True)
class Resumed:
    """A training that was killed after two epochs, and the same one resumed, each in a process of its own."""

    run: Path
    killed: list[str]
    resumed: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def resumed(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    models = tmp_path_factory.mktemp("resumed")
    options = ["--models", models, "--epochs", "4", "--components", "16", "--run", "killed"]
    command = [sys.executable, "-m", "facetl", "train", *map(str, [trained.photos, *trained.net, *options])]
    child = subprocess.Popen(command, env=trained.machine.environment(), stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    lines = []
    for line in child.stderr:
        lines.append(line)
        if line.split()[:1] == ["2"]:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait()
    child.stderr.close()
    assert child.returncode == -signal.SIGKILL
    assert not (models / "killed").exists()
    done = trained.machine.run("train", trained.photos, *trained.net, *options, "--resume")
    assert done.returncode == 0, done.stderr
    return Resumed(models / "killed", lines, done)


def test_the_same_seed_gives_the_same_metrics_and_a_killed_run_resumes_to_them(
    trained: Trained, resumed: Resumed
) -> None:
    metrics = json.loads((resumed.run / "metrics.json").read_text())
    assert metrics["epochs"] == trained.report["epochs"]
    assert metrics["verification"] == trained.report["verification"]


def test_resuming_nothing_is_one_clear_line(trained: Trained) -> None:
    done = trained.machine.run_here("train", trained.photos, *trained.net, "--run", "other", "--resume")
    assert done.returncode == 1
    assert "no interrupted run" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_keeps_its_screen_to_what_was_promised(resumed: Resumed) -> None:
    for lines, epochs in ((resumed.killed, "12"), (resumed.resumed.stderr.splitlines(), "34")):
        heading, *rows = lines[-3:]
        assert heading.split() == ["epoch", "loss", "active", "learning", "rate", "val", "accuracy", "val", "AUC"]
        assert [row.split()[0] for row in rows] == list(epochs)
        for noise in ("WARNING", "oneDNN", "cuda", "I0000", "UserWarning"):
            assert noise not in "".join(lines)
    for name in ("Raw features", "PCA-whitened", "PCA → LDA", "Untrained head", "Trained head", "±", "killed"):
        assert name in resumed.resumed.stdout


def test_a_run_is_replaced_only_by_a_complete_one(trained: Trained) -> None:
    before = (trained.folder / "metrics.json").read_bytes()
    done = trained.machine.run_here(
        "train", trained.photos, *trained.net, "--models", trained.models, "--run", "family", "--margin", "-1"
    )
    assert done.returncode == 1
    assert (trained.folder / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("broken", ["config.json", "head.keras"])
def test_an_incomplete_run_is_refused(trained: Trained, tmp_path: Path, broken: str) -> None:
    from facetl.errors import RunError
    from facetl.recognition.recognizer import Recognizer

    copy = tmp_path / "run"
    shutil.copytree(trained.folder, copy)
    (copy / broken).unlink()
    with pytest.raises(RunError, match="complete run folder"):
        Recognizer.load(copy)


def test_a_run_of_other_weights_under_the_same_name_is_refused(
    trained: Trained, small_net_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "family"
    shutil.copytree(trained.folder, folder)
    weights = tmp_path / "other.weights.h5"
    net = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
    net.load_weights(small_net_weights)
    net.set_weights([2 * array for array in net.get_weights()])
    net.save_weights(weights)
    config = json.loads((folder / "config.json").read_text())
    config["extractor"]["weights"]["path"] = str(weights)
    (folder / "config.json").write_text(json.dumps(config))
    photos = sorted(trained.photos.rglob("*.png"))[:2]
    done = trained.machine.run_here("verify", folder, *photos)
    assert done.returncode == 1
    assert f"{weights}: the run was trained with weights of sha256" in done.stderr
