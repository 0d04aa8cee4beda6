"""What is built from a checkout installs elsewhere, and runs the main job there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Built:
    """The two files that are published."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sdist from what git tracks, and the wheel from the sdist, as an index's users may."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    room = tmp_path_factory.mktemp("build")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (room / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, room / "tree" / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(room / "dist"), str(room / "tree")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (sdist,), (wheel,) = (room / "dist").glob("*.tar.gz"), (room / "dist").glob("*.whl")
    return Built(sdist, wheel)


def test_sdist_and_wheel_hold_every_file_of_the_package(built: Built) -> None:
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "facetl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"facetl/py.typed", "facetl/cli/app.py"} < package
    assert {"css", "html", "js"} <= {name.rpartition(".")[2] for name in package}
    with zipfile.ZipFile(built.wheel) as wheel:
        wheeled = {name for name in wheel.namelist() if name.startswith("facetl/")}
    with tarfile.open(built.sdist) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    assert wheeled == package
    assert packed >= package | {"LICENSE", "README.md", "setup.cfg", "pyproject.toml"}


def test_the_main_job_runs_from_the_wheel_with_no_checkout(
    built: Built, make_people: Callable[..., Path], small_net_weights: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(built.wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # facetl's dependencies are those of these tests; facetl itself is not among what a .pth file adds.
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n")
    make_people(tmp_path / "faces", people=20, photos=5, noise=40.0, seed=3)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FACETL", "XDG", "PYTHON"))}
    environment = {**kept, "HOME": str(tmp_path), "FACETL_CACHE": str(tmp_path / "cache")}

    def run(*command: object) -> str:
        done = subprocess.run(
            [str(one) for one in command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert Path(run(python, "-c", "import facetl; print(facetl.__file__)").strip()).is_relative_to(site)
    net = ("--extractor", "mobilenet_v3_small", "--weights", small_net_weights, "--tap", "conv", "--grid", 5)
    report = json.loads(run(tmp_path / "venv/bin/facetl", "quickstart", "faces", *net, "--epochs", 2, "--json"))
    folder = tmp_path / "models" / "faces"
    assert 0.5 < report["verification"]["trained"]["auc"] <= 1
    assert json.loads((folder / "metrics.json").read_text())["verification"] == report["verification"]
    assert "Trained head" in (folder / "report.html").read_text()
    assert (folder / "saved_model" / "saved_model.pb").stat().st_size > 0
    run(tmp_path / "venv/bin/facetl", "embed", "faces", "faces/Person_00", "--out", "ours.csv")
    assert len((tmp_path / "ours.csv").read_text().splitlines()) == 6
