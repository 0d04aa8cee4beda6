"""The docs site builds without a warning, asks nothing of another server, and its Python pages run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_PAGE = (ROOT / "docs" / "python.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a link, an anchor or an object of the reference that is not there ends the build."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_every_page_of_the_docs_is_in_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text()
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 15
    for page in pages:
        assert f'href="{page.with_suffix("").as_posix()}/"' in home, page
        assert (site / page.with_suffix("") / "index.html").is_file()


def test_no_page_loads_anything_from_another_server(site: Path) -> None:
    loaded = re.compile(
        r"""<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=["']?(?:https?:)?//"""
        r"""|<link\b(?![^>]*rel=["']?(?:canonical|next|prev))[^>]*\bhref=["']?(?:https?:)?//"""
        r"""|url\(["']?(?:https?:)?//|@import\s+["']?(?:https?:)?//"""
    )
    checked = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert any(path.suffix == ".css" for path in checked)
    for path in checked:
        assert not loaded.search(path.read_text()), path
        # What Material fetches from a server where a page asks for it.
        assert 'class="mermaid"' not in path.read_text(), path


def test_the_reference_names_what_the_modules_have(site: Path) -> None:
    reference = (site / "api" / "facetl" / "index.html").read_text()
    for name in ("Recognizer", "Manifest", "Backbone", "FaceEmbedder"):
        assert f'{name}"' in reference
    assert "threshold_from" in (site / "api" / "metrics" / "index.html").read_text()


def test_the_program_on_digits_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PYTHON_PAGE.partition("## Faces")[0], flags=re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) > 0.97
