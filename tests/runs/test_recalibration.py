"""A finished run calibrated anew: from its folder, its photos and its cache alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from facetl.backbones.spec import ExtractorSpec
from facetl.calibration.calibration import Calibration, Target
from facetl.calibration.error_rates import PeoplePairs
from facetl.data.manifest import Manifest
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.errors import DataError, RunError
from facetl.images.decode import read_photo
from facetl.io import files
from facetl.io.files import write_atomic
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs.recalibration import recalibrate

PEOPLE, PHOTOS, HELD_OUT = 40, 3, 24
CARD = "# family\n\nA card.\n\n## Calibration\n\nold words\n\n## Data\n\n- people\n"


class Made:
    """A run folder without training: colours as features, all of them in the cache already."""

    def __init__(self, room: Path, photos: Path) -> None:
        self.photos, self.cache, self.folder = photos, room / "cache", room / "models" / "family"
        self.folder.mkdir(parents=True)
        weights = room / "net.h5"
        weights.write_bytes(b"weights")
        sha256 = hashlib.sha256(b"weights").hexdigest()
        spec = ExtractorSpec.of("mobilenet_v3_small")
        manifest = Manifest.from_folder(photos)
        small = [cv2.resize(read_photo(path), (4, 4), interpolation=cv2.INTER_AREA) for path in manifest.paths]
        self.rows = (np.array(small, np.float32).reshape(len(small), -1) - 128) / 64
        shas = [hashlib.sha256(path.read_bytes()).hexdigest() for path in manifest.paths]
        with EmbeddingCache.open(self.cache, fingerprint=spec.fingerprint(sha256), write=True) as cache:
            cache.append(shas, self.rows)
        inputs = keras.Input((48,))
        keras.Model(inputs, keras.layers.UnitNormalization()(inputs)).save(self.folder / "head.keras")
        stored = {"source": "file", "sha256": sha256, "path": str(weights), "description": "a net"}
        extractor = {"spec": spec.to_json(), "weights": stored}
        config = {"data": str(photos), "settings": {"seed": 3}, "extractor": extractor}
        (self.folder / "config.json").write_text(json.dumps(config))
        names = manifest.identities
        people = {
            "train": names[HELD_OUT + 4 :],
            "validation": names[:HELD_OUT],
            "test": names[HELD_OUT : HELD_OUT + 4],
        }
        (self.folder / "people.json").write_text(json.dumps(people))
        (self.folder / "MODEL_CARD.md").write_text(CARD)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Made:
    room = tmp_path_factory.mktemp("recalibration")
    return Made(room, make_people(room / "photos", people=PEOPLE, photos=PHOTOS, side=24, noise=110.0))


@pytest.fixture
def made(made_once: Made, tmp_path: Path) -> Made:
    copy = object.__new__(Made)
    copy.__dict__ = {**made_once.__dict__, "folder": shutil.copytree(made_once.folder, tmp_path / "family")}
    return copy


def test_it_is_calibrated_on_the_validation_people_alone(made):
    done = recalibrate(made.folder, Target("far", 0.05), cache=made.cache)
    assert (done.gone, done.calibration.people, done.calibration.photos) == (0, HELD_OUT, HELD_OUT * PHOTOS)
    rows = made.rows[: HELD_OUT * PHOTOS].astype(np.float16).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = PeoplePairs(rows, np.repeat(np.arange(HELD_OUT), PHOTOS), seed=3)
    assert done.calibration.threshold == pytest.approx(pairs.threshold_at(0.05), abs=1e-4)
    assert done.calibration.seed == 3


def test_what_it_writes_is_whole_and_for_its_owner_alone(made):
    done = recalibrate(made.folder, Target("f1"), cache=made.cache, prior=0.2)
    assert RunFolder(made.folder).calibration() == done.calibration
    stored = json.loads((made.folder / "calibration.json").read_text())
    assert {"run": str(made.folder), "people_gone": 0, **stored} == done.to_json()
    for name in ("calibration.json", "reliability.png", "MODEL_CARD.md"):
        assert stat.S_IMODE((made.folder / name).stat().st_mode) == 0o600, name
    assert (made.folder / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert not [path.name for path in made.folder.iterdir() if path.name.startswith(".")]


def test_the_model_card_changes_in_one_place(made):
    for target in (Target("f1"), Target("far", 0.05)):
        done = recalibrate(made.folder, target, cache=made.cache)
        card = (made.folder / "MODEL_CARD.md").read_text()
        assert f"Threshold {done.calibration.threshold:.4f}" in card
        assert target.reached_on("validation people") in card
        assert "old words" not in card
        assert card.startswith("# family\n\nA card.\n\n## Calibration\n\n")
        assert card.endswith("\n\n## Data\n\n- people\n")
        assert card.count("## Calibration") == 1
    (made.folder / "MODEL_CARD.md").unlink()
    recalibrate(made.folder, Target("f1"), cache=made.cache)
    assert not (made.folder / "MODEL_CARD.md").exists()


def test_a_card_without_the_section_gets_it_before_the_data(made):
    path = made.folder / "MODEL_CARD.md"
    path.write_text("# family\n\n## How good\n\n- good\n\n## Data\n\n- people\n")
    recalibrate(made.folder, Target("f1"), cache=made.cache)
    headings = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert headings == ["# family", "## How good", "## Calibration", "## Data"]
    path.write_text("# family\n")
    recalibrate(made.folder, Target("f1"), cache=made.cache)
    assert "## Calibration" in path.read_text()


def test_a_refusal_leaves_the_run_as_it_was(made):
    recalibrate(made.folder, Target("f1"), cache=made.cache)
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    with pytest.raises(DataError, match=r"FAR of 0.001.*Received: 24 with 276 pairs of people; add \d+ more"):
        recalibrate(made.folder, Target("far", 1e-3), cache=made.cache)
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before


def test_photos_that_moved_are_found_by_data_and_gone_ones_are_reported(made, tmp_path):
    elsewhere = shutil.copytree(made.photos, tmp_path / "moved")
    config = json.loads((made.folder / "config.json").read_text())
    (made.folder / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "nowhere")}))
    with pytest.raises(DataError, match=r"this folder is gone.*--data"):
        recalibrate(made.folder, Target("f1"), cache=made.cache)
    shutil.rmtree(elsewhere / "Person_03")
    assert recalibrate(made.folder, Target("f1"), cache=made.cache, data=elsewhere).gone == 1
    for person in range(HELD_OUT):
        shutil.rmtree(elsewhere / f"Person_{person:02d}", ignore_errors=True)
    with pytest.raises(DataError, match="24 validation people, got none"):
        recalibrate(made.folder, Target("f1"), cache=made.cache, data=elsewhere)


def test_other_weights_are_refused_before_anything_is_computed(made):
    config = json.loads((made.folder / "config.json").read_text())
    config["extractor"]["weights"]["sha256"] = "0" * 64
    (made.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="trained with weights of sha256 000000000000"):
        recalibrate(made.folder, Target("f1"), cache=made.cache)


def test_a_run_that_does_not_say_who_is_who_is_refused(made):
    (made.folder / "people.json").unlink()
    with pytest.raises(RunError, match="does not say who its validation people are"):
        recalibrate(made.folder, Target("f1"), cache=made.cache)


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"data": "x", "settings": {"seed": "a"}}', "\udc80"])
def test_a_damaged_config_is_reported(made, broken):
    (made.folder / "config.json").write_text(broken, errors="surrogateescape")
    with pytest.raises(RunError, match="complete run folder"):
        recalibrate(made.folder, Target("f1"), cache=made.cache)


def test_a_damaged_head_is_reported(made):
    (made.folder / "head.keras").write_bytes(b"no head")
    with pytest.raises(RunError, match="complete run folder"):
        recalibrate(made.folder, Target("f1"), cache=made.cache)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"version": 1, "threshold": NaN}']
)
def test_a_damaged_calibration_is_reported_and_mended(made, content):
    (made.folder / "calibration.json").write_bytes(content)
    with pytest.raises(RunError, match=r"calibration.json: .*Run facetl calibrate\."):
        RunFolder(made.folder).calibration()
    recalibrate(made.folder, Target("f1"), cache=made.cache)
    assert isinstance(RunFolder(made.folder).calibration(), Calibration)


def test_a_calibration_without_a_diagram_takes_the_old_one_away(made):
    from facetl.calibration.calibration import Calibrated

    done = recalibrate(made.folder, Target("f1"), cache=made.cache)
    RunFolder(made.folder).write_calibration(Calibrated(done.calibration, None))
    assert not (made.folder / "reliability.png").exists()


def test_an_interrupted_write_leaves_the_old_file(made, monkeypatch):
    path = made.folder / "calibration.json"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_text() == "old"
    assert [entry for entry in made.folder.iterdir() if entry.name.startswith(".")] == []


def test_a_recognizer_gives_the_stored_probability(made):
    calibration = recalibrate(made.folder, Target("far", 0.05), cache=made.cache).calibration
    recognizer = Recognizer(None, None, calibration)  # type: ignore[arg-type]
    assert recognizer.probability(0.3) == float(calibration.probability(0.3))
    assert recognizer.probability(0.3, prior=0.01) < recognizer.probability(0.3)
    assert isinstance(recognizer.probability(0.3), float)
    with pytest.raises(RunError, match="facetl calibrate"):
        Recognizer(None, None, threshold=1.0).probability(0.3)  # type: ignore[arg-type]


def test_the_command_prints_one_object_or_a_page(made, capsys, monkeypatch):
    from typer.testing import CliRunner

    from facetl.cli.app import app

    options = ["--models", str(made.folder.parent), "--cache", str(made.cache)]
    result = CliRunner().invoke(app, ["calibrate", "family", "--far", "0.05", *options, "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["target"] == {"kind": "far", "value": 0.05}
    assert printed["threshold"] == RunFolder(made.folder).calibration().threshold
    result = CliRunner().invoke(app, ["calibrate", str(made.folder), "--fpir", "0.3", *options])
    assert result.exit_code == 0, result.output
    for word in ("threshold", "FPIR", "FAR", "FRR", "behind it", "probability", "naming", "95%"):
        assert word in result.stdout, word
    assert CliRunner().invoke(app, ["calibrate", "family", "--far", "0.1", "--f1", *options]).exit_code == 2
