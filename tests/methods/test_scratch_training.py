"""A net trained from scratch: what it learns from, what it keeps, and that the same seed gives the same net."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from facetl.backbones.extractor import Extractor
from facetl.data.manifest import Manifest
from facetl.errors import CollapseError, DataError, TrainingError
from facetl.images.decode import read_photo
from facetl.methods.scratch import crops as crops_module
from facetl.methods.scratch.crops import Crops, make_augmenter
from facetl.methods.scratch.nets import build_net
from facetl.methods.scratch.scratch_settings import ScratchSettings
from facetl.methods.scratch.scratch_training import (
    FittedNet,
    NetTrainer,
    SoftmaxObjective,
    embed_crops,
    fit_net,
    make_net_objective,
    train_from_scratch,
)
from facetl.metrics.baselines import Raw
from facetl.recognition.recognizer import Recognizer
from facetl.runs.training_run import Sight
from facetl.samplers import ShuffleSampler
from facetl.training.callbacks import learning_rates

SIDE = 36
SETTINGS = ScratchSettings(
    net="small", size=SIDE, width=8, epochs=3, patience=3, batch_size=8, crop=0.75, learning_rate=3e-3, seed=2
)

# Without augmentation a step is compiled in a third of the time.
PLAIN = replace(SETTINGS, augment=False)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Manifest:
    photos = make_people(tmp_path_factory.mktemp("scratch") / "photos", people=12, photos=4, side=40, noise=50.0)
    return Manifest.from_folder(photos).with_splits(seed=1, validation=0.3, test=0.3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def crops(manifest: Manifest, cache: Path) -> Crops:
    return Crops.open(manifest, Sight(cache=cache, crop=0.75), side=SIDE)


@pytest.fixture(scope="module")
def fitted(crops: Crops) -> FittedNet:
    return fit_net(crops, SETTINGS)


def test_crops_are_what_the_extractor_sees_rounded(crops: Crops, manifest: Manifest, cache: Path) -> None:
    import tensorflow as tf

    assert crops.manifest == manifest
    path = manifest.paths[5]
    seen = tf.image.resize(read_photo(path)[5:35, 5:35].astype(np.float32), (SIDE, SIDE), antialias=True)
    np.testing.assert_array_equal(crops.rows[5:6][0], np.round(seen).astype(np.uint8))
    again = Crops.open(manifest, Sight(cache=cache, crop=0.75), side=SIDE)
    np.testing.assert_array_equal(again.rows[[5, 2]], crops.rows[[5, 2]])
    chosen = manifest.subset("test")
    np.testing.assert_array_equal(crops.of(chosen)[[1]][0], crops.rows[[manifest.paths.index(chosen.paths[1])]][0])


def test_crops_that_do_not_fit_the_memory_are_read_from_disk(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    held = crops.rows[[7, 3, 3]]
    monkeypatch.setattr(crops_module, "IN_MEMORY", 1000)
    on_disk = crops.rows.subset(np.arange(len(crops.rows)))
    assert on_disk.held is None
    np.testing.assert_array_equal(on_disk[[7, 3, 3]], held)
    assert on_disk[[7]].dtype == np.uint8


def test_a_batch_holds_photos_and_who_is_on_them(crops: Crops) -> None:
    photos, labels = crops.side("train")
    seen = []
    for batch, targets in ShuffleSampler(labels, smallest_class=2, seed=3).dataset(photos, batch_size=7):
        assert batch.dtype == np.uint8
        rows = [int(np.flatnonzero((photos[:] == one).all(axis=(1, 2, 3)))[0]) for one in batch.numpy()]
        np.testing.assert_array_equal(targets, labels[rows])
        seen += rows
    assert sorted(seen) == list(range(len(photos)))
    train = {photo.identity for photo in crops.manifest.photos if photo.split == "train"}
    assert {crops.manifest.identities[label] for label in labels} == train


def test_the_softmax_is_the_cross_entropy_of_a_linear_classifier() -> None:
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    labels, own = np.array([7, 2, 9, 2], np.int32), np.array([1, 0, 2, 0])
    objective = SoftmaxObjective(np.array([2, 7, 9]), width=3, smoothing=0.3)
    objective.proxies.assign(weights)
    logits = (rows @ weights.T).astype(np.float64)
    logs = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    target = np.full((4, 3), 0.1)
    target[np.arange(4), own] += 0.7
    import tensorflow as tf

    measured = objective(tf.constant(rows), tf.constant(labels))
    assert float(measured.loss) == pytest.approx(-np.mean(np.sum(target * logs, axis=1)), rel=1e-5)
    assert float(measured.fraction_active) == pytest.approx(np.mean(logits.argmax(axis=1) != own))


def test_the_classifier_stands_on_the_penultimate_layer_and_is_chopped_off() -> None:
    net = build_net("small", side=SIDE, width=8, seed=0)
    labels = np.array([0, 0, 1, 1, 4])
    trainer = NetTrainer(net, make_net_objective(SETTINGS, labels, width=8), None)
    photos = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    penultimate = np.asarray(trainer(photos))
    embeddings = penultimate / np.linalg.norm(penultimate, axis=1, keepdims=True)
    np.testing.assert_allclose(net(photos.astype(np.float32)), embeddings, atol=1e-5)
    # Person 4 has one photo and is no class.
    assert [tuple(v.shape) for v in trainer.trainable_variables if v.name == "classifier"] == [(2, 8)]
    assert "classifier" not in {v.name for v in net.variables}
    arcface = NetTrainer(net, make_net_objective(replace(SETTINGS, objective="arcface"), labels, width=8), None)
    np.testing.assert_allclose(arcface(photos), net(photos.astype(np.float32)), atol=1e-6)


def test_augmentation_changes_training_photos_alone() -> None:
    photos = np.random.default_rng(0).uniform(0, 255, (6, 24, 24, 3)).astype(np.float32)
    augmenter = make_augmenter(5)
    changed = np.asarray(augmenter(photos, training=True))
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert all(np.abs(one - other).mean() > 1 for one, other in zip(changed, photos, strict=True))
    np.testing.assert_array_equal(augmenter(photos, training=False), photos)
    np.testing.assert_array_equal(make_augmenter(5)(photos, training=True), changed)


def test_the_rate_really_changes_and_the_best_epoch_is_kept(crops: Crops, fitted: FittedNet) -> None:
    from facetl.metrics.pairs import sample_pairs
    from facetl.metrics.roc import auc
    from facetl.metrics.verification import pair_distances

    rates = [learning_rates(SETTINGS)(epoch) for epoch in range(3)]
    assert len(set(rates)) == 3
    np.testing.assert_allclose(fitted.history["learning_rate"], rates, rtol=1e-6)
    assert fitted.history["loss"].iloc[-1] < fitted.history["loss"].iloc[0]
    photos, labels = crops.side("validation")
    pairs = sample_pairs(labels, seed=SETTINGS.seed)
    kept = auc(pair_distances(embed_crops(fitted.net, photos, mirror=False), pairs), pairs.same)
    if fitted.best_epoch:
        assert kept == pytest.approx(fitted.history["val_auc"].max(), abs=1e-9)
        assert fitted.history["val_auc"].idxmax() == fitted.best_epoch - 1
    else:
        assert kept >= fitted.history["val_auc"].max()


def test_the_same_seed_gives_the_same_net(crops: Crops, fitted: FittedNet) -> None:
    again = fit_net(crops, SETTINGS)
    np.testing.assert_array_equal(again.history.to_numpy(), fitted.history.to_numpy())
    for one, other in zip(again.net.get_weights(), fitted.net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("objective", ["arcface", "triplet", "contrastive"])
def test_the_other_objectives_learn(crops: Crops, objective: str) -> None:
    settings = replace(SETTINGS, objective=objective, augment=False, epochs=4, people_per_batch=4, photos_per_person=4)
    history = fit_net(crops, settings).history
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["val_auc"].max() > 0.5


def test_the_baselines_are_of_pixels_and_of_the_net_before_training(crops: Crops, fitted: FittedNet) -> None:
    import cv2

    chosen = crops.manifest.subset("test")
    sides = {split: crops.manifest.subset(split).paths for split in ("train", "test")}
    row = {path: place for place, path in enumerate(crops.manifest.paths)}
    pixels = {}
    for split, paths in sides.items():
        small = [cv2.resize(crops.rows[[row[path]]][0], (32, 32), interpolation=cv2.INTER_AREA) for path in paths]
        pixels[split] = np.array([one.ravel() for one in small], np.float32)
    expected = Raw().fit(pixels["train"]).transform(pixels["test"])
    np.testing.assert_allclose(fitted.baselines["raw"](chosen), expected, atol=1e-5)
    first = build_net("small", side=SIDE, width=8, seed=SETTINGS.seed)
    photos = crops.of(chosen)[:].astype(np.float32)
    mean = np.asarray(first(photos)) + np.asarray(first(photos[:, :, ::-1]))
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.baselines["untrained"](chosen), mean, atol=1e-5)
    assert list(fitted.baselines) == ["raw", "whitened", "lda", "untrained"]


def test_a_run_folder_is_written_and_embeds_what_the_net_does(manifest: Manifest, cache: Path, tmp_path: Path) -> None:
    epochs = []
    report = train_from_scratch(
        manifest,
        PLAIN,
        tmp_path / os.fsdecode(b"min\xe9"),
        cache=cache,
        on_epoch=lambda epoch, logs: epochs.append(epoch),
    )
    assert epochs == [0, 1, 2]
    assert list(report.verifications) == ["raw", "whitened", "lda", "untrained", "trained"]
    config = json.loads((report.folder / "config.json").read_text())
    assert (config["settings"]["net"], config["settings"]["size"], config["settings"]["loss"]) == (
        "small",
        SIDE,
        "softmax",
    )
    card = (report.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# min\\xe9\n")
    assert "from scratch" in card
    assert list((report.folder / "logs").glob("events.out.tfevents.*"))
    recognizer = Recognizer.load(report.folder)
    assert isinstance(recognizer.backbone, Extractor)
    assert recognizer.backbone.size == SIDE
    net = keras.models.load_model(report.folder / "net.keras")
    crops = Crops.open(manifest, Sight(cache=cache, crop=0.75), side=SIDE)
    own = embed_crops(net, crops.of(manifest.select([0, 9])), mirror=True)
    # The crops are rounded, the run's own pixels are not.
    np.testing.assert_allclose(recognizer.embed([manifest.paths[0], manifest.paths[9]]).embeddings, own, atol=2e-2)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, CollapseError])
def test_an_interrupted_training_leaves_no_half_run(
    manifest: Manifest, cache: Path, tmp_path: Path, ending: type[BaseException]
) -> None:
    def stop(epoch: int, logs: dict[str, float]) -> None:
        raise ending

    with pytest.raises(ending):
        train_from_scratch(manifest, PLAIN, tmp_path / "mine", cache=cache, on_epoch=stop)
    assert not list(tmp_path.iterdir())


def test_too_few_people_are_reported(manifest: Manifest, cache: Path, tmp_path: Path) -> None:
    nobody = manifest.select([photo.split != "validation" for photo in manifest.photos])
    with pytest.raises(DataError):
        train_from_scratch(nobody, SETTINGS, tmp_path / "mine", cache=cache)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"net": "vgg"}, "net: expected one of small"),
        ({"objective": "hinge"}, "objective: expected one of softmax"),
        ({"margin": 0.2}, "the softmax has none"),
        ({"objective": "arcface", "margin": 2.0}, "margin: expected a number above 0 and below 1.571"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0"),
        ({"schedule": "steps"}, "schedule: expected one of decay, cosine"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        replace(SETTINGS, **changes)  # type: ignore[arg-type]


def test_settings_say_what_is_used() -> None:
    assert SETTINGS.to_json()["margin"] is None
    told = replace(SETTINGS, objective="triplet").to_json()
    assert (told["loss"], told["margin"]) == ("triplet", 0.2)
    assert replace(SETTINGS, objective="arcface", margin=0.4).to_json()["margin"] == 0.4
    assert replace(SETTINGS, objective="arcface").to_json()["margin"] == 0.3
    assert replace(SETTINGS, objective="triplet").training.mining == "semi-hard"
