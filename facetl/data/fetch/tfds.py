"""Faces from TensorFlow Datasets: any data set with an image and a label, as a folder of people."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facetl.errors import DataError
from facetl.io.files import remove_partial, write_atomic
from facetl.io.text import cut, no_device

Progress = Callable[[int, int], None]

_LABELS = ("label", "identity", "person", "name")
_SUFFIXES = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg"}
_LONGEST = 100  # bytes of a label in a file name; file systems allow 255 for the whole name

Example = dict[str, Any]


def write(name: str, out: Path, *, progress: Progress | None = None) -> str:
    """Write OUT/<label>/<label>_0001.png (or .jpg) for every example of all splits; return the data's terms.

    Photos are written byte for byte as the data set stores them, in its reading order, each under a temporary
    name first; those already there from an interrupted run are kept. LFW alone is numbered as LFW numbers its
    photos, so that published pairs apply. Examples without a label (ClassLabel -1) are left out.

    Raises DataError when the data set is unknown, cannot be prepared, or has no image with a label.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise DataError(f"tfds:{name} needs TensorFlow Datasets. Run: pip install tensorflow-datasets") from None
    builder = _prepared(tfds, name)
    image, label = _features(tfds, name, builder)
    examples = _examples(tfds, builder, image)
    names = _Names(_at(builder.info.features, label))
    numbers = None
    if builder.name == "lfw":
        numbers = lfw_numbers([names.label(_at(example, label)) or "" for example in examples])
    counted: Counter[str] = Counter()
    for done, example in enumerate(examples, start=1):
        person = names.label(_at(example, label))
        if person is not None:
            counted[person] += 1
            number = numbers[done - 1] if numbers else counted[person]
            _photo(out, names.safe(person), number, _encoded(name, example[image]))
        if progress is not None:
            progress(done, len(examples))
    remove_partial(out)
    return _terms(builder, official=builder.name != "lfw" or numbers is not None)


def lfw_numbers(labels: Sequence[str]) -> list[int] | None:
    """Number LFW's photos as LFW does, from 1, given who is on each in reading order; None if it is not LFW.

    TensorFlow Datasets drops the file names but stores examples in the order of md5("train" + key), the key
    being "Name/Name_0001.jpg", and a person of LFW with n photos has the numbers 1 to n. Ordering those keys
    must then give back the very labels that were read; anything else is answered by None, never by a guess.
    """
    keys = [
        (hashlib.md5(f"train{person}/{person}_{number:04d}.jpg".encode()).digest(), person, number)
        for person, photos in Counter(labels).items()
        for number in range(1, photos + 1)
    ]
    keys.sort()
    return [number for _, _, number in keys] if [person for _, person, _ in keys] == list(labels) else None


def safe_name(label: str) -> str:
    """Make a label a folder's name on any system: letters, digits and " _-.'" stay, at most 100 bytes."""
    kept = "".join(
        mark if mark.isalnum() or unicodedata.category(mark).startswith("M") or mark in " _-.'" else "_"
        for mark in unicodedata.normalize("NFC", label)
    )
    # A leading dot would hide the folder, trailing dots and spaces vanish on Windows.
    return no_device(cut(kept, _LONGEST).strip(" .") or "_")


class _Names:
    """The names of one data set's people, and a folder for each that no other has."""

    def __init__(self, feature: Any) -> None:
        self.feature = feature
        self.folders: dict[str, str] = {}
        self.taken: set[str] = set()

    def label(self, value: Any) -> str | None:
        value = getattr(value, "item", lambda: value)()
        if isinstance(value, bytes):
            return value.decode("utf-8", "backslashreplace")
        if isinstance(value, str):
            return value
        if not hasattr(self.feature, "int2str"):
            return str(value)
        return str(self.feature.int2str(value)) if value >= 0 else None

    def safe(self, label: str) -> str:
        if label not in self.folders:
            folder = safe_name(label)
            # Compared without case, for the file systems that do not tell Bob from bob.
            if folder.casefold() in self.taken:
                folder += "-" + hashlib.blake2b(label.encode("utf-8", "replace"), digest_size=4).hexdigest()
            self.taken.add(folder.casefold())
            self.folders[label] = folder
        return self.folders[label]


