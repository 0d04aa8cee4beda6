"""Lists of photo pairs that others published, read exactly or not at all."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from facetl.errors import DataError

_SEE = "See docs/protocols."
_LFW_SUFFIXES = (".jpg", ".png", ".jpeg")


@dataclass(frozen=True)
class Pair:
    """Two photos, each a (name, number from 1), whether they show the same person, and the fold from 0."""

    first: tuple[str, int]
    second: tuple[str, int]
    same: bool
    fold: int


@dataclass(frozen=True)
class PairsProtocol:
    """Pairs in folds; no person of a published fold appears in another, which `people` lets one check."""

    folds: int
    pairs: tuple[Pair, ...]

    def fold(self, fold: int) -> tuple[Pair, ...]:
        """Give the pairs of one fold, in the order of the file."""
        return tuple(pair for pair in self.pairs if pair.fold == self._checked(fold))

    def people(self, fold: int) -> frozenset[str]:
        """Name everyone who appears in a fold: those a model tested on it must never have seen."""
        return frozenset(name for pair in self.fold(fold) for name, _ in (pair.first, pair.second))

    def _checked(self, fold: int) -> int:
        if not 0 <= fold < self.folds:
            raise DataError(f"fold must be 0 to {self.folds - 1}, got {fold}.")
        return fold


def read_lfw_pairs(path: Path | str) -> PairsProtocol:
    """Read a pairs file in the form of Labeled Faces in the Wild.

    The first line is "FOLDS<tab>N" (View 2) or "N" (View 1, one fold); then for each fold N lines
    "NAME<tab>I<tab>J" of the same person and N lines "NAME<tab>I<tab>NAME<tab>J" of two people.
    Windows line ends, a byte-order mark and blank lines at the end are tolerated.

    Raises DataError with the file's name and the line when anything else is found.
    See http://vis-www.cs.umass.edu/lfw/README.txt.
    """
    path = Path(path)
    lines = _lines(path)
    folds, each = _header(path, lines[0] if lines else "")
    expected = folds * each * 2
    if len(lines) - 1 < expected:
        raise _wrong(path, len(lines) + 1, f"expected {expected} pairs ({folds} x 2 x {each}), got {len(lines) - 1}.")
    pairs = []
    for index, line in enumerate(lines[1:]):
        if index == expected:
            raise _wrong(path, index + 2, f"expected the file to end after {expected} pairs, got {line!r}.")
        pairs.append(_pair(path, index + 2, line, fold=index // (2 * each)))
    same = Counter(pair.fold for pair in pairs if pair.same)
    for fold in range(folds):
        if same[fold] != each:
            first = 2 + fold * 2 * each
            text = f"expected {each} same-person pairs in the fold that starts here, got {same[fold]}."
            raise _wrong(path, first, text)
    return PairsProtocol(folds=folds, pairs=tuple(pairs))


def lfw_photo(root: Path | str, name: str, number: int) -> Path:
    """Find ROOT/Name/Name_0001.jpg (or .png, .jpeg) for a name and a number from 1.

    Names composed and decomposed (NFC, NFD) find each other. Raises DataError when there is no such file.
    """
    folder = Path(root)
    for spelling in dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))):
        for suffix in _LFW_SUFFIXES:
            candidate = folder / spelling / f"{spelling}_{number:04d}{suffix}"
            if candidate.is_file():
                return candidate
    raise DataError(
        f"a pairs file names photo {number} of {name}, but {folder / name} holds no {name}_{number:04d} "
        f"({', '.join(_LFW_SUFFIXES)}). Give the folder of images that the pairs were made for."
    )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"pairs file {path} does not exist. Give the path of a pairs.txt. {_SEE}") from None
    except IsADirectoryError:
        raise DataError(f"pairs file expected, got the folder {path}. Give the path of a pairs.txt. {_SEE}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: expected UTF-8 text, got byte {error.object[error.start]:#x}. {_SEE}") from None
    except OSError as error:
        raise DataError(f"pairs file {path} cannot be read: {error.strerror}. {_SEE}") from None
    # Not str.splitlines, which would also break at characters that may stand in a name.
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _header(path: Path, line: str) -> tuple[int, int]:
    fields = line.split()
    numbers = [_number(field) for field in fields]
    if len(numbers) not in (1, 2) or None in numbers:
        raise _wrong(path, 1, f'expected "FOLDS N" or "N", got {line!r}.')
    found = [number for number in numbers if number is not None]
    return (found[0], found[1]) if len(found) == 2 else (1, found[0])


def _pair(path: Path, at: int, line: str, *, fold: int) -> Pair:
    # Tabs where there are any, since a name may contain a space.
    fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
    if len(fields) == 3:
        pair = Pair(_photo(path, at, fields[0], fields[1]), _photo(path, at, fields[0], fields[2]), True, fold)
    elif len(fields) == 4:
        pair = Pair(_photo(path, at, fields[0], fields[1]), _photo(path, at, fields[2], fields[3]), False, fold)
    else:
        raise _wrong(path, at, f"expected 3 or 4 fields, got {len(fields)}.")
    if pair.same and pair.first == pair.second:
        raise _wrong(path, at, f"expected two photos, got photo {pair.first[1]} of {pair.first[0]} twice.")
    if not pair.same and pair.first[0] == pair.second[0]:
        raise _wrong(path, at, f"expected two people where there are 4 fields, got {pair.first[0]} twice.")
    return pair


def _photo(path: Path, at: int, name: str, number: str) -> tuple[str, int]:
    parsed = _number(number)
    if parsed is None:
        raise _wrong(path, at, f"expected a photo number from 1, got {number!r}.")
    # A name becomes part of a path; a published list never needs to leave the folder of images.
    if name in ("", ".", "..") or any(mark in name for mark in {"/", "\\", "\0", os.sep}):
        raise _wrong(path, at, f"expected a person's name, got {name!r}.")
    return name, parsed


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0 else None


def _wrong(path: Path, line: int, text: str) -> DataError:
    return DataError(f"{path.name}, line {line}: {text} {_SEE}")
