"""`facetl` run within the test's own process, so that what the test has put in a module's place is used."""

from __future__ import annotations

import json
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from facetl.cli.app import app
from facetl.errors import FacetlError


def facetl(*arguments: object) -> Result:
    """Return what a command line printed, and how it ended."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict[str, Any]:
    """Return what a command that must succeed gives with `--json`."""
    result = facetl(*arguments, "--json")
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    """Return the one line with which a command ends that must fail."""
    result = facetl(*arguments)
    assert isinstance(result.exception, FacetlError), result.output
    return str(result.exception)
