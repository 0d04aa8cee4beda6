"""mkdocs hook: the README is the first page, its links turned to where the site has what they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

README = Path(__file__).resolve().parents[1] / "README.md"


def on_files(files: Files, *, config: Any) -> Files:
    """Add `index.md`, made of the README."""
    files.append(File.generated(config, "index.md", content=as_page(README.read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn links to the README into links to the first page."""
    return markdown.replace("](../README.md", "](index.md")


def as_page(readme: str) -> str:
    """Turn `docs/x` into `x`; a link to what is no page becomes its text."""
    page = re.sub(r"\]\(docs/", "](", readme)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)([\w./-]+\.(?:ipynb|cff)|[A-Z]+(?:\.md)?)(?:#[\w-]+)?\)", r"\1", page)
