"""`facetl cache`: fill the embedding cache, and look after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.inputs import cache_folder, is_library, open_collection, open_transfer_report
from facetl.cli.options import group_with_default
from facetl.cli.output import counted, notify, put, put_json
from facetl.embeddings import maintenance
from facetl.embeddings.embedding_cache import export_features
from facetl.errors import CacheCorruptError
from facetl.people.library import Library

AUTO_PEOPLE = 150  # by whom `--tap auto` chooses, at most


app = typer.Typer(
    cls=group_with_default("fill"),
    help="Fill the embedding cache: `facetl cache DIR`. Or verify, gc, info, export.",
    no_args_is_help=True,
)


@app.command()
def fill(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Photos as DIR/Person/photo.jpg.")],
    extractor: options.ExtractorName = "inception_v3",
    tap: Annotated[
        str | None,
        typer.Option(
            help="Layer whose output is the feature, several as mixed2:7+mixed3:5; avg is the global average; auto "
            "measures which tells these people apart, as facetl benchmark transfer does."
        ),
    ] = None,
    grid: options.Grid = None,
    crop: options.Crop = None,
    align: options.Align = None,
    mirror: options.Mirror = None,
    grey: options.Grey = False,
    layout: options.Layout = "folders",
    preset: options.Preset = "balanced",
    weights: options.WeightsFile = None,
    cache: options.Cache = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos a forward pass.")] = 32,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Compute the feature of every photo that has none yet."""
    auto = tap == options.AUTO
    if auto and grid is not None:
        raise typer.BadParameter(f"--tap auto: the grid is chosen with the tap, got --grid {grid}. Leave it out.")
    spec = options.extractor_spec(extractor, None if auto else tap, grid, crop, mirror, preset, align=align, grey=grey)
    chosen = None
    if auto:
        # The crops stay as they are given: the tap is found in the first.
        chosen = open_transfer_report(
            folder,
            replace(spec, crops=spec.crops[:1]),
            people=AUTO_PEOPLE,
            seed=0,
            weights=weights,
            cache=cache,
            layout=layout,
        )
        spec = replace(chosen.spec, crops=spec.crops)
        notify(f"picked {options.picked_text(chosen, spec)}")
    collection = open_collection(folder, spec, weights=weights, cache=cache, batch_size=batch_size, layout=layout)
    report = collection.report
    if json:
        content = {**report.to_json(), "fingerprint": collection.spec.fingerprint(collection.weights.sha256)}
        put_json(content if chosen is None else {**content, "transfer": chosen.to_json()})
        return
    put(f"photos    {report.photos:,} of {len(collection.manifest.identities):,} people")
    put(f"computed  {report.computed:,}" + (f", {report.rate:.1f} photos/s" if report.computed else ""))
    put(f"reused    {report.reused:,}")
    put(f"skipped   {counted(report.skipped)}")
    put(f"seconds   {report.seconds:.1f}")


@app.command()
def verify(cache: options.Cache = None, json: options.Json = False) -> None:
    """Recompute the checksum of every row."""
    report = maintenance.verify(cache_folder(cache))
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
    """Drop what was computed of photos that are gone, or that no library beside the cache holds, and compact."""
    folder = cache_folder(cache)
    faces, photos = _keys_beside(folder)
    report = maintenance.gc(folder, faces=faces, photos=photos)
    if json:
        put_json(report.to_json())
        return
    put(f"dropped   {report.dropped:,}")
    put(f"kept      {report.kept:,}")
    if report.faces_dropped:
        put(f"faces     of {report.faces_dropped:,} photos dropped")
    put(f"bytes     {_size(report.bytes_before)} → {_size(report.bytes_after)}")


@app.command()
def info(cache: options.Cache = None, json: options.Json = False) -> None:
    """Show size, rows and extractors."""
    folder = cache_folder(cache)
    report = maintenance.info(folder)
    if json:
        put_json(report.to_json())
        return
    put(f"folder    {folder}")
    put(f"photos    {report.photos:,}")
    for extractor in report.extractors:
        about = extractor.description
        put(
            f"{extractor.fingerprint[:16]}  {extractor.rows:,} rows × {extractor.dim:,}, {_size(extractor.bytes)}  "
            f"{about.get('name')} {about.get('tap')} {about.get('grid')}×{about.get('grid')} crop {about.get('crops')}"
            f"{' aligned' if about.get('align') == 'mtcnn' else ''}"
            f"{' mirrored' if about.get('mirror') else ''}"
            f"{' in grey' if about.get('grey') else ''}"
        )
    for detector in report.detectors:
        put(
            f"{detector.fingerprint[:16]}  {detector.faces:,} faces in {detector.photos:,} photos, none in "
            f"{detector.without_face:,}  {detector.description.get('name')} {detector.description.get('version')}"
        )


@app.command()
def export(
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .csv or .parquet with the columns path, sha256, e0, e1, …; .npy with the features "
            "[rows, dim] float16, and the other columns beside it in NAME.rows.csv."
        ),
    ],
    fingerprint: Annotated[
        str | None, typer.Option(help="Start of the fingerprint of the extractor, as facetl cache info shows it.")
    ] = None,
    cache: options.Cache = None,
    json: options.Json = False,
) -> None:
    """Write the features of one extractor, with the photos' paths, to a file."""
    report = export_features(cache_folder(cache), out, fingerprint=fingerprint)
    if json:
        put_json({**report.to_json(), "out": str(out)})
        return
    put(f"rows      {report.rows:,} × {report.dim:,} of extractor {report.fingerprint[:16]}")
    if report.with_path < report.rows:
        put(f"no path   {report.rows - report.with_path:,}: faces of a library, or photos that were never listed")
    put(f"file      {out}")


def _keys_beside(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the faces and photos of the library that a cache belongs to; of none for a cache of its own."""
    beside = folder.resolve().parent
    if not is_library(beside):
        return frozenset(), frozenset()
    with Library.open(beside) as library:
        return library.cached_keys()


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
