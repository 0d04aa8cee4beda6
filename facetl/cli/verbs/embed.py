"""`facetl embed`: photos to embeddings in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.inputs import (
    DetectorName,
    DetectorWeights,
    Models,
    Photos,
    Run,
    chosen_detector,
    find_run,
    open_recognizer,
)
from facetl.cli.output import counted, photo_progress, put, put_json
from facetl.data.walk import walk
from facetl.io.vector_file import check_vector_path
from facetl.recognition.face_embeddings import write_embeddings


def embed(
    run: Run,
    photos: Photos,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="File to write: .csv or .parquet with the columns path, left, top, right, bottom, e0, e1, …; .npy "
            "with the embeddings [faces, width] float32, and the other columns beside it in NAME.rows.csv.",
        ),
    ],
    all_faces: Annotated[
        bool, typer.Option("--all-faces/--one-face", help="Every face of a photo, or only the one it is about.")
    ] = False,
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Photos a forward pass.")] = 32,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the embedding of each photo, with its path and the face's box; what cannot be embedded is counted."""
    check_vector_path(out)
    recognizer = open_recognizer(find_run(run, models), chosen_detector(detector, detector_weights))
    album = walk(photos)
    with photo_progress("embedding") as progress:
        faces = write_embeddings(
            out,
            recognizer.embed_batches(
                album.paths, skipped=album.skipped, all_faces=all_faces, batch_size=batch_size, on_progress=progress
            ),
            skipped=album.skipped,
        )
    width = recognizer.head.output_shape[-1]
    if json:
        content = {"photos": len(album.paths), "faces": faces, "width": width}
        put_json({**content, "skipped": dict(album.skipped), "out": str(out)})
        return
    put(f"photos    {len(album.paths):,}")
    put(f"faces     {faces:,} embeddings of {width} numbers")
    put(f"skipped   {counted(album.skipped)}")
    put(f"file      {out}")
