"""Options that several verbs share, each worded once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from facetl.features.spec import ExtractorSpec

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show TensorFlow's own messages.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of the cache. Default: $FACETL_CACHE, else the user's cache folder."),
]
ExtractorName = Annotated[
    str,
    typer.Option("--extractor", help="inception_v3, any net of keras.applications, or a frozen GraphDef (.pb)."),
]
Tap = Annotated[
    str | None,
    typer.Option("--tap", help="Layer whose output is the feature; avg is the global average. Default: mixed2."),
]
Grid = Annotated[
    int | None, typer.Option("--grid", min=1, help="The tapped map is pooled to GRID×GRID cells. Default: 7.")
]
Crop = Annotated[
    float,
    typer.Option(
        "--crop",
        help="Central square as a fraction of the shorter side; 1 is the whole photo (cropped faces).",
    ),
]
Mirror = Annotated[
    bool | None,
    typer.Option("--mirror/--no-mirror", help="Average the features of the photo and its mirror."),
]
WeightsFile = Annotated[Path | None, typer.Option("--weights", help="Weights file of the extractor, no classifier.")]
Preset = Annotated[str, typer.Option("--preset", help="balanced, or tutorial: the classical recipe.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every random choice.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="At most.")]
Sampler = Annotated[str | None, typer.Option("--sampler", help="neighbours, random or pk.")]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="Of the neighbours' weights; smaller is sharper.")
]
Candidates = Annotated[int | None, typer.Option("--candidates", min=1, help="Nearest photos of others to draw from.")]
UniformShare = Annotated[float | None, typer.Option("--uniform-share", help="Share of triplets drawn uniformly.")]
Warmup = Annotated[int | None, typer.Option("--warmup", min=0, help="Epochs of uniform draws at first.")]
Mining = Annotated[str | None, typer.Option("--mining", help="batch-hard or batch-all, with --sampler pk.")]
Margin = Annotated[float | None, typer.Option("--margin", help="Of the triplet loss, in squared distance.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Of the first epoch.")]
Schedule = Annotated[str | None, typer.Option("--schedule", help="decay or cosine.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Triplets a step.")]
Patience = Annotated[int | None, typer.Option("--patience", min=1, help="Epochs without a better validation AUC.")]
Dropout = Annotated[float | None, typer.Option("--dropout", help="Share of the hidden layers' inputs dropped.")]
Standardise = Annotated[str | None, typer.Option("--standardise", help="none, features, whiten or within.")]
Components = Annotated[int | None, typer.Option("--components", min=2, help="Principal components kept.")]
Widths = Annotated[str | None, typer.Option("--widths", help="Units of the dense layers, as 512,256,128.")]
Activations = Annotated[
    str | None, typer.Option("--activations", help="One per layer, or one for all, as sigmoid,sigmoid,tanh.")
]


def extractor_spec(
    name: str, tap: str | None, grid: int | None, crop: float, mirror: bool | None, preset: str = "balanced"
) -> ExtractorSpec:
    """Return the ExtractorSpec of the options; the tutorial's tap is avg, without the mirror image."""
    from facetl.features.spec import AVERAGE, ExtractorSpec

    tutorial = preset == "tutorial"
    return ExtractorSpec.of(
        name,
        tap=tap or (AVERAGE if tutorial else None),
        grid=grid,
        crop=crop,
        mirror=(not tutorial) if mirror is None else mirror,
    )


def head_layers(widths: str | None, activations: str | None, preset: str) -> dict[str, Any]:
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
