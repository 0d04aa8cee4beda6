"""The `facetl` command and how it ends: 0 done, 1 one clear line, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from importlib import import_module
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

import facetl
from facetl.errors import FULL_DISK, FacetlError, FacetlWarning
from facetl.io.text import given_path, printable, use_any_terminal

# Name → where the command or the group of commands lies, and a line on it: `facetl --help` imports none of them.
COMMANDS = {
    "quickstart": ("verbs.train:quickstart", "From sample faces, or yours, to a measured model."),
    "data": ("verbs.data:app", "Get photos to work on, and test sets of them."),
    "align": ("verbs.align:align", "Write the faces of photos, aligned."),
    "cache": ("verbs.cache:app", "Fill the embedding cache, and look after it."),
    "train": ("verbs.train:train", "Train a head, and measure it on people held out."),
    "scratch": ("verbs.scratch:scratch", "Train a net from random weights."),
    "distill": ("verbs.distill:distill", "Teach a small net a run's embeddings."),
    "evaluate": ("verbs.evaluate:app", "Measure a run beside its baselines."),
    "calibrate": ("verbs.calibrate:calibrate", "Choose a run's threshold."),
    "benchmark": ("verbs.benchmark:app", "Measure on a published protocol."),
    "export": ("verbs.export:export", "Write a run as SavedModel, Keras, LiteRT or ONNX."),
    "verify": ("verbs.recognise:verify", "Do two photos show one person?"),
    "enroll": ("verbs.recognise:enroll", "Put a person into a run's gallery."),
    "identify": ("verbs.recognise:identify", "Name the faces of photos, or call them unknown."),
    "embed": ("verbs.recognise:embed", "Write the embeddings of photos to a file."),
    "forget": ("verbs.forget:forget", "Erase a person from a run or a library."),
    "cluster": ("verbs.recognise:cluster", "Group the faces of photos by person."),
    "people": ("verbs.people:app", "A photo collection, its people, and their page."),
    "update": ("verbs.update:update", "Enrol people who arrive, and learn them."),
    "runs": ("verbs.update:app", "The versions of an updated run, and the way back."),
}

_STOPS = (signal.SIGINT, signal.SIGTERM)


class CommandsOnDemand(TyperGroup):
    """A group that knows its commands by name and first line, and imports the one that is asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments begin with, imported, and the arguments behind it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(str(name)), rest


def load(name: str) -> Any:
    """Import a command of COMMANDS, or a group of them."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(import_module(f"facetl.cli.{module}"), attribute)
    holder = _group()
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    return typer.main.get_group(holder).commands[name]


def _group(**options: Any) -> typer.Typer:
    return typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, **options)


app = _group(
    name="facetl",
    cls=CommandsOnDemand,
    help="Transfer learning for faces: cache frozen-CNN features, train a small triplet-loss head, measure honestly.",
    no_args_is_help=True,
)
for _name, (_, _help) in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"facetl {facetl.__version__}")
        raise typer.Exit


@app.callback()
def _facetl(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _arguments() -> list[str]:
    """Return the arguments, paths as they are on disk where they are given as facetl prints them."""
    return ["=".join(map(given_path, argument.split("=", 1))) for argument in sys.argv[1:]]


def main() -> None:
    """Run the command line and exit with its code."""
    use_any_terminal()
    warnings.showwarning = _show_warning
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        # What stops half-way in a thread or a destructor has nothing to add.
        sys.unraisablehook = lambda _: None
        threading.excepthook = lambda _: None
        _end_at_once()
        raise KeyboardInterrupt

    for sign in _STOPS:
        signal.signal(sign, interrupt)
    try:
        app(_arguments())
    except BaseException as error:  # noqa: BLE001 - each becomes an exit code, or is raised again
        # A library may have made another error of the interrupt.
        code = _exit_code(KeyboardInterrupt() if interrupted and not isinstance(error, SystemExit) else error)
        _end_at_once()
        sys.exit(code)


_show_others = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, FacetlWarning):
        from facetl.cli.output import notify

        notify(f"warning: {message}")
    else:
        _show_others(message, category, filename, lineno, file, line)


def _end_at_once() -> None:
    """Let the next Ctrl-C or SIGTERM end the process as it is; files are whole or partial at any moment."""
    for sign in _STOPS:
        signal.signal(sign, signal.SIG_DFL)


def _exit_code(error: BaseException) -> int | str | None:
    """Return the exit code for what ended the command line, once the user has its line; raise what is a bug."""
    match error:
        case SystemExit() if error.code != 130:
            return error.code
        case SystemExit() | KeyboardInterrupt():
            # Typer turns Ctrl-C into an exit with 130 by itself, and prints nothing.
            print("facetl: interrupted; what was finished is kept", file=sys.stderr)
            return 130
        case FacetlError():
            print(f"facetl: {printable(str(error).strip())}", file=sys.stderr)
        case BrokenPipeError():
            # The reader of a pipe (head, less) has gone.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        case OSError() if error.strerror:
            _print_disk_error(error.filename, error.strerror, full=error.errno in FULL_DISK)
        case _:
            # TensorFlow and HDF5 put the system's reason into errors of their own.
            reasons = {
                os.strerror(code): code in FULL_DISK for code in (*FULL_DISK, errno.EROFS, errno.EACCES, errno.EIO)
            }
            reason = next((reason for reason in reasons if reason in str(error)), None)
            if reason is None and not isinstance(error, OSError):
                raise error
            _print_disk_error(None, reason or str(error), full=reasons.get(reason or "", False))
    return 1


def _print_disk_error(path: object, reason: str, *, full: bool) -> None:
    where = f"{printable(path)}: " if path else ""
    remedy = "Make room and run the same command again" if full else "Check the path, its permissions and the disk"
    print(f"facetl: {where}{printable(reason)}. {remedy}.", file=sys.stderr)
