"""The options of a head's training, declared once for every verb that trains one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from facetl.cli import options

if TYPE_CHECKING:
    from facetl.training.settings import TrainingSettings


def number_or_course(text: str) -> float | tuple[float, float]:
    """Read `0.5`, or `1.0:0.3` as what the first and the last epoch have; wrong usage otherwise."""
    try:
        values = tuple(float(part) for part in text.split(":"))
    except ValueError:
        values = ()
    if len(values) not in (1, 2):
        raise typer.BadParameter(f"{text!r}: expected a number, or FROM:TO as 1.0:0.3.")
    return values[0] if len(values) == 1 else (values[0], values[1])


def whole_or_course(text: str) -> int | tuple[int, int]:
    """Read `2000`, or `2000:200`; wrong usage otherwise."""
    course = number_or_course(text)
    if isinstance(course, tuple):
        return (_whole(text, course[0]), _whole(text, course[1]))
    return _whole(text, course)


def _whole(text: str, value: float) -> int:
    if not value.is_integer():
        raise typer.BadParameter(f"{text!r}: expected a whole number, or FROM:TO as 2000:200.")
    return int(value)


def _course(name: str, parser: Callable[[str], Any], meaning: str) -> Any:
    return typer.Option(
        name, parser=parser, metavar="N[:N]", help=f"{meaning} FROM:TO runs from the first epoch's to the last's."
    )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What is given of the training's options; None keeps the preset's choice."""

    preset: options.Preset = "balanced"
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="triplet, contrastive, n-pair, multi-similarity, supcon, softmax, arcface, cosface, proxy-anchor or "
            "circle; all but triplet with --sampler pk, contrastive also with pairs.",
        ),
    ] = None
    margin: Annotated[float | None, typer.Option("--margin", help="Of the loss. Default: its own.")] = None
    loss_scale: Annotated[
        float | None,
        typer.Option("--loss-scale", help="Of the loss's similarities, 1 / temperature. Default: its own."),
    ] = None
    sampler: Annotated[str | None, typer.Option("--sampler", help="neighbours, random, pk or pairs.")] = None
    most_pairs: Annotated[
        int | None,
        typer.Option("--most-pairs", min=0, help="Distinct pairs to draw from, with --sampler pairs; 0 for all."),
    ] = None
    temperature: Annotated[
        Any, _course("--temperature", number_or_course, "Of the neighbours' weights; smaller is sharper.")
    ] = None
    candidates: Annotated[Any, _course("--candidates", whole_or_course, "Nearest photos of others to draw from.")] = (
        None
    )
    uniform_share: Annotated[
        Any, _course("--uniform-share", number_or_course, "Share of triplets drawn uniformly.")
    ] = None
    warmup: Annotated[int | None, typer.Option("--warmup", min=0, help="Epochs of uniform draws at first.")] = None
    people_per_batch: Annotated[int | None, typer.Option("--people-per-batch", min=2, help="P, with --sampler pk.")] = (
        None
    )
    photos_per_person: Annotated[
        int | None, typer.Option("--photos-per-person", min=2, help="K at most, with --sampler pk.")
    ] = None
    mining: Annotated[
        str | None,
        typer.Option(
            "--mining",
            help="batch-hard, batch-all, semi-hard or distance-weighted, with --sampler pk and the triplet loss.",
        ),
    ] = None
    widths: Annotated[str | None, typer.Option("--widths", help="Units of the dense layers, as 512,256,128.")] = None
    activations: Annotated[
        str | None, typer.Option("--activations", help="One per layer, or one for all, as sigmoid,sigmoid,tanh.")
    ] = None
    dropout: Annotated[float | None, typer.Option("--dropout", help="Share of the hidden layers' inputs dropped.")] = (
        None
    )
    standardise: Annotated[
        str | None, typer.Option("--standardise", help="none, features, whiten, within or discriminant.")
    ] = None
    components: Annotated[int | None, typer.Option("--components", min=2, help="Principal components kept.")] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of the first epoch.")] = None
    schedule: Annotated[str | None, typer.Option("--schedule", help="decay or cosine.")] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Triplets or pairs a step, but with --sampler pk.")
    ] = None
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="At most.")] = None
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Epochs without a better validation AUC.")
    ] = None
    fallback: Annotated[
        bool | None,
        typer.Option(
            "--fallback/--no-fallback",
            help="Keep the raw features where the head is not better. Default: the preset's.",
        ),
    ] = None
    seed: options.Seed = 0

    def settings(self, **more: Any) -> TrainingSettings:
        """Return the settings that the options make, with `more` of them; TrainingError where they do not fit."""
        from facetl.training.settings import preset

        given = {field.name: getattr(self, field.name) for field in fields(self)}
        layers = _head_layers(given.pop("widths"), given.pop("activations"), self.preset)
        return preset(given.pop("preset"), **given, **layers, **more)


def takes_training_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb every field of TrainingOptions as an option; its `training` parameter receives them together.

    Typer reads a function's signature: the one it is shown has the fields in the parameter's place.
    """
    hints = get_type_hints(TrainingOptions, include_extras=True)
    names = [field.name for field in fields(TrainingOptions)]
    flat = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(TrainingOptions)
    ]
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb, eval_str=True).parameters.values():
        shown += flat if parameter.name == "training" else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        training = TrainingOptions(**{name: given.pop(name) for name in names})
        verb(**given, training=training)

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return run


def _head_layers(widths: str | None, activations: str | None, preset: str) -> dict[str, Any]:
    """Return the settings that `--widths` and `--activations` change; TrainingError when they do not fit."""
    from facetl.errors import TrainingError
    from facetl.training.settings import PRESETS

    if widths is None and activations is None:
        return {}
    base = PRESETS.get(preset, PRESETS["balanced"])
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
