"""Options that several verbs share, each worded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from facetl._tensorflow import set_verbose
from facetl.backbones.spec import AVERAGE, ExtractorSpec, family_of, spelt_out
from facetl.errors import FacetlError
from facetl.runs.transfer import TransferReport

AUTO = "auto"
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
# Takes effect by itself, before the verb begins.
Verbose = Annotated[bool, typer.Option("--verbose", "-v", callback=set_verbose, help="Show TensorFlow's own messages.")]
Layout = Annotated[
    str,
    typer.Option(
        help="How the photos lie: folders (a folder per person), lfw, agedb, vggface2, casia, pubfig83, orl, celeba; "
        "auto is the one of these that the folder is without doubt, else folders."
    ),
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of the cache. Default: $FACETL_CACHE, else the user's cache folder.")
]
ExtractorName = Annotated[
    str,
    typer.Option(
        help="inception_v3, any net of keras.applications, a frozen GraphDef (.pb), a Keras file (.keras) or a "
        "SavedModel's folder, onnx:FILE, or dlib; the last two need facetl[onnx], facetl[dlib]."
    ),
]
Tap = Annotated[
    str | None,
    typer.Option(
        help="Layer whose output is the feature; avg is the global average; several as "
        "mixed2:7+mixed3:5, the default, are joined."
    ),
]
Grid = Annotated[int | None, typer.Option(min=1, help="A map tapped without a grid of its own is pooled to GRID×GRID.")]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Central square as a fraction of the shorter side, or several as 0.5,0.7, whose features are joined. "
        "Default: the whole photo; 0.5, ArcFace's crop, of aligned faces."
    ),
]
Align = Annotated[
    str | None, typer.Option(help="mtcnn finds and aligns the face in whole photos; none, for cropped faces.")
]
# Deep-funneled LFW shows the head in the middle 128 of 250 pixels.
LFW_CROP = 0.512
BEST_CROPS = (0.36, 0.5, 0.7)
Mirror = Annotated[
    bool | None, typer.Option("--mirror/--no-mirror", help="Average the features of the photo and its mirror.")
]
Grey = Annotated[bool, typer.Option("--grey", help="Turn the photos to grey before the net.")]
WeightsFile = Annotated[Path | None, typer.Option(help="Weights file of the extractor, no classifier.")]
Preset = Annotated[str, typer.Option(help="balanced, best (three crops, slower), or tutorial: the classical recipe.")]
Seed = Annotated[int, typer.Option(min=0, help="Of every random choice.")]


def extractor_spec(
    name: str,
    tap: str | None,
    grid: int | None,
    crop: str | None,
    mirror: bool | None,
    preset: str = "balanced",
    *,
    align: str | None = None,
    whole_photos: bool = False,
    grey: bool = False,
    base: ExtractorSpec | None = None,
) -> ExtractorSpec:
    """Return the ExtractorSpec of the options, with the preset's choice for those not given, or that of `base`.

    The tutorial's is the tap avg of the centre, without the mirror image. whole_photos: whether the photos are known
    to show more than the face, so that faces are found and aligned unless the preset or the extractor excludes it.
    """
    if tap == AUTO:
        raise FacetlError(
            "--tap auto: only facetl cache chooses a tap, since here it would be chosen by the people it is judged on. "
            "Run facetl benchmark transfer on other people, and give the tap and grid that it picks."
        )
    crops = None if crop is None else _fractions(crop)
    if base is not None:
        return _changed(base, tap, grid, crops, mirror, align=align, grey=grey)
    tutorial = preset == "tutorial"
    finds_faces = family_of(spelt_out(name)).finds_faces
    if align is None:
        align = "mtcnn" if whole_photos and not tutorial and not finds_faces else "none"
    if crops is None and align == "none" and whole_photos and not finds_faces:
        crops = (LFW_CROP,)
    elif crops is None and align != "none" and preset == "best":
        crops = BEST_CROPS
    return ExtractorSpec.of(
        name,
        tap=tap or (AVERAGE if tutorial else None),
        grid=grid,
        crop=crops,
        align=align,
        mirror=(not tutorial) if mirror is None else mirror,
        grey=grey,
    )


def picked_text(report: TransferReport, spec: ExtractorSpec) -> str:
    """Return what a transfer report picked, and what is used of it, as options to give."""
    return (
        f"--tap {spec.tap} --grid {spec.grid} --crop {spec.crop_text}, AUC {report.picked.score.auc:.3f}: no costlier "
        "feature is better by more than a standard error"
    )


def _changed(
    base: ExtractorSpec,
    tap: str | None,
    grid: int | None,
    crops: tuple[float, ...] | None,
    mirror: bool | None,
    *,
    align: str | None,
    grey: bool,
) -> ExtractorSpec:
    """Return an ExtractorSpec with what is given put in the place of its own."""
    tapped = base
    if (tap, grid) != (None, None):
        # A grid alone is for one layer; those that are joined have grids of their own.
        tapped = ExtractorSpec.of(base.name, tap=tap or (None if "+" in base.tap else base.tap), grid=grid)
    if crops is None:
        aligned = align is not None and align != base.align
        crops = ExtractorSpec.of(base.name, align=str(align)).crops if aligned else base.crops
    return replace(
        base,
        tap=tapped.tap,
        grid=tapped.grid,
        crops=crops,
        align=align or base.align,
        mirror=base.mirror if mirror is None else mirror,
        grey=grey or base.grey,
    )


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--crop: expected fractions as 0.5 or 0.5,0.7, got {text!r}.") from error


def group_with_default(verb: str) -> type[TyperGroup]:
    """Return the class of a group that runs `verb` unless a command or a call for help comes first.

    A folder that is called like a command is given as `./import`.
    """

    class WithDefault(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
                args = [verb, *args]
            return super().parse_args(ctx, args)

    return WithDefault
