"""`python -m facetl` is the same as `facetl`."""

import os
import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command line; while it is still being imported, Ctrl-C and SIGTERM end it in one line, too."""
    # Of a stream that is closed (`2>&-`) the number would go to the next file that is opened, a database perhaps.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, _end)
    from facetl.cli.app import main as run

    run()


def _end(*_: object) -> NoReturn:
    os.write(2, b"facetl: interrupted; nothing was begun\n")
    os._exit(130)


if __name__ == "__main__":
    main()
