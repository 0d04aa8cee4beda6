"""A group of verbs of which one may be left out: `facetl cache DIR` is `facetl cache fill DIR`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


def group_with_default(verb: str) -> type[TyperGroup]:
    """Return the class of a group that runs `verb` unless a command or a call for help comes first.

    A folder that is called like a command is given as `./import`.
    """

    class WithDefault(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
                args = [verb, *args]
            return super().parse_args(ctx, args)

    return WithDefault
