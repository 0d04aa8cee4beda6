"""JSON files: written whole or not at all, for their owner alone, and readable by people, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facetl.io.files import write_atomic


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object, indented; ValueError for a number that JSON has not (NaN, infinity)."""
    write_atomic(path, f"{json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode())
