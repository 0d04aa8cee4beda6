"""What all workers of pytest-xdist use and one of them makes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def shared_folder(base: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder of this session that the first worker to ask fills; not to be written to.

    Args:
        base: the worker's own temporary folder, pytest's `getbasetemp()`
        name: the folder's name
        fill: writes the content into an empty folder
    """
    # The parent of a worker's folder is the session's; without workers it is that of all sessions.
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, complete = root / name, root / f"{name}.complete"
    with FileLock(root / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            fill(folder)
            complete.touch()
    return folder
