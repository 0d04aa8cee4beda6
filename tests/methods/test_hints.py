"""Hints: which maps of a student learn which of a teacher's, how well they do, and the discriminant that ends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec
from facetl.errors import CollapseError, TrainingError
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.distillation.distilled_run import distill
from facetl.methods.distillation.hints import Hints, centred, imitate, stages, viewed, with_discriminant
from facetl.methods.distillation.student import build_student_trunk
from facetl.methods.distillation.teacher import Teacher
from facetl.methods.scratch.crops import CropRows
from facetl.recognition.recognizer import Recognizer
from facetl.training.settings import BALANCED
from facetl.training.whitening import Whitening

SIDE = 32


def net(seed: int, *, channels: int = 5) -> keras.Model:
    """A net of stages 16×16 (4 channels) and 8×8, with a padding of 17×17 between."""
    keras.utils.set_random_seed(seed)
    photos = keras.Input((SIDE, SIDE, 3))
    maps = keras.layers.Rescaling(1 / 127.5, -1)(photos)
    maps = keras.layers.Conv2D(7, 3, strides=2, padding="same", activation="relu")(maps)
    maps = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="fine")(maps)
    maps = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(maps)
    maps = keras.layers.Conv2D(channels, 3, strides=2, activation="relu", name="coarse")(maps)
    return keras.Model(photos, maps)


class Held(CropRows):
    """Crops that are held in memory anyhow."""

    def __init__(self, crops: np.ndarray) -> None:
        self.crops = crops
        self.shape = (len(crops), *crops.shape[1:])  # type: ignore[assignment]
        self.dtype = crops.dtype

    def __getitem__(self, key: object) -> np.ndarray:
        return self.crops[key]  # type: ignore[index, no-any-return]


def photos(count: int, *, seed: int) -> np.ndarray:
    """Smooth patterns, which a net of other weights can tell apart."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 8, 8, 3))
    return coarse.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2).astype(np.uint8)


LAYOUT = FeatureMap(((8, 4), (3, 5)))


