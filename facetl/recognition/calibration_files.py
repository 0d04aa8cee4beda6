"""A run's calibration on disk: calibration.json and the reliability diagram, for the run's owner alone."""

from __future__ import annotations

import json
from pathlib import Path

from facetl.calibration.calibration import Calibrated, Calibration
from facetl.errors import RunError
from facetl.io.files import write_atomic

CALIBRATION = "calibration.json"
RELIABILITY = "reliability.png"


def write(folder: Path, calibrated: Calibrated) -> None:
    """Write a calibration into a run folder; a diagram that no longer belongs to it goes."""
    if calibrated.reliability is None:
        (folder / RELIABILITY).unlink(missing_ok=True)
    else:
        # matplotlib takes a second to import, and whoever only reads needs none of it.
        from facetl.report.plots import figure_png, reliability_plot

        write_atomic(folder / RELIABILITY, figure_png(reliability_plot(calibrated.reliability)))
    content = json.dumps(calibrated.calibration.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / CALIBRATION, (content + "\n").encode())


def read(folder: Path) -> Calibration:
    """Read a run folder's calibration; RunError where it is missing, damaged or of another version of facetl."""
    path = folder / CALIBRATION
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: expected the run's calibration ({error}). Run facetl calibrate.") from error
    return Calibration.from_json(content, name=str(path))
