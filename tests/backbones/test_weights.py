"""Which weights are taken, in which order, and that it is always said. Nothing here touches the network."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from miniature import Miniature, Quantised, pin

from facetl.backbones import nsfwjs_weights, weights
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.backbones.weights import resolve
from facetl.errors import WeightsError

INCEPTION = ExtractorSpec()


class Offline:
    """Fails every download at once, and counts the attempts."""

    def __init__(self) -> None:
        self.attempts: list[str] = []

    def __call__(self, url: object, *_: object, **__: object) -> None:
        self.attempts.append(str(getattr(url, "full_url", url)))
        raise urllib.error.URLError("no network in tests")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Offline:
    """No test here may reach the network, be it through urllib, a socket or the real npm."""
    refuse = Offline()

    def connect(*_: object, **__: object) -> None:
        pytest.fail("a test opened a connection")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    return refuse


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH: what is not put there is not installed."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pinned package, as the registry would hand it out."""
    kernel = np.arange(2000, dtype=np.uint8).reshape(10, 10, 4, 5)
    path = Miniature([Quantised("conv2d_1/kernel", kernel, -0.5, 0.0039)]).write(tmp_path / "registry" / "it.tgz")
    pin(monkeypatch, path)
    return path


def install_npm(tools: Path, script: str) -> Path:
    """A program called npm that notes how it was called, then does as `script` says."""
    npm, shell = tools / "npm", shutil.which("sh", path=os.defpath)
    assert shell is not None
    npm.write_text(f'#!{shell}\necho "$@" >> "{tools}/calls"\n{script}\n')
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    return npm


def npm_with(tools: Path, archive: Path) -> Path:
    copy = shutil.which("cp", path=os.defpath)
    return install_npm(tools, f'{copy} "{archive}" "$PWD/{nsfwjs_weights.FILE_NAME}"\necho "npm notice" >&2\necho done')


