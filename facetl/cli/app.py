"""The `facetl` command and how it ends: 0 done, 1 one clear line, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import facetl
from facetl.cli.people import collection
from facetl.cli.verbs import (
    align,
    benchmark,
    cache,
    calibrate,
    cluster,
    data,
    distill,
    embed,
    evaluate,
    export,
    forget,
    recognise,
    scratch,
    train,
    update,
)
from facetl.cli.verbs import update as update_module
from facetl.errors import FacetlError

app = typer.Typer(
    name="facetl",
    help="Transfer learning for faces: cache frozen-CNN features, train a small triplet-loss head, measure honestly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="quickstart")(train.quickstart)
app.add_typer(data.app, name="data")
app.command(name="align")(align.align)
app.add_typer(cache.app, name="cache")
app.command(name="train")(train.train)
app.command(name="scratch")(scratch.scratch)
app.command(name="distill")(distill.distill)
app.add_typer(evaluate.app, name="evaluate")
app.command(name="calibrate")(calibrate.calibrate)
app.add_typer(benchmark.app, name="benchmark")
app.command(name="export")(export.export)
app.command(name="verify")(recognise.verify)
app.command(name="enroll")(recognise.enroll)
app.command(name="identify")(recognise.identify)
app.command(name="embed")(embed.embed)
app.command(name="forget")(forget.forget)
app.command(name="cluster")(cluster.cluster)
app.add_typer(collection.app, name="people")
app.command(name="update")(update.update)
app.add_typer(update_module.app, name="runs")


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
        _say_interrupted()
        sys.exit(130)
    except SystemExit as end:
        # Typer turns Ctrl-C into this exit by itself, without a word.
        if end.code == 130:
            _say_interrupted()
        raise
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone: nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"facetl: {where}{error.strerror or error}. Check the path, its permissions and the disk.",
            file=sys.stderr,
        )
        sys.exit(1)


def _say_interrupted() -> None:
    print("facetl: interrupted; what was finished is kept", file=sys.stderr)
