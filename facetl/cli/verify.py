"""`facetl verify`: do two photos show one person?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.looking import DetectorName, DetectorWeights, chosen_detector, open_recognizer
from facetl.cli.runs import Models, Run, run_folder
from facetl.cli.screen import put, put_json, say


def verify(
    run: Run,
    first: Annotated[Path, typer.Argument(metavar="A", help="A photo.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Tell whether two photos show one person: the distance of their faces against the run's threshold.

    Of several faces in a photo, the large one near the centre is taken. Exit code 0 also for two people.
    """
    recognizer = open_recognizer(run_folder(run, models), chosen_detector(detector, detector_weights), verbose=verbose)
    from facetl.recognition.verdict import verdict

    told = verdict(recognizer, first, second)
    for path, faces in zip((first, second), told.faces, strict=True):
        if faces > 1:
            say(f"{path}: {faces} faces; the large one near the centre was taken")
    if json:
        put_json(told.to_json())
        return
    put("one person" if told.verified else "two people")
    put(f"distance     {told.distance:.4f}, threshold {told.threshold:.4f}")
    sure = "not known: the run is not calibrated" if told.probability is None else f"{told.probability:.1%}"
    put(f"probability  {sure}")
