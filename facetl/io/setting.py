"""Settings that the command line offers: fields of a dataclass, each with the option that is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Option:
    """How a setting is offered as an option of a command line.

    Attributes:
        help: a sentence.
        min, max: the least and the greatest value.
        name: of the option where it is another than the field's.
        negated: whether a switch has a `--no-` form.
        whole: whether a schedule takes whole numbers only.
    """

    help: str
    min: float | None = None
    max: float | None = None
    name: str | None = None
    negated: bool = True
    whole: bool = False


def setting(default: Any, help: str, **more: Any) -> Any:
    """Return a dataclass field that the command line offers; `more` is of Option."""
    return field(default=default, metadata={"option": Option(help, **more)})


def field_names(settings: type[Any]) -> tuple[str, ...]:
    """Return the names of a dataclass's fields in its own order, in which it may restate those it inherits."""
    return tuple(dict.fromkeys((*settings.__annotations__, *(each.name for each in fields(settings)))))


def option_of(settings: type[Any], name: str) -> Option | None:
    """Return how a field is offered: a class that restates a default keeps the option of the class above it."""
    for owner in settings.__mro__:
        own = owner.__dict__.get("__dataclass_fields__", {}).get(name)
        if own is not None and "option" in own.metadata:
            found: Option = own.metadata["option"]
            return found
    return None
