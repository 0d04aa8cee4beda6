"""Resources of this process: a folder for caches, processors, memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
from platformdirs import user_cache_path


def user_cache_folder() -> Path:
    """Return where this user's caches of facetl are, on Linux $XDG_CACHE_HOME/facetl or ~/.cache/facetl."""
    # facetl 0.1.0 put it here on macOS, too.
    before = Path.home() / ".cache" / "facetl"
    if sys.platform == "darwin" and "XDG_CACHE_HOME" not in os.environ and before.is_dir():
        return before
    return user_cache_path("facetl", appauthor=False)


def usable_processors() -> int:
    """Return how many processors this process may use; the machine can have more."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity()) or 1
    return psutil.cpu_count() or 1


def keep_to_one_processor() -> None:
    """Bind this process to one processor where the system can."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity([min(process.cpu_affinity())])


def peak_memory() -> int:
    """Return the most memory this process has held at a time, in bytes."""
    try:
        import resource
    except ImportError:  # on Windows psutil knows the peak
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
