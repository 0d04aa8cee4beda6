"""TensorBoard's files, read back by TensorBoard's own reader."""

from __future__ import annotations

import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from gaussians import gaussian_people, small_settings
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.util import tensor_util

from facetl.metrics.pairs import sample_pairs
from facetl.report.plots import PEOPLE
from facetl.training import tensorboard as tensorboard_module
from facetl.training.fit import FittedHead, fit_head
from facetl.training.head import embed
from facetl.training.tensorboard import on_plane, plane_image, shown_people, write_projector

SCALARS = {
    "training/loss": "loss",
    "training/active_triplets": "active",
    "training/learning_rate": "learning_rate",
    "validation/accuracy": "val_accuracy",
    "validation/auc": "val_auc",
    "validation/embedding_spread": "spread",
}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[FittedHead, EventAccumulator]:
    folder = tmp_path_factory.mktemp("logs")
    fitted = fit_head(
        *gaussian_people(8, 4, seed=0),
        small_settings(epochs=3, standardise="whiten"),
        validation=gaussian_people(4, 3, seed=0, first=50),
        logs=folder,
    )
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "graph": 1})
    events.Reload()
    return fitted, events


def test_every_epochs_scalars_are_those_of_the_history(logged: tuple[FittedHead, EventAccumulator]) -> None:
    fitted, events = logged
    for tag, column in SCALARS.items():
        points = events.Tensors(tag)
        assert [point.step for point in points] == [1, 2, 3]
        values = [float(tensor_util.make_ndarray(point.tensor_proto)) for point in points]
        np.testing.assert_allclose(values, fitted.history[column], rtol=1e-6)


def test_distances_of_both_kinds_as_histograms(logged: tuple[FittedHead, EventAccumulator]) -> None:
    events = logged[1]
    assert set(events.Tags()["tensors"]) == {*SCALARS, "distance/same_person", "distance/different_people"}
    means = {}
    for tag in ("distance/same_person", "distance/different_people"):
        points = events.Tensors(tag)
        assert [point.step for point in points] == [1, 2, 3]
        assert events.SummaryMetadata(tag).plugin_data.plugin_name == "histograms"
        left, right, count = tensor_util.make_ndarray(points[-1].tensor_proto).T
        # Four people with three photos each have 12 pairs of one person.
        assert count.sum() == 12
        assert left.min() >= 0
        assert right.max() <= 4
        means[tag] = np.sum((left + right) / 2 * count) / 12
    assert means["distance/same_person"] < means["distance/different_people"]


def test_the_graph_shows_the_head(logged: tuple[FittedHead, EventAccumulator]) -> None:
    names = {node.name for node in logged[1].Graph().node}
    assert any("dense_0" in name for name in names)
    assert any("dense_1" in name for name in names)


