"""A run handed over in every form gives what the run gives, in a process that has nothing of ours where it can."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from facetl.backbones.extractor import make_extractor
from facetl.backbones.spec import ExtractorSpec
from facetl.backbones.weights import resolve
from facetl.data.manifest import Manifest
from facetl.errors import DataError, RunError
from facetl.recognition.recognizer import Recognizer
from facetl.runs.export.cost import arithmetic, measure
from facetl.runs.export.exported_run import Exported, compare, export, first_people, run_faces, size_of
from facetl.runs.export.file_formats import (
    Faces,
    LiteRTNet,
    OnnxNet,
    fixed_input,
    keras_model,
    layers_of_facetl,
    pooling_weights,
)
from facetl.runs.training_run import Sight, TrainedNet, identity_head, write_net_run

SIDE, WIDTH = 24, 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Path:
    """Return a run of a tiny net: 24 × 24 pixels of the middle 0.8, with its mirror image."""
    room = tmp_path_factory.mktemp("handover")
    photos = make_people(room / "photos", people=12, photos=3, side=40, noise=60.0)
    manifest = Manifest.from_folder(photos).with_splits(seed=1, validation=0.4, test=0.3)
    keras.utils.set_random_seed(5)
    pixels = keras.Input((SIDE, SIDE, 3))
    maps = keras.layers.Rescaling(1 / 127.5, -1)(pixels)
    maps = keras.layers.Conv2D(8, 5, strides=3, activation="relu")(maps)
    vectors = keras.layers.Dense(WIDTH)(keras.layers.Flatten()(maps))
    net = keras.Model(pixels, keras.layers.UnitNormalization()(vectors))
    trained = TrainedNet(
        net=net,
        settings={"seed": 0},
        history=pd.DataFrame([{"epoch": 1.0, "loss": 2.0}, {"epoch": 2.0, "loss": 1.0}]),
        best_epoch=2,
        seconds=1.0,
        origin="a tiny net",
    )
    write_net_run(room / "models" / "tiny", trained, manifest, Sight(cache=room / "cache", crop=0.8))
    return room / "models" / "tiny"


@pytest.fixture(scope="module")
def recognizer(run: Path) -> Recognizer:
    return Recognizer.load(run)


@pytest.fixture(scope="module")
def faces(run: Path, recognizer: Recognizer) -> Faces:
    return run_faces(run, recognizer, "test", most=12, cache=run.parents[1] / "cache")


@pytest.fixture(scope="module")
def forms(
    run: Path, recognizer: Recognizer, faces: Faces, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Exported]:
    out = tmp_path_factory.mktemp("forms")
    shown = run_faces(run, recognizer, "train", most=12, cache=run.parents[1] / "cache")
    wanted = {
        "saved_model": ("saved_model", "none"),
        "net.keras": ("keras", "none"),
        "net.tflite": ("litert", "none"),
        "half.tflite": ("litert", "float16"),
        "bytes.tflite": ("litert", "int8"),
        "net.onnx": ("onnx", "none"),
    }
    return {
        name: export(recognizer, out / name, form=form, quantise=how, faces=faces, representative=shown)
        for name, (form, how) in wanted.items()
    }


def test_photos_are_of_the_asked_side(run: Path, recognizer: Recognizer, faces: Faces) -> None:
    people = json.loads((run / "people.json").read_text())
    assert {path.parent.name for path in faces.paths} <= set(people["test"])
    shown = run_faces(run, recognizer, "train", most=4, cache=run.parents[1] / "cache")
    assert {path.parent.name for path in shown.paths} <= set(people["train"])
    assert len(shown.paths) == 4
    with pytest.raises(DataError):
        run_faces(run, recognizer, "train", most=4, cache=run, images=run / "nowhere")


def test_two_photos_of_many_people_come_first(run: Path) -> None:
    root = Path(json.loads((run / "config.json").read_text())["data"])
    manifest = Manifest.from_folder(root)
    single = manifest.select([row for row, photo in enumerate(manifest.photos) if row != 1 and row != 2])
    kept = first_people(single, 8).counts()
    assert list(kept.values()) == [2, 2, 2, 2]
    assert "Person_00" not in kept
    assert len(first_people(single, 99)) == len(single)


@pytest.mark.parametrize("name", ["saved_model", "net.keras", "net.tflite", "net.onnx"])
def test_the_same_embeddings(forms: dict[str, Exported], name: str) -> None:
    parity = forms[name].parity
    assert parity is not None
    assert parity.photos == 12
    assert parity.max_difference < 2e-5
    assert parity.accuracy_change == 0
    assert parity.pairs > 0


def test_quantised_is_smaller_and_still_near(forms: dict[str, Exported]) -> None:
    whole, half, byte = (forms[name] for name in ("net.tflite", "half.tflite", "bytes.tflite"))
    assert byte.bytes < half.bytes < whole.bytes
    assert half.parity is not None
    assert byte.parity is not None
    assert 0 < half.parity.max_difference < 5e-3
    assert half.parity.max_difference < byte.parity.max_difference < 0.5
    assert 0.95 < byte.parity.mean_cosine < 1


def test_what_is_written(forms: dict[str, Exported]) -> None:
    for exported in forms.values():
        assert exported.bytes == size_of(exported.path)
        assert exported.needs == ()
        assert not list(exported.path.parent.glob(".*"))
    assert forms["net.keras"].path.stat().st_mode & 0o777 == 0o644
    assert "[n, 24, 24, 3]" in forms["net.keras"].takes
    assert "0.8 of the shorter side" in forms["net.tflite"].takes
    assert json.loads(json.dumps(forms["bytes.tflite"].to_json()))["quantise"] == "int8"


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_photos_at_a_time(
    forms: dict[str, Exported], recognizer: Recognizer, faces: Faces, count: int
) -> None:
    pixels = faces.pixels(*fixed_input(recognizer.backbone))[:count]
    expected = recognizer.embed(faces.paths[:count]).embeddings
    assert expected.shape == (count, WIDTH)
    close = functools.partial(np.testing.assert_allclose, desired=expected, rtol=0)
    close(keras.models.load_model(forms["net.keras"].path).predict(pixels, verbose=0), atol=2e-5)
    close(OnnxNet(forms["net.onnx"].path)(pixels), atol=2e-5)
    for name, tolerance in (("net.tflite", 2e-5), ("half.tflite", 5e-3), ("bytes.tflite", 0.5)):
        close(LiteRTNet(forms[name].path)(pixels), atol=tolerance)
        assert forms[name].takes.startswith("photos [1, 24, 24, 3]")


@pytest.mark.parametrize(("height", "width"), [(24, 24), (40, 40), (61, 35), (24, 90)])
@pytest.mark.parametrize("count", [1, 5])
def test_a_saved_model_takes_photos_of_any_size(
    forms: dict[str, Exported], recognizer: Recognizer, height: int, width: int, count: int
) -> None:
    photos = np.random.default_rng(count).integers(0, 255, (count, height, width, 3), np.uint8)
    serve = tf.saved_model.load(str(forms["saved_model"].path)).signatures["serve_uint8"]
    expected = recognizer.embed(list(photos)).embeddings
    np.testing.assert_allclose(serve(images=tf.constant(photos))["embeddings"], expected, rtol=0, atol=2e-5)


PLAIN = """
import sys
import keras
import numpy as np
photos = np.load(sys.argv[2])
np.save(sys.argv[3], keras.models.load_model(sys.argv[1]).predict(photos, verbose=0))
assert not any(name.startswith("facetl") for name in sys.modules)
"""


def test_keras_alone_loads_the_keras_file(
    forms: dict[str, Exported], recognizer: Recognizer, faces: Faces, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", faces.pixels(*fixed_input(recognizer.backbone)))
    command = [sys.executable, "-c", PLAIN, str(forms["net.keras"].path), "in.npy", "out.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), recognizer.embed(faces.paths).embeddings, atol=2e-5)


def test_a_tapped_net_of_keras_applications(small_net_weights: Path, faces: Faces, tmp_path: Path) -> None:
    """Several taps, an uneven grid, grey and a mean image: all inside the file."""
    spec = ExtractorSpec.of("mobilenet_v3_small", tap="expanded_conv_2_add:5+avg", grey=True, crop=0.9)
    extractor = make_extractor(spec, resolve(spec, given=small_net_weights))
    recognizer = Recognizer(extractor, identity_head(extractor.dim), threshold=0.5)
    done = export(recognizer, tmp_path / "net.keras", form="keras", faces=faces)
    assert done.parity is not None
    assert done.parity.max_difference < 2e-5
    assert done.needs == ()


def test_scaling_that_mixes_channels_is_kept(run: Path, recognizer: Recognizer, faces: Faces) -> None:
    """A file's own mean, deviation and BGR order become one affine layer."""
    plain = keras.Input((SIDE, SIDE, 3))
    keras.utils.set_random_seed(3)
    vectors = keras.layers.Flatten()(keras.layers.Conv2D(2, 6, strides=6)(plain))
    path = run.parent / "bare.keras"
    keras.Model(plain, vectors).save(path)
    spec = ExtractorSpec.of(f"{path}?mean=120,110,90&std=60,50,40&channels=bgr")
    extractor = make_extractor(spec, resolve(spec))
    whole = Recognizer(extractor, identity_head(extractor.dim), threshold=0.5)
    expected = whole.embed(faces.paths).embeddings
    told = keras_model(whole)(faces.pixels(SIDE, 1.0))
    np.testing.assert_allclose(told, expected, atol=2e-5)


