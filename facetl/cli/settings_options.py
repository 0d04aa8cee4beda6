"""Options of the command line, generated from the settings of what is trained; `--config` repeats a run's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar, get_type_hints

import typer

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.errors import FacetlError, RunError, TrainingError
from facetl.io.json import parse_json
from facetl.io.setting import Option, field_names, option_of
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.scratch.scratch_settings import ScratchSettings
from facetl.recognition.run_folder import CONFIG, stored_extractor
from facetl.samplers import Schedule
from facetl.training.settings import FitSettings, TrainingSettings, changed
from facetl.training.settings import preset as preset_settings

_SCHEDULED = " FROM:TO runs from the first epoch's to the last's."
Config = Annotated[
    Path | None,
    typer.Option(
        help="Repeat a run from its config.json: its settings, extractor and shares of people count wherever no option "
        "is given."
    ),
]
# What the settings of a verb's runs have, and no other's.
_MADE_BY: Mapping[str, tuple[str, type[FitSettings]]] = {
    "widths": ("facetl train", TrainingSettings),
    "net": ("facetl scratch", ScratchSettings),
    "student": ("facetl distill", DistillationSettings),
}

S = TypeVar("S", bound=FitSettings)


@dataclass(frozen=True)
class Given:
    """The options given on a command line: `settings` by the names of their fields, and the names of all."""

    settings: Mapping[str, Any]
    options: frozenset[str]


def takes_options(settings: type[Any], *, defaults: bool = True) -> Callable[..., Callable[..., None]]:
    """Give a verb an option for every setting that has one; its `given` parameter receives those that were given.

    Typer reads a function's signature: the one it is shown has the options in the parameter's place. A verb may declare
    the option of a setting by itself.

    Args:
        settings: whose fields become options.
        defaults: whether an option shows the field's default; without it, the default is a preset's.
    """

    def with_options(verb: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(verb, eval_str=True).parameters
        offered = {option.name or name: (name, option) for name, option in options_of(settings) if name not in own}
        shown = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
        for parameter in own.values():
            if parameter.name == "given":
                shown += [_parameter(name, settings, *offer, defaults) for name, offer in offered.items()]
            else:
                shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @functools.wraps(verb)
        def run(*, context: typer.Context, **values: Any) -> None:
            named = frozenset(name for name in values if _is_given(context, name))
            field_of = {name: name for name in field_names(settings)}
            field_of |= {name: own for name, (own, _) in offered.items()}
            given = Given({field_of[name]: values[name] for name in values if name in named & field_of.keys()}, named)
            verb(**{name: value for name, value in values.items() if name not in offered}, given=given)

        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        return run

    return with_options


def options_of(settings: type[Any]) -> list[tuple[str, Option]]:
    """Return the fields that are offered as options, in the order of the class."""
    found = ((name, option_of(settings, name)) for name in field_names(settings))
    return [(name, option) for name, option in found if option is not None]


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _parameter(name: str, settings: type[Any], field: str, option: Option, defaults: bool) -> inspect.Parameter:
    """Return the parameter that typer makes an option of."""
    kind = get_type_hints(settings)[field]
    default = next(each.default for each in fields(settings) if each.name == field)
    flag = f"--{name.replace('_', '-')}"
    more: dict[str, Any] = {"min": option.min, "max": option.max, "help": option.help}
    if kind is bool:
        flag = f"{flag}/--no-{flag[2:]}" if option.negated else flag
    elif kind == Schedule:
        kind = Any
        more |= {
            "parser": whole_or_schedule if option.whole else number_or_schedule,
            "metavar": "N[:N]",
            "help": option.help + _SCHEDULED,
        }
    elif kind not in (int, float, str) and kind not in (int | None, float | None, str | None):
        # Several values, which the verb reads.
        kind = str
    if not defaults:
        kind, default = (kind if kind is Any else kind | None), None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, typer.Option(flag, **more)]
    )


def number_or_schedule(text: str) -> Schedule:
    """Read `0.5`, or `1.0:0.3` as what the first and the last epoch have; wrong usage otherwise."""
    try:
        values = tuple(float(part) for part in text.split(":"))
    except ValueError:
        values = ()
    if len(values) not in (1, 2):
        raise typer.BadParameter(f"{text!r}: expected a number, or FROM:TO as 1.0:0.3.")
    return values[0] if len(values) == 1 else (values[0], values[1])


def whole_or_schedule(text: str) -> int | tuple[int, int]:
    """Read `2000`, or `2000:200`; wrong usage otherwise."""
    schedule = number_or_schedule(text)
    values = schedule if isinstance(schedule, tuple) else (schedule,)
    if not all(float(value).is_integer() for value in values):
        raise typer.BadParameter(f"{text!r}: expected a whole number, or FROM:TO as 2000:200.")
    return int(values[0]) if len(values) == 1 else (int(values[0]), int(values[1]))


def training_settings(given: Given, preset: str, base: TrainingSettings | None = None, **more: Any) -> TrainingSettings:
    """Return a preset or a run's settings with what is given, and `more`; TrainingError where they do not fit."""
    if base is not None and "preset" in given.options:
        raise typer.BadParameter("give one of --config and --preset")
    start = base or preset_settings(preset)
    return changed(start, **{**more, **given.settings, **_layers(given.settings, start)})


