"""Output for the user: progress and notes on stderr, results on stdout, JSON when asked."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from facetl.io.json import json_text
from facetl.io.text import printable
from facetl.report.tables import results_table

if TYPE_CHECKING:
    from rich.console import Console

    from facetl.data.manifest import Manifest
    from facetl.runs.training_run import RunReport

_BAR_NEEDS = 70  # columns of a terminal
_WIDEST = 1000  # columns of a table, however narrow the terminal: it wraps a line, Rich would cut a number


def notes() -> Console:
    """Return the console for what is not the result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def notify(line: str) -> None:
    """Print a note, on one line whatever is in it."""
    notes().print(printable(line))


def put(line: str) -> None:
    """Print a line of the result, one whatever is in it."""
    print(printable(line), flush=True)


def command(*words: object) -> str:
    """Return a facetl command as a shell takes it, names with spaces and the like in quotes."""
    return shlex.join(["facetl", *map(str, words)])


def put_json(content: Mapping[str, Any]) -> None:
    """Print the result as one JSON object on one line."""
    # A file, a pipe and a string have no encoding of their own, or UTF-8.
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    print(json_text(content, ascii_only=not unicode), flush=True)


def put_json_or_line(json: bool, content: Mapping[str, Any], line: str) -> None:
    """Print the result as JSON where that is asked for, else as a line."""
    if json:
        put_json(content)
    else:
        put(line)


def put_table(rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print rows as a table, the first one its heading, the first column to the left; nothing is cut or wrapped."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=printable(title) or None, title_justify="left", pad_edge=False)
    for place, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*map(printable, row))
    Console(highlight=False, markup=False, emoji=False, width=_WIDEST).print(table)


def put_held_out(manifest: Manifest) -> None:
    """Print, of a split with too few people to hold some out, what is held out instead."""
    held_out = manifest.held_out
    if held_out["validation"] == "photos":
        notify(
            f"warning: {len(manifest.identities):,} people are too few to hold some out: photos of the same people "
            "are held out instead, which cannot tell how the run does on other people"
        )
    if held_out["test"] is None:
        notify("warning: nothing is held out to measure by; the run will have a threshold, but no figures")


def measured_on(held_out: str | None, people: int, photos: int) -> str:
    """Return whom a run is measured on, as a phrase; `held_out` as `Manifest.held_out` has it."""
    return f"{people:,} test people" if held_out == "people" else f"{photos:,} held-out photos"


def put_verification(report: RunReport, titles: Mapping[str, str] | None = None) -> None:
    """Print how each method verifies a run's test side, by its own name or by that of `titles`."""
    if not report.verifications:
        put("not measured: too few people, and photos of each, to hold any out")
        return
    heading, *rows = results_table(report.verifications)
    names = list(report.verifications)
    rows = [[(titles or {}).get(name, row[0]), *row[1:]] for name, row in zip(names, rows, strict=True)]
    trained = report.verifications["trained"]
    folds = f"{trained.folds} folds" if trained.folds > 1 else "one fold"
    people, photos = report.split["test"]["people"], report.split["test"]["photos"]
    measured = measured_on(report.held_out["test"], people, photos)
    put_table([heading, *rows], title=f"Verification of {measured}, {trained.pairs:,} pairs in {folds}")
    if report.rank_1:
        put(
            f"rank-1     {report.rank_1['trained']:.3f} of {photos} held-out photos have the right one of {people} "
            "people nearest; training saw these people, and on others the run may do far worse"
        )


def put_run(report: RunReport, *notes: str) -> None:
    """Print which epoch a training kept, notes on it, and where the run lies."""
    start = " (the start: no epoch was better on the validation side)" if report.best_epoch == 0 else ""
    put(f"best epoch {report.best_epoch} of {report.epochs}{start}, {report.seconds:.0f} s")
    for note in notes:
        put(note)
    put(f"run        {report.folder}")
    put(f"report     {report.folder / 'report.html'}")


@contextmanager
def photo_progress(what: str, *, unit: str = "photos") -> Iterator[Callable[[int, int], None]]:
    """Show a bar with photos, photos a second and time left; yields a function of (done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TimeRemainingColumn

    console = notes()
    # Rich would cut numbers to keep the bar.
    wide = console.width >= _BAR_NEEDS
    columns: list[str | ProgressColumn] = ["{task.description}", *([BarColumn()] if wide else []), MofNCompleteColumn()]
    columns += [unit, "{task.fields[rate]}", "left", TimeRemainingColumn()] if wide else []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = progress.tasks[task].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield update


class EpochTable:
    """Prints a line per epoch: loss, active triplets, learning rate, validation accuracy and AUC."""

    def __init__(self) -> None:
        self._begun = False

    def __call__(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Print the line of one epoch."""
        if not self._begun:
            notes().print("epoch     loss   active   learning rate   val accuracy   val AUC", style="bold")
            self._begun = True
        notify(
            f"{epoch + 1:5d}  {logs['loss']:7.4f}  {logs['active']:6.1%}   {logs['learning_rate']:13.2e}"
            f"   {logs['val_accuracy']:12.3f}   {logs['val_auc']:7.3f}"
        )


def counted(counts: Mapping[str, int]) -> str:
    """Return reasons with their counts as one phrase: `2 broken, 1 hidden`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "none"