def test_layers_of_ours_are_named(recognizer: Recognizer) -> None:
    from facetl.training.layers import SignedRoot

    inputs = keras.Input((WIDTH,))
    rooted = keras.Model(inputs, keras.layers.UnitNormalization()(SignedRoot()(inputs)))
    model = keras_model(replace(recognizer, head=rooted))
    assert layers_of_facetl(model) == ["facetl>SignedRoot"]


def test_what_cannot_be(recognizer: Recognizer, faces: Faces, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--format"):
        export(recognizer, tmp_path / "net", form="pickle")
    with pytest.raises(RunError, match="with --format litert"):
        export(recognizer, tmp_path / "net.keras", form="keras", quantise="float16")
    with pytest.raises(RunError, match=r"end in \.keras"):
        export(recognizer, tmp_path / "net.h5", form="keras")
    with pytest.raises(RunError, match="--representative"):
        export(recognizer, tmp_path / "net.tflite", form="litert", quantise="int8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="something else"):
        export(recognizer, tmp_path / "full", form="saved_model")
    with pytest.raises(RunError, match="the folder"):
        export(recognizer, tmp_path / "full", form="litert")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_what_has_no_input_of_one_size() -> None:
    several = SimpleNamespace(spec=ExtractorSpec.of("mobilenet_v3_small", crop=(0.5, 0.8)), size=224)
    with pytest.raises(RunError, match=r"one crop, got a run of 0\.5,0\.8"):
        fixed_input(several)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="any size"):
        fixed_input(SimpleNamespace(spec=ExtractorSpec.of("mobilenet_v2"), size=None))  # type: ignore[arg-type]
    with pytest.raises(RunError, match="not made of TensorFlow"):
        fixed_input(SimpleNamespace(spec=ExtractorSpec.of("dlib"), size=None))  # type: ignore[arg-type]


def test_pooling_weights_by_hand() -> None:
    np.testing.assert_allclose(pooling_weights(5, 2), np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1]]) / 3, rtol=1e-6)


