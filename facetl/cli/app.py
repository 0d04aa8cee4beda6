"""The `facetl` command and how it ends: 0 done, 1 one clear line, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import facetl
from facetl.errors import FacetlError

# Name → where the command or the group of commands lies, and its first line: `facetl --help` imports none of them.
COMMANDS = {
    "quickstart": (
        "verbs.train:quickstart",
        "Go from photos to a measured model with every setting at its default; in the current folder.",
    ),
    "data": ("verbs.data:app", "Get photos to work on, and test sets made of them."),
    "align": (
        "verbs.align:align",
        "Find the faces in photos and write each one aligned; poor ones apart, under OUT/_poor.",
    ),
    "cache": ("verbs.cache:app", "Fill the embedding cache: `facetl cache DIR`. Or verify, gc, info, export."),
    "train": (
        "verbs.train:train",
        "Train a head on the people of a folder, measure it on people held out, and write MODELS/NAME.",
    ),
    "scratch": (
        "verbs.scratch:scratch",
        "Train a net from random weights on the people of a folder, measure it on people held out, write MODELS/NAME.",
    ),
    "distill": (
        "verbs.distill:distill",
        "Teach a small net a run's embeddings, from its cached features, and write MODELS/NAME.",
    ),
    "evaluate": ("verbs.evaluate:app", "Measure a trained run by a protocol, its baselines beside it."),
    "calibrate": (
        "verbs.calibrate:calibrate",
        "Choose a run's threshold on its validation people; without a target, for the highest accuracy.",
    ),
    "benchmark": ("verbs.benchmark:app", "Measure on a published protocol."),
    "export": (
        "verbs.export:export",
        "Hand a run over as a SavedModel or a Keras, LiteRT or ONNX file, and measure how far that is from the run.",
    ),
    "verify": (
        "verbs.recognise:verify",
        "Tell whether two photos show one person: the distance of their faces against the run's threshold.",
    ),
    "enroll": (
        "verbs.recognise:enroll",
        "Put a person's photos into a run's gallery, so that `facetl identify` can name the person.",
    ),
    "identify": (
        "verbs.recognise:identify",
        "Name every face of photos by the people who were enrolled, or say unknown: a line a face.",
    ),
    "embed": (
        "verbs.embed:embed",
        "Write the embedding of each photo, with its path and the face's box; what cannot be embedded is counted.",
    ),
    "forget": (
        "verbs.forget:forget",
        "Erase a person: faces, pictures, features, names; then search every file for what might be left.",
    ),
    "cluster": ("verbs.cluster:cluster", "Group the faces of photos into stacks that seem to be one person's each."),
    "people": (
        "people.collection:app",
        "Photos to named people: `facetl people LIBRARY` opens the page on this machine alone. Begin with import.",
    ),
    "update": (
        "verbs.update:update",
        "Enrol people who arrive, and learn them from cached features without forgetting those before.",
    ),
    "runs": ("verbs.update:app", "The versions of a run: what updates made of it, and the way back."),
}


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


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except FacetlError as error:
        # A path or a library's message may hold line breaks; the user gets one line.
        print(f"facetl: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        _print_interrupted()
        sys.exit(130)
    except SystemExit as end:
        # Typer turns Ctrl-C into this exit by itself, and prints nothing.
        if end.code == 130:
            _print_interrupted()
        raise
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"facetl: {where}{error.strerror or error}. Check the path, its permissions and the disk.",
            file=sys.stderr,
        )
        sys.exit(1)


def _print_interrupted() -> None:
    print("facetl: interrupted; what was finished is kept", file=sys.stderr)
