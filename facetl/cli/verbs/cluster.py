"""`facetl cluster`: the faces of an album in stacks, one a person as far as a run can tell."""

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
    cache_folder,
    chosen_detector,
    find_run,
    open_recognizer,
)
from facetl.cli.output import counted, photo_progress, put, put_json
from facetl.data.walk import walk


def cluster(
    run: Run,
    photos: Photos,
    out: Annotated[
        Path, typer.Option("--out", help="CSV with the columns path, face (from the left), stack, confidence.")
    ],
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    seed: options.Seed = 0,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Group the faces of photos into stacks that seem to be one person's each.

    Rather two stacks of one person than one of two. To name them and to correct what is wrong: facetl people.
    """
    recognizer = open_recognizer(find_run(run, models), chosen_detector(detector, detector_weights))
    from facetl.clustering.album_stacks import stack_album

    album = walk(photos)
    with photo_progress("finding faces") as faces, photo_progress("features", unit="faces") as progress:
        done = stack_album(
            recognizer,
            album.paths,
            cache=cache_folder(cache),
            skipped=album.skipped,
            seed=seed,
            on_faces=faces,
            on_progress=progress,
        )
    done.write(out)
    if json:
        put_json({**done.to_json(), "out": str(out)})
        return
    put(f"photos    {done.photos:,}, {done.without_face:,} without a face")
    put(f"faces     {len(done.faces):,}")
    put(f"stacks    {done.stacks:,}")
    put(f"skipped   {counted(done.skipped)}")
    put(f"table     {out}")