class Notices(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


def keras_file(folder: Path, data: bytes = b"weights") -> Path:
    path = folder / "models" / weights.INCEPTION_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


class TestOrder:
    def test_a_file_that_is_given_comes_first(self, own_home: Path, tmp_path: Path, offline: Offline) -> None:
        keras_file(own_home / ".keras")
        given = tmp_path / "mine.weights.h5"
        given.write_bytes(b"mine")
        said = Notices()
        assert resolve(INCEPTION, given=given, notify=said) == Weights(
            "file", hashlib.sha256(b"mine").hexdigest(), given
        )
        assert said == offline.attempts == []

    @pytest.mark.parametrize("spec", [INCEPTION, ExtractorSpec.of("mobilenet")])
    def test_a_file_that_is_not_there_is_an_error_not_a_download(
        self, spec: ExtractorSpec, tmp_path: Path, offline: Offline
    ) -> None:
        with pytest.raises(WeightsError, match=r"mine\.h5: expected a weights file, found nothing"):
            resolve(spec, given=tmp_path / "mine.h5")
        with pytest.raises(WeightsError, match="found a folder"):
            resolve(spec, given=tmp_path)
        assert offline.attempts == []

    def test_then_what_keras_has_downloaded(self, own_home: Path, tools: Path, archive: Path, offline: Offline) -> None:
        npm_with(tools, archive)
        path = keras_file(own_home / ".keras")
        said = Notices()
        assert resolve(INCEPTION, notify=said) == Weights("imagenet", hashlib.sha256(b"weights").hexdigest(), path)
        assert said == offline.attempts == []
        assert not (tools / "calls").exists()

    def test_keras_home_is_respected(self, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keras_file(own_home / ".keras", b"the wrong ones")
        path = keras_file(tmp_path / "elsewhere")
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "elsewhere"))
        assert weights.keras_folder() == tmp_path / "elsewhere" / "models"
        assert resolve(INCEPTION).path == path

    def test_what_keras_has_wins_over_a_stand_in_fetched_before(self, own_home: Path, archive: Path) -> None:
        weights.stand_in_path().parent.mkdir(parents=True)
        shutil.copy(archive, weights.stand_in_path())
        keras_file(own_home / ".keras")
        assert resolve(INCEPTION).source == "imagenet"

    def test_then_a_download_and_at_last_the_stand_in(
        self, tools: Path, archive: Path, offline: Offline, capfd: pytest.CaptureFixture[str]
    ) -> None:
        npm_with(tools, archive)
        said = Notices()
        found = resolve(INCEPTION, notify=said)
        assert found == Weights("stand-in", nsfwjs_weights.SHA256, weights.stand_in_path())
        assert found.path.read_bytes() == archive.read_bytes()
        assert [attempt for attempt in offline.attempts if weights.INCEPTION_FILE in attempt]
        assert (tools / "calls").read_text() == "pack --ignore-scripts nsfwjs@4.4.0\n"
        assert "cannot be reached" in said[0]
        assert "stand-in weights in use (nsfwjs 4.4.0, npm)" in said[-1]
        assert str(found.path) in said[-1]
        assert "--weights" in said[-1]
        assert capfd.readouterr().out == ""

    def test_a_stand_in_fetched_before_is_used_without_a_download_and_still_named(
        self, tools: Path, archive: Path, offline: Offline, capfd: pytest.CaptureFixture[str]
    ) -> None:
        npm_with(tools, archive)
        weights.fetch_stand_in(weights.stand_in_path(), because="")
        (tools / "calls").unlink()
        for _ in range(2):
            said = Notices()
            assert resolve(INCEPTION, notify=said).source == "stand-in"
            assert len(said) == 1
            assert "stand-in weights in use" in said[0]
        assert offline.attempts == []
        assert not (tools / "calls").exists()
        assert capfd.readouterr().out == ""

    def test_a_damaged_stand_in_is_never_used(self, archive: Path) -> None:
        weights.stand_in_path().parent.mkdir(parents=True)
        weights.stand_in_path().write_bytes(archive.read_bytes()[:-1])
        with pytest.raises(WeightsError, match="Delete the file and run again"):
            resolve(INCEPTION)

    def test_a_graph_is_its_own_weights(self, tmp_path: Path) -> None:
        (tmp_path / "net.pb").write_bytes(b"graph")
        found = resolve(ExtractorSpec.of(str(tmp_path / "net.pb")))
        assert found == Weights("file", hashlib.sha256(b"graph").hexdigest(), tmp_path / "net.pb")
        with pytest.raises(WeightsError, match=r"other\.pb: expected a weights file, found nothing"):
            resolve(ExtractorSpec.of(str(tmp_path / "other.pb")))

    def test_finding_a_file_imports_no_tensorflow(self, own_home: Path) -> None:
        keras_file(own_home / ".keras")
        code = (
            "import sys; from facetl.backbones.weights import resolve\n"
            "from facetl.backbones.spec import ExtractorSpec; "
            "print(resolve(ExtractorSpec()).source, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout.split() == ["imagenet", "False", "False"], done.stderr


class TestWithoutANetwork:
    def test_no_npm(self, offline: Offline) -> None:
        with pytest.raises(WeightsError) as raised:
            resolve(INCEPTION)
        message = str(raised.value)
        assert "\n" not in message
        assert "inception_v3: Keras' ImageNet weights could not be downloaded" in message
        assert "npm, which is not installed" in message
        assert "--weights" in message
        assert offline.attempts
        assert not weights.stand_in_path().exists()

    def test_another_net_has_no_stand_in(self, tools: Path, archive: Path, offline: Offline) -> None:
        npm_with(tools, archive)
        with pytest.raises(WeightsError, match=r"^mobilenet: Keras' ImageNet weights could not .*--weights FILE"):
            resolve(ExtractorSpec.of("mobilenet"))
        assert offline.attempts
        assert not (tools / "calls").exists()

    def test_an_unknown_net_is_not_called_a_failed_download(self, offline: Offline) -> None:
        with pytest.raises(WeightsError, match=r"^extractor: expected a net of keras\.applications"):
            resolve(ExtractorSpec.of("inception_v9"))
        assert offline.attempts == []

    def test_the_time_limit_of_sockets_is_put_back(self) -> None:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(7.5)
        try:
            with pytest.raises(WeightsError):
                resolve(ExtractorSpec.of("mobilenet"))
            assert socket.getdefaulttimeout() == 7.5
        finally:
            socket.setdefaulttimeout(before)


class TestNpm:
    def test_fails(self, tools: Path) -> None:
        install_npm(tools, "echo 'npm error network timeout' >&2; exit 1")
        with pytest.raises(WeightsError, match=r"^No ImageNet\. .*\(npm: npm error network timeout\)\. Pass --weights"):
            weights.fetch_stand_in(weights.stand_in_path(), because="No ImageNet.")
        self.nothing_is_left()

    def test_says_it_went_well_and_left_nothing(self, tools: Path) -> None:
        install_npm(tools, "exit 0")
        with pytest.raises(WeightsError, match=r"npm: no message"):
            weights.fetch_stand_in(weights.stand_in_path(), because="")
        self.nothing_is_left()

    def test_brings_another_package(self, tools: Path, archive: Path, tmp_path: Path) -> None:
        forged = tmp_path / "forged.tgz"
        forged.write_bytes(archive.read_bytes() + b"\0")
        npm_with(tools, forged)
        with pytest.raises(WeightsError, match="must be nsfwjs"):
            weights.fetch_stand_in(weights.stand_in_path(), because="")
        self.nothing_is_left()

    def test_hangs(self, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install_npm(tools, "")

        def run(command: list[str], **options: float) -> None:
            raise subprocess.TimeoutExpired(command, options["timeout"])

        monkeypatch.setattr(subprocess, "run", run)
        with pytest.raises(WeightsError, match="npm gave no answer"):
            weights.fetch_stand_in(weights.stand_in_path(), because="")
        self.nothing_is_left()

    @staticmethod
    def nothing_is_left() -> None:
        assert list(weights.stand_in_path().parent.iterdir()) == []


def test_the_stand_in_lies_in_the_user_s_cache_folder(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights.stand_in_path() == own_home / ".cache" / "facetl" / "weights" / nsfwjs_weights.FILE_NAME
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.stand_in_path() == tmp_path / "facetl" / "weights" / nsfwjs_weights.FILE_NAME


@pytest.mark.parametrize(
    ("source", "phrase"), [("file", "from mine.h5"), ("imagenet", "ImageNet"), ("stand-in", "stand-in weights of the")]
)
def test_the_description_says_what_they_are(source: str, phrase: str) -> None:
    description = Weights(source, "0123456789abcdef" * 4, Path("some/mine.h5")).description
    assert phrase in description
    assert description.endswith("sha256 0123456789ab")


@pytest.mark.filterwarnings("ignore:::keras")
class TestLoad:
    @pytest.fixture
    def model(self) -> object:
        import keras

        inputs = keras.Input((4, 4, 4))
        return keras.Model(inputs, keras.layers.Conv2D(5, 10, padding="same", use_bias=False, name="conv2d")(inputs))

    def test_the_stand_in(self, model: object, archive: Path) -> None:
        weights.load(model, Weights("stand-in", nsfwjs_weights.SHA256, archive))
        (kernel,) = model.get_weights()  # type: ignore[attr-defined]
        expected = np.arange(2000, dtype=np.uint8).reshape(10, 10, 4, 5) * 0.0039 - 0.5
        np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)

    def test_a_stand_in_that_was_exchanged_meanwhile(self, model: object, archive: Path) -> None:
        archive.write_bytes(archive.read_bytes() + b"\0")
        with pytest.raises(WeightsError, match="must be nsfwjs"):
            weights.load(model, Weights("stand-in", nsfwjs_weights.SHA256, archive))

    @pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
    def test_a_keras_file(self, model: object, tmp_path: Path, suffix: str) -> None:
        import keras

        other = keras.models.clone_model(model)
        other.set_weights([np.full((10, 10, 4, 5), 0.25)])
        path = tmp_path / f"mine{suffix}"
        if suffix == ".h5":
            other.save(path)
        else:
            other.save_weights(path)
        weights.load(model, Weights("file", "0" * 64, path))
        np.testing.assert_array_equal(model.get_weights()[0], 0.25)  # type: ignore[attr-defined]

    def test_a_file_of_another_net(self, model: object, tmp_path: Path) -> None:
        import keras

        inputs = keras.Input((4, 4, 4))
        keras.Model(inputs, keras.layers.Conv2D(6, 3)(inputs)).save_weights(tmp_path / "other.weights.h5")
        with pytest.raises(WeightsError, match=r"other\.weights\.h5: expected weights of this net without its classif"):
            weights.load(model, Weights("file", "0" * 64, tmp_path / "other.weights.h5"))

    @pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
    def test_a_file_that_would_fill_only_some_layers(self, tmp_path: Path, suffix: str) -> None:
        import keras

        def chain(layers: int) -> keras.Model:
            inputs = x = keras.Input((4, 4, 3))
            for number in range(layers):
                x = keras.layers.Conv2D(3, 1, name=f"layer_{number}")(x)
            return keras.Model(inputs, x)

        path = tmp_path / f"half{suffix}"
        short = chain(2)
        (short.save_weights if suffix == ".weights.h5" else short.save)(path)
        with pytest.raises(WeightsError, match="half"):
            weights.load(chain(4), Weights("file", "0" * 64, path))

    @pytest.mark.parametrize("name", ["mine.weights.h5", "mine.h5", "mine.bin", "mine"])
    def test_a_file_of_no_net(self, model: object, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"nothing of the kind" * 100)
        with pytest.raises(WeightsError, match=name) as raised:
            weights.load(model, Weights("file", "0" * 64, tmp_path / name))
        assert "\n" not in str(raised.value)


def test_the_file_that_keras_loads_is_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, small_net_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A download that succeeds: Keras' downloader is replaced, all behind it is real."""
    from facetl.backbones import keras_applications

    module = sys.modules[keras_applications.net("mobilenet_v3_small").function.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: str(small_net_weights))
    found = resolve(ExtractorSpec.of("mobilenet_v3_small"))
    assert found == Weights("imagenet", hashlib.sha256(small_net_weights.read_bytes()).hexdigest(), small_net_weights)
    assert capfd.readouterr().out == ""
