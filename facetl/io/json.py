"""JSON: results as plain data, files written whole or not at all, stored fields checked as they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetl.errors import RunError
from facetl.io.files import write_atomic
from facetl.io.text import json_escaped


def plain(value: Any) -> Any:
    """Return a value as JSON has it: dataclasses, whatever has `to_json`, NumPy's numbers and arrays, paths, tuples."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


class JsonFields:
    """Base of a dataclass with `to_json`, every field under its own name."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def json_text(content: Mapping[str, Any], *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return an object as JSON that UTF-8 can encode, also where a file's name is none.

    ValueError for a number that JSON has not (NaN, infinity).
    """
    return json_escaped(json.dumps(content, indent=indent, ensure_ascii=ascii_only, allow_nan=False))


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Parse JSON; ValueError for anything else, nested too deeply, or with a number that float64 does not hold.

    finite: whether NaN and infinity, which JSON does not have, are refused.
    """

    def number(found: str) -> float:
        value = float(found)
        if finite and not math.isfinite(value):
            raise ValueError(f"{found[:20]} is no finite number")
        return value

    def whole(found: str) -> int:
        if not math.isfinite(float(found)):
            raise ValueError(f"{found[:20]}… is too large a number")
        return int(found)

    try:
        return json.loads(text, parse_float=number, parse_int=whole, parse_constant=number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object, indented; ValueError as in `json_text`."""
    write_atomic(path, f"{json_text(content, indent=2)}\n".encode())


class StoredFields:
    """A JSON object read from a file called `name`; every method raises RunError where a field is not as it must be."""

    def __init__(self, content: object, name: str) -> None:
        if not isinstance(content, Mapping):
            raise RunError(f"{name}: expected a JSON object, got {type(content).__name__}. Run facetl calibrate.")
        self._content = content
        self._name = name

    def number(self, field: str, *, low: float, high: float) -> float:
        """Return a finite number in [low, high]."""
        value: Any = self._content.get(field)
        if not _is_number(value) or not low <= value <= high:
            raise self.wrong(field, f"a number in [{low:g}, {high:g}]")
        return float(value)

    def optional(self, field: str, *, low: float, high: float) -> float | None:
        """Return a finite number in [low, high], or None for null."""
        return None if self._content.get(field) is None else self.number(field, low=low, high=high)

    def count(self, field: str) -> int:
        """Return a whole number, 0 or more."""
        value = self._content.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(field, "a whole number, 0 or more")
        return value

    def flag(self, field: str) -> bool:
        """Return true or false."""
        value = self._content.get(field)
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false")
        return value

    def choice(self, field: str, choices: Sequence[str]) -> str:
        """Return one of some words."""
        value = self._content.get(field)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(field, f"one of {', '.join(choices)}")
        return value

    def numbers(self, field: str, *, low: float, high: float) -> tuple[float, ...]:
        """Return finite numbers in [low, high], at least one."""
        values: Any = self._content.get(field)
        if not isinstance(values, list) or not values:
            raise self.wrong(field, "a list of numbers")
        if not all(_is_number(value) and low <= value <= high for value in values):
            raise self.wrong(field, f"numbers in [{low:g}, {high:g}]")
        return tuple(map(float, values))

    def part(self, field: str) -> StoredFields:
        """Return the JSON object in a field."""
        return StoredFields(self._content.get(field), f"{self._name}: {field}")

    def has(self, field: str) -> bool:
        """Tell whether a field is there and not null."""
        return self._content.get(field) is not None

    def wrong(self, field: str, expected: str) -> RunError:
        """Return the error that names what a field must be and what was found."""
        found = repr(self._content.get(field))
        shown = found if len(found) <= 60 else found[:59] + "…"
        return RunError(f"{self._name}: {field} must be {expected}, got {shown}. Run facetl calibrate.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
