"""`facetl cache`: fill the embedding cache, and look after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from facetl.cli import options
from facetl.cli.screen import counted, photo_progress, put, put_json, say

if TYPE_CHECKING:
    from facetl.features.collection import Collection
    from facetl.features.spec import ExtractorSpec


class _FillByDefault(TyperGroup):
    """`facetl cache DIR` fills; `verify`, `gc` and `info` are commands of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `fill` in front unless a command or a call for help comes first."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["fill", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_FillByDefault,
    help="Fill the embedding cache: `facetl cache DIR`. Or verify, gc, info.",
    no_args_is_help=True,
)


@app.command()
def fill(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg.")],
    extractor: options.ExtractorName = "inception_v3",
    tap: options.Tap = None,
    grid: options.Grid = None,
    crop: options.Crop = 1.0,
    mirror: options.Mirror = None,
    preset: options.Preset = "balanced",
    weights: options.WeightsFile = None,
    cache: options.Cache = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Photos a forward pass.")] = 32,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Compute the feature of every photo that has none yet."""
    collection = open_collection(
        folder,
        options.extractor_spec(extractor, tap, grid, crop, mirror, preset),
        weights=weights,
        cache=cache,
        batch_size=batch_size,
        verbose=verbose,
    )
    report = collection.report
    if json:
        put_json({**report.to_json(), "fingerprint": collection.spec.fingerprint(collection.weights.sha256)})
        return
    put(f"photos    {report.photos:,} of {len(collection.manifest.identities):,} people")
    put(f"computed  {report.computed:,}" + (f", {report.rate:.1f} photos/s" if report.computed else ""))
    put(f"reused    {report.reused:,}")
    put(f"skipped   {counted(report.skipped)}")
    put(f"seconds   {report.seconds:.1f}")


@app.command()
def verify(cache: options.Cache = None, json: options.Json = False) -> None:
    """Recompute the checksum of every row."""
    from facetl.errors import CacheCorruptError
    from facetl.features import upkeep

    report = upkeep.verify(_folder(cache))
    if json:
        put_json(report.to_json())
    else:
        put(f"rows      {report.rows:,} in {report.shards:,} shards, {_size(report.bytes)}")
        put(f"corrupt   {report.corrupt:,}")
        put(f"torn      {report.torn:,}")
    if report.corrupt or report.torn:
        raise CacheCorruptError(
            f"cache: every row must match its checksum, {report.corrupt + report.torn:,} do not. "
            "Run facetl cache gc to drop them; the next fill computes them again."
        )


@app.command()
def gc(cache: options.Cache = None, json: options.Json = False) -> None:
    """Drop rows of photos that are gone, and compact."""
    from facetl.features import upkeep

    report = upkeep.gc(_folder(cache))
    if json:
        put_json(report.to_json())
        return
    put(f"dropped   {report.dropped:,}")
    put(f"kept      {report.kept:,}")
    put(f"bytes     {_size(report.bytes_before)} → {_size(report.bytes_after)}")


@app.command()
def info(cache: options.Cache = None, json: options.Json = False) -> None:
    """Tell size, rows and extractors."""
    from facetl.features import upkeep

    folder = _folder(cache)
    report = upkeep.info(folder)
    if json:
        put_json(report.to_json())
        return
    put(f"folder    {folder}")
    put(f"photos    {report.photos:,}")
    for extractor in report.extractors:
        about = extractor.description
        put(
            f"{extractor.fingerprint[:16]}  {extractor.rows:,} rows × {extractor.dim:,}, {_size(extractor.bytes)}  "
            f"{about.get('name')} {about.get('tap')} {about.get('grid')}×{about.get('grid')} crop {about.get('crop')}"
            f"{' mirrored' if about.get('mirror') else ''}"
        )


def open_collection(
    folder: Path,
    spec: ExtractorSpec,
    *,
    weights: Path | None,
    cache: Path | None,
    batch_size: int = 32,
    verbose: bool = False,
) -> Collection:
    """List a folder, fill the cache with a progress bar, and return the Collection."""
    from facetl.data.manifest import Manifest
    from facetl.features.collection import Collection
    from facetl.startup import set_verbose

    set_verbose(verbose)
    manifest = Manifest.from_folder(folder)
    with photo_progress("caching features") as progress:
        return Collection.open(
            manifest,
            spec,
            cache=_folder(cache),
            weights=weights,
            batch_size=batch_size,
            on_progress=progress,
            say=say,
        )


def _folder(cache: Path | None) -> Path:
    from facetl.features.collection import default_cache_folder

    return cache or default_cache_folder()


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
