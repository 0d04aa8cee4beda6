"""`facetl export`: hand a run over as one file or folder, compared with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import Models, Run, cache_folder, find_run
from facetl.cli.output import notify, photo_progress, put, put_json
from facetl.errors import DataError, RunError


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="File to write, of saved_model a folder.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="saved_model, keras (a file that ends in .keras), litert, or onnx (facetl[onnx])."
        ),
    ] = "saved_model",
    quantise: Annotated[str, typer.Option(help="none, float16 or int8, with --format litert.")] = "none",
    representative: Annotated[
        Path | None,
        typer.Option(
            help="Photos that int8 takes its scales from, a folder per person. Default: the run's training people."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Photos to compare on, a folder per person. Default: the run's test people.")
    ] = None,
    photos: Annotated[int, typer.Option(min=2, help="How many, of each.")] = 64,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Hand a run over as a SavedModel or a Keras, LiteRT or ONNX file, and measure how far that is from the run."""
    folder = find_run(run, models)
    start_tensorflow()
    from facetl.recognition.recognizer import Recognizer
    from facetl.runs.export.exported_run import export as hand_over
    from facetl.runs.export.exported_run import run_faces

    recognizer = Recognizer.load(folder)
    place = cache_folder(cache)
    shown = None
    with photo_progress("finding faces") as progress:
        if quantise == "int8":
            shown = run_faces(
                folder, recognizer, "train", most=photos, cache=place, images=representative, on_progress=progress
            )
        try:
            faces = run_faces(folder, recognizer, "test", most=photos, cache=place, images=images, on_progress=progress)
        except (DataError, RunError) as error:
            if images is not None:
                raise
            faces = None
            notify(f"warning: not compared with the run: {error}")
    done = hand_over(recognizer, out, form=form, quantise=quantise, faces=faces, representative=shown)
    if json:
        put_json({"run": str(folder), **done.to_json()})
        return
    put(f"{done.path}: {done.bytes:,} bytes")
    put(f"takes        {done.takes}")
    if done.needs:
        put(f"needs        facetl installed, for {', '.join(done.needs)}")
    parity = done.parity
    if parity is None:
        return
    put(
        f"parity       {parity.photos:,} photos: largest difference of an embedding's numbers "
        f"{parity.max_difference:.2e}, mean cosine {parity.mean_cosine:.5f}"
    )
    if parity.accuracy is not None and parity.accuracy_change is not None:
        put(
            f"accuracy     {parity.accuracy:.3f} on {parity.pairs:,} pairs at the run's threshold, "
            f"{parity.accuracy_change:+.3f} against the run"
        )