def taught(count: int, *, seed: int) -> Hints:
    """Photos with the features of a net of other weights, the mean over photo and mirror image."""
    crops = photos(count, seed=seed)
    view, own = viewed(net(99), LAYOUT)
    assert own == LAYOUT
    both = [np.asarray(view(side.astype(np.float32))) for side in (crops, crops[:, :, ::-1])]
    return Hints(Held(crops), np.arange(count) // 4, (both[0] + both[1]) / 2)


def settings(**changes: object) -> DistillationSettings:
    given: dict[str, object] = {
        "student": "net.keras",
        "size": SIDE,
        "hint_epochs": 20,
        "hint_learning_rate": 0.02,
        "batch_size": 16,
        "seed": 5,
    }
    return DistillationSettings(**(given | changes))  # type: ignore[arg-type]


def test_stages_are_the_last_maps_of_each_size() -> None:
    told = stages(net(0))
    assert [(side, one.shape[3]) for side, one in told.items()] == [(16, 4), (8, 5)]
    small = build_student_trunk(DistillationSettings(initial="scratch")).model
    # Of MobileNetV3-Small at 112 pixels: what its blocks 3, 8 and its end are made of.
    assert {side: one.shape[3] for side, one in stages(small).items() if 1 < side < 20} == {14: 96, 7: 288, 4: 576}


def test_a_view_brings_the_maps_to_the_teachers_grids() -> None:
    trunk = net(1)
    view, own = viewed(trunk, FeatureMap(((7, 30), (3, 9), (1, 8))))
    assert own == FeatureMap(((7, 5), (3, 5), (1, 5)))
    crops = photos(3, seed=1).astype(np.float32)
    # 16×16 is not the coarsest that is finer than 7×7.
    maps = np.asarray(trunk(crops))
    # 8 cells to 7: between the two neighbours of each centre. To 3: means of four, then 4 to 3. To 1: the mean.
    fours = maps.reshape(3, 4, 2, 4, 2, 5).mean(axis=(2, 4))
    expected = [
        np.einsum("gh,kw,nhwc->ngkc", between(*sizes), between(*sizes), one)
        for sizes, one in (((8, 7), maps), ((4, 3), fours))
    ]
    told = np.concatenate([one.reshape(3, -1) for one in (*expected, maps.mean(axis=(1, 2)))], axis=1)
    np.testing.assert_allclose(np.asarray(view(crops)), told, atol=1e-5)


def between(cells: int, grid: int) -> np.ndarray:
    """The weights, [grid, cells], of the two cells whose centres are nearest to that of each."""
    weights = np.zeros((grid, cells))
    for place in range(grid):
        centre = (place + 0.5) * cells / grid - 0.5
        left = int(np.floor(centre))
        weights[place, left] = 1 - (centre - left)
        weights[place, min(left + 1, cells - 1)] += centre - left
    return weights


def test_a_net_within_a_model_is_looked_into() -> None:
    inner = net(2)
    outside = keras.Input((SIDE, SIDE, 3))
    wrapped = keras.Model(outside, inner(keras.layers.Rescaling(0.5)(outside)))
    crops = photos(2, seed=2).astype(np.float32)
    np.testing.assert_allclose(
        viewed(wrapped, LAYOUT)[0](crops), np.asarray(viewed(inner, LAYOUT)[0](crops / 2)), atol=1e-5
    )


def test_a_student_that_is_too_small_is_reported() -> None:
    with pytest.raises(TrainingError, match="more than 16×16 in the student, the widest is 16×16"):
        viewed(net(0), FeatureMap(((16, 3),)))


def test_maps_are_imitated_also_of_people_who_were_not_shown() -> None:
    train, validation = taught(48, seed=3), taught(24, seed=4)

    def learnt(seed: int) -> tuple[list[dict[str, float]], np.ndarray]:
        view, own = viewed(net(seed, channels=11), LAYOUT)
        assert own == FeatureMap(((8, 4), (3, 11)))
        noted: list[dict[str, float]] = []
        imitate(
            view, own, LAYOUT, train, validation, settings(), mirror=True, on_epoch=lambda _, logs: noted.append(logs)
        )
        return noted, view.get_weights()[0]

    noted, weights = learnt(7)
    assert noted[-1]["explained"] > 0.5
    assert noted[-1]["val_explained"] > 0.35
    assert noted[0]["explained"] < noted[-1]["explained"]
    again = learnt(7)
    assert again[0] == noted
    np.testing.assert_array_equal(again[1], weights)


def test_the_share_explained_is_that_of_the_variance() -> None:
    """Against NumPy: maps of zeros imitate zeros, which are as far from the standardised features as these are long."""
    train, validation = taught(40, seed=5), taught(20, seed=6)
    view, own = viewed(net(8), LAYOUT)
    view.set_weights([np.zeros_like(weight) for weight in view.get_weights()])
    still = settings(hint_epochs=1, hint_learning_rate=1e-12)
    noted: list[dict[str, float]] = []
    imitate(view, own, LAYOUT, train, validation, still, mirror=False, on_epoch=lambda _, logs: noted.append(logs))
    roots = [np.sqrt(np.asarray(side.features, np.float64)) for side in (train, validation)]
    scale = roots[0].std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    scale += 1e-3 * np.sqrt(np.mean(np.square(scale)))
    values = (roots[1] - roots[0].mean(axis=0)) / scale
    expected = 1 - np.mean(np.square(values)) / np.mean(np.var(values, axis=0))
    assert expected < -0.01
    assert noted[0]["val_explained"] == pytest.approx(expected, abs=1e-3)


def test_a_rate_that_leads_nowhere_is_reported() -> None:
    train = taught(16, seed=9)
    view, own = viewed(net(11), LAYOUT)
    far = settings(hint_epochs=3, hint_learning_rate=1e25)
    with pytest.raises(CollapseError, match="lower --hint-learning-rate"):
        imitate(view, own, LAYOUT, train, train, far, mirror=False)


def test_dropout_is_there_while_training_alone() -> None:
    train = taught(16, seed=10)
    view, own = viewed(net(12), LAYOUT)
    student = with_discriminant(view, own, train, 6, mirror=False, dropout=0.5, seed=settings().seed)
    crops = np.asarray(train.crops[:4], np.float32)
    told = np.asarray(student(crops, training=False))
    assert np.abs(np.asarray(student(crops, training=True)) - told).max() > 1e-2
    np.testing.assert_allclose(np.asarray(centred(student, train.crops)(crops)), told, atol=2e-3)


@pytest.mark.parametrize("mirror", [True, False])
def test_the_start_is_the_discriminant_of_the_maps(mirror: bool) -> None:
    train = taught(48, seed=7)
    view, own = viewed(net(9), LAYOUT)
    student = with_discriminant(view, own, train, 6, mirror=mirror, dropout=0.0, seed=settings().seed)
    crops = np.asarray(train.crops[:], np.float32)
    sides = [np.asarray(view(one)) for one in (crops, crops[:, :, ::-1])]
    rows = (sides[0] + sides[1]) / 2 if mirror else sides[0]
    front = Whitening.fit(
        rows.astype(np.float16), train.labels, **replace(BALANCED, root=False, seed=5).whitening_options, layout=own
    )
    embedded = np.asarray(front.model(own.dim)(sides[0]))[:, :6]
    expected = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(student(crops)), expected, atol=2e-3)


