"""The stand-in's reader on a miniature of the package whose every weight is known."""

from __future__ import annotations

import contextlib
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from miniature import FOLDER, Miniature, Quantised, pin

from facetl.backbones import nsfwjs_weights
from facetl.errors import WeightsError

if TYPE_CHECKING:
    import keras


def codes(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def miniature() -> Miniature:
    """Two convolutions and a normalisation, 8,176 weights in three shards, both cuts in the middle of a tensor."""
    return Miniature(
        [
            Quantised("conv2d_1/kernel", codes(3, 3, 3, 64, seed=0), -1.5, 0.0125),
            Quantised("batch_normalization_1/beta", codes(64, seed=1), -0.25, 0.001953125),
            Quantised("batch_normalization_1/moving_mean", codes(64, seed=2), -3.0, 2.5e-2),
            Quantised("batch_normalization_1/moving_variance", codes(64, seed=3), 0.0, 1e-05),
            Quantised("conv2d_2/kernel", codes(2, 1, 64, 49, seed=4), -0.75, 0.005),
        ],
        cuts=[1500, 3000],
    )


class TestRead:
    def test_every_tensor_across_the_shards(self, miniature: Miniature, tmp_path: Path) -> None:
        tensors = nsfwjs_weights.read(miniature.write(tmp_path / "package.tgz"))
        assert list(tensors) == [tensor.name for tensor in miniature.tensors]
        for tensor in miniature.tensors:
            value = tensors[tensor.name]
            assert value.dtype == np.float32
            assert value.shape == tensor.codes.shape
            np.testing.assert_allclose(value, tensor.codes * tensor.scale + tensor.minimum, rtol=1e-6, atol=1e-6)

    def test_values_by_hand(self, miniature: Miniature, tmp_path: Path) -> None:
        # Code 0 is the minimum, 255 the maximum, and the order is that of the shape, last axis fastest.
        beta = miniature.tensors[1]
        beta.codes[:4] = [0, 1, 4, 255]
        value = nsfwjs_weights.read(miniature.write(tmp_path / "package.tgz"))[beta.name]
        np.testing.assert_array_equal(value[:4], [-0.25, -0.248046875, -0.2421875, 0.248046875])

    def test_nothing_of_the_package_is_executed_or_unpacked(self, miniature: Miniature, tmp_path: Path) -> None:
        # Every script in the miniature begins with a throw; and nothing but the archive may lie there afterwards.
        archive = miniature.write(tmp_path / "package.tgz")
        nsfwjs_weights.read(archive)
        assert list(tmp_path.iterdir()) == [archive]


class TestDamage:
    def test_another_file_under_the_name(self, miniature: Miniature, tmp_path: Path) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        with pytest.raises(WeightsError, match=r"package\.tgz: .* must be nsfwjs 4\.4\.0 with sha256 585cd178f3b9"):
            nsfwjs_weights.verify(archive)

    def test_the_pinned_file(self, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        digest = pin(monkeypatch, archive)
        assert nsfwjs_weights.verify(archive) == digest
        archive.write_bytes(archive.read_bytes() + b"\0")
        with pytest.raises(WeightsError):
            nsfwjs_weights.verify(archive)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
    def test_truncated(self, miniature: Miniature, tmp_path: Path, share: float) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        whole = archive.read_bytes()
        archive.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WeightsError, match=r"package\.tgz"):
            nsfwjs_weights.read(archive)

    def test_damage_that_only_shows_when_unpacking(self, miniature: Miniature, tmp_path: Path) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        whole = archive.read_bytes()
        for place in range(20, len(whole), len(whole) // 25):
            archive.write_bytes(whole[:place] + bytes(40) + whole[place + 40 :])
            with contextlib.suppress(WeightsError):  # and nothing else; the checksum is verified before
                nsfwjs_weights.read(archive)

    def test_no_archive_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "page.tgz").write_text("<html>proxy error</html>")
        for name in ("page.tgz", "nowhere.tgz"):
            with pytest.raises(WeightsError, match=name):
                nsfwjs_weights.read(tmp_path / name)

    @pytest.mark.parametrize("name", ["model.min.js", "group1-shard2of3.min.js"])
    def test_a_missing_member(self, miniature: Miniature, tmp_path: Path, name: str) -> None:
        miniature.missing = (name,)
        with pytest.raises(WeightsError, match=name.removesuffix(".min.js")):
            nsfwjs_weights.read(miniature.write(tmp_path / "package.tgz"))

    def test_fewer_weights_than_the_manifest_names(self, miniature: Miniature, tmp_path: Path) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        text = _member(archive, "model.min.js").replace("shape:[3,3,3,64]", "shape:[3,3,3,65]")
        _replace(archive, "model.min.js", text)
        with pytest.raises(WeightsError, match="manifest names 8219 uint8 weights, the shards hold 8192"):
            nsfwjs_weights.read(archive)

    def test_an_entry_of_another_form(self, miniature: Miniature, tmp_path: Path) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        text = _member(archive, "model.min.js").replace('dtype:"uint8"', 'dtype:"uint16"', 1)
        _replace(archive, "model.min.js", text)
        with pytest.raises(WeightsError, match="manifest names 6464 uint8 weights"):
            nsfwjs_weights.read(archive)

    @pytest.mark.parametrize("text", ["", "weightsManifest:[]", 'weightsManifest:[{paths:["group1-shard1of3"]}]'])
    def test_a_manifest_without_weights(self, miniature: Miniature, tmp_path: Path, text: str) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        _replace(archive, "model.min.js", text)
        with pytest.raises(WeightsError):
            nsfwjs_weights.read(archive)

    def test_a_manifest_that_is_no_text(self, miniature: Miniature, tmp_path: Path) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        _replace(archive, "model.min.js", b"\xff\xfe\xfa")
        with pytest.raises(WeightsError, match=r"package\.tgz"):
            nsfwjs_weights.read(archive)

    def test_a_shard_without_weights(self, miniature: Miniature, tmp_path: Path) -> None:
        archive = miniature.write(tmp_path / "package.tgz")
        _replace(archive, "group1-shard2of3.min.js", 'module.exports="";')
        with pytest.raises(WeightsError, match="group1-shard2of3"):
            nsfwjs_weights.read(archive)


def _members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as package:
        return {member.name: package.extractfile(member).read() for member in package.getmembers()}  # type: ignore[union-attr]


def _member(archive: Path, name: str) -> str:
    return _members(archive)[f"{FOLDER}/{name}"].decode()


def _replace(archive: Path, name: str, text: str | bytes) -> None:
    members = _members(archive)
    members[f"{FOLDER}/{name}"] = text.encode() if isinstance(text, str) else text
    with tarfile.open(archive, "w:gz") as package:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            package.addfile(info, io.BytesIO(data))


KERNELS = [(3, 3, 3, 4), (1, 1, 4, 5), (3, 1, 5, 6)]


def net(kernels: list[tuple[int, ...]] = KERNELS, *, order: list[int] | None = None) -> keras.Model:
    """A chain of convolutions and normalisations, numbered as Keras does in a fresh session.

    `order` is where each stands in the chain: in InceptionV3, too, the numbers tell when a layer was created,
    not its place in `model.layers`.
    """
    import keras

    inputs = x = keras.Input((9, 9, kernels[0][2]))
    for k in order or range(len(kernels)):
        suffix = f"_{k}" if k else ""
        rows, columns, _, channels = kernels[k]
        x = keras.layers.Conv2D(channels, (rows, columns), use_bias=False, name=f"conv2d{suffix}")(x)
        x = keras.layers.BatchNormalization(scale=False, name=f"batch_normalization{suffix}")(x)
    return keras.Model(inputs, x)


def weights_for(kernels: list[tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    for k, shape in enumerate(kernels, start=1):
        tensors[f"conv2d_{k}/kernel"] = rng.normal(size=shape).astype(np.float32)
        for name in ("moving_variance", "beta", "moving_mean"):  # not in the order in which Keras holds them
            value = rng.uniform(0.5, 2, shape[-1:])
            tensors[f"batch_normalization_{k}/{name}"] = value.astype(np.float32)
    return tensors


class TestAssign:
    def test_the_kth_layer_gets_the_kth_tensors(self) -> None:
        # Twelve layers of one shape: in the order of strings, conv2d_10 would come before conv2d_2.
        kernels = [(1, 1, 2, 2)] * 12
        model, tensors = net(kernels, order=[7, 0, 11, 3, 10, 2, 5, 1, 9, 8, 4, 6]), weights_for(kernels)
        nsfwjs_weights.assign(model, tensors)
        for k in range(12):
            suffix = f"_{k}" if k else ""
            (kernel,) = model.get_layer(f"conv2d{suffix}").get_weights()
            np.testing.assert_array_equal(kernel, tensors[f"conv2d_{k + 1}/kernel"])
            layer = model.get_layer(f"batch_normalization{suffix}")
            for variable in ("beta", "moving_mean", "moving_variance"):
                np.testing.assert_array_equal(
                    getattr(layer, variable), tensors[f"batch_normalization_{k + 1}/{variable}"]
                )

    def test_names_that_do_not_start_from_nought(self) -> None:
        """A second net in the same session: Keras goes on counting, the order remains."""
        import keras

        inputs = keras.Input((9, 9, 3))
        x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv2d_9")(inputs)
        x = keras.layers.Conv2D(5, 1, use_bias=False, name="conv2d_10")(x)
        model, tensors = keras.Model(inputs, x), weights_for(KERNELS[:2])
        tensors = {name: value for name, value in tensors.items() if name.startswith("conv2d")}
        nsfwjs_weights.assign(model, tensors)
        np.testing.assert_array_equal(model.get_layer("conv2d_9").get_weights()[0], tensors["conv2d_1/kernel"])
        np.testing.assert_array_equal(model.get_layer("conv2d_10").get_weights()[0], tensors["conv2d_2/kernel"])

    def test_the_net_then_computes_with_them(self) -> None:
        # One pixel, a 1 × 1 kernel: (x·K − mean) / √(variance + 0.001) + beta.
        model, tensors = net([(1, 1, 2, 3)]), weights_for([(1, 1, 2, 3)])
        nsfwjs_weights.assign(model, tensors)
        pixel = np.array([0.5, -2.0], np.float32)
        mean, variance, beta = (
            tensors[f"batch_normalization_1/{name}"] for name in ("moving_mean", "moving_variance", "beta")
        )
        expected = (pixel @ tensors["conv2d_1/kernel"][0, 0] - mean) / np.sqrt(variance + 1e-3) + beta
        got = np.asarray(model(np.broadcast_to(pixel, (1, 9, 9, 2)), training=False))
        np.testing.assert_allclose(got[0, 4, 4], expected, rtol=1e-4, atol=1e-5)

    def test_a_tensor_of_another_shape(self) -> None:
        tensors = weights_for(KERNELS)
        tensors["conv2d_2/kernel"] = tensors["conv2d_2/kernel"].reshape(1, 1, 5, 4)
        with pytest.raises(
            WeightsError, match=r"conv2d_1 wants kernel of shapes \[\(1, 1, 4, 5\)\], received \[\(1, 1, 5, 4"
        ):
            nsfwjs_weights.assign(net(), tensors)

    @pytest.mark.parametrize("name", ["batch_normalization_3/beta", "batch_normalization_2/moving_variance"])
    def test_a_missing_tensor(self, name: str) -> None:
        tensors = weights_for(KERNELS)
        del tensors[name]
        with pytest.raises(WeightsError, match=f"layer {name.split('_')[0]}.* received .*None"):
            nsfwjs_weights.assign(net(), tensors)

    def test_a_net_with_fewer_layers_than_the_package(self) -> None:
        with pytest.raises(WeightsError, match="the net has 2 conv2d layers, received 3"):
            nsfwjs_weights.assign(net(KERNELS[:2]), weights_for(KERNELS))

    def test_a_net_with_more_layers_than_the_package(self) -> None:
        with pytest.raises(WeightsError, match="the net has 3 conv2d layers, received 2"):
            nsfwjs_weights.assign(net(), weights_for(KERNELS[:2]))

    def test_a_layer_of_another_kind(self) -> None:
        """With a bias a convolution holds two variables: no silent half-filling."""
        import keras

        inputs = keras.Input((9, 9, 3))
        model = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="conv2d")(inputs))
        with pytest.raises(WeightsError, match=r"wants kernel of shapes \[\(3, 3, 3, 4\), \(4,\)\]"):
            nsfwjs_weights.assign(model, weights_for(KERNELS[:1]))
