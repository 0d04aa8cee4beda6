"""A user's machine for the end-to-end tests: a home, the command, and a trained run."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from facetl.cli.app import main


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

    def run_here(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Do the same in this process, which spares the start of TensorFlow."""
        command = ["facetl", *map(str, arguments)]
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(io.StringIO()) as out,
            redirect_stderr(io.StringIO()) as err,
        ):
            patch.setattr(sys, "argv", command)
            for name in set(os.environ) - set(self.environment()):
                patch.delenv(name)
            for name, value in self.environment().items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        return subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    def json(self, *arguments: object, here: bool = False) -> dict[str, Any]:
        done = (self.run_here if here else self.run)(*arguments, "--json")
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
