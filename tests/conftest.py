"""What every test shares: a home of its own, made-up people, and real faces where they are there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep every test away from the user's real caches, weights and settings, and Ctrl-C with pytest."""
    stops = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "KERAS_HOME", "FACETL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    yield home
    for sign, handler in stops.items():
        signal.signal(sign, handler)


@pytest.fixture(scope="session")
def lfw_dev() -> Path:
    """Return the folder of real faces with `images/` and `pairs.txt`, or skip."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "lfw-dev"
    folder = Path(os.environ.get("FACETL_LFW_DEV", beside))
    if not (folder / "pairs.txt").is_file():
        pytest.skip("lfw-dev is not here: set FACETL_LFW_DEV to a folder with images/ and pairs.txt")
    return folder


@pytest.fixture(scope="session")
def make_people() -> Callable[..., Path]:
    """Return a function that writes made-up people: each a smooth pattern of its own, each photo a noisy copy."""

    def make(root: Path, *, people: int, photos: int, side: int = 48, noise: float = 18.0, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        for person in range(people):
            folder = root / f"Person_{person:02d}"
            folder.mkdir(parents=True)
            pattern = cv2.resize(
                rng.uniform(0, 255, (5, 5, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
            )
            for photo in range(photos):
                image = np.clip(pattern + rng.normal(0, noise, pattern.shape), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{photo:02d}.png"), image)
        return root

    return make


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., Path]) -> Path:
    """Return 12 made-up people with 6 photos each; not to be written to."""
    return make_people(tmp_path_factory.mktemp("people"), people=12, photos=6)


@pytest.fixture(scope="session")
def small_net_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a weights file for `mobilenet_v3_small`: random, but the same in every session."""
    import keras

    keras.utils.set_random_seed(7)
    model = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    model.save_weights(path)
    return path