def _layers(given: Mapping[str, Any], base: TrainingSettings) -> dict[str, Any]:
    """Return the settings that `--widths` and `--activations` change; TrainingError when they do not fit."""
    widths, activations = given.get("widths"), given.get("activations")
    if widths is None and activations is None:
        return {}
    try:
        units = tuple(int(part) for part in widths.split(",")) if widths else base.widths
    except ValueError as error:
        raise TrainingError(f"--widths: expected whole numbers as 512,256,128, got {widths!r}.") from error
    names = tuple(activations.split(",")) if activations else base.activations
    if len(names) == 1:
        names *= len(units)
    if len(names) != len(units):
        raise TrainingError(f"--activations: expected one, or one for each of {len(units)} layers, got {len(names)}.")
    normalised = base.normalised if len(units) == len(base.normalised) else (*[False] * (len(units) - 1), True)
    return {"widths": units, "activations": names, "normalised": normalised}


@dataclass(frozen=True)
class RunConfig(Generic[S]):
    """A run's config.json, to be repeated.

    Attributes:
        path: of the file.
        settings: of its training.
        content: all that the file holds.
    """

    path: Path
    settings: S
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | None, kind: type[S]) -> Self | None:
        """Read a config.json, or that of a run's folder; None for none.

        Raises RunError where it is damaged or of another verb's run.
        """
        if path is None:
            return None
        path = path.expanduser()
        path = path / CONFIG if path.is_dir() else path
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"--config: expected a run's {CONFIG}, got {path} ({error}).") from error
        found = content.get("settings") if isinstance(content, dict) else None
        stored: Mapping[str, Any] = found if isinstance(found, dict) else {}
        made_by = [_MADE_BY[name] for name in _MADE_BY if name in stored]
        if not made_by:
            raise RunError(f"--config: expected the {CONFIG} of a run that was trained, got {path} without settings.")
        verb, own = made_by[0]
        if own is not kind:
            raise RunError(f"--config: {path} is of a run that {verb} made. Give it to {verb}.")
        try:
            return cls(path, kind.from_json(stored), content)
        except (FacetlError, TypeError, ValueError) as error:
            raise RunError(f"--config: {path} holds settings that cannot be: {error}") from error

    @property
    def layout(self) -> str:
        """The layout that the folder of photos was read as."""
        return str(self.content.get("layout", "folders"))

    def extractor(self) -> tuple[ExtractorSpec, Weights]:
        """Return the extractor."""
        try:
            return stored_extractor(self.content, self.path.parent)
        except (FacetlError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"--config: {self.path} names no extractor of this version ({error!r}).") from error


def shares_of(repeated: RunConfig[Any] | None, given: Given, **shares: float) -> dict[str, float]:
    """Return the shares of people by side: those given, else those of the run to repeat, else the defaults.

    A run that was made before they were kept has none.
    """
    stored = {} if repeated is None else repeated.content.get("split", {})
    try:
        return {
            side: share if side in given.options else float(stored.get(side, share)) for side, share in shares.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise RunError(f"--config: expected the shares of people by side, got {stored!r}.") from error
