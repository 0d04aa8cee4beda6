"""The data sets are TensorFlow Datasets' own, with its own mocked data; nothing is downloaded."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetl.data.fetch import sources, tfds
from facetl.data.manifest import Manifest
from facetl.errors import DataError
from facetl.io.files import PARTIAL

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorFlow Datasets, imported late and kept away from the user's own data sets."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    module = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(module.core.constants, "DATA_DIR", str(tmp_path / "tfds"), raising=False)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return module


@pytest.fixture
def mocked(api: Any) -> Iterator[Any]:
    with api.testing.mock_data(num_examples=12, policy=api.testing.MockPolicy.USE_CODE):
        yield api


def photos(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_class_labels_become_folders(mocked: Any, tmp_path: Path) -> None:
    import cv2

    told: list[tuple[int, int]] = []
    fetched = sources.fetch("tfds:mnist", tmp_path / "out", progress=lambda *state: told.append(state))
    assert told == [(done, 12) for done in range(1, 13)]
    assert fetched.photos == 12
    assert "mnist" in fetched.terms
    assert "Please cite:" in fetched.terms
    # The same examples read the straightforward way: label and pixels must agree, in order.
    source = mocked.builder("mnist", file_format="array_record").as_data_source(split="all")
    counted: Counter[str] = Counter()
    for index in range(12):
        label = str(int(source[index]["label"]))
        counted[label] += 1
        pixels = cv2.imread(str(tmp_path / f"out/{label}/{label}_{counted[label]:04d}.png"), cv2.IMREAD_GRAYSCALE)
        assert pixels.shape == (28, 28)
    assert Manifest.from_folder(tmp_path / "out").counts() == dict(sorted(counted.items()))


def test_text_labels_become_folders_and_lfw_says_that_it_is_not_itself(mocked: Any, tmp_path: Path) -> None:
    fetched = sources.fetch("lfw", tmp_path / "out")
    assert fetched.name == "tfds:lfw"
    assert fetched.photos == 12
    assert all(name.endswith("_0001.png") for name in photos(tmp_path / "out"))
    assert "not LFW's own: published pairs do not apply" in fetched.terms


def test_an_interrupted_fetch_keeps_what_it_has(mocked: Any, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sources.fetch("tfds:mnist", tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()
    (partial,) = tmp_path.glob(".out.*.partial")
    early = photos(partial)
    assert len(early) == 5
    for name in early:
        os.utime(partial / name, (1, 1))
    (partial / early[0]).with_name(f"{PARTIAL}torn").write_bytes(b"torn")
    sources.fetch("tfds:mnist", tmp_path / "out")
    assert [name for name in photos(tmp_path / "out") if (tmp_path / "out" / name).stat().st_mtime == 1] == early
    assert not list(tmp_path.glob(".out*"))
    assert not list((tmp_path / "out").rglob(".*"))
    assert len(photos(tmp_path / "out")) == 12


def test_a_data_set_without_photos_or_people_is_refused(mocked: Any, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="must have an image and a label that names the person, imdb_reviews has: label, text"
    ):
        sources.fetch("tfds:imdb_reviews", tmp_path / "out")


@pytest.mark.parametrize("name", ["no_such_faces", "not a name!"])
def test_unknown_data_sets_are_one_line(api: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as error:
        sources.fetch(f"tfds:{name}", tmp_path / "out")
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_download_that_fails_is_one_line(api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Any, **options: Any) -> None:
        raise ConnectionError("host is gone\nwith details")

    monkeypatch.setattr(api.core.DatasetBuilder, "download_and_prepare", gone)
    with pytest.raises(DataError, match=r"could not prepare mnist \(ConnectionError: host is gone\)"):
        sources.fetch("tfds:mnist", tmp_path / "out")


def test_without_the_package_its_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r"pip install tensorflow-datasets\b"):
        sources.fetch("tfds:mnist", tmp_path / "out")


def real_builder(api: Any, folder: Path, file_format: str) -> Any:
    """A real data set, generated, shuffled and written by TensorFlow Datasets, keyed as its LFW is."""

    def info(self: Any) -> Any:
        features = {"label": api.features.Text(), "image": api.features.Image(shape=(4, 3, 3))}
        return api.core.DatasetInfo(builder=self, features=api.features.FeaturesDict(features))

    def examples(self: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for person, count in (("Ann_A", 9), ("Bob_B", 1), ("Cy_C", 12)):
            for number in range(1, count + 1):
                image = np.full((4, 3, 3), [ord(person[0]), number, 7], np.uint8)
                yield f"{person}/{person}_{number:04d}.jpg", {"label": person, "image": image}

    body = {
        "__module__": __name__,
        "VERSION": api.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": lambda self, manager: {"train": examples(self)},
        "_generate_examples": examples,
        "name": "lfw",
    }
    with api.core.registered.skip_registration():
        kind = type("Lfw", (api.core.GeneratorBasedBuilder,), body)
    return kind(data_dir=str(folder), file_format=file_format)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_lfw_photos_get_lfws_numbers(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    import cv2

    builder = real_builder(api, tmp_path / "prepared", file_format)
    monkeypatch.setattr(api, "builder", lambda name, **options: builder)
    fetched = sources.fetch("lfw", tmp_path / "out")
    assert fetched.photos == 22
    assert "do not apply" not in fetched.terms
    for name in photos(tmp_path / "out"):
        person, number = name.split("/")[0], int(name[-8:-4])
        blue, green, red = cv2.imread(str(tmp_path / "out" / name))[0, 0]
        assert (chr(red), int(green), int(blue)) == (person[0], number, 7)


def test_lfw_numbers_are_never_guessed() -> None:
    people = {f"Person_{i}": 1 + i % 5 for i in range(60)}
    keys = [f"{name}/{name}_{number:04d}.jpg" for name, count in people.items() for number in range(1, count + 1)]
    keys.sort(key=lambda key: int(hashlib.md5(b"train" + key.encode()).hexdigest(), 16))
    labels = [key.split("/")[0] for key in keys]
    assert tfds.lfw_numbers(labels) == [int(key[-8:-4]) for key in keys]
    # Without number 1 the numbers of that person are 2 to 5, which is no LFW.
    without = keys.index("Person_4/Person_4_0001.jpg")
    assert tfds.lfw_numbers(labels[:without] + labels[without + 1 :]) is None
    assert tfds.lfw_numbers(labels[::-1]) is None


def test_unsafe_labels_become_safe_folders() -> None:
    assert tfds.safe_name("George_W_Bush") == "George_W_Bush"
    assert tfds.safe_name("José O'Neill Jr.") == "José O'Neill Jr"
    assert tfds.safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert tfds.safe_name("a<b>:\n\0c") == "a_b____c"
    assert tfds.safe_name(" . ") == "_"
    assert tfds.safe_name("राम") == "राम"
    assert len(tfds.safe_name("é" * 300).encode()) <= 100


def test_labels_that_would_share_a_folder_are_kept_apart() -> None:
    names = tfds._Names(object())
    folders = [names.safe(label) for label in ("bob", "Bob", "a/b", "a?b", "bob")]
    assert folders[0] == folders[4] == "bob"
    assert len({folder.casefold() for folder in folders}) == 4
    assert folders[1].startswith("Bob-")


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (b"Ann", "Ann"),
        ("Ann", "Ann"),
        (np.array(b"Ann", object), "Ann"),
        (np.int64(7), "7"),
        (b"\xe9", r"\xe9"),
    ],
)
def test_labels_of_every_kind(value: Any, label: str) -> None:
    assert tfds._Names(object()).label(value) == label


def test_examples_without_a_label_are_left_out(api: Any) -> None:
    names = tfds._Names(api.features.ClassLabel(names=["ann", "bob"]))
    assert [names.label(np.int64(value)) for value in (1, 0, -1)] == ["bob", "ann", None]


def test_a_person_s_number_in_a_dictionary_of_one(mocked: Any, tmp_path: Path) -> None:
    fetched = sources.fetch("tfds:celeb_a", tmp_path / "out")
    source = mocked.builder("celeb_a", file_format="array_record").as_data_source(split="all")
    people = Counter(str(int(source[index]["identity"]["Identity_No"])) for index in range(len(source)))
    assert fetched.photos == len(source) > 0
    assert Manifest.from_folder(tmp_path / "out").counts() == dict(sorted(people.items()))
