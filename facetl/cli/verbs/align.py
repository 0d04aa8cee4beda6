"""`facetl align`: cut the faces out of photos, upright and of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.inputs import DetectorWeights
from facetl.cli.output import counted, notify, photo_progress, put, put_json
from facetl.cli.settings_options import Given, takes_options
from facetl.faces.aligned_album import TABLE, AlignSettings, align_album
from facetl.faces.detectors import detector_spec


@takes_options(AlignSettings)
def align(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photos, at any depth; only read.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or one that an earlier run has begun.")],
    given: Given,
    detector: Annotated[
        str, typer.Option(help="mtcnn; yunet, whose file you give; none for photos cropped to a face.")
    ] = "mtcnn",
    detector_weights: DetectorWeights = None,
    all_faces: Annotated[
        bool,
        typer.Option(
            "--all-faces/--one-face", help="Every face of a photo, or only the one it is about: for folders of people."
        ),
    ] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos that are durable together.")] = 32,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the faces in photos and write each one aligned; poor ones apart, under OUT/_poor.

    OUT/faces.csv has where each was found, and its quality. The same command goes on after an interruption.
    """
    spec = detector_spec(detector, detector_weights)
    settings = AlignSettings(**given.settings, one_face=not all_faces)
    with photo_progress("aligning faces") as progress:
        report = align_album(photos, out, detector=spec, settings=settings, batch_size=batch_size, on_progress=progress)
    if json:
        put_json(report.to_json())
        return
    put(f"photos    {report.photos:,}")
    put(f"aligned   {report.aligned:,}" + (f", {report.rate:.1f} photos/s" if report.aligned else ""))
    put(f"known     {report.known:,}")
    put(f"copies    {report.copies:,}")
    put(f"faces     {report.faces:,} good, {report.poor:,} poor")
    put(f"no face   {report.without_face:,}")
    put(f"skipped   {counted(report.skipped)}")
    put(f"seconds   {report.seconds:.1f}")
    if report.unusable:
        notify(f"left out: {report.unusable:,} faces whose landmarks span no face")
    if report.poor:
        notify("poor faces are too small, blurred or turned away to tell who it is; faces.csv says which")
    put(str(Path(report.out) / TABLE))
