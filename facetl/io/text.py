"""Text that leaves facetl: names of any bytes on one line of any terminal, and back to the path that they stand for."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys

# Control characters, ends of lines and paragraphs, what turns the direction of text, and lone surrogates, which stand
# for the bytes of a name that is no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([tnr]))")
_LETTERS = {"\t": "t", "\n": "n", "\r": "r"}
_BYTES = range(0xDC80, 0xDD00)
# facetl's own signs, for a terminal that has none of them.
_PLAIN = {"→": "->", "×": "x", "–": "-", "—": "-", "−": "-", "…": "...", "±": "+-", "·": "-", "“": '"', "”": '"'}
_HANDLER = "facetl"

_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
# Bytes of a file's name that file systems take.
LONGEST_NAME = 255


def printable(text: object) -> str:
    r"""Return text on one line, every character that cannot be seen escaped.

    `\xNN` is a byte (of a name that is no UTF-8) or an ASCII control character, `\uNNNN` any other character, and tab,
    line feed and carriage return are `\t`, `\n` and `\r`. What is escaped already stays.
    """
    return _UNPRINTABLE.sub(lambda found: _escape(found[0]), str(text))


def given_path(text: str) -> str:
    """Return the path that text stands for: as it is, or, where nothing is there, as `printable` escaped it."""
    meant = unescaped(text)
    if meant == text or os.path.lexists(text):
        return text
    # A file that is to be written is not there yet; its folder is.
    parents = [os.path.lexists(os.path.dirname(path) or os.curdir) for path in (text, meant)]
    return meant if os.path.lexists(meant) or parents == [False, True] else text


def unescaped(text: str) -> str:
    """Return the name that `printable` escaped; text that it cannot have made, as it is."""
    try:
        # There and back, for bytes that make a character together.
        return os.fsdecode(os.fsencode(_ESCAPED.sub(_unescape, text)))
    except (UnicodeError, OverflowError, ValueError):
        return text


def cut(text: str, most: int) -> str:
    """Return the beginning of a name: whole characters, at most so many bytes of UTF-8."""
    kept = text[:most]
    while len(kept.encode("utf-8", "surrogateescape")) > most:
        kept = kept[:-1]
    return kept


def no_device(name: str) -> str:
    """Return a name for a file or folder, begun with _ where Windows takes it for a device: CON, nul.txt."""
    return f"_{name}" if name.partition(".")[0].rstrip().casefold() in _DEVICES else name


def json_escaped(text: str) -> str:
    r"""Return JSON with `\uNNNN` for what cannot be seen or encoded; `json.loads` gives the same, exactly."""
    # A line feed can only be the JSON's own: in a string it is escaped already.
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def use_any_terminal() -> None:
    """Let stdout and stderr take every character, whatever their encoding: those it has not are escaped."""
    codecs.register_error(_HANDLER, _encodable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _escape(sign: str) -> str:
    number = ord(sign)
    if sign in _LETTERS:
        return f"\\{_LETTERS[sign]}"
    if number < 0x80 or number in _BYTES:
        return f"\\x{number & 0xFF:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _unescape(found: re.Match[str]) -> str:
    byte, short, long, letter = found.groups()
    if byte:
        return chr(int(byte, 16) if byte < "80" else 0xDC00 + int(byte, 16))
    return {"t": "\t", "n": "\n", "r": "\r"}[letter] if letter else chr(int(short or long, 16))


def _encodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign) or _escape(sign) for sign in error.object[error.start : error.end]), error.end