def test_a_centred_student_is_the_same_and_stands_half_precision() -> None:
    train = taught(48, seed=8)
    view, own = viewed(net(10), LAYOUT)
    # Channels that lie at 50 and vary by less than 1, as those of a net do that was trained for a few steps.
    coarse = view.get_layer("stages").get_layer("coarse")
    coarse.set_weights([0.2 * coarse.get_weights()[0], np.full(5, 50.0)])
    student = with_discriminant(view, own, train, 6, mirror=False, dropout=0.0, seed=settings().seed)
    crops = np.asarray(train.crops[:], np.float32)
    expected = np.asarray(student(crops))
    told = centred(student, train.crops)
    np.testing.assert_allclose(np.asarray(told(crops)), expected, atol=2e-3)

    def halved(model: keras.Model) -> np.ndarray:
        dense = model.get_layer("projection")
        dense.set_weights([weight.astype(np.float16).astype(np.float32) for weight in dense.get_weights()])
        return np.sum(np.asarray(model(crops)) * expected, axis=1)

    assert halved(told).min() > 0.9999
    assert halved(student).min() < 0.999


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> tuple[Teacher, Path]:
    """An extractor of two crops, tapped at a map, and the folder of its cache."""
    home = tmp_path_factory.mktemp("hints")
    made = make_people(home / "photos", people=16, photos=4, side=40, noise=150.0)
    net(3, channels=6).save(home / "net.keras")
    spec = ExtractorSpec.of(str(home / "net.keras"), tap="coarse", grid=3, crop=(0.5, 0.8))
    return Teacher.of_extractor(spec, made, cache=home / "cache", validation=0.25, test=0.25, seed=1), home


def test_the_teachers_maps_are_those_of_its_widest_crop(teacher: tuple[Teacher, Path]) -> None:
    told, _ = teacher
    assert told.crop == 0.8
    assert told.maps == FeatureMap(((3, 6),))
    some = told.manifest.select([5, 2])
    rows = told.maps_of(some)
    assert rows.shape == (2, 54)
    np.testing.assert_array_equal(rows[np.array([1, 0])], np.asarray(told.features[[2, 5]])[:, 54:])


@pytest.mark.usefixtures("light_runs")
def test_a_distillation_begins_with_the_maps(teacher: tuple[Teacher, Path], tmp_path: Path) -> None:
    told, home = teacher
    net(4, channels=9).save(tmp_path / "student.keras")
    lines: list[str] = []
    chosen = settings(student=str(tmp_path / "student.keras"), hint_epochs=3, epochs=1, patience=1)
    report = distill(told, chosen, tmp_path / "run", cache=home / "cache", notify=lines.append)
    hints = [line for line in lines if line.startswith("hints, epoch")]
    assert len(hints) == 3
    assert hints[2].startswith("hints, epoch 3 of 3: 0.")
    assert report.epochs == 1
    recognizer = Recognizer.load(report.folder)
    assert recognizer.embed(told.manifest.paths[:3]).embeddings.shape == (3, told.embeddings.shape[1])


@pytest.mark.usefixtures("light_runs")
def test_features_without_maps_give_no_hints(teacher: tuple[Teacher, Path], tmp_path: Path) -> None:
    _, home = teacher
    spec = ExtractorSpec.of(str(home / "net.keras"), crop=0.8)
    flat = Teacher.of_extractor(spec, home / "photos", cache=home / "cache", validation=0.25, test=0.25, seed=1)
    lines: list[str] = []
    chosen = settings(student=str(home / "net.keras"), epochs=1, patience=1)
    distill(flat, chosen, tmp_path / "run", cache=home / "cache", notify=lines.append)
    assert [line for line in lines if line.startswith("hints")] == [
        "hints: the teacher's features are no maps; the student learns its embeddings alone"
    ]
