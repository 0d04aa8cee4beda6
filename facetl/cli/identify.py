"""`facetl identify`: who is on these photos?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.looking import DetectorName, DetectorWeights, Photos, chosen_detector, look
from facetl.cli.runs import Models
from facetl.cli.screen import counted, put, put_json, say


def identify(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Name of a run below --models, or its folder; or a library, for the people named there."
        ),
    ],
    photos: Photos,
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Name every face of photos by the people who were enrolled, or say unknown: a line a face.

    A line has path, box, name, distance and probability: how likely the face and a photo of that person show one
    person. A stranger can resemble somebody: a name is a suggestion.
    """
    from facetl.cli.known_people import open_known

    recognizer, identifier = open_known(run, models, chosen_detector(detector, detector_weights), verbose=verbose)
    from facetl.recognition.naming import name_faces

    skipped: Counter[str] = Counter()
    looked, found = 0, []
    for photo in look(recognizer, photos, skipped):
        looked += 1
        named = name_faces(identifier, photo)
        found += [face.to_json() for face in named]
        if not named:
            say(f"{photo.path}: no face")
        if not json:
            for face in named:
                put(face.line)
    if json:
        put_json({"faces": found, "photos": looked, "people": len(identifier.people), "skipped": dict(skipped)})
    elif skipped:
        say(f"skipped {counted(skipped)}")
