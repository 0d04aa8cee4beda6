"""Names of any bytes: on one line of any terminal, and back."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from facetl.io.text import given_path, json_escaped, printable, use_any_terminal

ODD = {
    b"caf\xe9.jpg": r"caf\xe9.jpg",
    b"line\nbreak\ttab\r.jpg": r"line\nbreak\ttab\r.jpg",
    b"esc\x1b[31m\x7f.jpg": r"esc\x1b[31m\x7f.jpg",
    "rtl\u202egpj.\u2066x\u2028y\x85".encode(): r"rtl\u202egpj.\u2066x\u2028y\u0085",
    "é e\u0301 \U0001f600 \u200d.jpg".encode(): "é e\u0301 \U0001f600 \u200d.jpg",
    rb"back\slash\xe9": r"back\slash\xe9",
}


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names there are Unicode")
@pytest.mark.parametrize("raw", ODD)
def test_a_name_is_printed_on_one_line_and_found_again(raw: bytes, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/" + raw
    Path(os.fsdecode(path)).touch()
    shown = printable(os.fsdecode(path))
    assert shown == f"{tmp_path}/{ODD[raw]}"
    assert printable(shown) == shown
    assert os.fsencode(given_path(shown)) == path
    # A file that is to be written into a folder of that name.
    Path(os.fsdecode(path)).unlink()
    Path(os.fsdecode(path)).mkdir()
    assert os.fsencode(given_path(f"{shown}/new.csv")) == path + b"/new.csv"


@pytest.mark.skipif(os.name == "nt", reason="a backslash parts folders there")
def test_what_is_there_as_it_is_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert given_path(r"a\x41.jpg") == r"a\x41.jpg"
    Path("aA.jpg").touch()
    assert given_path(r"a\x41.jpg") == "aA.jpg"
    Path(r"a\x41.jpg").touch()
    assert given_path(r"a\x41.jpg") == r"a\x41.jpg"
    assert given_path(r"\x00 \U99999999 \ud800") == r"\x00 \U99999999 \ud800"


def test_json_is_exact_and_encodable() -> None:
    content = {name: os.fsdecode(name) for name in map(os.fsdecode, ODD)}
    text = json_escaped(json.dumps(content, ensure_ascii=False))
    assert len(text.encode().decode().splitlines()) == 1
    assert "\u202e" not in text
    assert "é" in text
    assert json.loads(text) == content


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "→ × – … ± é \U0001f600 \\xe9".encode()),
        ("ascii", rb"-> x - ... +- \u00e9 \U0001f600 \xe9"),
        ("latin-1", b"-> \xd7 - ... \xb1 \xe9 \\U0001f600 \\xe9"),
        ("cp1252", b"-> \xd7 \x96 \x85 \xb1 \xe9 \\U0001f600 \\xe9"),
    ],
)
def test_every_terminal_takes_every_character(encoding: str, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    use_any_terminal()
    print("→ × – … ± é \U0001f600 \udce9", end="", flush=True)
    assert written.getvalue() == expected