def test_parity_by_hand() -> None:
    original = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    copy = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    told = compare(original, copy, np.array([0, 0, 1, 1]), threshold=1.0)
    assert (told.max_difference, told.mean_cosine) == (1, 0.75)
    # Two pairs of one person and two of two: the copy has one of each wrong, or the one alone, by the draw.
    assert told.accuracy_original == 1
    assert told.accuracy_change is not None
    assert told.accuracy_change < 0
    alone = compare(original[:2], copy[:2], np.array([0, 0]), threshold=1.0)
    assert (alone.pairs, alone.accuracy, alone.accuracy_change) == (0, None, None)


def test_multiply_accumulates_by_hand(recognizer: Recognizer) -> None:
    counted = arithmetic(recognizer)
    assert counted is not None
    # (24 − 5) // 3 + 1 = 7 places a side, 5 × 5 × 3 inputs, 8 filters; then 392 × 6; twice, for the mirror image.
    assert counted.multiply_accumulates == 2 * (49 * 75 * 8 + 392 * 6)
    assert counted.parameters == 75 * 8 + 8 + 392 * 6 + 6


def test_cost_in_a_process_of_its_own(run: Path, forms: dict[str, Exported]) -> None:
    for model in (run, forms["net.tflite"].path):
        cost = measure(model, photos=3)
        assert cost.milliseconds > 0
        assert cost.ram_peak >= cost.ram_start > 50e6
    with pytest.raises(RunError, match="could not be measured"):
        measure(run / "nothing.tflite", photos=1)


def test_facetl_reads_its_onnx_file_as_an_extractor(
    forms: dict[str, Exported], recognizer: Recognizer, faces: Faces
) -> None:
    spec = ExtractorSpec.of(f"onnx:{forms['net.onnx'].path}?mean=0&std=1", crop=0.8, mirror=False)
    told = make_extractor(spec, resolve(spec)).extract(faces.images)
    np.testing.assert_allclose(told, recognizer.embed(faces.paths).embeddings, atol=2e-5)


def test_a_missing_extra_is_named(recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(RunError, match=r"pip install facetl\[onnx\]"):
        export(recognizer, tmp_path / "net.onnx", form="onnx")


def test_litert_takes_photos_one_by_one(forms: dict[str, Exported], faces: Faces) -> None:
    net = LiteRTNet(forms["net.tflite"].path)
    assert net.side == SIDE
    assert net(faces.pixels(SIDE, 0.8)).shape == (12, WIDTH)
