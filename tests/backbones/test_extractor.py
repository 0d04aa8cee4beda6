"""The frozen extractor against the whole net in Keras, and pooling written out in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from facetl.backbones import extractor as extractor_module
from facetl.backbones.extractor import Extractor, make_extractor
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.errors import WeightsError
from facetl.images.resize import prepare

SMALL = "mobilenet_v3_small"
TAP = "expanded_conv_4_add"
GRID = 8  # 35 positions into 8 cells, 14 into 4: neither divides


def weights(path: Path) -> Weights:
    return Weights("file", "0" * 64, path)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


PHOTOS = [photo(61, 47, 1), photo(300, 310, 2), photo(20, 90, 3)]


def pooled(maps: np.ndarray, grid: int) -> np.ndarray:
    """[batch, height, width, channels] → [batch, grid · grid · channels]: cells in rows, channels last."""
    _, height, width, _ = maps.shape
    cells = []
    for row in range(grid):
        top, bottom = math.floor(row * height / grid), math.ceil((row + 1) * height / grid)
        for column in range(grid):
            left, right = math.floor(column * width / grid), math.ceil((column + 1) * width / grid)
            cells.append(maps[:, top:bottom, left:right].mean(axis=(1, 2), dtype=np.float64))
    return np.concatenate(cells, axis=1)


def prepared(images: list[np.ndarray], size: int) -> np.ndarray:
    return np.stack([prepare(image, size=size, crop=1.0).numpy() for image in images])


@dataclass
class Whole:
    """A net of keras.applications, uncut, and the file with its weights."""

    path: Path
    model: Any

    def maps(self, tap: str, pixels: np.ndarray) -> np.ndarray:
        return np.asarray(keras.Model(self.model.input, self.model.get_layer(tap).output)(pixels, training=False))


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """InceptionV3 with random weights; its file is what `--weights` would be given."""
    keras.utils.set_random_seed(3)
    model = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(299, 299, 3))
    path = tmp_path_factory.mktemp("inception") / "random.weights.h5"
    model.save_weights(path)
    return Whole(path, model)


@pytest.fixture(scope="module")
def inception_extractor(inception: Whole) -> Extractor:
    return make_extractor(ExtractorSpec(tap="mixed0", grid=GRID, mirror=False), weights(inception.path))


@pytest.fixture(scope="module")
def small(small_net_weights: Path) -> Whole:
    model = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
    model.load_weights(small_net_weights)
    return Whole(small_net_weights, model)


@pytest.fixture(scope="module")
def make_small(small_net_weights: Path) -> Callable[..., Extractor]:
    def make(**settings: Any) -> Extractor:
        return make_extractor(ExtractorSpec.of(SMALL, **settings), weights(small_net_weights))

    return make


@pytest.fixture(scope="module")
def plain(make_small: Callable[..., Extractor]) -> Extractor:
    return make_small(tap=TAP, grid=4, mirror=False)


@pytest.fixture(scope="module")
def mirrored(make_small: Callable[..., Extractor]) -> Extractor:
    return make_small(tap=TAP, grid=4, mirror=True)


class TestInception:
    def test_is_the_tapped_map_of_the_net_pooled(self, inception: Whole, inception_extractor: Extractor) -> None:
        pixels = keras.applications.inception_v3.preprocess_input(prepared(PHOTOS, 299))
        assert pixels.min() >= -1
        assert pixels.max() <= 1
        expected = pooled(inception.maps("mixed0", pixels), GRID)
        assert inception_extractor.dim == GRID * GRID * 256 == expected.shape[1]
        features = inception_extractor.extract(PHOTOS)
        assert features.dtype == np.float32
        scale = np.abs(expected).max()
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * scale)
        blue_first = pooled(inception.maps("mixed0", pixels[..., ::-1]), GRID)
        assert np.abs(features - blue_first).max() > 0.05 * scale

    def test_nothing_behind_the_tap_is_kept(self, inception: Whole, inception_extractor: Extractor) -> None:
        layers = [layer.name for layer in inception.model.layers]
        before = {layer.name for layer in inception.model.layers[: layers.index("mixed0") + 1]}
        kept = {layer.name.split("/")[0] for layer in inception_extractor._net.layers}
        assert "mixed0" in kept
        assert not {f"mixed{number}" for number in range(1, 11)} & kept
        # Through mixed0 there are 12 convolutions: 5 in the stem and 7 in the block.
        kernels = [variable for variable in inception_extractor._net.weights if len(variable.shape) == 4]
        assert len(kernels) == 12
        expected = sum(
            int(np.prod(weight.shape))
            for layer in inception.model.layers
            if layer.name in before
            for weight in layer.weights
        )
        assert sum(int(np.prod(variable.shape)) for variable in inception_extractor._net.weights) == expected
        graph = tf.function(inception_extractor.features).get_concrete_function(
            tf.TensorSpec((None, None, None, 3), tf.uint8)
        )
        operations = graph.graph.as_graph_def()
        nodes = [*operations.node, *(node for function in operations.library.function for node in function.node_def)]
        assert sum(node.op == "Conv2D" for node in nodes) == 12


class TestFeature:
    def test_pooling(self, small: Whole, plain: Extractor) -> None:
        expected = pooled(small.maps(TAP, prepared(PHOTOS, 224)), 4)
        np.testing.assert_allclose(plain.extract(PHOTOS), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())

    def test_mirrored_is_the_mean_of_both_views(self, plain: Extractor, mirrored: Extractor) -> None:
        views = plain.extract(PHOTOS), plain.extract([image[:, ::-1] for image in PHOTOS])
        expected = (views[0] + views[1]) / 2
        scale = np.abs(expected).max()
        assert np.abs(views[0] - views[1]).max() > 0.01 * scale
        np.testing.assert_allclose(mirrored.extract(PHOTOS), expected, rtol=1e-3, atol=1e-4 * scale)

    def test_the_average_is_the_net_s_own(self, small: Whole, make_small: Callable[..., Extractor]) -> None:
        average = make_small(tap="avg", mirror=False)
        pool = keras.layers.GlobalAveragePooling2D()(small.model.output)
        expected = np.asarray(keras.Model(small.model.input, pool)(prepared(PHOTOS, 224), training=False))
        assert average.dim == expected.shape[1] == 576
        np.testing.assert_allclose(average.extract(PHOTOS), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

    def test_the_crop_is_that_of_the_spec(self, plain: Extractor, make_small: Callable[..., Extractor]) -> None:
        # Half of 60 is 30: rows 15–44, columns 25–54.
        cropped = make_small(tap=TAP, grid=4, mirror=False, crop=0.5)
        image = photo(60, 80)
        expected = plain.extract([image[15:45, 25:55]])
        scale = np.abs(expected).max()
        assert np.abs(plain.extract([image]) - expected).max() > 0.01 * scale
        np.testing.assert_allclose(cropped.extract([image]), expected, rtol=1e-3, atol=1e-4 * scale)
        np.testing.assert_allclose(cropped.features(image[None]), expected, rtol=1e-3, atol=1e-4 * scale)

    def test_grey_is_what_the_net_sees_of_each_photo(
        self, plain: Extractor, make_small: Callable[..., Extractor]
    ) -> None:
        grey = make_small(tap=TAP, grid=4, mirror=False, grey=True)
        image = photo(60, 80)
        luma = np.repeat((image @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=-1).astype(np.float32)
        expected = plain.features(luma[None]).numpy()
        scale = np.abs(expected).max()
        assert np.abs(plain.extract([image]) - expected).max() > 0.01 * scale
        np.testing.assert_allclose(grey.extract([image]), expected, rtol=1e-3, atol=1e-4 * scale)
        np.testing.assert_allclose(grey.features(image[None]), expected, rtol=1e-3, atol=1e-4 * scale)

    def test_frozen_and_eager_agree(self, mirrored: Extractor) -> None:
        batch = np.stack([photo(40, 50, seed) for seed in range(3)])
        eager = mirrored.features(tf.constant(batch)).numpy()
        scale = np.abs(eager).max()
        np.testing.assert_allclose(mirrored.extract(list(batch)), eager, rtol=1e-3, atol=1e-4 * scale)
        as_float = mirrored.features(tf.constant(batch, tf.float32)).numpy()
        np.testing.assert_array_equal(as_float, eager)

    def test_company_in_the_batch_does_not_matter(self, mirrored: Extractor) -> None:
        together = mirrored.extract(PHOTOS)
        scale = np.abs(together).max()
        for alone, image in zip(together, PHOTOS, strict=True):
            np.testing.assert_allclose(mirrored.extract([image])[0], alone, atol=1e-5 * scale)
        np.testing.assert_allclose(mirrored.extract(PHOTOS[::-1])[::-1], together, atol=1e-5 * scale)

    def test_no_photos(self, plain: Extractor) -> None:
        assert plain.extract([]).shape == (0, plain.dim)


@pytest.mark.parametrize(("length", "cells"), [(35, 5), (35, 8), (7, 7), (17, 4), (9, 1), (5, 3)])
def test_pooling_matrix(length: int, cells: int) -> None:
    values = np.random.default_rng(0).normal(size=(1, length, 1, 1)).astype(np.float32)
    matrix = extractor_module._pooling_matrix(length, cells)
    expected = [
        values[0, math.floor(c * length / cells) : math.ceil((c + 1) * length / cells), 0, 0].mean()
        for c in range(cells)
    ]
    np.testing.assert_allclose((matrix * values[0, :, 0, 0]).sum(axis=1), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)


class TestRefused:
    def test_an_unknown_tap(self, make_small: Callable[..., Extractor]) -> None:
        with pytest.raises(WeightsError, match=r"^tap: expected avg or a layer of mobilenet_v3_small, got 'mixed2'\. "):
            make_small(tap="mixed2", grid=1)

    def test_a_grid_larger_than_the_map(self, make_small: Callable[..., Extractor]) -> None:
        with pytest.raises(WeightsError, match=r"^grid: expanded_conv_4_add has a map of 14×14, got a grid of 15×15"):
            make_small(tap=TAP, grid=15)

    def test_an_unknown_net(self, small_net_weights: Path) -> None:
        with pytest.raises(WeightsError, match=r"expected a net of keras\.applications"):
            make_extractor(ExtractorSpec.of("facenet"), weights(small_net_weights))

    def test_weights_are_never_random(self, tmp_path: Path) -> None:
        (tmp_path / "broken.weights.h5").write_bytes(b"no HDF5")
        for name in ("broken.weights.h5", "nowhere.weights.h5"):
            with pytest.raises(WeightsError, match=name):
                make_extractor(ExtractorSpec.of(SMALL), weights(tmp_path / name))

    def test_weights_of_another_net(self, inception: Whole) -> None:
        with pytest.raises(WeightsError, match=r"random\.weights\.h5: expected weights of this net"):
            make_extractor(ExtractorSpec.of(SMALL), weights(inception.path))

    def test_a_net_holds_the_weights_of_its_file(self, small: Whole, plain: Extractor) -> None:
        compared = 0
        for layer in plain._net.layers:
            if layer.weights:
                for own, stored in zip(
                    layer.get_weights(), small.model.get_layer(layer.name).get_weights(), strict=True
                ):
                    np.testing.assert_array_equal(own, stored)
                    compared += 1
        assert compared > 50


Build = Callable[[Any], Any]


def graph_file(path: Path, build: Build, *, size: int | None = 8, entry: str = "Model_Input") -> Path:
    """Write a frozen GraphDef from `Model_Input:0` to whatever `build` makes of it."""
    with tf.Graph().as_default() as graph:
        build(tf.compat.v1.placeholder(tf.float32, (None, size, size, 3), name=entry))
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def vector(pixels: Any) -> Any:
    """[n, 8, 8, 3] → [n, 3]: red twice, then blue, of the mean colour."""
    matrix = tf.constant([[1.0, 0, 0], [0, 0, 0], [0, 1, 2]])
    return tf.linalg.matmul(tf.reduce_mean(pixels, (1, 2)), matrix, name="Model_Output")


def maps(pixels: Any) -> Any:
    """[n, 8, 8, 3] → the pixels twice as large, and before that `tapped`, the pixels as they are."""
    return tf.multiply(tf.identity(pixels, name="tapped"), 2.0, name="Model_Output")


def graph_extractor(path: Path, **settings: Any) -> Extractor:
    return make_extractor(ExtractorSpec.of(str(path), **settings), weights(path))


class TestGraphDef:
    def test_a_vector(self, tmp_path: Path) -> None:
        net = graph_extractor(graph_file(tmp_path / "net.pb", vector), mirror=False)
        assert (net.size, net.dim) == (8, 3)
        image = np.zeros((8, 8, 3), np.uint8)
        image[:4] = [255, 0, 102]  # mean [127.5, 0, 51] → [0, −1, −0.6] in [−1, 1]
        np.testing.assert_allclose(net.extract([image, image[::-1]]), [[0, -0.6, -1.2]] * 2, atol=1e-5)

    def test_a_map_is_averaged(self, tmp_path: Path) -> None:
        net = graph_extractor(graph_file(tmp_path / "net.pb", maps))
        image = photo(8, 8)
        assert net.dim == 3
        expected = 2 * (image.mean(axis=(0, 1)) / 127.5 - 1)
        np.testing.assert_allclose(net.extract([image])[0], expected, atol=1e-5)

    @pytest.mark.parametrize("tap", ["tapped", "tapped:0"])
    def test_a_tap_within(self, tmp_path: Path, tap: str) -> None:
        net = graph_extractor(graph_file(tmp_path / "net.pb", maps), tap=tap, grid=4, mirror=False)
        image = photo(8, 8)
        expected = pooled(image[None] / 127.5 - 1, 4)
        assert net.dim == 48
        np.testing.assert_allclose(net.extract([image]), expected, atol=1e-5)
        np.testing.assert_allclose(net.features(image[None]), expected, atol=1e-5)

    def test_a_map_of_one_by_one(self, tmp_path: Path) -> None:
        def build(pixels: Any) -> None:
            tf.reduce_mean(pixels, (1, 2), keepdims=True, name="Model_Output")

        net = graph_extractor(graph_file(tmp_path / "net.pb", build))
        np.testing.assert_allclose(net.extract([np.full((8, 8, 3), 255, np.uint8)]), [[1, 1, 1]], atol=1e-5)

    def test_an_input_of_any_size_gets_299(self, tmp_path: Path) -> None:
        def build(pixels: Any) -> None:
            tf.reduce_mean(pixels, (1, 2), name="Model_Output")

        assert graph_extractor(graph_file(tmp_path / "net.pb", build, size=None)).size == 299

    @pytest.mark.parametrize(
        ("entry", "build"),
        [("Input", vector), ("Model_Input", lambda pixels: tf.reduce_mean(pixels, (1, 2), name="Logits"))],
    )
    def test_missing_tensors(self, tmp_path: Path, entry: str, build: Build) -> None:
        path = graph_file(tmp_path / "net.pb", build, entry=entry)
        with pytest.raises(WeightsError, match=r"net\.pb: expected tensors Model_Input:0 and Model_Output:0") as raised:
            graph_extractor(path)
        assert "\n" not in str(raised.value)

    def test_an_unknown_tap(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="expected tensors Model_Input:0 and mixed2:0"):
            graph_extractor(graph_file(tmp_path / "net.pb", maps), tap="mixed2")

    def test_a_grid_larger_than_the_map(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="has a map of 8×8, got a grid of 9×9"):
            graph_extractor(graph_file(tmp_path / "net.pb", maps), tap="tapped", grid=9)

    @pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"<html>not found</html>", bytes(64)])
    def test_garbage(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "net.pb").write_bytes(data)
        with pytest.raises(WeightsError, match=r"net\.pb: expected"):
            graph_extractor(tmp_path / "net.pb")

    def test_a_truncated_graph(self, tmp_path: Path) -> None:
        path = graph_file(tmp_path / "net.pb", vector)
        whole = path.read_bytes()
        for length in range(1, len(whole), 37):
            path.write_bytes(whole[:length])
            with pytest.raises(WeightsError, match=r"net\.pb: expected"):
                graph_extractor(path)

    def test_an_operation_that_does_not_exist(self, tmp_path: Path) -> None:
        graph = tf.compat.v1.GraphDef()
        graph.node.add(name="Model_Input", op="NoSuchOperation")
        (tmp_path / "net.pb").write_bytes(graph.SerializeToString())
        with pytest.raises(WeightsError, match=r"net\.pb: expected"):
            graph_extractor(tmp_path / "net.pb")

    def test_a_graph_that_is_not_frozen(self, tmp_path: Path) -> None:
        def build(pixels: Any) -> None:
            zero = tf.zeros_initializer()  # a random one asks for a seed once training has run in this process
            variable = tf.compat.v1.get_variable("scale", (), initializer=zero, use_resource=True)
            tf.multiply(tf.reduce_mean(pixels, (1, 2)), variable, name="Model_Output")

        with pytest.raises(WeightsError, match=r"net\.pb: expected a frozen"):
            graph_extractor(graph_file(tmp_path / "net.pb", build))

    def test_an_output_that_is_no_map_and_no_vector(self, tmp_path: Path) -> None:
        def build(pixels: Any) -> None:
            tf.reduce_mean(pixels, 1, name="Model_Output")

        with pytest.raises(WeightsError, match="expected a layer with a map or a vector"):
            graph_extractor(graph_file(tmp_path / "net.pb", build))
