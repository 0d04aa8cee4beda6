"""CONTRIBUTING, SECURITY and CITATION agree with what they speak of."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_citation_has_what_the_format_requires_and_the_packages_version() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["version"] == setup["metadata"]["version"]
    assert CITATION["license"] == setup["metadata"]["license"]
    assert all({"name"} <= author.keys() or {"family-names"} <= author.keys() for author in CITATION["authors"])


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_and_targets_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    heads = {
        re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    }
    for path, anchor in re.findall(r"\]\((?!http)([\w./]+)(?:#([\w-]+))?\)", text):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in heads, anchor
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)\b", text):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for path in re.findall(r"`((?:tests|docs|facetl)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
