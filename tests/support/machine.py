"""A user's machine for the end-to-end tests: a home, the command, and a trained run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """A user's machine: a home of its own, and the `facetl` command."""

    home: Path

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FACETL", "XDG", "KERAS"))}
        return {**kept, "HOME": str(self.home), "FACETL_CACHE": str(self.home / "cache")}

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "facetl", *map(str, arguments)]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)

    def json(self, *arguments: object) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@dataclass(frozen=True)
class Trained:
    """What `cache`, `train` and a second `cache` gave."""

    machine: Machine
    photos: Path
    net: tuple[str, ...]
    models: Path
    first_fill: dict[str, Any]
    report: dict[str, Any]
    second_fill: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.models / "family"
