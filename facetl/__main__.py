"""`python -m facetl` is the same as `facetl`."""

import os
import signal
from typing import NoReturn


def main() -> None:
    """Run the command line; while it is still being imported, Ctrl-C and SIGTERM end it in one line, too."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, _end)
    from facetl.cli.app import main as run

    run()


def _end(*_: object) -> NoReturn:
    os.write(2, b"facetl: interrupted; nothing was begun\n")
    os._exit(130)


if __name__ == "__main__":
    main()
