"""`facetl enroll`: teach a run a person's name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.looking import DetectorName, DetectorWeights, Photos, chosen_detector, look, open_recognizer
from facetl.cli.runs import Models, Run, run_folder
from facetl.cli.screen import counted, put, put_json


def enroll(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")],
    photos: Photos,
    face: Annotated[
        int | None, typer.Option("--face", min=1, help="Which face of the photo, counted from the left.")
    ] = None,
    largest: Annotated[bool, typer.Option("--largest", help="Of several faces in a photo, the largest.")] = False,
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Put a person's photos into a run's gallery, so that `facetl identify` can name the person.

    What is kept is embeddings, never photos. A photo with several faces is refused unless --face or --largest says
    whose it is. Training the run anew ends its gallery: enrol again.
    """
    if face is not None and largest:
        raise typer.BadParameter("give one of --face and --largest")
    folder = run_folder(run, models)
    from facetl.data.names import person_name

    # Before minutes are spent on photos.
    person_name(name)
    recognizer = open_recognizer(folder, chosen_detector(detector, detector_weights), verbose=verbose)
    from facetl.recognition.enrolling import enroll_faces

    skipped: Counter[str] = Counter()
    done = enroll_faces(folder, name, look(recognizer, photos, skipped), face=face, largest=largest, skipped=skipped)
    if json:
        put_json({"run": str(folder), **done.to_json(), "skipped": dict(skipped)})
        return
    put(f"{done.enrolled.name}: {done.enrolled.faces:,} faces enrolled, {done.total:,} in all")
    if done.enrolled.known:
        put(f"known already  {done.enrolled.known:,}")
    for other, faces in done.enrolled.moved.items():
        put(f"moved          {faces:,} from {other}")
    put(f"skipped        {counted(skipped)}")
    put(f"gallery        {done.people:,} people")
