"""The command line's promises: exit codes, one line an error, one JSON object, light help."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from rich.console import Console
from typer.testing import CliRunner

from facetl.cli import app as app_module
from facetl.cli import inputs, output
from facetl.cli.output import put_table
from facetl.errors import FacetlError, RunError

VERBS = (
    ("quickstart",),
    ("data", "fetch"),
    ("data", "check"),
    ("data", "triplets"),
    ("data", "openset"),
    ("align",),
    ("cache", "fill"),
    ("cache", "verify"),
    ("cache", "gc"),
    ("cache", "info"),
    ("cache", "export"),
    ("train",),
    ("scratch",),
    ("distill",),
    ("export",),
    ("evaluate", "pairs"),
    ("evaluate", "triplets"),
    ("evaluate", "openset"),
    ("evaluate", "clusters"),
    ("calibrate",),
    ("benchmark", "lfw"),
    ("benchmark", "transfer"),
    ("verify",),
    ("enroll",),
    ("identify",),
    ("embed",),
    ("forget",),
    ("cluster",),
    ("people", "serve"),
    ("people", "import"),
    ("people", "cluster"),
    ("people", "learn"),
    ("people", "prune"),
    ("people", "export"),
    ("people", "stacks"),
    ("people", "name"),
    ("people", "split"),
    ("people", "merge"),
    ("people", "questions"),
    ("people", "answer"),
    ("people", "undo"),
    ("update",),
    ("runs", "history"),
    ("runs", "rollback"),
)
# How the README calls verbs that may be left out.
DEFAULTS = {("cache", "fill"): "cache DIR", ("people", "serve"): "people LIBRARY"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facetl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_imports_no_tensorflow() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "facetl", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "facetl.cli.app" in imported
    assert not imported & {"tensorflow", "keras", "cv2", "sklearn", "pandas", "numpy", "matplotlib"}


def test_help_of_a_command_imports_no_tensorflow() -> None:
    script = (
        "import sys\nfrom facetl.cli.app import COMMANDS, load\n"
        "for name in COMMANDS:\n"
        "    load(name)\n"
        "    found = sys.modules.keys() & {'tensorflow', 'keras', 'sklearn', 'pandas', 'matplotlib'}\n"
        "    assert not found, (name, found)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_shows_every_command_in_a_whole_line() -> None:
    result = CliRunner().invoke(app_module.app, ["--help"], terminal_width=80)
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.startswith("  ")}
    for name, (_, summary) in app_module.COMMANDS.items():
        assert lines[name].endswith(summary)


def test_completion_names_commands_options_and_runs(tmp_path: Path) -> None:
    def completed(*words: str) -> list[str]:
        line = " ".join(["facetl", *words])
        asked = {"_FACETL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        command = [sys.executable, "-c", "import sys; from facetl.cli.app import app; app(prog_name='facetl')"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **asked})
        return done.stdout.split()

    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert completed("ca") == ["cache", "calibrate"]
    assert completed("cache", "i") == ["info"]
    assert completed("distill", "--hint") == ["--hint-epochs", "--hint-learning-rate"]
    assert completed("calibrate", "--models", str(tmp_path), "m") == ["mine"]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help(verb: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app_module.app, [*verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert "--json" in result.output


def test_every_verb_is_listed_here() -> None:
    found = set()
    for name in app_module.COMMANDS:
        inner = getattr(app_module.load(name), "commands", None)
        found |= {(name, sub) for sub in inner} if inner else {(name,)}
    assert found == set(VERBS)


def test_every_verb_is_documented() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    for verb in VERBS:
        spoken = DEFAULTS.get(verb, " ".join(verb))
        assert f"facetl {spoken}" in readme, verb


def test_version() -> None:
    import facetl

    assert run("--version").stdout == f"facetl {facetl.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("quickstart", "/nonexistent"),
        ("cache", "/nonexistent"),
        ("train", "/nonexistent", "--run", "x"),
        ("train", ".", "--run", "../x"),
        ("train", ".", "--run", "x", "--sampler", "best"),
        ("train", ".", "--run", "x", "--preset", "best of all"),
        ("train", ".", "--run", "x", "--widths", "a,b"),
        ("cache", ".", "--crop", "7"),
        ("train", ".", "--run", "x", "--tap", "auto"),
        ("benchmark", "transfer", "/nonexistent"),
        ("cache", ".", "--extractor", "no_such_net"),
        ("cache", "info", "--cache", "/nonexistent"),
        ("cache", "verify", "--cache", "/nonexistent"),
        ("benchmark", "lfw", ".", "--pairs", "/nonexistent"),
        ("evaluate", "pairs", "no-such-run", "/nonexistent", "--images", "."),
        ("evaluate", "triplets", ".", "/nonexistent", "--images", "."),
        ("evaluate", "openset", "no-such-run", "--gallery", ".", "--probe", "."),
        ("evaluate", "clusters", "../x", "."),
        ("calibrate", "no-such-run"),
        ("calibrate", ".", "--far", "1e-3"),
        ("data", "fetch", "no-such-source", "/tmp/never"),
        ("data", "triplets", ".", "--count", "5", "--out", "/tmp/never"),
        ("data", "openset", ".", "--out", "/tmp/never"),
        ("verify", "no-such-run", "a.png", "b.png"),
        ("enroll", "no-such-run", "Ann", "."),
        ("identify", "no-such-run", "."),
        ("embed", "no-such-run", ".", "--out", "/tmp/never.npy"),
        ("cache", "export", "--cache", "/nonexistent", "--out", "/tmp/never.npy"),
        ("forget", "no-such-run", "Ann"),
        ("cluster", "no-such-run", ".", "--out", "/tmp/never"),
        ("people", "/nonexistent"),
        ("people", "serve", "."),
        ("people", "import", ".", "--library", "/proc/never"),
        ("people", "import", ".", "--library", "./lib", "--models", "/nonexistent"),
        ("people", "cluster", "."),
        ("people", "learn", "/nonexistent"),
        ("people", "export", ".", "/tmp/never", "--as", "csv"),
        ("people", "stacks", "."),
        ("people", "undo", "/nonexistent"),
        ("update", "no-such-run", "."),
        ("runs", "history", "no-such-run"),
        ("runs", "rollback", "."),
        ("align", "/nonexistent", "/tmp/never"),
        ("align", ".", ".", "--detector", "none"),
        ("align", ".", "/tmp/never", "--detector", "yunet"),
        ("align", ".", "/tmp/never", "--detector", "eyes"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_user_error_is_one_line_and_exit_code_1(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "Someone").mkdir()
    (tmp_path / "Someone" / "a.png").write_bytes(b"not a picture")
    given = [str(tmp_path / argument) if argument.startswith(".") else argument for argument in arguments]
    done = run(*given)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("facetl: ")


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("train").returncode == 2
    assert run("no-such-verb").returncode == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(FacetlError("a\nb"), 1), (KeyboardInterrupt(), 130), (SystemExit(130), 130), (OSError(28, "full", "f"), 1)],
)
def test_how_a_verb_ends(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> None:
        raise error

    monkeypatch.setattr(app_module, "app", fail)
    with pytest.raises(SystemExit) as ended:
        app_module.main()
    assert ended.value.code == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_cache_info_verify_and_gc_agree(tmp_path: Path) -> None:
    import numpy as np

    from facetl.embeddings.embedding_cache import EmbeddingCache

    photo = tmp_path / "photo.png"
    photo.write_bytes(b"a photo")
    import hashlib

    sha, gone = hashlib.sha256(b"a photo").hexdigest(), hashlib.sha256(b"another").hexdigest()
    folder = tmp_path / "cache"
    with EmbeddingCache.open(folder, fingerprint="ab" * 32, description={"name": "net"}, write=True) as cache:
        cache.append([sha, gone], np.arange(6, dtype=np.float32).reshape(2, 3))
        cache.remember_paths({photo: sha, tmp_path / "gone.png": gone})
    info = json.loads(run("cache", "info", "--cache", folder, "--json").stdout)
    assert (info["photos"], info["extractors"][0]["rows"]) == (2, 2)
    assert json.loads(run("cache", "verify", "--cache", folder, "--json").stdout)["corrupt"] == 0
    collected = json.loads(run("cache", "gc", "--cache", folder, "--json").stdout)
    assert (collected["dropped"], collected["kept"]) == (1, 1)
    assert "net" in run("cache", "info", "--cache", folder).stdout


def test_a_table_is_never_cut_and_shows_text_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    cells = ["[bold]x:smile:" + "y" * 60, "1,234,567.8901", "a\x1bb\n\udce9"]
    put_table([["name", "number", "odd"], cells], title="[red]t")
    table = capsys.readouterr().out
    assert any(line.split() == [*cells[:2], r"a\x1bb\n\xe9"] for line in table.splitlines())
    assert "[red]t" in table


@pytest.mark.parametrize("width", [20, 40, 70, 120])
def test_a_bar_of_progress_shows_its_numbers_on_any_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(output, "notes", lambda: Console(file=shown, force_terminal=True, width=width))
    with output.photo_progress("faces") as progress:
        progress(1204, 5678)
    assert "1204/5678" in shown.getvalue()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.csv"), "x.csv: No space left on device. Make room and"),
        (OSError(errno.EACCES, "Permission denied", "x.csv"), "x.csv: Permission denied. Check the path"),
        (
            OSError("Unable to write (errno 28, error message = 'No space left on device')"),
            "No space left on device. ",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "a.tmp; No space left on device"),
            "No space left on device. Make",
        ),
        (tf.errors.UnknownError(None, None, "a.tmp; Read-only file system"), "Read-only file system. Check the path"),
    ],
)
def test_errors_of_the_disk_are_one_line_whoever_raises_them(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(_: object) -> None:
        raise error

    monkeypatch.setattr(app_module, "app", verb)
    with pytest.raises(SystemExit) as ended:
        app_module.main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (1, 1)
    assert said.startswith(f"facetl: {line}")


def test_a_run_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "models" / "family"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # as on a disk mounted read-only
    assert inputs.find_run("family", tmp_path / "models") == run
    with pytest.raises(RunError, match=rf"{run}: a run is written here, but the folder cannot be"):
        inputs.find_run("family", tmp_path / "models", change=True)
    with pytest.raises(RunError, match=rf"{tmp_path / 'models'}: a run is written here"):
        inputs.new_run("new", tmp_path / "models" / "none")
