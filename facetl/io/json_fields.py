"""Fields of a stored JSON object, each checked as it is read: a damaged file is named, not believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from facetl.errors import RunError


class StoredFields:
    """A JSON object read from a file called `name`; every method raises RunError where a field is not as it must be."""

    def __init__(self, content: object, name: str) -> None:
        if not isinstance(content, Mapping):
            raise RunError(f"{name}: expected a JSON object, got {type(content).__name__}. Run facetl calibrate.")
        self._content = content
        self._name = name

    def number(self, field: str, *, low: float, high: float) -> float:
        """A finite number in [low, high]."""
        value: Any = self._content.get(field)
        if not _is_number(value) or not low <= value <= high:
            raise self.wrong(field, f"a number in [{low:g}, {high:g}]")
        return float(value)

    def optional(self, field: str, *, low: float, high: float) -> float | None:
        """A finite number in [low, high], or null."""
        return None if self._content.get(field) is None else self.number(field, low=low, high=high)

    def count(self, field: str) -> int:
        """A whole number, 0 or more."""
        value = self._content.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(field, "a whole number, 0 or more")
        return value

    def choice(self, field: str, choices: Sequence[str]) -> str:
        """One of some words."""
        value = self._content.get(field)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(field, f"one of {', '.join(choices)}")
        return value

    def numbers(self, field: str, *, low: float, high: float) -> tuple[float, ...]:
        """Finite numbers in [low, high], at least one."""
        values: Any = self._content.get(field)
        if not isinstance(values, list) or not values:
            raise self.wrong(field, "a list of numbers")
        if not all(_is_number(value) and low <= value <= high for value in values):
            raise self.wrong(field, f"numbers in [{low:g}, {high:g}]")
        return tuple(map(float, values))

    def part(self, field: str) -> StoredFields:
        """The JSON object in a field."""
        return StoredFields(self._content.get(field), f"{self._name}: {field}")

    def has(self, field: str) -> bool:
        """Whether a field is there and not null."""
        return self._content.get(field) is not None

    def wrong(self, field: str, expected: str) -> RunError:
        """The error that says what a field must be and what was found."""
        found = repr(self._content.get(field))
        shown = found if len(found) <= 60 else found[:59] + "…"
        return RunError(f"{self._name}: {field} must be {expected}, got {shown}. Run facetl calibrate.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
