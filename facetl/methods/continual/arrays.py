"""Files of arrays beside a head, for the run's owner alone: no pickle, whole or as they were before."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from facetl.errors import RunError
from facetl.io.files import write_atomic


def write(path: Path, **arrays: Any) -> None:
    """Write arrays by name, none of them of objects."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomic(path, content.getvalue())


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """Yield the file's arrays by name; RunError where they, or a ValueError of what is made of them, are damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: it cannot be read ({error}). Delete the file: the next update makes it anew from the run's "
            "photos."
        ) from error
