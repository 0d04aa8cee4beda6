"""Which kind of extractor a name means, and the options a name may carry. No TensorFlow here."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from facetl.errors import WeightsError

ONNX_PREFIX = "onnx:"
SAVED_MODEL_FILE = "saved_model.pb"
_OPTIONS = ("mean", "std", "channels", "size")


class Family(enum.Enum):
    """The kinds of extractors; each has one module that builds it."""

    ZOO = "a net of keras.applications"
    GRAPH_DEF = "a frozen GraphDef"
    MODEL_FILE = "a Keras file or a SavedModel"
    ONNX = "an ONNX file"
    DLIB = "dlib's face ResNet"

    @property
    def finds_faces(self) -> bool:
        """Whether it looks for the face itself, in the whole photo."""
        return self is Family.DLIB

    @property
    def in_tensorflow(self) -> bool:
        """Whether it is made of TensorFlow operations, so that a SavedModel can hold it."""
        return self not in (Family.DLIB, Family.ONNX)


def family_of(name: str) -> Family:
    """Return the family that a name means; it follows from the name alone, whatever lies on the disk."""
    path = name.partition("?")[0]
    if name == "dlib":
        return Family.DLIB
    if name.startswith(ONNX_PREFIX):
        return Family.ONNX
    if path.endswith(".keras") or Path(path).name == SAVED_MODEL_FILE:
        return Family.MODEL_FILE
    return Family.GRAPH_DEF if name.endswith(".pb") else Family.ZOO


def spelt_out(name: str) -> str:
    """Return the name that means the same wherever it is read: files by their whole path, a SavedModel's folder too."""
    prefix = ONNX_PREFIX if name.startswith(ONNX_PREFIX) else ""
    path, mark, options = name.removeprefix(prefix).partition("?")
    if family_of(name) is Family.ZOO:
        inside = Path(path) / SAVED_MODEL_FILE
        return f"{inside.absolute()}{mark}{options}" if inside.is_file() else name
    return name if family_of(name) is Family.DLIB else f"{prefix}{Path(path).absolute()}{mark}{options}"


def file_of(name: str) -> Path:
    """Return the file in a name, without prefix and options."""
    if family_of(name) is Family.GRAPH_DEF:
        return Path(name)
    return Path(name.removeprefix(ONNX_PREFIX).partition("?")[0])


def identity_of(name: str) -> str:
    """Return what of a name belongs to a fingerprint: where a file lies does not, its content is hashed apart."""
    family = family_of(name)
    if family is Family.GRAPH_DEF:
        return Path(name).name
    if family in (Family.ONNX, Family.MODEL_FILE):
        return f"{family.name.lower()} {InputForm().with_options(name)}"
    return name


@dataclass(frozen=True, kw_only=True)
class InputForm:
    """What a net takes: pixels become (pixels − mean) / std, in this order of channels.

    Attributes:
        size: side of the square input, pixels; None where photos of any size go in.
        mean, std: of the pixels in 0–255, one number or one for each of red, green, blue; (x − 127.5) / 127.5 unless
            the file or its name says otherwise.
        channels: `rgb` or `bgr`.
    """

    size: int | None = None
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    channels: str = "rgb"

    def with_options(self, name: str) -> InputForm:
        """Return the form with what a name says behind its `?`, as `net.keras?mean=0&std=255&channels=bgr&size=112`.

        Raises WeightsError for an option that is not known or cannot be.
        """
        text = name.partition("?")[2]
        pairs = parse_qsl(text, keep_blank_values=True)
        unknown = [key for key, _ in pairs if key not in _OPTIONS]
        if unknown or (text and not pairs):
            raise WeightsError(
                f"extractor: expected options {', '.join(_OPTIONS)} behind the ?, got {(unknown or [text])[0]!r}."
            )
        form = self
        for key, value in pairs:
            form = replace(form, **{key: _read(key, value)})
        return form


def _read(key: str, value: str) -> Any:
    try:
        if key == "size" and int(value) > 0:
            return int(value)
        if key == "channels" and value in ("rgb", "bgr"):
            return value
        if key in ("mean", "std"):
            numbers = tuple(float(part) for part in value.split(","))
            if len(numbers) in (1, 3) and all(math.isfinite(n) and (n > 0 or key == "mean") for n in numbers):
                return numbers
    except ValueError:
        pass
    rule = {
        "size": "a number of pixels",
        "channels": "rgb or bgr",
        "mean": "one number or three, of pixels in 0–255",
        "std": "one number or three above 0, of pixels in 0–255",
    }
    raise WeightsError(f"extractor: {key} must be {rule[key]}, got {value!r}.")
