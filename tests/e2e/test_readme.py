"""What the README tells people to run, runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from machine import Machine, Trained
from typer.testing import CliRunner

import facetl as fl
from facetl.errors import WeightsError

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TEXT = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
CODE = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
UNNAMED = {"cache": "fill", "people": "serve"}
TOLD = README + "".join(
    (ROOT / "docs" / page).read_text() for page in ("people.md", "datasets.md", "distillation.md", "updating.md")
)
COMMANDS = sorted(set(re.findall(r"^    (facetl .*)$", TOLD, flags=re.MULTILINE)))


@pytest.fixture
def room(trained: Trained, tmp_path: Path) -> Path:
    """Return a folder as the README's reader has it: a run named family, and two photos."""
    (tmp_path / "models").mkdir()
    shutil.copytree(trained.folder, tmp_path / "models" / "family")
    for name, photo in (("one.jpg", "Person_02/00.png"), ("other.jpg", "Person_02/01.png")):
        cv2.imwrite(str(tmp_path / name), cv2.imread(str(trained.photos / photo)))
    return tmp_path


@pytest.mark.slow
def test_the_readmes_program_runs(sample: Path, tmp_path: Path) -> None:
    """As printed, on three photos each of the sample's people, with the net's real weights."""
    try:
        fl.Backbone("inception_v3").weights  # noqa: B018
    except WeightsError as error:
        pytest.skip(f"the net's weights are not to be had here ({error})")
    (program,) = (code for code in CODE if "samplers" in code)
    photos = [photo for person in sorted(sample.iterdir()) for photo in sorted(person.glob("*.*"))[:3]]
    for photo in photos:
        copied = tmp_path / "faces" / photo.relative_to(sample)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, copied)
    for name, photo in (("one.jpg", photos[0]), ("other.jpg", photos[1])):
        cv2.imwrite(str(tmp_path / name), cv2.imread(str(photo)))
    # The tests' own home, so that the weights are fetched once.
    environment = Machine(tmp_path).environment() | {"HOME": os.environ["HOME"]}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    accuracy = re.search(r"accuracy +([\d.]+)", done.stdout)
    assert accuracy, done.stdout
    assert float(accuracy[1]) > 0.9
    assert done.stdout.endswith(("True\n", "False\n"))
    assert "val_auc" in done.stdout


@pytest.mark.parametrize("code", [code for code in CODE if "samplers" not in code], ids=range(len(CODE) - 1))
def test_the_readmes_code_runs(code: str, room: Path, trained: Trained) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=room,
        env=trained.machine.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if "print" in code:
        assert re.fullmatch(r"(one person|two people) [\d.]+ [\d.]+\n", done.stdout)


def test_the_readmes_code_was_found() -> None:
    assert len(CODE) == 3
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("line", COMMANDS)
def test_the_readmes_commands_exist_with_their_options(line: str) -> None:
    from facetl.cli.app import app, load

    words = shlex.split(line)[1:]
    group = getattr(load(words[0]), "commands", {})
    # A group has a verb for when none is named.
    verb = [words[0], words[1] if words[1] in group else UNNAMED[words[0]]] if group else words[:1]
    result = CliRunner().invoke(app, [*verb, "--help"], terminal_width=200)
    assert result.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert option in result.output, option


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README))))
def test_the_readmes_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), target


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([\w./]+)", TEXT))))
def test_the_readmes_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists(), link


def test_nothing_of_this_machine_is_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    home = os.path.expanduser("~root") + os.sep
    # Tests may well name /tmp, where a clone may lie, too.
    room = ROOT if str(ROOT.parent) == "/tmp" else ROOT.parent
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in (".png", ".lock", ".xz") or not path.is_file() or path == Path(__file__):
            continue
        text = path.read_text()
        assert f"{room}{os.sep}" not in text, name
        assert home not in text, name
