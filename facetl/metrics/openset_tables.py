"""An open-set report as CSV files: the threshold sweep, the confusion and the guesses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from facetl.io.files import csv_bytes, write_atomic
from facetl.metrics.openset import OpenSetReport, SweepPoint

SWEEP = "sweep.csv"
CONFUSION = "confusion.csv"
GUESSES = "guesses.csv"


def write_openset_tables(report: OpenSetReport, folder: Path | str) -> tuple[Path, ...]:
    """Write sweep.csv, confusion.csv and guesses.csv into a folder, and return their paths.

    sweep.csv has a row a threshold and a column a rate, empty where there is nothing to count; confusion.csv a row
    for each person and answer that occur; guesses.csv a row a probe, its best candidates from the nearest on.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ranks = range(1, 1 + max(len(guess.candidates) for guess in report.guesses))
    heading = ["Photo", "Person", "Known", "Answer", "Right"]
    return (
        _write(folder / SWEEP, [field.name for field in fields(SweepPoint)], map(astuple, report.sweep)),
        _write(
            folder / CONFUSION,
            ["Person", "Answer", "Photos"],
            ((person, answer, n) for person, answers in report.confusion.items() for answer, n in answers.items()),
        ),
        _write(
            folder / GUESSES,
            [*heading, *(name for rank in ranks for name in (f"Guess{rank}", f"Distance{rank}"))],
            (
                [
                    guess.photo,
                    guess.person,
                    int(guess.known),
                    guess.answer,
                    int(guess.right),
                    *(cell for name, distance in guess.candidates for cell in (name, f"{distance:.6f}")),
                ]
                for guess in report.guesses
            ),
        ),
    )


def _write(path: Path, heading: Sequence[str], rows: Iterable[Iterable[object]]) -> Path:
    write_atomic(path, csv_bytes([heading, *rows]))
    return path
