"""Comma-separated lists that people write: read exactly, or refused with the file's name and the line."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from facetl.errors import DataError

SEE = "See docs/protocols."

_SHOWN = 60  # characters of what was found that an error repeats
_BREAKING = ("Cc", "Zl", "Zp")  # control characters and line ends: they would break a path, a terminal or a line


def records(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and the named cells of each record, stripped; blank lines and other columns are passed over.

    The header names the columns, in any order and case. Raises DataError for a file that cannot be read, a column
    that is missing or named twice, a record of another length, broken quotes, and a file without records.
    """
    reader = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        wrong = [name for name in columns if header.count(name) != 1]
        wrong += [name for name in optional if header.count(name) > 1]
        if wrong:
            text = f"expected a header with one column {wrong[0]} ({','.join(columns)}), got {shown(','.join(header))}."
            raise wrong_at(path, 1, text)
        place = {name: header.index(name) for name in (*columns, *optional) if name in header}
        empty = True
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise wrong_at(path, reader.line_num, f"expected {len(header)} fields, got {len(cells)}.")
            empty = False
            yield reader.line_num, {name: cells[at].strip() for name, at in place.items()}
    except csv.Error as error:
        raise wrong_at(path, reader.line_num, f"expected comma-separated values, but {error}.") from None
    if empty:
        raise wrong_at(path, reader.line_num + 1, f"expected {','.join(columns)}, got the end of the file.")


def name_in(path: Path, line: int, column: str, cell: str) -> str:
    """Give a cell that names a person or a group, NFC; raises DataError for one that is empty or not plain."""
    if not cell or not is_plain(cell):
        raise wrong_at(path, line, f"expected {column} to be a name, got {shown(cell)}.")
    return unicodedata.normalize("NFC", cell)


def is_plain(text: str) -> bool:
    """Tell whether a text has no control characters and no line ends; joiners, as some scripts need, are welcome."""
    return not any(unicodedata.category(character) in _BREAKING for character in text)


def shown(text: str) -> str:
    """Quote what was found, on one line and not too long."""
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")


def text_of(path: Path) -> str:
    """Read a UTF-8 file, its line ends as they are; raises DataError where that cannot be done."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Give the path of a pairs.txt or a CSV. {SEE}") from None
    except IsADirectoryError:
        raise DataError(
            f"a file expected, got the folder {path}. Give the path of a pairs.txt or a CSV. {SEE}"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: expected UTF-8 text, got byte {error.object[error.start]:#x}. {SEE}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. {SEE}") from None


def wrong_at(path: Path, line: int, text: str) -> DataError:
    """Make the error that names the file and the line."""
    return DataError(f"{path.name}, line {line}: {text} {SEE}")
