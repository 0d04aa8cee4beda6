"""What the user sees: progress and notes on stderr, results on stdout, JSON when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def notes() -> Console:
    """Return the console for what is not the result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Print a note."""
    notes().print(line, markup=False)


def put(line: str = "") -> None:
    """Print a line of the result."""
    print(line, flush=True)


def put_json(content: Mapping[str, Any]) -> None:
    """Print the result as one JSON object on one line."""
    json.dump(content, sys.stdout, ensure_ascii=False, allow_nan=False)
    print(flush=True)


def put_table(rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print rows as a table, the first one its heading, the first column to the left."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for place, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


@contextmanager
def photo_progress(what: str, *, unit: str = "photos") -> Iterator[Callable[[int, int], None]]:
    """Show a bar with photos, photos a second and time left; yields a function of (done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes(), transient=True) as progress:
        task = progress.add_task(what, total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = progress.tasks[task].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield update


class EpochTable:
    """Prints a line per epoch: loss, active triplets, learning rate, validation accuracy and AUC."""

    def __init__(self) -> None:
        self._console = notes()
        self._begun = False

    def __call__(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Print the line of one epoch."""
        if not self._begun:
            self._console.print(
                "epoch     loss   active   learning rate   val accuracy   val AUC", style="bold", markup=False
            )
            self._begun = True
        self._console.print(
            f"{epoch + 1:5d}  {logs['loss']:7.4f}  {logs['active']:6.1%}   {logs['learning_rate']:13.2e}"
            f"   {logs['val_accuracy']:12.3f}   {logs['val_auc']:7.3f}",
            markup=False,
        )


def counted(counts: Mapping[str, int]) -> str:
    """Return reasons with their counts as one phrase: `2 broken, 1 hidden`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "none"
