"""Starts TensorFlow quietly.

TensorFlow's C++ side writes to file descriptor 2 while it is being imported, before any log level is obeyed;
only a redirect of the descriptor itself keeps that off the user's screen.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_verbose = False


def set_verbose(verbose: bool) -> None:
    """Choose whether TensorFlow's own messages are shown; counts before it is started."""
    global _verbose
    _verbose = verbose


@cache
def start_tensorflow() -> None:
    """Import TensorFlow once, silenced unless verbose, its own messages shown if the import fails."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if _verbose:
        import tensorflow  # noqa: F401
    else:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with held_back_stderr():
            import tensorflow as tf

            # The first op initialises devices, which writes its own lines.
            tf.constant(0)
            tf.get_logger().setLevel("ERROR")


@contextmanager
def path_for_tensorflow(folder: Path) -> Iterator[str]:
    """Give a path under which TensorFlow can read and write in a folder: a link to one whose path is no UTF-8."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as room:
            link = Path(room, "folder")
            link.symlink_to(folder.absolute(), target_is_directory=True)
            yield str(link)
    else:
        yield str(folder)


@contextmanager
def held_back_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 2 nowhere, unless an error ends it."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        own = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(own, held.read())
            raise
        finally:
            os.dup2(own, 2)
            os.close(own)