def _prepared(tfds: Any, name: str) -> Any:
    """Return the builder with its data on disk, in a format read without TensorFlow where one may choose."""
    missing = tfds.core.DatasetNotFoundError
    try:
        try:
            builder = tfds.builder(name, file_format="array_record")
        except missing:
            raise
        except ValueError:
            # Prepared earlier, in another format.
            builder = tfds.builder(name)
        builder.download_and_prepare()
    except missing:
        raise DataError(
            f"tfds:NAME must be a data set of TensorFlow Datasets, got {name!r}. "
            "See https://www.tensorflow.org/datasets/catalog for the names."
        ) from None
    except Exception as error:  # a builder is third-party code, and raises what it likes when a host is gone
        first = (str(error).strip().splitlines() or [""])[0]
        raise DataError(
            f"TensorFlow Datasets could not prepare {name} ({type(error).__name__}: {first}). "
            "Check the name and the connection, or give a folder of photos that is already on this machine."
        ) from error
    return builder


def _at(nested: Any, keys: tuple[str, ...]) -> Any:
    """Return what lies at some keys, one inside the other."""
    for key in keys:
        nested = nested[key]
    return nested


def _features(tfds: Any, name: str, builder: Any) -> tuple[str, tuple[str, ...]]:
    """Return the feature that is the photo, and the keys of the one that names who is on it."""
    features = dict(builder.info.features.items()) if hasattr(builder.info.features, "items") else {}
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    supervised = [key for key in builder.info.supervised_keys or () if isinstance(key, str)]
    usable = [key for key, feature in features.items() if key not in images and feature.shape == ()]
    labels = [(key,) for key in (*_LABELS, *supervised) if key in usable]
    labels += [(key,) for key in usable if isinstance(features[key], tfds.features.ClassLabel)]
    # CelebA keeps its number of a person in a dictionary of one.
    labels += [
        (key, *features[key]) for key in _LABELS if key in features and key not in usable and _of_one(features[key])
    ]
    if not images or not labels:
        raise DataError(
            f"tfds:NAME must have an image and a label that names the person, {name} has: "
            f"{', '.join(sorted(features)) or 'no features by name'}. Choose another data set."
        )
    return ("image" if "image" in images else images[0]), labels[0]


def _of_one(feature: Any) -> bool:
    inside = list(feature.values()) if hasattr(feature, "values") else []
    return len(inside) == 1 and inside[0].shape == ()


def _examples(tfds: Any, builder: Any, image: str) -> Any:
    """Return the examples of all splits in reading order, images left encoded; they have a length."""
    encoded = {image: tfds.decode.SkipDecoding()}
    try:
        return builder.as_data_source(split="all", decoders=encoded)
    except NotImplementedError:
        # One shard after the other, so that the order is that of the data set on every machine.
        config = tfds.ReadConfig(interleave_cycle_length=1)
        dataset = builder.as_dataset(split="all", decoders=encoded, shuffle_files=False, read_config=config)
        return tfds.as_numpy(dataset)


def _encoded(name: str, image: Any) -> tuple[bytes, str]:
    content = bytes(getattr(image, "item", lambda: image)())
    for magic, suffix in _SUFFIXES.items():
        if content.startswith(magic):
            return content, suffix
    raise DataError(f"tfds:NAME must hold JPEG or PNG photos, {name} holds one that starts with {content[:8]!r}.")


def _photo(out: Path, folder: str, number: int, encoded: tuple[bytes, str]) -> None:
    content, suffix = encoded
    path = out / folder / f"{folder}_{number:04d}{suffix}"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content, mode=0o644, sync="none")


def _terms(builder: Any, *, official: bool) -> str:
    info = builder.info
    licence = getattr(info.redistribution_info, "license", "") or "not stated; see the home page"
    lines = [f"{info.full_name}, through TensorFlow Datasets.", ""]
    lines += [f"Licence: {licence}", f"Home page: {info.homepage}"]
    if not official:
        lines += ["", "The photos are numbered in reading order, which is not LFW's own: published pairs do not apply."]
    return "\n".join([*lines, "", "Please cite:", str(info.citation).strip()]) + "\n"