def projected(folder: Path, count: int, names: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    embeddings = np.linspace(-1, 1, count * 3).reshape(count, 3)
    thumbnails = [np.full((64, 64, 3), (10 * place, 5, 250 - 10 * place), np.uint8) for place in range(count)]
    write_projector(folder, embeddings, names, thumbnails)
    return embeddings, thumbnails


def test_the_projectors_files_fit_together(tmp_path: Path) -> None:
    names = ["Ada", "Bob\tthe\nBuilder", "  ", "Žofie", "Ada"]
    embeddings, thumbnails = projected(tmp_path, 5, names)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (entry,) = config.embeddings
    vectors = np.loadtxt(tmp_path / entry.tensor_path, delimiter="\t")
    np.testing.assert_allclose(vectors, embeddings, atol=1e-5)
    # One column has no header: a line per vector.
    assert (tmp_path / entry.metadata_path).read_text().split("\n") == [
        "Ada",
        r"Bob\tthe\nBuilder",
        "-",
        "Žofie",
        "Ada",
    ]
    assert list(entry.sprite.single_image_dim) == [64, 64]
    sprite = cv2.imread(str(tmp_path / entry.sprite.image_path))[:, :, ::-1]
    assert sprite.shape == (192, 192, 3)  # ⌈√5⌉ a side
    for place, image in enumerate(thumbnails):
        top, left = 64 * (place // 3), 64 * (place % 3)
        np.testing.assert_array_equal(sprite[top : top + 64, left : left + 64], image)
    assert not sprite[64:, 128:].any()
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_photos_that_a_sprite_cannot_hold_are_left_out_of_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard_module, "_SPRITE_SIDE", 2 * 64 + 10)
    projected(tmp_path, 7, [f"p{place}" for place in range(7)])
    assert len((tmp_path / "embeddings.tsv").read_text().split("\n")) == 4
    assert (tmp_path / "names.tsv").read_text().split("\n") == ["p0", "p1", "p2", "p3"]
    assert cv2.imread(str(tmp_path / "sprite.png")).shape == (128, 128, 3)


def test_pairs_show_their_loss_on_validation_people_and_embeddings_in_the_plane(tmp_path: Path) -> None:
    validation = gaussian_people(12, 3, seed=0, first=50)
    settings = small_settings(epochs=2, loss="contrastive", sampler="pairs", margin=1.3, plot_embeddings=True)
    fitted = fit_head(*gaussian_people(8, 4, seed=0), settings, validation=validation, logs=tmp_path)
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    points = events.Tensors("validation/loss")
    values = [float(tensor_util.make_ndarray(point.tensor_proto)) for point in points]
    np.testing.assert_allclose(values, fitted.history["val_loss"], rtol=1e-6)
    # The loss of the kept head, pair by pair.
    pairs = sample_pairs(validation[1], seed=settings.seed)
    embeddings = embed(fitted.head, validation[0]).astype(np.float64)
    distances = np.linalg.norm(embeddings[pairs.first] - embeddings[pairs.second], axis=1)
    short = np.maximum(1.3 - distances[~pairs.same], 0)
    expected = np.mean(distances[pairs.same] ** 2) / 2 + np.mean(short[short > 0] ** 2) / 2
    assert values[fitted.best_epoch - 1] == pytest.approx(expected, rel=1e-4)
    images = events.Tensors("validation/embeddings")
    assert events.SummaryMetadata("validation/embeddings").plugin_data.plugin_name == "images"
    assert [image.step for image in images] == [1, 2]
    width, height, png = tensor_util.make_ndarray(images[1].tensor_proto)
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (int(height), int(width), 3)
    shown = plane_image(np.asarray(embeddings, np.float32), validation[1], title="Epoch 2")
    assert shown.shape == decoded.shape


def test_other_samplers_have_no_such_curve_and_no_picture_unless_asked(
    logged: tuple[FittedHead, EventAccumulator],
) -> None:
    assert "val_loss" not in logged[0].history
    assert not {"validation/loss", "validation/embeddings"} & set(logged[1].Tags()["tensors"])


def shows(image: np.ndarray, colour: str) -> bool:
    """Tell whether points of a colour are there, as it is on white at their opacity."""
    blended = 0.85 * np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) + 0.15 * 255
    return bool((np.abs(image - blended).max(axis=2) < 2).any())


def test_those_with_most_photos_are_shown() -> None:
    labels = np.repeat([30, 7, 12, 5], [2, 4, 4, 1])
    assert shown_people(labels).tolist() == [7, 12, 30, 5]
    assert shown_people(np.repeat(np.arange(14), np.arange(14) + 1)).tolist() == list(range(13, 3, -1))


def test_the_plane_is_that_of_the_first_two_principal_components() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(40, 6)) * np.array([5, 1, 0.3, 3, 0.2, 0.1]) + 7
    centred = embeddings - embeddings.mean(axis=0)
    axes = np.linalg.svd(centred)[2][:2]
    found = on_plane(embeddings)
    # An axis may point either way.
    np.testing.assert_allclose(np.abs(found), np.abs(centred @ axes.T), atol=1e-9)
    np.testing.assert_array_equal(found, on_plane(embeddings))


def test_what_has_one_number_lies_on_a_line() -> None:
    places = on_plane(np.array([[4.0], [1.0], [7.0]]))
    np.testing.assert_allclose(places, [[0, 0], [-3, 0], [3, 0]])


def test_a_colour_for_each_of_at_most_ten_people() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(12), 6)
    centres = rng.normal(size=(12, 8))
    image = plane_image(centres[labels] + 0.05 * rng.normal(size=(72, 8)), labels, title="Epoch 3")
    assert (image.ndim, image.shape[2], image.dtype) == (3, 3, np.uint8)
    assert all(shows(image, colour) for colour in PEOPLE)
    three = plane_image(centres[labels[:18]], labels[:18], title="Epoch 3")
    assert [shows(three, colour) for colour in PEOPLE] == [True] * 3 + [False] * 7
